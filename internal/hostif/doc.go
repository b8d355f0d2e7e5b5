// Package hostif reads and changes what the kernel knows about a network
// interface: its state, queues, addresses, attached XDP program, multicast
// filter, offloads, NAPIs and flow rules.
//
// Everything here is control path: a call opens its own netlink or ethtool
// socket, asks, and closes it. Nothing is cached, so a result is as old as
// the call that returned it; Watch tells of what changes later.
//
// # Network namespaces
//
// Every function acts in the network namespace of the thread that calls it.
// What outlives the call (a watch, a multicast membership, the undo of an
// offload, of a NAPI's settings or of a flow rule) stays bound to that namespace,
// whichever thread ends it.
//
// # Privileges
//
// Lookup, Addresses, DriverStats and Watch need none. JoinMulticast needs
// CAP_NET_RAW, SetOffload, HoldOffload and AddFlow CAP_NET_ADMIN, all in the user
// namespace that owns the network namespace; SetNAPI needs CAP_NET_ADMIN in the
// initial one.
//
// # Systems
//
// Linux only. Elsewhere every function returns an error that wraps
// errors.ErrUnsupported.
package hostif
