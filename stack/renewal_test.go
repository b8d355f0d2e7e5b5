package stack

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

// TestLongSinceLoss has a connection, that has lost something once, silent for longer
// than CUBIC can count: it still sends.
func TestLongSinceLoss(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		var deaf atomic.Bool
		lose := func(_ wire.Dir, f []byte) wire.Verdict {
			var info packet.Info
			if deaf.Load() && packet.Parse(f, &info) == packet.OK && info.Kind.IsTCP() {
				return wire.Drop
			}
			return wire.Pass
		}
		ow := newOverWire(t, overWireOptions{bubble: true, wire: wire.Config{Faults: [2]wire.Faults{{Filter: lose}}}})
		c, s := ow.tcpPair(t, addrB)
		for _, conn := range []*TCPConn{c, s} {
			if err := conn.SetKeepAlive(false); err != nil { // or there were 400,000 probes
				t.Fatal(err)
			}
		}
		say := func(what string) {
			t.Helper()
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			s.SetReadDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // it is open
			if _, err := s.Read(make([]byte, 1)); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			time.Sleep(time.Second)
		}
		say("first")
		deaf.Store(true)
		time.AfterFunc(500*time.Millisecond, func() { deaf.Store(false) })
		for range 20 { // until slow start is over
			say("after a loss")
		}
		if n := ow.s[0].ns.Stats().TCP.Timeouts.Value(); n == 0 {
			t.Error("nothing was lost")
		}
		time.Sleep(72 * 24 * time.Hour)
		for range 3 {
			say("72 days later")
		}
		c.SetLinger(0) //nolint:errcheck // there is nothing to wait for
		s.SetLinger(0) //nolint:errcheck // there is nothing to wait for
	})
}
