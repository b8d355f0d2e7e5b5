package stack

// Stats are counters of a Stack since Open. Those of the frames and rings below
// are in Device().Stats.
type Stats struct {
	// Endpoints is the number of sockets in the stack's tables: the open ones,
	// and TCP connections that outlive their Close, in TIME-WAIT for a minute.
	Endpoints int

	// FastReceived and FastSent count packets that passed netstack's IP layer
	// by, see Config.NoFastIP. One packet may be several frames.
	FastReceived, FastSent uint64

	// DroppedDatagrams counts UDP datagrams that were dropped because a
	// socket's receive buffer was full; UDPConn.Dropped tells for one socket.
	DroppedDatagrams uint64

	// ForgedSegments counts TCP segments that acknowledged what the peer cannot
	// have seen, and were refused (RFC 5961, 5.2). UnjudgedFlows counts
	// connections on which that is not looked at, because the stack has had
	// tens of thousands at a time.
	ForgedSegments, UnjudgedFlows uint64

	// ForgedErrors counts ICMP errors about TCP segments that are not under way,
	// which were ignored (RFC 5927, 4).
	ForgedErrors uint64
}

// Stats reads the counters. It may be called from any goroutine, at any time.
func (s *Stack) Stats() Stats {
	return Stats{
		Endpoints:        len(s.ns.RegisteredEndpoints()),
		FastReceived:     s.fast.v4.received.Load() + s.fast.v6.received.Load(),
		FastSent:         s.fast.v4.sent.Load() + s.fast.v6.sent.Load(),
		DroppedDatagrams: s.droppedDatagrams.Load(),
		ForgedSegments:   s.guard.forged.Load(),
		UnjudgedFlows:    s.guard.ledger.untracked.Load(),
		ForgedErrors:     s.guard.forgedErrors.Load(),
	}
}

// Info is what a Stack got of what it could have had.
type Info struct {
	// FastIP tells whether plain packets pass netstack's IP layer by: not with
	// Config.NoFastIP, and not after the first call of Netstack.
	FastIP bool

	// Inline tells whether TCP segments are processed by the goroutine that
	// receives them, see package stack/inline. If the program imports that
	// package and it cannot be used, InlineErr says why.
	Inline    bool
	InlineErr error
}

// Info returns what is in use. It may be called from any goroutine.
func (s *Stack) Info() Info {
	fast := !s.fast.off.Load()
	return Info{FastIP: fast, Inline: fast && s.fast.inline.p != nil, InlineErr: s.inlineErr}
}
