// Package umem is the packet memory of AF_XDP sockets: one mapping cut into
// chunks, the arithmetic on it, and the pools that hand its frames out.
//
// # Geometry
//
//	Region  |  chunk 0   |  chunk 1   |  chunk 2   | ...
//	        0        ChunkSize     2*ChunkSize
//
//	chunk   | kernel headroom 256 | Config.Headroom | packet ............ |
//	        RX: the kernel writes here ------------>|
//	        TX: a frame may start anywhere in its chunk, but for the first
//	        Config.TXMetadata bytes
//
// A chunk is geometry; a chunk in use is a frame. An [Addr] is an offset into
// the region, as in the kernel's descriptors: never a pointer.
//
// # Ownership
//
// Every frame is in one [State] at any time:
//
//	Free   in the central pool or in some owner's [Cache]
//	Held   in the hands of user code: being read, or being written
//	Fill   lent to the kernel for receiving: in the fill ring, in the driver,
//	       or in the RX ring
//	TX     lent to the kernel for sending: in the TX ring, in the driver, or in
//	       the completion ring
//
// The state is kept per frame and checked at every change, not worked out by
// subtraction. A frame that comes back twice, from the wrong ring, or was
// never lent is counted ([Cache.Strays]) and kept out of the pools: losing one
// chunk is better than two owners of it. When traffic has stopped, Held and TX
// are 0 and Free + Fill = Chunks, but for those that stay Unused
// (Config.Unaligned); [Region.Audit] tells.
//
// With the build tag xskdebug, frames are poisoned when they are freed; a write
// to a free frame, or user code freeing a frame it does not hold, panics and
// says where. What the kernel returns wrongly is only counted there too.
//
// # Goroutines
//
// A Cache belongs to one goroutine at a time. A frame's state may be changed
// only by the goroutine that owns the frame; frames pass between owners through
// the central pool's lock or the caller's own. Region's other methods may be
// called from any goroutine.
//
// The package has no system calls but those about memory, such as mmap, and
// does not know sockets. It is for
// AF_XDP; it is not a general buffer pool.
package umem
