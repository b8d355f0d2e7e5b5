package stack

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A ledger has an account for each TCP flow: what the stack has sent on it, and
// what the peer has acknowledged. Netstack takes data whatever the number that
// it acknowledges, so that whoever guesses a sequence number within the window,
// one in a few thousand, can have bytes delivered. With the ledger the guard can
// refuse what RFC 5961 (5.2) says to refuse.
//
// An account is opened when a SYN of the stack's own leaves, since no later
// segment says for sure what was sent before it. The flow is judged once the peer
// has acknowledged that SYN. A flow without an account is not judged.
//
// There is room for 65536 accounts in 2 MiB, allocated when the first SYN comes
// or goes. Where all eight of a bucket are in use, a new flow takes the place of
// one of these, or gets none:
//
//   - one whose SYN nobody has acknowledged: a flood of SYNs has only such ones;
//   - one on which the stack has sent a FIN or a reset, and nothing for 4 to 8 s;
//   - one on which it has sent nothing for a minute. A flow that lives is not
//     among them, for keepalive probes go out every 15 s; one with rarer probes,
//     or none, is no longer judged then.
//
// So 1 in 8000 of 16000 live flows gets none, 1 in 130 of 32000, and 1 in 20 of
// 48000.
//
// Segments are noted and judged on any goroutine, with no lock: each word of an
// account holds a random number of its flow, so that a compare-and-swap that was
// begun for one flow fails once the account is another's.
type ledger struct {
	table     atomic.Pointer[ledgerTable]
	untracked atomic.Uint64 // flows that got no account

	mu     sync.Mutex // held while an account is opened; a leaf
	ticked time.Time  // when table.epoch moved last; guarded by mu
}

const (
	ledgerBuckets = 1 << 13
	ledgerWays    = 8
	ledgerHeard   = 1 << 12

	// epochLength is how coarse an account's age is. An epoch is longer while no
	// connection is made.
	epochLength = 4 * time.Second
	endedAge    = 2  // epochs after which a flow that has ended gives way
	idleAge     = 16 // epochs after which any does: 4 keepalive probes
)

type ledgerTable struct {
	secret  [7]uint64
	epoch   atomic.Uint32
	buckets [ledgerBuckets]ledgerBucket

	// heard has the window scale of the last SYNs that have come, for the
	// SYN-ACKs to them: 28 bits of the flow's hash, and 4 of scale.
	heard [ledgerHeard]atomic.Uint32
}

// A ledgerBucket is four cache lines, the first of them to look for a flow in.
type ledgerBucket struct {
	tags     [ledgerWays]atomic.Uint64 // hash of the flow; 0: none
	accounts [ledgerWays]account
}

// hash4 returns the hash of a flow: addresses and ports, the stack's own first.
// Whoever does not know the secret cannot choose flows for one bucket, and
// nothing that can be seen from outside tells of it.
func (t *ledgerTable) hash4(local, remote [4]byte, ports uint32) uint64 {
	a := uint64(binary.NativeEndian.Uint32(local[:]))<<32 | uint64(binary.NativeEndian.Uint32(remote[:]))
	return mix(mix(a^t.secret[0], uint64(ports)^t.secret[1])^t.secret[2], t.secret[3])
}

// hash6 does for IPv6 what hash4 does for IPv4.
func (t *ledgerTable) hash6(local, remote [16]byte, ports uint32) uint64 {
	ne := binary.NativeEndian
	a := mix(ne.Uint64(local[0:])^t.secret[0], ne.Uint64(local[8:])^t.secret[1])
	b := mix(ne.Uint64(remote[0:])^t.secret[2], ne.Uint64(remote[8:])^t.secret[3])
	return mix(mix(a^t.secret[4], uint64(ports)^t.secret[5])^b, t.secret[6])
}

// mix folds a product, in which each bit depends on most of both factors.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// tableFor returns the table for a segment: nil before the first SYN.
func (l *ledger) tableFor(h header.TCP) *ledgerTable {
	if t := l.table.Load(); t != nil || !h.Flags().Contains(header.TCPFlagSyn) {
		return t
	}
	return l.ready()
}

// ready returns the table, which it makes if there is none.
func (l *ledger) ready() *ledgerTable {
	if t := l.table.Load(); t != nil {
		return t
	}
	t := new(ledgerTable)
	for i := range t.secret {
		t.secret[i] = rand.Uint64() | 1<<32 | 1 // far from 0 as a factor
	}
	l.table.CompareAndSwap(nil, t)
	return l.table.Load()
}

func (t *ledgerTable) bucket(hash uint64) *ledgerBucket {
	return &t.buckets[hash%ledgerBuckets]
}

// tagOf is never 0. The lowest bit chooses the bucket already.
func tagOf(hash uint64) uint64 { return hash | 1 }

// find returns the account of a flow, or nil. It may be another's right after:
// see held.
func (t *ledgerTable) find(hash uint64) (*account, *atomic.Uint64) {
	b, tag := t.bucket(hash), tagOf(hash)
	for i := range b.tags {
		if b.tags[i].Load() == tag {
			return &b.accounts[i], &b.tags[i]
		}
	}
	return nil, nil
}

// underWay tells whether a sequence number is one of what the stack has sent on a
// flow and the peer has not acknowledged.
func (t *ledgerTable) underWay(hash uint64, seq uint32) bool {
	a, tag := t.find(hash)
	if a == nil {
		return true
	}
	seen := a.seen.Load()
	una, nxt := uint32(seen>>32), uint32(a.sent.Load()>>32)
	return stateOf(seen) == stateVoid || tag.Load() != tagOf(hash) || seq-una <= nxt-una
}

// progress returns the first byte of a flow that is not acknowledged, and the first
// that is not sent. It reports false for a flow that is not judged.
func (t *ledgerTable) progress(hash uint64) (una, nxt uint32, ok bool) {
	a, tag := t.find(hash)
	if a == nil {
		return 0, 0, false
	}
	seen := a.seen.Load()
	una, nxt = uint32(seen>>32), uint32(a.sent.Load()>>32)
	return una, nxt, stateOf(seen) == stateOpen && tag.Load() == tagOf(hash)
}

// gap tells whether the stack has data of a flow out of order, as far as it is known.
func (t *ledgerTable) gap(hash uint64) bool {
	a, tag := t.find(hash)
	return a != nil && a.used.Load()&usedGap != 0 && tag.Load() == tagOf(hash)
}

// hear notes the window scale of a SYN that has come; scaleUnknown if it has
// none.
func (t *ledgerTable) hear(hash uint64, scale uint8) {
	t.heard[hash%ledgerHeard].Store(uint32(hash>>36)<<4 | uint32(scale))
}

// hasHeard returns the scale of the last SYN of a flow, or scaleUnknown.
func (t *ledgerTable) hasHeard(hash uint64) uint8 {
	v := t.heard[hash%ledgerHeard].Load()
	if v>>4 != uint32(hash>>36)&(1<<28-1) {
		return scaleUnknown
	}
	return uint8(v & 15)
}

// open makes an account for the flow whose SYN h is about to leave, or clears
// the one that an earlier flow of the same name has. A SYN that is sent again
// changes nothing.
func (l *ledger) open(t *ledgerTable, hash uint64, h header.TCP) {
	iss, scale := h.SequenceNumber(), uint8(scaleUnknown)
	reply := h.Flags().Contains(header.TCPFlagAck)
	if reply {
		// Without the option in both SYNs nobody scales (RFC 7323, 2.2).
		if scale = 0; scaleOption(h) != scaleUnknown {
			scale = t.hasHeard(hash)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tickLocked(t)
	a, tag := t.find(hash)
	if a != nil && a.iss.Load() == iss {
		seen := a.seen.Load()
		if reply && stateOf(seen) == statePending && uint8(seen>>8) == scaleUnknown {
			// Both ends have called each other: now the peer's SYN is known. What
			// is heard of one that has come again is of no use: see strip.
			a.seen.CompareAndSwap(seen, pack(iss, 0, scale, statePending))
			a.sent.CompareAndSwap(uint64(iss+1)<<32, uint64(iss+1)<<32|uint64(h.AckNumber()))
		}
		if stateOf(seen) != stateVoid {
			return
		}
	}
	if a == nil {
		if a, tag = t.room(hash); a == nil {
			l.untracked.Add(1)
			return
		}
		tag.Store(0)
	}
	// In this order: whoever sees the new state sees the new numbers.
	a.iss.Store(iss)
	a.sent.Store(uint64(iss+1)<<32 | uint64(h.AckNumber()))
	a.seen.Store(pack(iss, 0, scale, statePending))
	a.used.Store(t.epoch.Load() << usedFlags)
	tag.Store(tagOf(hash))
}

// tickLocked moves the epoch on, one at a time: after a long time without a
// connection no flow shall look old at once.
func (l *ledger) tickLocked(t *ledgerTable) {
	if now := time.Now(); now.Sub(l.ticked) >= epochLength {
		l.ticked = now
		t.epoch.Add(1)
	}
}

// room returns an account that a new flow may have, or nil.
func (t *ledgerTable) room(hash uint64) (*account, *atomic.Uint64) {
	const never, epochs = 1 << 40, 1<<(32-usedFlags) - 1
	b, epoch := t.bucket(hash), t.epoch.Load()&epochs
	best, least := -1, uint64(never)
	for k := range b.tags {
		i := (k + int(hash>>61)) % ledgerWays // among equals any
		rank := uint64(never)
		used := b.accounts[i].used.Load()
		age := (epoch - used>>usedFlags) & epochs
		switch state := stateOf(b.accounts[i].seen.Load()); {
		case b.tags[i].Load() == 0:
			return &b.accounts[i], &b.tags[i]
		case state == stateVoid:
			rank = 0
		case state == statePending:
			rank = 1<<32 - min(uint64(age), 1<<16)
		case used&usedEnded != 0 && age >= endedAge:
			rank = 2<<32 - min(uint64(age), 1<<16)
		case age >= idleAge:
			rank = 3<<32 - min(uint64(age), 1<<16)
		}
		if rank < least {
			best, least = i, rank
		}
	}
	if best < 0 {
		return nil, nil
	}
	return &b.accounts[best], &b.tags[best]
}
