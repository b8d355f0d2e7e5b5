package stack

import (
	"io"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// TestShrinkReadBuffer makes a receive buffer smaller than the data that has come
// out of order, before what is missing does: it comes, and the buffer becomes small.
func TestShrinkReadBuffer(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		var (
			first atomic.Uint32 // number of the segment that is lost; 0: not yet known
			lose  atomic.Bool
		)
		lose.Store(true)
		forth := func(_ wire.Dir, f []byte) wire.Verdict {
			var info packet.Info
			if packet.Parse(f, &info) != packet.OK || !info.Kind.IsTCP() {
				return wire.Pass
			}
			h := header.TCP(f[14+header.IPv4MinimumSize:])
			if int(header.IPv4(f[14:]).PayloadLength()) > int(h.DataOffset()) {
				first.CompareAndSwap(0, h.SequenceNumber())
				if lose.Load() && h.SequenceNumber() == first.Load() {
					return wire.Drop
				}
			}
			return wire.Pass
		}
		ow := newOverWire(t, overWireOptions{bubble: true, wire: wire.Config{Faults: [2]wire.Faults{{Filter: forth}}}})
		c, s := ow.tcpPair(t, addrB)
		const size = 100 << 10
		go func() {
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Errorf("Write: %v", err)
			}
			c.Close()
		}()
		time.Sleep(500 * time.Millisecond)
		if err := s.SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		lose.Store(false)
		s.SetReadDeadline(time.Now().Add(10 * time.Minute)) //nolint:errcheck // it is open
		if n, err := io.Copy(io.Discard, struct{ io.Reader }{s}); n != size || err != nil {
			t.Errorf("%d bytes came, %v; want %d", n, err, size)
		}
		if n := s.ep.SocketOptions().GetReceiveBufferSize(); n != 8<<10 {
			t.Errorf("the receive buffer has %d bytes, want %d", n, 8<<10)
		}
		s.Close()
	})
}

// TestShrinkHalfClosed has a connection that is closed for writing besides: then the
// receive buffer stays as it is.
func TestShrinkHalfClosed(t *testing.T) {
	shut := (*TCPConn).CloseWrite
	shrink := func(c *TCPConn) error { return c.SetReadBuffer(4 << 10) }
	for name, calls := range map[string][2]func(*TCPConn) error{
		"CloseWrite first":    {shut, shrink},
		"SetReadBuffer first": {shrink, shut},
	} {
		t.Run(name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) { testShrinkHalfClosed(t, calls) })
		})
	}
}

func testShrinkHalfClosed(t *testing.T, calls [2]func(*TCPConn) error) {
	var (
		lost atomic.Uint32 // number of the segment that is lost; 0: the next
		lose atomic.Bool
	)
	forth := func(_ wire.Dir, f []byte) wire.Verdict {
		var info packet.Info
		if packet.Parse(f, &info) != packet.OK || !info.Kind.IsTCP() || !lose.Load() {
			return wire.Pass
		}
		h := header.TCP(f[14+header.IPv4MinimumSize:])
		if int(header.IPv4(f[14:]).PayloadLength()) > int(h.DataOffset()) {
			lost.CompareAndSwap(0, h.SequenceNumber())
			if h.SequenceNumber() == lost.Load() {
				return wire.Drop
			}
		}
		return wire.Pass
	}
	ow := newOverWire(t, overWireOptions{bubble: true, wire: wire.Config{Faults: [2]wire.Faults{{Filter: forth}}}})
	c, s := ow.tcpPair(t, addrB)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	lose.Store(true)
	const size = 100 << 10
	go func() {
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Errorf("Write: %v", err)
		}
		c.Close()
	}()
	time.Sleep(500 * time.Millisecond)
	for _, call := range calls {
		if err := call(s); err != nil {
			t.Fatal(err)
		}
	}
	s.SetReadDeadline(time.Now().Add(10 * time.Minute)) //nolint:errcheck // it is open
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	lose.Store(false)
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{s}); n != size || err != nil {
		t.Errorf("%d bytes came, %v; want %d", n, err, size)
	}
	s.Close()
}

// TestTellsGap looks at the options that netstack sends.
func TestTellsGap(t *testing.T) {
	stamp := []byte{1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	block := []byte{1, 1, 5, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	for _, tc := range []struct {
		options []byte
		want    bool
	}{{nil, false}, {stamp, false}, {block, true}, {append(stamp, block...), true}} {
		h := make(header.TCP, header.TCPMinimumSize+len(tc.options))
		h.Encode(&header.TCPFields{DataOffset: uint8(len(h)), Flags: ack})
		copy(h[header.TCPMinimumSize:], tc.options)
		if got := tellsGap(h); got != tc.want {
			t.Errorf("% x: %v", tc.options, got)
		}
	}
}
