package stack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// An account is what is known of one TCP flow. Names are those of RFC 9293,
// 3.3.1.
type account struct {
	sent atomic.Uint64 // SND.NXT, the highest there was, and below it RCV.NXT
	seen atomic.Uint64 // SND.UNA, and below it window, scale and state: see pack
	iss  atomic.Uint32 // ISS
	used atomic.Uint32 // epoch of the last segment sent, and below it bits of usedFlags
}

// What account.used says beside the epoch.
const (
	usedEnded = 1 << iota // a FIN or a reset was sent
	usedShut              // the last segment, not a reset, offered no window
	usedGap               // the last segment told of data out of order
	usedFlags = iota
)

// A verdict is what the ledger says of a segment that has come.
type verdict uint8

const (
	taken verdict = iota // netstack knows what to do with it

	// forged: it acknowledges what the peer cannot. With it comes a sequence
	// number that the stack has acknowledged already.
	forged

	// early: an acknowledgement without data that netstack would not look at,
	// for its sequence number is beyond a window of 0. With it comes the one that
	// the window begins with. RFC 9293 (3.10.7.4) has a receiver process such
	// acknowledgements, since both ends may have offered 0: then neither hears
	// that its data was taken. A peer comes by such a number honestly, as
	// netstack shrinks a window of less than one unit of its scale to 0 (receiver.
	// acceptable in pkg/tcpip/transport/tcp/rcv.go), data under way or not.
	early

	// narrow: the window that it offers shuts out bytes that the stack has sent,
	// before the last of which netstack would not send any again: it would wait,
	// with no timer, for another window. With it comes the window field to take it
	// for. See widen.
	narrow

	// late: another has overtaken it that acknowledges more, the stack's FIN too.
	// With it comes what that has acknowledged. Netstack does not look for the
	// acknowledgement of its FIN in a segment that is ahead of what it has received
	// (receiver.consumeSegment in pkg/tcpip/transport/tcp/rcv.go), but takes note
	// that nothing is left to be sent; and those it waits for do not tell. With the
	// peer's FIN among them the connection stays in CLOSING, for good.
	late

	// astray: it answers a SYN-ACK, and netstack may take its sequence number for
	// the first. With it comes the one that is.
	astray

	// again: all its data was acknowledged before. Netstack answers it, and does not
	// look at its timestamp. See refresh.
	again
)

// cookieSizes is how many sizes of segments a SYN cookie of netstack tells apart.
const cookieSizes = 4

// States of an account.
const (
	stateVoid    = iota // it says nothing about its flow
	statePending        // the SYN is not acknowledged
	stateOpen           // the flow is judged
)

const (
	// scaleUnknown stands for the largest scale there is.
	scaleUnknown = 15
	// leastWindow is what a window is taken for at least, in bytes: as large as
	// a SYN can offer, since its window is not noted.
	leastWindow = 1 << 16
)

// pack makes the word account.seen: the highest acknowledgement there was, the
// largest window field outside of SYNs, the shift for it, and the state.
func pack(una uint32, window uint16, scale, state uint8) uint64 {
	return uint64(una)<<32 | uint64(window)<<16 | uint64(scale)<<8 | uint64(state)
}

func stateOf(seen uint64) uint8 { return uint8(seen) }

// windowOf returns the largest window that the peer has offered, in bytes and
// rounded up.
func windowOf(seen uint64) uint32 {
	scale := min(uint8(seen>>8), header.MaxWndScale)
	return max((uint32(uint16(seen>>16))+1)<<scale, leastWindow)
}

// acceptable tells whether una - window <= ack <= nxt, for una <= nxt.
func acceptable(ack, una, nxt, window uint32) bool {
	oldest := una - window
	return ack-oldest <= nxt-oldest
}

// scaleOption returns the window scale in a SYN, or scaleUnknown.
func scaleOption(h header.TCP) uint8 {
	if n := int(h.DataOffset()); n < header.TCPMinimumSize || n > len(h) {
		return scaleUnknown
	}
	ws := header.ParseSynOptions(h.Options(), false).WS
	if ws < 0 {
		return scaleUnknown
	}
	return uint8(ws)
}

// tellsGap tells whether a segment of netstack's, not a SYN, has SACK blocks: behind
// padding of two bytes, like the timestamp before them.
func tellsGap(h header.TCP) bool {
	const stamped = header.TCPMinimumSize + 2 + header.TCPOptionTSLength
	n := int(h.DataOffset())
	return n > stamped || n > header.TCPMinimumSize && h[header.TCPMinimumSize+2] == header.TCPOptionSACK
}

// outgoing notes a segment with n bytes of data that is about to leave.
func (l *ledger) outgoing(t *ledgerTable, hash uint64, h header.TCP, n int) {
	flags := h.Flags()
	if flags&(header.TCPFlagSyn|header.TCPFlagRst) == header.TCPFlagSyn {
		l.open(t, hash, h)
		return
	}
	a, tag := t.find(hash)
	if a == nil {
		return
	}
	before := a.used.Load()
	used := t.epoch.Load()<<usedFlags | before&usedEnded
	if flags&(header.TCPFlagFin|header.TCPFlagRst) != 0 {
		used |= usedEnded
	}
	if h.WindowSize() == 0 && flags&header.TCPFlagRst == 0 {
		used |= usedShut
	}
	if tellsGap(h) {
		used |= usedGap
	}
	if used != before {
		a.used.Store(used)
	}
	if flags&header.TCPFlagRst != 0 {
		return // its number may be one that somebody has made up
	}
	seq, end := h.SequenceNumber(), h.SequenceNumber()+uint32(n)
	if flags&header.TCPFlagFin != 0 {
		end++
	}
	if seen := a.seen.Load(); stateOf(seen) == statePending && seq != a.iss.Load()+1 && tag.Load() == tagOf(hash) {
		// The peer has answered an earlier SYN-ACK, with a cookie that was
		// valid: nobody has noted what was sent.
		a.seen.CompareAndSwap(seen, pack(0, 0, 0, stateVoid))
		return
	}
	for {
		old := a.sent.Load()
		if tag.Load() != tagOf(hash) {
			return
		}
		nxt := uint32(old >> 32)
		if int32(end-nxt) > 0 {
			nxt = end
		}
		now := uint64(nxt)<<32 | uint64(h.AckNumber())
		if now == old || a.sent.CompareAndSwap(old, now) {
			return
		}
	}
}

// incoming judges a segment with n bytes of data that has come. Verdicts other
// than taken come with a sequence number.
func (t *ledgerTable) incoming(hash uint64, h header.TCP, n int) (seq uint32, v verdict) {
	flags := h.Flags()
	switch flags & (header.TCPFlagSyn | header.TCPFlagRst | header.TCPFlagAck) {
	case header.TCPFlagSyn:
		t.hear(hash, scaleOption(h))
		return 0, taken
	case header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagSyn:
	default: // netstack knows what to do with resets, and with no ACK at all
		return 0, taken
	}
	a, tag := t.find(hash)
	if a == nil {
		return 0, taken
	}
	ack := h.AckNumber()
	// seen comes first: what the peer can have acknowledged is in sent by now.
	seen := a.seen.Load()
	sent := a.sent.Load()
	switch stateOf(seen) {
	case statePending:
		if ack == a.iss.Load()+1 && tag.Load() == tagOf(hash) {
			a.confirm(seen, ack, flags, h)
		}
		return a.answer(sent, h, n, tag, hash) // netstack takes no other acknowledgement now
	case stateOpen:
	default:
		return a.answer(sent, h, n, tag, hash)
	}
	una, window := uint32(seen>>32), uint16(seen>>16)
	if flags&header.TCPFlagSyn != 0 {
		if uint8(seen>>8) == scaleUnknown && ack == una && ack == a.iss.Load()+1 && tag.Load() == tagOf(hash) {
			a.confirm(seen, ack, flags, h) // another has overtaken the SYN-ACK
		}
		return 0, taken // netstack answers all of them the same way
	}
	if !acceptable(ack, una, uint32(sent>>32), windowOf(seen)) {
		// If another flow has the account now, it says nothing of this one.
		if tag.Load() != tagOf(hash) || stateOf(a.seen.Load()) != stateOpen {
			return 0, taken
		}
		return uint32(sent) - 1, forged
	}
	next := pack(una, max(window, h.WindowSize()), uint8(seen>>8), stateOpen)
	if int32(ack-una) > 0 {
		next = uint64(ack)<<32 | next&(1<<32-1)
	}
	if next != seen && tag.Load() == tagOf(hash) {
		// If somebody else was faster, a later segment says the same.
		a.seen.CompareAndSwap(seen, next)
	}
	used, bare := a.used.Load(), n == 0 && flags&header.TCPFlagFin == 0
	if used&usedEnded != 0 && !bare && una == uint32(sent>>32) && ack != una && tag.Load() == tagOf(hash) {
		return una, late
	}
	if used&usedShut != 0 && bare {
		if rcv := uint32(sent); h.SequenceNumber()-rcv-1 < 1<<header.MaxWndScale-1 && tag.Load() == tagOf(hash) {
			return rcv, early
		}
	}
	if window := widen(next, uint32(sent>>32), h.WindowSize()); window != h.WindowSize() && tag.Load() == tagOf(hash) {
		return uint32(window), narrow
	}
	if seq, v = a.answer(sent, h, n, tag, hash); v == taken && n != 0 && repeats(uint32(sent), h.SequenceNumber()+uint32(n)) && tag.Load() == tagOf(hash) {
		return 0, again
	}
	return seq, v
}

// widen returns the window field to take one for that has come with the highest
// acknowledgement there was, as in seen, or a lower one. A receiver is not to take
// back what it has offered, but those that round what is left to the unit of their
// scale do (netstack, and BSD), and segments may overtake each other. What is under
// way then may be sent again (RFC 9293, 3.8.6). Netstack sends a segment before the
// last only if the window has room for all of it, or for a full one (sender.
// maybeSendSegment in pkg/tcpip/transport/tcp/snd.go); if that was its timer's turn,
// nothing sets it again. So a window that is not shut has room for what is under
// way, as far as one segment may reach. The peer takes the part that it has room for.
func widen(seen uint64, nxt uint32, window uint16) uint16 {
	una, scale := uint32(seen>>32), uint8(seen>>8)
	room := min(nxt-una, leastWindow-1)
	if window == 0 || scale > header.MaxWndScale || uint32(window)<<scale >= room {
		return window
	}
	return uint16((room-1)>>scale + 1)
}

// answer judges a segment with n bytes of data that has come for a handshake, if it
// has: one that acknowledges a SYN-ACK of which netstack keeps nothing but a cookie,
// or did when it sent another before. Netstack takes the sequence number for the first
// after the SYN. The cookie is over that number, too, but as a sum, and the size of
// the peer's segments is added last: a number that is off by a few is one with another
// size (listenContext.isCookieValid in pkg/tcpip/transport/tcp/accept.go), and bytes
// of the stream would be passed over, or waited for that nobody sends. One that is
// off by more has the peer reset. Where the first segments are lost, be it because
// nobody accepts, the peer is heard with a later one: it answers each further SYN-ACK
// with the number behind what it has sent.
func (a *account) answer(sent uint64, h header.TCP, n int, tag *atomic.Uint64, hash uint64) (seq uint32, v verdict) {
	if uint32(sent>>32) != a.iss.Load()+1 || h.Flags().Contains(header.TCPFlagSyn) {
		return 0, taken // the first only where nothing but a SYN-ACK was sent
	}
	seq = uint32(sent)
	off := h.SequenceNumber() - seq
	if off == 0 || (n != 0 || h.Flags().Contains(header.TCPFlagFin)) && off+cookieSizes-1 > 2*(cookieSizes-1) {
		return 0, taken
	}
	if tag.Load() != tagOf(hash) {
		return 0, taken // another flow has the account now
	}
	return seq, astray
}

// repeated tells whether a SYN that has come for a listener was answered before. The
// answer was a cookie, then: a peer with a handshake under way has an endpoint.
func (t *ledgerTable) repeated(hash uint64, h header.TCP) bool {
	a, tag := t.find(hash)
	return a != nil && a.sent.Load() == uint64(a.iss.Load()+1)<<32|uint64(h.SequenceNumber()+1) && tag.Load() == tagOf(hash)
}

// confirm opens the account to judge: its SYN was acknowledged.
func (a *account) confirm(seen uint64, ack uint32, flags header.TCPFlags, h header.TCP) {
	scale, window := uint8(seen>>8), h.WindowSize()
	if flags&header.TCPFlagSyn != 0 {
		window = 0 // not scaled, and less than leastWindow
		if scale = scaleOption(h); scale == scaleUnknown {
			scale = 0 // the peer does not scale
		}
	}
	a.seen.CompareAndSwap(seen, pack(ack, window, scale, stateOpen))
}
