// Package inmemory measures what a TCP/IP stack costs by itself: two stacks of
// one kind in one process, joined in memory, with one TCP connection between
// them and no kernel in the way. It is the bench's "wire" workload.
//
//	kind           stack               joined by
//
//	afxnet         stack, netdev, xsk  internal/wire, frame by frame, adaptive polling
//	afxnet-block   the same            the same, polling in block mode
//	afxnet-spin    the same            the same, polling in spin mode
//	inline, ...    the same three      the same, with package stack/inline
//	gvisor         netstack, gonet     two channel endpoints, packets handed over
//	gvisor-gro     the same            the same, received segments joined by gVisor's GRO
//	gvisor-copy    the same            as gvisor, each packet copied once into a frame
//
// The kind gvisor is the one to compare with: its channel endpoint as it is.
// No frame is laid out and no byte is copied on the way, no Ethernet header is
// made, and the link below can do nothing wrong, so it is a favourable one.
// gvisor-gro is gVisor at its best. It takes more than settings: whoever reads
// the channel must drive GRO, verify checksums itself, and know that GRO's
// Flush forgets packets when flows share a bucket, which one connection does
// not. gvisor-copy does what any link must. The bench gives ratios to the first two.
//
// # What is alike
//
// Frames are at most MTU 1500 (1514 bytes with the Ethernet header), each
// checksum is computed by the sender and verified by the receiver, once, and
// the transport settings are those of package stack, see gvisorpeer. All
// kinds of gVisor cut segments late (its own GSO), above the link.
//
// Every byte that arrives is compared with what was sent.
//
// # What is measured
//
// CPU time is that of the whole process, so nothing else should run in it:
// both stacks, both applications, the comparison of the data, and the garbage
// collector. The application's own part is alike for all kinds. System calls are the
// process's as well; to count them slows them down, so that takes a run of its own.
package inmemory
