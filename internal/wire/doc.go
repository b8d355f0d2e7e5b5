// Package wire is an Ethernet link in memory. Its two ends are ports with
// queues, and each queue plays the kernel's side of an AF_XDP socket at the
// level of the rings, so that everything above them (xsk, netdev, stack) runs
// without privileges, on any system, under the race detector and inside a
// testing/synctest bubble.
//
//	xsk.Socket    Port 0                link                 Port 1    xsk.Socket
//
//	TX, comp  --> Queue.WakeTX --> [ faults, delay ] --> Queue.receive --> fill, RX
//	fill, RX  <-- Queue.receive <-- [ faults, delay ] <-- Queue.WakeTX <-- TX, comp
//	              raw: Send, Inject       tap            raw: OnReceive
//
// # What is faithful
//
// A [Queue] does what Linux 6.18 does in copy mode (net/xdp/xsk.c and
// xsk_queue.h): one wakeup takes at most a budget of descriptors and says
// EAGAIN if more are left, or if the completion ring has no room; it ends with
// 0 at an invalid descriptor, which it skips; it says EBUSY for a packet that
// it completed but the device dropped, ENETDOWN while the port is down, and
// ENXIO once it is gone. A received packet takes a frame from the fill ring,
// whose address is rounded down to its chunk, and lies behind the kernel's
// headroom and the region's. Statistics count as the kernel's do, but for
// RXInvalidDescs, which the kernel declares and does not count in copy mode.
//
// Two things are less generous than the kernel, so that what works here does
// not rely on luck: Wait never sends what is left in the TX ring, and nobody
// but WakeTX looks at it. TX metadata makes a descriptor invalid, since no bind
// asks for it.
//
// With PortConfig.MultiBuffer packets may lie in several frames; otherwise they
// are invalid to send, and too long to receive. Sent, they take up to 17
// descriptors, of which one wakeup may take some and the next the rest; one that
// takes more, or has an invalid one, is dropped with its frames, which the kernel
// does not complete either. Received, they take as many frames as they need or
// none.
//
// # Time
//
// Without a delay, rate or reordering the sender's WakeTX delivers, as on a
// veth pair, where the sender's CPU runs the receive path: no allocation, one
// copy from region to region. Otherwise frames are copied and delivered by a
// timer in the order they are due. Everything waits in channels and timers
// only. A Wire, its sockets and those who wait for them belong into one bubble.
//
// # Accounting
//
// Each frame that leaves a TX ring ends in exactly one counter of [DirStats],
// counted before the receiver can see it; DirStats.Check proves it.
//
// # Goroutines and locks
//
// All methods of Wire and Port may be called from any goroutine. A Queue's
// methods have the rules of xsk.Kernel; its hooks for tests may be called from
// any goroutine.
//
// Lock order: Wire.state; then Queue.tx; then one of link.mu, Queue.rx and
// tap.mu, which are leaves: nothing is called with them held but a tap's
// writer. Functions given by the user run in the goroutine that delivers:
//
//	OnReceive, Faults.Filter, PortConfig.RSS
//	        With the sending Queue.tx held, if a socket sent. They may call
//	        Inject, Send, SetFaults, Stats, Interrupt and Statistics, but not
//	        Close or SetDown of anything, nor a hook or WakeTX (TX.Flush) of a
//	        socket whose own frames could lead back to a lock that is held:
//	        leave that to another goroutine.
//	Watch   With Wire.state held: see there.
package wire
