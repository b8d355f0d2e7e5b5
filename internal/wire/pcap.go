package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// The pcap file format: draft-ietf-opsawg-pcap. All fields are little endian,
// which the magic number tells.
const (
	pcapMagic    = 0xa1b23c4d // timestamps in nanoseconds
	pcapSnapLen  = 256 << 10
	pcapEthernet = 1 // LINKTYPE_ETHERNET
)

// taps are the taps of a wire.
type taps struct {
	mu   sync.Mutex // guards changes of list
	list atomic.Pointer[[]*tap]
}

type tap struct {
	mu   sync.Mutex // a leaf but for out
	out  io.Writer
	buf  []byte
	err  error // of out; nothing is written after it
	done bool
}

func (ts *taps) add(out io.Writer) (stop func() error, err error) {
	h := make([]byte, 0, 24)
	h = binary.LittleEndian.AppendUint32(h, pcapMagic)
	h = binary.LittleEndian.AppendUint16(h, 2) // version 2.4
	h = binary.LittleEndian.AppendUint16(h, 4)
	h = append(h, make([]byte, 8)...) // reserved
	h = binary.LittleEndian.AppendUint32(h, pcapSnapLen)
	h = binary.LittleEndian.AppendUint32(h, pcapEthernet)
	if _, err := out.Write(h); err != nil {
		return nil, fmt.Errorf("wire: write pcap header: %w", err)
	}
	t := &tap{out: out}
	ts.change(func(l []*tap) []*tap { return append(l, t) })
	return func() error {
		ts.change(func(l []*tap) []*tap {
			return slices.DeleteFunc(l, func(x *tap) bool { return x == t })
		})
		t.mu.Lock()
		defer t.mu.Unlock()
		t.done = true
		return t.err
	}, nil
}

// change replaces the list, which readers see as it was or as it is then.
func (ts *taps) change(f func([]*tap) []*tap) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var l []*tap
	if p := ts.list.Load(); p != nil {
		l = slices.Clone(*p)
	}
	if l = f(l); len(l) == 0 {
		ts.list.Store(nil)
		return
	}
	ts.list.Store(&l)
}

// record writes one frame to every tap.
func (ts *taps) record(frame []byte) {
	l := ts.list.Load()
	if l == nil {
		return
	}
	for _, t := range *l {
		t.write(frame)
	}
}

func (t *tap) write(frame []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done || t.err != nil {
		return
	}
	now := time.Now() // with the lock: the file is in order of time
	b := binary.LittleEndian.AppendUint32(t.buf[:0], uint32(now.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(now.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame))) // captured
	b = binary.LittleEndian.AppendUint32(b, uint32(len(frame))) // on the wire
	t.buf = append(b, frame...)
	if _, err := t.out.Write(t.buf); err != nil {
		t.err = fmt.Errorf("wire: write pcap record: %w", err)
	}
}
