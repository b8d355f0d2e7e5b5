package hostif

// XDPFeatures is what a driver declares it can do, in Linux's netdev netlink
// family.
type XDPFeatures struct {
	Native      bool // runs XDP programs in the driver
	Redirect    bool // XDP_REDIRECT, which AF_XDP needs
	Transmit    bool // takes frames redirected to it
	ZeroCopy    bool // AF_XDP zero-copy
	Offload     bool // runs XDP programs on the device
	MultiBuffer bool // XDP on packets over several buffers

	// ZeroCopySegments is how many buffers a packet of a zero-copy socket may
	// lie in.
	ZeroCopySegments int

	RXTimestamp, RXHash, RXVLANTag        bool // what a program can ask for, per packet
	TXTimestamp, TXChecksum, TXLaunchTime bool // what a zero-copy socket can ask for

	// TXMetadata tells that the kernel knows of the last three: since Linux 6.8.
	TXMetadata bool
}

// Rings are the lengths in descriptors of a driver's own rings, not of a socket's.
type Rings struct {
	RX, TX       int
	MaxRX, MaxTX int
}
