//go:build linux && (amd64 || arm64)

package floor

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// limit bounds every wait for something that should happen soon.
const limit = 30 * time.Second

// serve opens a responder in a lab and lets it serve until the test ends.
func serve(tb testing.TB, config lab.Config, cfg peer.Config) (*lab.Lab, peer.Responder) {
	tb.Helper()
	lab.Require(tb, lab.NetNS, lab.XDP)
	l := lab.New(tb, config)
	cfg.Interface, cfg.V4, cfg.V6 = l.Host.Device, l.StackV4, l.StackV6
	if runtime.GOMAXPROCS(0) <= max(cfg.Queues, 1) {
		// The clients are in this process. A goroutine that is always ready
		// to run lets the runtime look for their packets every 10 ms only.
		cfg.Polling = "block"
	}
	var f peer.Responder
	if err := l.Host.Do(func() (err error) { f, err = Open(cfg); return err }); err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.Serve(context.Background()) }()
	tb.Cleanup(func() {
		if err := errors.Join(f.Close(), <-served, f.Close()); err != nil {
			tb.Error(err)
		}
		if err := f.Serve(context.Background()); !errors.Is(err, net.ErrClosed) {
			tb.Errorf("Serve after Close: %v", err)
		}
		left(tb, l)
	})
	return l, f
}

// left wants nothing left of a responder.
func left(tb testing.TB, l *lab.Lab) {
	tb.Helper()
	ifc, err := l.Host.Interface()
	if err != nil || ifc.XDP.Mode != hostif.XDPNone {
		tb.Errorf("XDP program %+v, %v", ifc.XDP, err)
	}
}

func dial(tb testing.TB, l *lab.Lab, network string, to netip.Prefix) net.Conn {
	tb.Helper()
	return connect(tb, l, network, netip.AddrPortFrom(to.Addr(), peer.EchoPort))
}

func dialPort(tb testing.TB, l *lab.Lab, to netip.Prefix, port uint16) net.Conn {
	tb.Helper()
	return connect(tb, l, "tcp", netip.AddrPortFrom(to.Addr(), port))
}

func connect(tb testing.TB, l *lab.Lab, network string, to netip.AddrPort) net.Conn {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := l.Peer.Dial(ctx, network, to.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(limit))
	return c
}

// exchangeOn sends n bytes and wants them back.
func exchangeOn(c net.Conn, n, seed int) error {
	sent, got := make([]byte, n), make([]byte, n)
	for i := range sent {
		sent[i] = byte(i*7 + seed)
	}
	if _, err := c.Write(sent); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("%d bytes: %w", n, err)
	}
	if !bytes.Equal(got, sent) {
		return fmt.Errorf("%d bytes came back otherwise", n)
	}
	return nil
}

var sizes = []int{1, 2, 63, 64, 65, 1023, 1024, 1447, 1448, 1449, 1460, 1461, 1472, 1473, 2920, 4096, 8192, 16383, 16384}

func TestLabEcho(t *testing.T) {
	for _, polling := range []string{"", "block"} {
		for _, c := range []lab.Config{{}, {Offloads: true}, {MTU: 9000}, {MTU: 9000, Offloads: true}} {
			t.Run(fmt.Sprintf("polling=%s/offloads=%v/mtu=%d", polling, c.Offloads, c.MTU), func(t *testing.T) {
				l, f := serve(t, c, peer.Config{Polling: polling})
				for _, network := range []string{"tcp", "udp"} {
					for _, to := range []netip.Prefix{l.StackV4, l.StackV6} {
						c := dial(t, l, network, to)
						for i := range 3 {
							for _, n := range sizes {
								if err := exchangeOn(c, n, i); err != nil {
									t.Fatalf("%s %v: %v\n%v", network, to, err, f.Counters())
								}
							}
						}
					}
				}
				m := f.Counters()
				if m["bad_frames"] != 0 || m["unsent"] != 0 || m["arp_replies"] == 0 || m["nd_replies"] == 0 {
					t.Errorf("%v", m)
				}
			})
		}
	}
}

// TestLabFrames counts: one frame each way per exchange of one segment.
func TestLabFrames(t *testing.T) {
	l, f := serve(t, lab.Config{}, peer.Config{})
	for _, network := range []string{"tcp", "udp"} {
		c := dial(t, l, network, l.StackV4)
		if err := exchangeOn(c, 64, 0); err != nil {
			t.Fatal(err)
		}
		echoes := network + "_echoes"
		before, again := f.Counters(), retransmitted(t, l)
		const rounds = 1000
		for i := range rounds {
			if err := exchangeOn(c, 64, i); err != nil {
				t.Fatal(err)
			}
		}
		after := f.Counters()
		// The client sends a request again if this process was stopped for 200 ms, and
		// each is echoed.
		again = retransmitted(t, l) - again
		if got := after[echoes] - before[echoes]; got < rounds || got > rounds+again {
			t.Errorf("%s: %d echoes of %d requests, %d sent again", network, got, rounds, again)
		}
		// Neighbour discovery may ask now and then, and the client
		// acknowledges an echo if it was stopped for 40 ms.
		if out := after["frames_out"] - before["frames_out"]; out < rounds || out > rounds+again+10 {
			t.Errorf("%s: %d frames out for %d requests, %d sent again", network, out, rounds, again)
		}
	}
}

// retransmitted returns how many segments the client's kernel has sent again.
func retransmitted(t *testing.T, l *lab.Lab) (n uint64) {
	t.Helper()
	err := l.Peer.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		column := -1
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 0 || f[0] != "Tcp:" {
				continue
			}
			if column >= 0 {
				n, err = strconv.ParseUint(f[column], 10, 64)
				return err
			}
			column = slices.Index(f, "RetransSegs")
		}
		return errors.New("no RetransSegs")
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLabClose opens and closes connections. A close that is clean ends with
// an end of file here, and not with a reset.
func TestLabClose(t *testing.T) {
	l, f := serve(t, lab.Config{}, peer.Config{})
	const rounds = 1000
	for i := range rounds {
		c := dial(t, l, "tcp", []netip.Prefix{l.StackV4, l.StackV6}[i%2])
		if err := exchangeOn(c, 1+i%200, i); err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("connection %d ends with %d bytes, %v", i, n, err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	m := f.Counters()
	if m["tcp_accepted"] < rounds || m["tcp_fins"] < rounds || m["tcp_resets"] != 0 {
		t.Errorf("%v", m)
	}
}

// TestLabHalfClose sends more than a window of segments, closes, and reads to
// the end only then.
func TestLabHalfClose(t *testing.T) {
	l, f := serve(t, lab.Config{}, peer.Config{})
	c := dial(t, l, "tcp", l.StackV4)
	sent := bytes.Repeat([]byte("half close "), 16384/11)
	if _, err := c.Write(sent); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v\n%v", len(got), len(sent), err, f.Counters())
	}
}

func TestLabMany(t *testing.T) {
	const conns, rounds = 1000, 3
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprintf("queues=%d", queues), func(t *testing.T) {
			l, f := serve(t, lab.Config{Queues: queues}, peer.Config{Queues: queues})
			all := make([]net.Conn, conns)
			for i := range all {
				all[i] = dial(t, l, "tcp", l.StackV4)
			}
			var wg sync.WaitGroup
			errs := make([]error, conns)
			for i, c := range all {
				wg.Go(func() {
					for r := range rounds {
						errs[i] = errors.Join(errs[i], exchangeOn(c, 64, i+r))
					}
				})
			}
			wg.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Errorf("%v\n%v", err, f.Counters())
			}
			if m := f.Counters(); m["tcp_accepted"] < conns || m["tcp_echoes"] < conns*rounds {
				t.Errorf("%v", m)
			}
		})
	}
}

// TestLabContext stops Serve and starts it again; what came between is
// answered late, by the client's retransmission or from the ring.
func TestLabContext(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	for _, polling := range []string{"spin", "block"} {
		var f peer.Responder
		err := l.Host.Do(func() (err error) {
			f, err = Open(peer.Config{Interface: l.Host.Device, V4: l.StackV4, V6: l.StackV6, Polling: polling})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- f.Serve(ctx) }()
			if err := exchangeOn(dial(t, l, "tcp", l.StackV4), 100, 0); err != nil {
				t.Error(err)
			}
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
		if got := f.Info()["polling"]; got != polling {
			t.Errorf("polling is %q, want %q", got, polling)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		left(t, l)
	}
}

func TestLabRefused(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	good := peer.Config{Interface: l.Host.Device, V4: l.StackV4, V6: l.StackV6}
	for name, change := range map[string]func(*peer.Config){
		"no such interface": func(c *peer.Config) { c.Interface = "nothing0" },
		"no such queue":     func(c *peer.Config) { c.Queues = 2 },
		"MTU too large":     func(c *peer.Config) { c.MTU = 1501 },
	} {
		cfg := good
		change(&cfg)
		if err := l.Host.Do(func() error { _, err := Open(cfg); return err }); err == nil {
			t.Errorf("%s: no error", name)
		}
		left(t, l)
	}
	good.V4 = l.Host.V4
	if err := l.Host.Do(func() error { _, err := Open(good); return err }); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the host's address: %v", err)
	}
	left(t, l)
}

// TestLabBulk has the kernel send to the sink and read from the source.
func TestLabBulk(t *testing.T) {
	const most = 8 << 20
	for _, tc := range []struct {
		polling string
		mtu     int
	}{{"", 1500}, {"block", 1500}, {"", 9000}, {"block", 9000}} {
		t.Run(fmt.Sprintf("polling=%s/mtu=%d", tc.polling, tc.mtu), func(t *testing.T) {
			l, f := serve(t, lab.Config{MTU: tc.mtu}, peer.Config{Polling: tc.polling})
			for _, to := range []netip.Prefix{l.StackV4, l.StackV6} {
				for _, n := range []int{0, 1, 1460, 1461, most - 1} {
					if err := sendAll(dialPort(t, l, to, peer.SinkPort), n); err != nil {
						t.Fatalf("%d bytes to %v: %v\n%v", n, to, err, f.Counters())
					}
					if err := receiveAll(dialPort(t, l, to, peer.SourcePort), n); err != nil {
						t.Fatalf("%d bytes from %v: %v\n%v", n, to, err, f.Counters())
					}
				}
			}
			// One that the client gives up: the next is served all the same.
			c := dialPort(t, l, l.StackV4, peer.SourcePort)
			if _, err := c.Write(binary.BigEndian.AppendUint64(nil, 1<<62)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, most)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close()); err != nil {
				t.Fatal(err)
			}
			if err := receiveAll(dialPort(t, l, l.StackV4, peer.SourcePort), most); err != nil {
				t.Fatal(err)
			}
			m := f.Counters()
			if m["bad_frames"] != 0 || m["unsent"] != 0 || m["tcp_resets"] == 0 || m["tcp_sent"] < uint64(3*most/tc.mtu) {
				t.Errorf("%v", m)
			}
		})
	}
}

// sendAll sends n bytes to a sink and wants to hear that they arrived.
func sendAll(c net.Conn, n int) error {
	if _, err := c.Write(make([]byte, n)); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	count, err := io.ReadAll(c)
	if err != nil || len(count) != 8 || binary.BigEndian.Uint64(count) != uint64(n) {
		return fmt.Errorf("the count is % x: %w", count, err)
	}
	return c.Close()
}

// receiveAll asks a source for n bytes and wants so many zeros and the end.
func receiveAll(c net.Conn, n int) error {
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err != nil || len(got) != n || !bytes.Equal(got, make([]byte, n)) {
		return fmt.Errorf("%d bytes: %w", len(got), err)
	}
	return c.Close()
}
