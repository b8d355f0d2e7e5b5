// Package lab makes a private network on the machine it runs on: two network
// namespaces joined by one veth pair. Tests, examples and benchmarks run in
// it, and touch nothing of the machine's own network.
//
//	namespace Host                              namespace Peer
//	┌───────────────────────────────┐           ┌──────────────────────────┐
//	│ AF_XDP socket, userspace stack│           │ kernel sockets only      │
//	│   10.77.0.1, fd77::1          │           │                          │
//	│ kernel sockets                │           │                          │
//	│   10.77.0.3, fd77::3     afx0 ├───────────┤ peer0  10.77.0.2, fd77::2│
//	└───────────────────────────────┘   veth    └──────────────────────────┘
//
// The networks are 10.77.0.0/24 and fd77::/64. Address .1 is configured in
// no kernel: it is for the stack under test. Address .3 is the host's own,
// for tests of what goes on beside the stack and of addresses shared with it.
//
// # What is set, and why
//
//   - TX checksum offload and segmentation offloads (TSO, UDP) are off on
//     both ends, unless Config.Offloads is set. A veth "offloads" by handing
//     the unfinished packet over: an AF_XDP socket would see checksums that
//     cover the pseudo-header only. Attaching an XDP program makes veth switch
//     off the other end's segmentation, but not its checksum offload. Off from
//     the start, frames are at most MTU sized and complete in every test, and
//     frame counters of both ends agree. On the AF_XDP side it makes no
//     difference to the socket, whose frames leave as they are.
//   - The queue counts are given explicitly: otherwise veth allocates a queue
//     per CPU. A frame sent on queue n of one end arrives on queue n of the
//     other, so the peer has at most as many queues as the host, which is
//     also what veth demands before it takes an XDP program.
//   - The two ends have different interface indices, so that a test which takes
//     one namespace's for the other's fails.
//   - IPv6 duplicate address detection is off, so that addresses work at
//     once; so are router solicitations and link-local addresses. What remains
//     without anyone sending are multicast listener reports (MLD).
//
// # Threads
//
// A network namespace belongs to an operating system thread; see
// Namespace.Do for what follows from that. Sockets and AF_XDP sockets keep
// the namespace they were created in, whichever thread uses them.
//
// # Lifetime
//
// The namespaces have no name and no mount: they exist while a descriptor, a
// socket or a thread holds them, so nothing is left behind when the process
// is killed. All descriptors are close-on-exec.
//
// # Privileges
//
// CAP_SYS_ADMIN and CAP_NET_ADMIN, in practice root. Tests without them skip,
// see Require.
//
// # Systems
//
// Linux only; elsewhere Open returns an error that wraps
// errors.ErrUnsupported, and New skips.
package lab
