package xsk

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/afxnet/afxnet/umem"
)

// txTimes holds the timestamps of packets that are sent, until somebody wants
// them. They are read out of the frames as these come back, before anybody else
// can have them. What guards it is what guards the completion ring.
type txTimes struct {
	ring  []TXTime // a power of two; the entries from read to wrote
	read  uint32
	wrote uint32
	lost  atomic.Uint64
}

func newTXTimes(n uint32) *txTimes { return &txTimes{ring: make([]TXTime, n)} }

// free is Cache.PutFrom for a frame that was sent: its timestamp, if one was asked
// for, is taken before.
func (x *txTimes) free(c *umem.Cache, r *umem.Region, a umem.Addr) bool {
	if x == nil || !r.Move(a, umem.TX, umem.Held) { // PutFrom counts what is a stray
		return c.PutFrom(a, umem.TX)
	}
	if m := r.TakeAnswer(a); m != nil {
		x.add(m[:umem.MinTXMetadata])
	}
	return c.PutFrom(a, umem.Held)
}

// add reads the timestamp in the metadata of one packet.
func (x *txTimes) add(m []byte) {
	ne := binary.NativeEndian
	e := TXTime{ID: ne.Uint64(m[metaID:])}
	if ne.Uint32(m[metaMark:]) != noTimestamp {
		e.Time = ne.Uint64(m[metaTimestamp:])
	}
	n := uint32(len(x.ring))
	if x.wrote-x.read == n {
		x.read++
		x.lost.Add(1)
	}
	x.ring[x.wrote&(n-1)] = e
	x.wrote++
}

func (x *txTimes) get(dst []TXTime) (n int) {
	for ; n < len(dst) && x.read != x.wrote; n++ {
		dst[n] = x.ring[x.read&uint32(len(x.ring)-1)]
		x.read++
	}
	return n
}

// Timestamps takes the timestamps of packets whose frames have come back, oldest
// first, and returns how many it put into dst. Reclaim, and Free when it is
// short, take the frames back; sockets that share a completion ring do that for
// each other. As many are kept as the TX ring has descriptors: beyond that the
// oldest are lost, and counted (Statistics.TXTimestampsLost).
func (t *TX) Timestamps(dst []TXTime) int {
	if t.times == nil {
		return 0
	}
	if t.share != nil {
		t.share.pool.compMu.Lock()
		defer t.share.pool.compMu.Unlock()
	}
	return t.times.get(dst)
}
