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
// # Metadata of received packets
//
// What the device knows of a packet and the packet does not say - the hash that
// chose the queue, the time of arrival, the VLAN tag that it took off - the program
// can ask for and leave in the frame, right before the packet (Linux 6.3, for the
// VLAN tag 6.8). With ProgramConfig.Metadata the steering program does, and
// [RX.Metadata] reads it, by the marker that [Program.MetadataMarker] hands to
// Config.MetadataMarker; [OpenAll] does that by itself. It works in native mode, in
// copy and in zero-copy mode alike, and only where the device's driver declares it:
// LoadProgram refuses otherwise, and says what is missing.
//
// A program of the user's own ([Map]) can leave metadata there too, in any attach
// mode, about whatever it likes. It moves data_meta down by 32 bytes
// (bpf_xdp_adjust_meta), fills them in as bpf/metadata.h in the package's sources
// says, the last 8 with a marker of its own choice, and redirects the packet. To ask
// the device it has to be bound to it (BPF_F_XDP_DEV_BOUND_ONLY, prog_ifindex) and
// have a licence compatible with the GPL.
//
// # Asking for more than to be sent
//
// With Config.TXOffload a packet can ask that its TCP or UDP checksum be completed,
// to be told when it was sent, or to be held back until a time (TX metadata, Linux
// 6.8; the last one 6.15): [TX.QueueRequest]. In copy mode the kernel does the
// first two for every device. In zero-copy mode it is the driver's choice, and one
// that does not know of it sends the packet all the same; so what the driver does
// not declare is refused by Open, as is a launch time in copy mode, which nothing
// there waits for. The request stands before the packet in its frame, so a frame
// holds less of a packet: [TX.Frame] gives what is left of it.
//
//	if tx.QueueRequest(xsk.TXRequest{Do: xsk.TXTimestamp, ID: 7}, umem.Desc{Addr: a, Len: n}) {
//		tx.Flush()
//	}
//	tx.Reclaim()               // the frame comes back; its timestamp is taken first
//	n := tx.Timestamps(times)  // with the ID
//
// # Sharing
//
// Several sockets can use one region ([Shared], XDP_SHARED_UMEM): on one queue, on
// all queues of a device ([OpenAll]), on several devices. What one receives another
// sends, in the same frame. The sockets of one queue share its fill and completion
// ring, and lock them once per batch; each completion is credited to the socket
// that sent the frame, whichever of them reads it, so one that sends must also
// Reclaim, or it may find the ring full of what others sent. Sockets are opened and
// closed in any order. Take a socket out of the program before closing it: packets
// that arrive in between are counted as lost ([Shared.Lost]), and so are frames
// that a zero-copy device still has. Sharing across queues and devices needs Linux
// 5.10.
//
// # Which device can do what
//
// [Check] says in plain words what kernel, driver, MTU, queues, offloads, limits and
// capabilities allow, what would be chosen, why not zero-copy, and what mends it;
// the command examples/doctor prints it. Errors use the same words.
//
// # Goroutines
//
// A [Socket] has two independent halves. One goroutine at a time may use the RX
// half and one the TX half; neither locks. Wait and Park are for one goroutine.
// Everything else may be called from any. That holds for sockets that share a
// region or a queue, too.
//
// # Wakeups
//
// Sockets are bound with XDP_USE_NEED_WAKEUP (5.4): a system call is made only
// when the kernel has asked for one. In copy mode it always asks for the TX
// ring, since the sender's own CPU does the work, in bursts of [TX.Burst]
// packets: 128, or 32 before Linux 6.17, unless Config.TXBudget says otherwise. A
// zero-copy driver asks when it has gone to sleep. It may ask for the fill ring
// too, if that had run empty; Refill sees to it.
//
// # Busy polling
//
// With Config.BusyPoll (Linux 5.11) [RX.Receive] itself runs the driver's NAPI,
// the part that takes packets from the device, when it finds the RX ring empty:
// on the caller's CPU, and without the interrupt, softirq and cache misses of the
// usual way. It is for NICs and for callers that poll all the time or nearly so:
// each empty look at the ring is a system call then. With BusyPoll.Prefer the
// interrupts can stay off as long as somebody polls, if the NAPI is told so, since
// Linux 6.13 for one queue, before that for the whole device:
//
//	Config{NAPI: NAPI{DeferHardIRQs: 2, GROFlushTimeout: 200 * time.Microsecond}}
//
// The kernel calls them napi_defer_hard_irqs and gro_flush_timeout. The second is
// how long the device waits for the next call until the kernel polls by itself
// again, which is also what a packet may wait for if everybody has gone to sleep:
// longer than between two rounds of the poller, and no longer than a packet may be
// late. While they are 0, as they usually are, the interrupt comes back after each
// call that finds nothing.
//
// These settings are the device's. [Socket.Close] restores what was there before,
// but for what somebody else has changed since. After a crash the next [Open] of
// whatever program does, by a record that the first one left below /run/afxnet;
// keep that directory from one container to the next of a device. Close a socket
// before the program, if the driver's NAPI goes with it, as veth's, and while the
// device is up: otherwise the record is for the next Open, too.
//
// Whether a queue has a NAPI that a socket can run is the driver's choice; since
// Linux 6.13 it has to link it to the queue (netif_queue_set_napi). veth does not
// (6.18), virtio-net does. In copy mode a socket knows it when it is bound since
// 6.15 only. Open refuses where there is none, since the calls would be for
// nothing.
//
// # Steering
//
// [Program] is one XDP program per interface. It redirects frames that concern
// an address given to AddAddress, and UDP to a group given to AddGroup, to the socket
// of the queue they arrived on, and passes all others to the kernel. It belongs to the process: when that ends,
// however it ends, the kernel detaches it. An interface with other programs can have
// it among them, in libxdp's dispatcher: see [AttachJoin].
//
// # Privileges
//
// [Open] needs CAP_NET_RAW, and CAP_IPC_LOCK or enough RLIMIT_MEMLOCK for the
// region; with Config.BusyPoll or Config.NAPI also CAP_NET_ADMIN. [LoadProgram] needs CAP_BPF
// and CAP_NET_ADMIN (before Linux 5.8, CAP_SYS_ADMIN), and with [AttachJoin]
// CAP_SYS_ADMIN. Root has them.
//
// A process can do without: a helper makes its sockets and attaches the program
// (package handover, below this one), and what a Kubernetes pod has from the AF_XDP
// device plugin is in package deviceplugin. docs/privileges.md has the whole of it.
//
// # Copy and zero-copy
//
// Zero-copy means that NIC and region exchange packets without a copy by the
// kernel (XDP_ZEROCOPY). Which mode a bind got is read back and told by
// [Socket.ZeroCopy]; asking for zero-copy and not getting it is an error.
package xsk
