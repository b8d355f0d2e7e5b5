package stack

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
)

var figures = flag.Bool("afxnet.figures", false, "run all of TestRecoveryFigures and print the table of docs/tcp.md")

// A path is what a bulk transfer goes over.
type path struct {
	rtt     time.Duration
	rate    uint64 // bits per second, both ways
	loss    float64
	reorder float64 // held back for a quarter of the round trip
}

func (p path) String() string {
	return fmt.Sprintf("%v ms, %g%% loss, %g%% reordered", float64(p.rtt.Microseconds())/1000, p.loss*100, p.reorder*100)
}

// faults has room for every packet that a window can hold in flight, so that
// the only loss is the one asked for.
func (p path) faults() wire.Faults {
	return wire.Faults{
		Rate: p.rate, Delay: p.rtt / 2, QueueBytes: 64 << 20,
		Loss: p.loss, Reorder: p.reorder, ReorderDelay: max(p.rtt/4, time.Microsecond),
	}
}

// paths are the ones of the table: a data centre, a country, an ocean.
func paths() (all []path) {
	for _, p := range []path{
		{rtt: 50 * time.Microsecond, rate: 1e9},
		{rtt: 20 * time.Millisecond, rate: 100e6},
		{rtt: 66 * time.Millisecond, rate: 100e6},
	} {
		for _, loss := range []float64{0, 0.001, 0.01} {
			p.loss = loss
			all = append(all, p)
		}
		p.loss, p.reorder = 0, 0.01
		all = append(all, p)
	}
	return all
}

// A figure is what one transfer, or the sum of some, came to.
type figure struct {
	runs     int
	bytes    int
	time     time.Duration
	resent   int // bytes of payload sent more than once
	lost     int // bytes of payload that the wire lost
	retrans  uint64
	fast     uint64 // recoveries without SACK
	sack     uint64
	slow     uint64 // segments sent again in slow start, after a timeout
	timeouts uint64
	tlp      uint64
}

func (f *figure) add(g figure) {
	f.runs++
	f.bytes += g.bytes
	f.time += g.time
	f.resent += g.resent
	f.lost += g.lost
	f.retrans += g.retrans
	f.fast += g.fast
	f.sack += g.sack
	f.slow += g.slow
	f.timeouts += g.timeouts
	f.tlp += g.tlp
}

func (f figure) mbit() float64 { return float64(f.bytes) * 8 / f.time.Seconds() / 1e6 }

// needless is the bytes that were sent again although they had not been lost.
func (f figure) needless() int { return f.resent - f.lost }

// transferOver sends n bytes over a path in virtual time.
func transferOver(t *testing.T, p path, profile Profile, recovery *tcpip.TCPRecovery, seed uint64, n int) (f figure) {
	raced.Bubble(t, func(t *testing.T) {
		var sent, lost atomic.Int64
		forth := p.faults()
		forth.Loss = 0
		// The filter loses the data, so that it can be counted in bytes. It is
		// the only sender's, in order: one goroutine at a time.
		dice := splitmix(seed)
		forth.Filter = func(_ wire.Dir, frame []byte) wire.Verdict {
			n := int64(payloadOf(frame))
			sent.Add(n)
			if p.loss > 0 && dice() < p.loss {
				lost.Add(n)
				return wire.Drop
			}
			return wire.Pass
		}
		o := overWireOptions{
			wire: wire.Config{Seed: seed}, bubble: true, recovery: recovery, chunks: 16384,
		}
		o.config[0].Profile, o.config[1].Profile = profile, profile
		ow := newOverWire(t, o)
		c, s := ow.tcpPair(t, addrB)
		for dir, f := range []wire.Faults{forth, p.faults()} {
			if err := ow.w.SetFaults(wire.Dir(dir), f); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		go func() {
			buf := make([]byte, 64<<10)
			for left := n; left > 0; left -= len(buf) {
				buf = buf[:min(left, len(buf))]
				if _, err := c.Write(buf); err != nil {
					t.Error(err)
					return
				}
			}
		}()
		if got, err := io.Copy(io.Discard, io.LimitReader(s, int64(n))); err != nil || got != int64(n) {
			t.Error(got, err)
		}
		st := ow.s[0].ns.Stats().TCP
		f = figure{
			runs: 1, bytes: n, time: time.Since(start), resent: int(sent.Load()) - n, lost: int(lost.Load()),
			retrans: st.Retransmits.Value(), fast: st.FastRecovery.Value(), sack: st.SACKRecovery.Value(),
			slow: st.SlowStartRetransmits.Value(), timeouts: st.Timeouts.Value(), tlp: st.TLPRecovery.Value(),
		}
		if full := ow.w.Stats()[wire.From0].QueueFull + ow.w.Stats()[wire.From0].NoFrame + ow.w.Stats()[wire.From0].RXFull; full != 0 {
			t.Errorf("%v: %d frames were lost that should not: %+v", p, full, ow.w.Stats())
		}
		c.SetLinger(0) //nolint:errcheck // there is nothing to wait for
	})
	return f
}

// splitmix returns random numbers from 0 to 1 (splitmix64).
func splitmix(seed uint64) func() float64 {
	return func() float64 {
		seed += 0x9e3779b97f4a7c15
		x := seed
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		return float64((x^x>>31)>>11) / (1 << 53)
	}
}

// payloadOf returns the bytes of TCP data of an IPv4 frame without options.
func payloadOf(frame []byte) int {
	if len(frame) < 54 || frame[12] != 8 || frame[13] != 0 || frame[23] != 6 {
		return 0
	}
	return int(binary.BigEndian.Uint16(frame[16:])) - 20 - int(frame[46]>>4)*4
}

// TestRecoveryFigures makes the table of docs/tcp.md.
func TestRecoveryFigures(t *testing.T) {
	if !*figures {
		t.Skip("for -afxnet.figures, to make the table of docs/tcp.md; TestRecovery is the short version")
	}
	const bytes, seeds = 16 << 20, 5
	var out strings.Builder
	fmt.Fprintf(&out, "| RTT ms | loss | reordered | profile | RACK | Mbit/s | retransmits | needless KiB | recoveries | timeouts | TLP |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range paths() {
		profile := ProfileWAN
		if p.rtt < time.Millisecond {
			profile = ProfileLAN
		}
		for _, r := range []tcpip.TCPRecovery{0, tcpip.TCPRACKLossDetection} {
			var sum figure
			for seed := range uint64(seeds) {
				sum.add(transferOver(t, p, profile, &r, seed+1, bytes))
			}
			fmt.Fprintf(&out, "| %v | %g%% | %g%% | %v | %s | %.0f | %d | %d | %d | %d | %d |\n", float64(p.rtt.Microseconds())/1000,
				p.loss*100, p.reorder*100, profile, map[bool]string{true: "off", false: "on"}[r == 0],
				sum.mbit(), sum.retrans, sum.needless()>>10, sum.fast+sum.sack, sum.timeouts, sum.tlp)
		}
	}
	t.Logf("%d transfers of %d MiB per row, sums:\n%s", seeds, bytes>>20, out.String())
}

// TestRecovery holds the profiles to the decision of docs/tcp.md: on a path
// that loses and reorders nothing, not a byte is sent twice.
func TestRecovery(t *testing.T) {
	for _, p := range paths() {
		if p.loss != 0 || p.reorder != 0 {
			continue
		}
		for _, profile := range []Profile{ProfileWAN, ProfileLAN} {
			t.Run(fmt.Sprintf("%v %v", profile, p), func(t *testing.T) {
				f := transferOver(t, p, profile, nil, 1, raced.Few(2<<20, 512<<10))
				if f.resent != 0 || f.retrans+f.fast+f.sack+f.slow+f.timeouts != 0 {
					t.Errorf("sent again without need: %+v", f)
				}
				t.Logf("%.0f Mbit/s", f.mbit())
			})
		}
	}
}

// TestRecoveryLAN loses one frame in a hundred on a short path: the window stays
// large enough for nearly all losses to be seen by duplicate acknowledgements.
func TestRecoveryLAN(t *testing.T) {
	p := path{rtt: 50 * time.Microsecond, rate: 1e9, loss: 0.01}
	f := transferOver(t, p, ProfileLAN, nil, 1, raced.Few(16<<20, 4<<20))
	if f.retrans < uint64(raced.Few(50, 13)) || 10*f.timeouts > f.retrans {
		t.Errorf("%d timeouts of %d segments sent again", f.timeouts, f.retrans)
	}
}
