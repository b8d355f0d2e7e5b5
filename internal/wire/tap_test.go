package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
)

func TestTap(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		w := newWire(t, Config{Faults: [2]Faults{{Delay: 1500 * time.Microsecond, Duplicate: 1}, {Loss: 1}}})
		for i := range 2 {
			w.Port(i).OnReceive(func([]byte) {})
		}
		start := time.Now()
		var out bytes.Buffer
		stop, err := w.Tap(&out)
		if err != nil {
			t.Fatal(err)
		}
		frame := numbered(1, 77)
		w.Port(0).Send(frame)
		w.Port(1).Send(frame)   // lost: not on the wire
		w.Port(0).Inject(frame) // at once
		w.WaitIdle(t.Context())
		if err := stop(); err != nil {
			t.Error(err)
		}
		if err := stop(); err != nil {
			t.Error("again:", err)
		}
		w.Port(0).Inject(frame)

		b, le := out.Bytes(), binary.LittleEndian
		if len(b) < 24 || le.Uint32(b) != 0xa1b23c4d || le.Uint16(b[4:]) != 2 || le.Uint16(b[6:]) != 4 ||
			le.Uint64(b[8:]) != 0 || le.Uint32(b[16:]) < 65535 || le.Uint32(b[20:]) != 1 {
			t.Fatalf("header %x", b)
		}
		b = b[24:]
		for i, d := range []time.Duration{0, 1500 * time.Microsecond, 1500 * time.Microsecond} {
			if len(b) < 16+len(frame) {
				t.Fatalf("record %d: %d bytes are left", i, len(b))
			}
			at := time.Unix(int64(le.Uint32(b)), int64(le.Uint32(b[4:])))
			if at.Sub(start) != d || le.Uint32(b[8:]) != 77 || le.Uint32(b[12:]) != 77 || !bytes.Equal(b[16:16+77], frame) {
				t.Errorf("record %d after %v: %x", i, at.Sub(start), b[:16])
			}
			b = b[16+77:]
		}
		if len(b) != 0 {
			t.Errorf("%d bytes too many", len(b))
		}
	})
}

// limited fails after n writes.
type limited int

var errLimit = errors.New("disk full")

func (l *limited) Write(b []byte) (int, error) {
	if *l--; *l < 0 {
		return 0, errLimit
	}
	return len(b), nil
}

func TestTapError(t *testing.T) {
	w := newWire(t, Config{})
	w.Port(0).OnReceive(func([]byte) {})
	none, two := limited(0), limited(2)
	if _, err := w.Tap(&none); !errors.Is(err, errLimit) {
		t.Error(err)
	}
	stop, err := w.Tap(&two)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		w.Port(0).Inject([]byte{1})
	}
	if err := stop(); !errors.Is(err, errLimit) || two != -1 {
		t.Errorf("%v after %d writes too many", err, -two)
	}
}
