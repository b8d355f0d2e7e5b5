// Package netdiff compares package stack with package net. It consists of tests.
//
// A behaviour is a small function over an interface that both satisfy. It does
// something with a near and a far network, and what it sees of the near one
// becomes lines of a trace: values, bytes, errors with their fields and what
// errors.Is says of them, and whether a call ended at once, at its deadline or not
// before it was made to. Addresses and ports have names in it, so that traces of
// different grounds can be compared:
//
//	ground              near          far           needs
//	loopback            package net   package net   Linux
//	over the wire       stack         stack         nothing
//	over a bad link     stack         stack         nothing
//	in the lab          package net   package net   root
//	                    stack         package net   root
//	                    package net   stack         root
//
// What package net does with the kernel is the reference, on loopback or, in the
// lab, over the same veth pair. Each behaviour runs over IPv4 and IPv6. One that
// differs has to be in the list of known differences with its reason, and
// docs/differences.md is that list.
//
// The comparison is tested by mutations: mistakes in a wrapper of the near network,
// each of which has to be found.
//
// No behaviour waits for a time to be over, but for deadlines that it has set, and
// for what TCP does about a peer that is dead. That
// a call waits is read off the runtime's state of its goroutine. Deadlines of calls
// that should end by themselves are far away, so that a slow machine is not a
// difference.
//
// To compare a new method, add it to the interfaces and a line to the tables of
// methods: it is then called in every state that a socket can be in.
package netdiff
