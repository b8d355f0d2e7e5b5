// Package xsk is AF_XDP for Go: sockets that exchange packets with one hardware
// queue of a network interface through shared memory, and the program that
// decides which packets those are. It knows no TCP/IP stack; package netdev
// builds on it, and so can you.
//
//	receive                                      transmit
//
//	[RX.Refill]  fill ring ---> kernel           [TX.Frame]  a frame to write
//	                             |               [TX.Queue]  into the TX ring
//	             NIC, XDP program |               [TX.Flush]  TX ring ---> kernel
//	                             v                                         |
//	[RX.Receive] RX ring <------ kernel          [TX.Reclaim] completion ring
//	             (read the packet)
//	[RX.Recycle] frame goes back
//
// # Rings
//
//	ring        filled by  drained by  carries          our half
//	fill        us         kernel      empty frames     RX
//	RX          kernel     us          received frames  RX
//	TX          us         kernel      frames to send   TX
//	completion  kernel     us          sent frames      TX
//
// Whatever comes out of a ring is checked before it is used: that it lies in the
// region and in one chunk, and that its frame was lent for that purpose. What
// does not pass is counted and its frame kept out of use; it is never a panic.
// See package umem for the states of a frame.
//
// # Long packets
//
// A packet that one chunk does not hold lies in several frames, one descriptor
// each, all but the last of which Continue (XDP_USE_SG, Linux 6.6).
// Config.MultiBuffer says when; by itself it is on where the interface's MTU
// needs it. [umem.Packets] puts what Receive returned together, and
// [TX.QueueParts] sends such a packet. It is in a ring whole or not at all: what
// has no end, or a bad part, is dropped whole and counted. [Socket.MaxMTU] is
// the limit: some 69,600 bytes in chunks of 4096.
//
// # Goroutines
//
// A [Socket] has two independent halves. One goroutine at a time may use the RX
// half and one the TX half; neither locks. Wait and Park are for one goroutine.
// Everything else may be called from any.
//
// # Wakeups
//
// Sockets are bound with XDP_USE_NEED_WAKEUP (5.4): a system call is made only
// when the kernel has asked for one. In copy mode it always asks for the TX
// ring, since the sender's own CPU does the work, in bursts of 32 packets; a
// zero-copy driver asks when it has gone to sleep. It may ask for the fill ring
// too, if that had run empty; Refill sees to it.
//
// # Steering
//
// [Program] is one XDP program per interface. It redirects frames that concern
// an address given to AddAddress to the socket of the queue they arrived on, and
// passes all others to the kernel. It belongs to the process: when that ends,
// however it ends, the kernel detaches it.
//
// # Privileges
//
// [Open] needs CAP_NET_RAW, and CAP_IPC_LOCK or enough RLIMIT_MEMLOCK for the
// region. [LoadProgram] needs CAP_BPF and CAP_NET_ADMIN (before Linux 5.8,
// CAP_SYS_ADMIN). Root has them.
//
// # Copy and zero-copy
//
// Zero-copy means that NIC and region exchange packets without a copy by the
// kernel (XDP_ZEROCOPY). Which mode a bind got is read back and told by
// [Socket.ZeroCopy]; asking for zero-copy and not getting it is an error.
package xsk
