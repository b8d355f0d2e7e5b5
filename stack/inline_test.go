package stack

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/wire"
	_ "github.com/afxnet/afxnet/stack/inline" // tests run with it unless they say otherwise
	"github.com/afxnet/afxnet/stack/internal/segments"
)

func init() { segments.Accept() }

func TestInlineInfo(t *testing.T) {
	o := overWireOptions{chosen: true}
	o.config[1].NoInline = true
	ow := newOverWire(t, o)
	if i := ow.s[0].Info(); !i.FastIP || !i.Inline || i.InlineErr != nil {
		t.Errorf("%+v", i)
	}
	if i := ow.s[1].Info(); !i.FastIP || i.Inline || i.InlineErr != nil {
		t.Errorf("NoInline: %+v", i)
	}
	exchangeAll(t, ow)
	ow.s[0].Netstack()
	if i := ow.s[0].Info(); i.FastIP || i.Inline {
		t.Errorf("after Netstack: %+v", i)
	}
	exchangeAll(t, ow)
}

// TestInlineHeld has segments arrive while somebody who is not a user holds the
// endpoint, as a timer does: nobody looks at the queue when he lets go.
func TestInlineHeld(t *testing.T) {
	ow := newOverWire(t, overWireOptions{chosen: true})
	in := &ow.s[1].fast.inline
	processed := make(chan struct{}, 1)
	inner := *in.p
	in.p = &segments.Processor{Queue: inner.Queue, Acknowledge: inner.Acknowledge, Fill: inner.Fill, Process: func(ep gstack.TransportEndpoint, d segments.Data, h segments.Host) bool {
		owes := inner.Process(ep, d, h)
		select {
		case processed <- struct{}{}:
		default:
		}
		return owes
	}}
	c, s := ow.tcpPair(t, addrB)
	ep := s.ep.(*tcp.Endpoint)
	// The reader has to be asleep already: one that comes later looks at the
	// queue itself. It mostly is.
	got := make(chan string)
	go func() {
		for {
			b := make([]byte, 4)
			if _, err := io.ReadFull(s, b); err != nil {
				close(got)
				return
			}
			got <- string(b)
		}
	}()
	for range 50 {
		ep.StopWork()
		select {
		case <-processed: // of the last round
		default:
		}
		if _, err := c.Write([]byte("held")); err != nil {
			t.Fatal(err)
		}
		within(t, "processing of a segment", func() { <-processed })
		ep.ResumeWork()
		within(t, "Read", func() {
			if s := <-got; s != "held" {
				t.Errorf("%q", s)
			}
		})
	}
}

// TestInlineBothWays sends in both directions at once on a few connections over
// a wire that loses and reorders, so that readers, writers, timers and pollers
// all want the endpoints.
func TestInlineBothWays(t *testing.T) {
	o := overWireOptions{chosen: true}
	o.wire.Ports[0].Queues, o.wire.Ports[1].Queues = 2, 2
	faults := wire.Faults{Loss: 0.001, Reorder: 0.002, Duplicate: 0.001}
	o.wire.Faults = [2]wire.Faults{faults, faults}
	ow := newOverWire(t, o)
	// A reordered segment may be late by more than the largest window here, and
	// is refused then, as RFC 5961 (5.2) has it.
	ow.forged = true
	var wg sync.WaitGroup
	for i, host := range []string{addrB, addrB6, addrB, addrB6} {
		c, s := ow.tcpPair(t, host)
		data := make([]byte, 2<<20)
		random := rand.NewChaCha8([32]byte{byte(i)})
		random.Read(data) //nolint:errcheck // never fails
		for _, ends := range [][2]*TCPConn{{c, s}, {s, c}} {
			wg.Go(func() {
				for rest := data; len(rest) > 0; {
					n := min(len(rest), 1+len(rest)%70_001)
					if _, err := ends[0].Write(rest[:n]); err != nil {
						t.Error(err)
						return
					}
					rest = rest[n:]
				}
			})
			wg.Go(func() {
				got := make([]byte, len(data))
				if _, err := io.ReadFull(ends[1], got); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%v, %x, want %x", err, sha256.Sum256(got), sha256.Sum256(data))
				}
			})
		}
	}
	wg.Wait()
}
