package netdev

import (
	"gvisor.dev/gvisor/pkg/buffer"

	"github.com/afxnet/afxnet/umem"
)

// A frame that one chunk does not hold lies in several: received, it is several
// descriptors of the batch, of which the first one stands for the packet, and
// its headers must be in that; sent, it is written across the chunks in the same
// one pass that copies and sums.

// more returns the bytes of the packet that begins at descriptor i of n, and
// those of its frames that follow the first one.
func (q *queue) more(i, n int) (total int, more [][]byte) {
	total = len(q.frames[i])
	last := i
	for last+1 < n && q.descs[last].Continues() {
		last++
		q.frames[last] = q.region.Bytes(q.descs[last])
		total += len(q.frames[last])
	}
	return total, q.frames[i+1 : last+1]
}

// packets counts the packets in the first n descriptors.
func (q *queue) packets(n int) (packets uint64) {
	for range umem.Packets(q.descs[:n]) {
		packets++
	}
	return packets
}

// copyParts writes the bytes from split to end of the packet that begins at
// descriptor i to v. split lies in its first frame.
func (q *queue) copyParts(v *buffer.View, i, split, end int) {
	for at := 0; at < end; i++ {
		frame := q.frames[i]
		v.Write(frame[split:min(end-at, len(frame))]) //nolint:errcheck // a View grows
		at, split = at+len(frame), 0
	}
}

// longFrame is what putParts works with, for the most chunks that a packet may
// be sent from.
type longFrame struct {
	parts []umem.Desc
	bytes [][]byte
}

func (f *longFrame) init(chunks int) {
	f.parts, f.bytes = make([]umem.Desc, chunks), make([][]byte, chunks)
}

// chunks returns how many chunks the next frame of the current packet takes, 1
// if there is none. begin has seen to it that the TX half takes as many.
func (t *txQueue) chunks() int {
	if t.current.pkt == nil {
		return 1
	}
	size := t.q.region.MaxTXFrame()
	if n := t.current.size(); n > size {
		return (n + size - 1) / size
	}
	return 1
}

// putParts is put for a frame that takes n chunks: all of them, or none, are in
// the TX ring. There is room.
func (t *txQueue) putParts(n int) bool {
	parts, bytes := t.long.parts[:0], t.long.bytes[:n]
	for i := range bytes {
		a, chunk, ok := t.tx.Frame()
		if !ok {
			break
		}
		parts = append(parts, umem.Desc{Addr: a})
		bytes[i] = chunk
	}
	if len(parts) == n {
		left := t.current.next(bytes[0], bytes[1:]...)
		for i := range parts {
			parts[i].Len = uint32(min(left, len(bytes[i])))
			left -= int(parts[i].Len)
		}
		if t.tx.QueueParts(parts) {
			return true
		}
	}
	for _, p := range parts {
		t.tx.Cancel(p.Addr)
	}
	return false
}
