//go:build linux && (amd64 || arm64)

package raw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// limit bounds every wait for something that should happen soon.
const limit = 60 * time.Second

// count is how many packets the tests move: several times around the rings.
const count = 3*ringSize + 17

type bench struct {
	*lab.Lab
	host, peer hostif.Interface
}

func newBench(tb testing.TB, config lab.Config) *bench {
	tb.Helper()
	lab.Require(tb, lab.NetNS, lab.XDP)
	b := &bench{Lab: lab.New(tb, config)}
	var err error
	if b.host, err = b.Host.Interface(); err != nil {
		tb.Fatal(err)
	}
	if b.peer, err = b.Peer.Interface(); err != nil {
		tb.Fatal(err)
	}
	return b
}

func (b *bench) open(tb testing.TB, n *lab.Namespace, queues int, addr netip.Addr) *Port {
	tb.Helper()
	var p *Port
	err := n.Do(func() (err error) {
		p, err = Open(Config{Interface: n.Device, Queues: queues, Addr: addr})
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := errors.Join(p.Close(), p.Close()); err != nil {
			tb.Error(err)
		}
		if ifc, err := n.Interface(); err != nil || ifc.XDP.Mode != hostif.XDPNone {
			tb.Errorf("left: %+v, %v", ifc.XDP, err)
		}
	})
	return p
}

// toHost is a frame for the stack's address, toPeer one to the peer's kernel.
func (b *bench) toHost(tb testing.TB, size int) []byte {
	tb.Helper()
	f, err := UDPFrame(b.peer.MAC, b.host.MAC, netip.AddrPortFrom(b.Peer.V4.Addr(), 1000), netip.AddrPortFrom(b.StackV4.Addr(), 2000), size)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

func (b *bench) toPeer(tb testing.TB, to netip.Addr, port uint16, size int) []byte {
	tb.Helper()
	f, err := UDPFrame(b.host.MAC, b.peer.MAC, netip.AddrPortFrom(b.StackV4.Addr(), 2000), netip.AddrPortFrom(to, port), size)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}

type outcome struct {
	res Result
	err error
}

// start runs f beside the test.
func start(f func() (Result, error)) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		res, err := f()
		done <- outcome{res, err}
	}()
	return done
}

// both is the end of a sender and of a receiver that stops when it has what the
// sender sent, less what was lost.
func both(tb testing.TB, sent, received outcome) {
	tb.Helper()
	if sent.err != nil || received.err != nil {
		tb.Fatalf("%v, %v", sent.err, received.err)
	}
	tb.Logf("sent %+v", sent.res)
	tb.Logf("received %+v", received.res)
}

func TestLabReceiveDrop(t *testing.T) {
	for _, size := range []int{64, 1514} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			b := newBench(t, lab.Config{})
			rx := b.open(t, b.Host, 1, b.StackV4.Addr())
			gen := b.open(t, b.Peer, 1, netip.Addr{})
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			received := start(func() (Result, error) { return rx.ReceiveDrop(ctx, 0, Job{Packets: count}) })
			// Without a limit: losses on a busy machine are made up for.
			genCtx, stop := context.WithCancel(ctx)
			sent := start(func() (Result, error) { return gen.Transmit(genCtx, 0, Job{Frame: b.toHost(t, size)}) })
			r := <-received
			stop()
			both(t, <-sent, r)
			if r.res.Packets != count || r.res.Bytes != uint64(count*size) || r.res.Elapsed <= 0 || r.res.Calls != 0 {
				t.Errorf("%+v", r.res)
			}
		})
	}
}

// TestLabTransmit sends to nobody and counts on the interface.
func TestLabTransmit(t *testing.T) {
	b := newBench(t, lab.Config{})
	tx := b.open(t, b.Host, 1, netip.Addr{})
	before, err := b.Peer.Stats(b.Peer.Device)
	if err != nil {
		t.Fatal(err)
	}
	nobody := netip.MustParseAddr("192.0.2.1")
	res, err := tx.Transmit(t.Context(), 0, Job{Packets: count, Frame: b.toPeer(t, nobody, 9, 64)})
	if err != nil {
		t.Fatal(err)
	}
	after, err := b.Peer.Stats(b.Peer.Device)
	if err != nil {
		t.Fatal(err)
	}
	if got := after["rx_packets"] - before["rx_packets"]; got < count || res.Packets != count || res.Bytes != count*64 {
		t.Errorf("%d arrived of %+v", got, res)
	}
	per := 32
	if tx.Info()["tx_budget"] == "64" {
		per = 64
	}
	if least := uint64(count / per); res.Calls < least || res.Calls > 2*least {
		t.Errorf("%d calls for %d packets, %d per call", res.Calls, count, per)
	}
}

func TestLabForward(t *testing.T) {
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprintf("queues=%d", queues), func(t *testing.T) {
			b := newBench(t, lab.Config{Queues: queues})
			fw := b.open(t, b.Host, queues, b.StackV4.Addr())
			// What comes back is for the stack's address too: only the
			// Ethernet addresses change.
			gen := b.open(t, b.Peer, queues, b.StackV4.Addr())
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			out := queues - 1
			genCtx, stop := context.WithCancel(ctx)
			back := start(func() (Result, error) {
				if out == 0 {
					return gen.Transmit(genCtx, 0, Job{Frame: b.toHost(t, 64)})
				}
				return gen.ReceiveDrop(genCtx, out, Job{})
			})
			var sent <-chan outcome
			if out != 0 {
				sent = start(func() (Result, error) { return gen.Transmit(genCtx, 0, Job{Frame: b.toHost(t, 64)}) })
			}
			res, err := fw.Forward(ctx, 0, out, Job{Packets: 2 * count})
			if err != nil {
				t.Fatal(err)
			}
			// Much of it may have been lost on a busy machine, so the
			// receiver does not wait for a number.
			stop()
			r := <-back
			if sent != nil {
				both(t, <-sent, r)
			} else if r.err != nil {
				t.Fatal(r.err)
			}
			got := r.res.Packets
			if out == 0 {
				got = r.res.Acks
			}
			if got == 0 { // it was stopped before it looked: the ring has them
				last, err := gen.ReceiveDrop(ctx, out, Job{Packets: 1})
				if err != nil {
					t.Fatal(err)
				}
				got = last.Packets
			}
			if res.Packets != 2*count || res.Bytes != 2*count*64 || got == 0 {
				t.Errorf("forwarded %+v, %d came back", res, got)
			}
			if a := fw.region.Audit(); a.Held != 0 || a.Chunks() != fw.region.Chunks() {
				t.Errorf("frames: %+v", a)
			}
		})
	}
}

// TestLabKernel has a kernel socket at the other end, and traffic both ways.
func TestLabKernel(t *testing.T) {
	const every = 2
	b := newBench(t, lab.Config{})
	port := b.open(t, b.Host, 1, b.StackV4.Addr())
	if err := b.Peer.SetNeighbor(b.StackV4.Addr(), b.host.MAC); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	pc, err := b.Peer.ListenPacket("udp4", netip.AddrPortFrom(b.Peer.V4.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	conn := pc.(*net.UDPConn)
	to := conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	drained := start(func() (Result, error) { return Drain(ctx, conn, Job{Packets: count, AckEvery: every}) })
	sendCtx, stop := context.WithCancel(ctx)
	sent := start(func() (Result, error) {
		return port.Transmit(sendCtx, 0, Job{Frame: b.toPeer(t, b.Peer.V4.Addr(), to, 1514)})
	})
	r := <-drained
	stop()
	s := <-sent
	both(t, s, r)
	if r.res.Packets != count || r.res.Bytes != count*1472 || r.res.Acks == 0 || s.res.Acks == 0 {
		t.Errorf("drained %+v, sent %+v", r.res, s.res)
	}

	c, err := b.Peer.Dial(ctx, "udp4", netip.AddrPortFrom(b.StackV4.Addr(), 2000).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before, err := b.Peer.Stats(b.Peer.Device)
	if err != nil {
		t.Fatal(err)
	}
	received := start(func() (Result, error) {
		return port.ReceiveDrop(ctx, 0, Job{Packets: count, AckEvery: every, Ack: b.toPeer(t, b.Peer.V4.Addr(), to, 54)})
	})
	sendCtx, stop = context.WithCancel(ctx)
	defer stop()
	sent = start(func() (Result, error) { return Send(sendCtx, c.(*net.UDPConn), Job{Frame: make([]byte, 1472)}) })
	r = <-received
	stop()
	s = <-sent
	both(t, s, r)
	after, err := b.Peer.Stats(b.Peer.Device)
	if err != nil {
		t.Fatal(err)
	}
	if acks := after["rx_packets"] - before["rx_packets"]; r.res.Packets != count || r.res.Acks != count/every || acks < count/every {
		t.Errorf("received %+v, %d frames the other way", r.res, acks)
	}
	if s.res.Calls == 0 || s.res.Packets < s.res.Calls {
		t.Errorf("sent %+v", s.res)
	}
}

// TestLabContext ends every loop that has nothing to do.
func TestLabContext(t *testing.T) {
	b := newBench(t, lab.Config{})
	port := b.open(t, b.Host, 1, b.StackV4.Addr())
	pc, err := b.Peer.ListenPacket("udp4", netip.AddrPortFrom(b.Peer.V4.Addr(), 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for name, loop := range map[string]func(context.Context) (Result, error){
		"receive-drop": func(ctx context.Context) (Result, error) { return port.ReceiveDrop(ctx, 0, Job{}) },
		"forward":      func(ctx context.Context) (Result, error) { return port.Forward(ctx, 0, 0, Job{}) },
		"drain":        func(ctx context.Context) (Result, error) { return Drain(ctx, pc.(*net.UDPConn), Job{}) },
	} {
		ctx, cancel := context.WithCancel(t.Context())
		done := start(func() (Result, error) { return loop(ctx) })
		cancel()
		if o := <-done; o.err != nil || o.res.Packets != 0 || o.res.Elapsed != 0 {
			t.Errorf("%s: %+v, %v", name, o.res, o.err)
		}
	}
}

func TestLabRefused(t *testing.T) {
	b := newBench(t, lab.Config{})
	port := b.open(t, b.Host, 1, netip.Addr{})
	for _, n := range []int{0, ethernetLen - 1, 1515} {
		if _, err := port.Transmit(t.Context(), 0, Job{Packets: 1, Frame: make([]byte, n)}); err == nil {
			t.Errorf("a frame of %d bytes", n)
		}
	}
	if _, err := port.ReceiveDrop(t.Context(), 0, Job{AckEvery: 1}); err == nil {
		t.Error("no frame to acknowledge with")
	}
	for _, queue := range []int{-1, 1} {
		if _, err := port.Forward(t.Context(), 0, queue, Job{}); err == nil {
			t.Errorf("queue %d", queue)
		}
	}
	if _, err := port.Forward(t.Context(), 0, 0, Job{}); err == nil {
		t.Error("nothing arrives")
	}
}

// TestLabReference runs the C program as the Go loops.
func TestLabReference(t *testing.T) {
	b := newBench(t, lab.Config{})
	c, err := Compile(t.Context(), t.TempDir())
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	in := func(n *lab.Namespace, cfg Config, mode Mode, job Job) *ReferenceRun {
		t.Helper()
		cfg.Interface = n.Device
		var r *ReferenceRun
		if err := n.Do(func() (err error) { r, err = c.Start(ctx, cfg, 0, mode, job); return err }); err != nil {
			t.Fatal(err)
		}
		return r
	}
	run := in(b.Host, Config{}, ModeTransmit, Job{Packets: count, Frame: b.toPeer(t, netip.MustParseAddr("192.0.2.1"), 9, 64)})
	before, err := b.Peer.Stats(b.Peer.Device)
	if err != nil {
		t.Fatal(err)
	}
	res, err := run.Measure()
	if err != nil || res.Packets != count || res.Bytes != count*64 || res.Elapsed <= 0 || res.Calls < count/64 {
		t.Errorf("transmit: %+v, %v", res, err)
	}
	after, err := b.Peer.Stats(b.Peer.Device)
	if err != nil {
		t.Fatal(err)
	}
	if got := after["rx_packets"] - before["rx_packets"]; got < count {
		t.Errorf("%d of %d arrived", got, count)
	}

	gen := b.open(t, b.Peer, 1, netip.Addr{})
	run = in(b.Host, Config{Addr: b.StackV4.Addr()}, ModeReceiveDrop, Job{Packets: count})
	genCtx, stop := context.WithCancel(ctx)
	defer stop()
	sent := start(func() (Result, error) { return gen.Transmit(genCtx, 0, Job{Frame: b.toHost(t, 100)}) })
	res, err = run.Measure()
	stop()
	if s := <-sent; s.err != nil || err != nil || res.Packets != count || res.Bytes != count*100 {
		t.Errorf("receive: %+v, %v; sent %+v, %v", res, err, s.res, s.err)
	}
	if err := run.Close(); err != nil {
		t.Error(err)
	}
	// Given up before it started to work.
	if err := in(b.Host, Config{Addr: b.StackV4.Addr()}, ModeReceiveDrop, Job{}).Close(); err != nil {
		t.Error(err)
	}
	// A queue that is not there.
	err = b.Host.Do(func() error {
		_, err := c.Start(ctx, Config{Interface: b.Host.Device}, 7, ModeTransmit, Job{Packets: 1, Frame: make([]byte, 64)})
		return err
	})
	if err == nil {
		t.Error("queue 7")
	}
}
