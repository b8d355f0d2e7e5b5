package netdev

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func TestNewOnErrors(t *testing.T) {
	w, err := wire.New(wire.Config{Ports: [2]wire.PortConfig{{}, {MultiBuffer: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s := openSocket(t, w.Port(0), 0, 2048, 64, 16, 16)
	defer s.Close()
	narrow := openSocketOn(t, w.Port(1), 0, umem.Config{ChunkSize: 2048, Chunks: 256, Headroom: 1700}, 64, 64)
	defer narrow.Close()
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	for _, c := range []struct {
		name    string
		sockets []*xsk.Socket
		link    Link
		cfg     Config
		want    string
	}{
		{"no socket", nil, Link{"x", mac, 1500}, Config{}, "no socket"},
		{"no MAC", []*xsk.Socket{s}, Link{"x", nil, 1500}, Config{}, "MAC address"},
		{"long MAC", []*xsk.Socket{s}, Link{"x", make([]byte, 8), 1500}, Config{}, "MAC address"},
		{"small MTU", []*xsk.Socket{s}, Link{"x", mac, 575}, Config{}, "MTU 575"},
		{"large MTU", []*xsk.Socket{s}, Link{"x", mac, 2048 - 256 - 18 + 1}, Config{}, "MTU 1775"},
		{"Headroom", []*xsk.Socket{narrow}, Link{"x", mac, 1500}, Config{}, "Config.UMEM.Headroom: 1700 bytes"},
		{"Poll", []*xsk.Socket{s}, Link{"x", mac, 1500}, Config{Poll: 3}, "Config.Poll: poll mode 3"},
		{"negative Spin", []*xsk.Socket{s}, Link{"x", mac, 1500}, Config{Spin: -1}, "Config.Spin: -1ns"},
		{"long Spin", []*xsk.Socket{s}, Link{"x", mac, 1500}, Config{Spin: maxSpin + 1}, "Config.Spin: 10.000001ms"},
		{"QueueBytes", []*xsk.Socket{s}, Link{"x", mac, 1500}, Config{QueueBytes: minQueueBytes - 1}, "Config.QueueBytes: 262143"},
		{"negative QueueBytes", []*xsk.Socket{s}, Link{"x", mac, 1500}, Config{QueueBytes: -1}, "Config.QueueBytes: -1"},
		{"Queues", []*xsk.Socket{s}, Link{"x", mac, 1500}, Config{Queues: []uint32{1, 2, 1}}, "Config.Queues[2]: queue 1"},
	} {
		d, err := NewOn(c.sockets, c.link, c.cfg)
		if err == nil {
			d.Close()
			t.Errorf("%s: no error", c.name)
		} else if !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "netdev: ") {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
}

// TestOpenErrors refuses what Open alone uses, before anything is done to the device.
func TestOpenErrors(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{Queues: []uint32{}}, "netdev: Config.Queues: empty"},
		{Config{UMEM: umem.Config{File: os.Stdin}}, "netdev: Config.UMEM.File: "},
	} {
		c.cfg.Interface = "nonesuch0"
		d, err := Open(c.cfg)
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q in it", err, c.want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	e := r.d.LinkEndpoint()
	for _, c := range []struct{ set, want uint32 }{{1400, 1400}, {1501, 1400}, {575, 1400}, {576, 576}, {1500, 1500}} {
		if e.SetMTU(c.set); e.MTU() != c.want || r.d.MTU() != int(c.want) {
			t.Errorf("MTU %d after SetMTU(%d), want %d", e.MTU(), c.set, c.want)
		}
	}
	// netstack cuts a long write at GSOMaxSize less a reserve, and leaves 80 bytes of
	// each frame for headers, on IPv4.
	for _, mtu := range []uint32{576, 1280, 1400, 1500} {
		e.SetMTU(mtu)
		size := int(r.d.ep.GSOMaxSize())
		if cut, mss := size-header.TCPTotalHeaderMaximumSize-1, int(mtu-80); cut%mss != 0 || size > 65535 || cut < 65000-mss {
			t.Errorf("MTU %d: segments of %d bytes, frames of %d", mtu, cut, mss)
		}
	}
	if e.LinkAddress() != tcpip.LinkAddress(r.d.MAC()) || !e.IsAttached() {
		t.Errorf("address %v, attached %v", e.LinkAddress(), e.IsAttached())
	}
	if e.Attach(nil); e.IsAttached() {
		t.Error("attached")
	}
	e.Wait() // does not: the device is not closing
}

// TestClose closes a device under traffic in both directions, several times at
// once.
func TestClose(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t, rigConfig{rings: 16})
		f := frame{proto: packet.ProtoUDP, payload: pattern(0, 100)}.bytes()
		var wg sync.WaitGroup
		stop := make(chan struct{})
		busy := func(step func()) {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						step()
					}
				}
			})
		}
		var mu sync.Mutex
		var released atomic.Int32
		written := 0
		for i := range uint32(3) {
			n := uint32(0)
			busy(func() {
				s := segment{hash: i + 1, flags: packet.ACK, ack: n}
				if n++; n%7 == 0 {
					s.payload, s.mss = pattern(n, 5000), 1400
				}
				pkt := s.packet()
				if err := r.d.QDisc().WritePacket(pkt); err == nil {
					mu.Lock()
					written++
					mu.Unlock()
				}
				pkt.DecRef()
			})
		}
		busy(func() { r.w.Port(1).Send(f) })
		busy(func() { r.d.PollBeforePark(new(soon)) })
		busy(func() { r.d.Audit() })
		busy(func() { r.d.SetLink(nil) })
		for range rng.IntN(2000) {
			r.w.Port(1).Send(f)
		}
		for range 3 {
			wg.Go(func() {
				if err := r.d.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		if err := r.d.Close(); err != nil {
			t.Error(err)
		}
		pkt := datagram(1, 10, &released)
		if _, ok := r.d.QDisc().WritePacket(pkt).(*tcpip.ErrNetworkUnreachable); !ok {
			t.Error("a packet is taken after Close")
		}
		pkt.DecRef()
		r.d.PollBeforePark(new(soon))
		r.d.SetLink(errors.New("down"))
		r.d.SetLink(nil)
		close(stop)
		wg.Wait()
		checkAudit(t, r.d)
		st := r.stats()
		done := st.TXPackets + st.TXACKsSpared + st.Drops["tx closed"] + st.Drops["tx queue full"] + st.Drops["tx link down"]
		if done != uint64(written) || released.Load() != 1 {
			t.Errorf("seed %d: %d packets written, %d accounted for: %+v", seed, written, done, st)
		}
	}
}

// TestAttachLater receives nothing before a dispatcher is there and all after,
// and starts one poller only.
func TestAttachLater(t *testing.T) {
	r := newRig(t, rigConfig{idle: true})
	got := make(chan struct{}, 10)
	r.rec.notify = func() { got <- struct{}{} }
	r.d.LinkEndpoint().Attach(nil)
	r.w.Port(1).Send(frame{flags: packet.ACK, payload: pattern(0, 10)}.bytes())
	r.d.LinkEndpoint().Attach(r.rec)
	<-got
	r.d.LinkEndpoint().Attach(nil)
	r.d.LinkEndpoint().Attach(r.rec)
	r.w.Port(1).Send(frame{flags: packet.ACK, payload: pattern(0, 10)}.bytes())
	<-got
}

// TestBroken stops on a ring whose index cannot be, says so, and stays down: the
// link coming up does not mend it, and its going away does not hide it.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		name  string
		index wire.Index
		poll  PollMode
	}{{"RX", wire.RXProd, PollAdaptive}, {"TX", wire.TXCons, PollAdaptive}, {"RX, spinning", wire.RXProd, PollSpin}, {"TX, spinning", wire.TXCons, PollSpin}} {
		t.Run(c.name, func(t *testing.T) {
			told := make(chan error, 4)
			r := newRig(t, rigConfig{rings: 16, cfg: Config{Poll: c.poll, OnLink: func(err error) { told <- err }}})
			r.queue().ShiftIndex(c.index, 1000)
			for len(told) == 0 { // a send looks at the TX ring
				pkt := datagram(1, 10, nil)
				r.d.write(pkt)
				pkt.DecRef()
				runtime.Gosched()
			}
			err := <-told
			if !errors.Is(err, syscall.ENETDOWN) || !errors.Is(err, syscall.ENODEV) || !strings.HasPrefix(err.Error(), "netdev: wire0, for good: ") || r.d.LinkErr() == nil {
				t.Errorf("%v is not for good, or does not name the device", err)
			}
			if op := (*xsk.OpError)(nil); !errors.As(err, &op) || op.Device != "wire0" || op.Queue != 0 || !errors.Is(err, ring.ErrCorrupt) {
				t.Errorf("%v does not name the queue", err)
			}
			for _, err := range []error{nil, fmt.Errorf("test: %w: %w", ErrNoCarrier, syscall.ENETDOWN)} {
				r.d.SetLink(err)
				if now := r.d.LinkErr(); now == nil || errors.Is(now, ErrNoCarrier) {
					t.Errorf("after SetLink(%v): %v with a broken ring", err, now)
				}
			}
			if len(told) != 0 {
				t.Errorf("OnLink is told once more: %v", <-told)
			}
		})
	}
}

// TestSendBelow sends nothing on queues that can only receive.
func TestSendBelow(t *testing.T) {
	w, err := wire.New(wire.Config{Ports: [2]wire.PortConfig{{Queues: 3}, {}}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	w.Port(1).OnReceive(func([]byte) {})
	var sockets []*xsk.Socket
	for i := range 3 {
		sockets = append(sockets, openSocket(t, w.Port(0), i, 2048, 64, 16, 16))
	}
	d, err := NewOn(sockets, Link{Name: "wire0", MAC: w.Port(0).MAC(), MTU: 1500}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.sendBelow(0); err == nil {
		t.Error("no error without a queue to send on")
	}
	for n := 1; n <= 3; n++ {
		if err := d.sendBelow(n); err != nil {
			t.Fatal(err)
		}
		before, err := d.Stats()
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint32(60) {
			pkt := datagram(i, 10, nil)
			if err := d.write(pkt); err != nil {
				t.Error(err)
			}
			pkt.DecRef()
		}
		after, err := d.Stats()
		if err != nil {
			t.Fatal(err)
		}
		for i := range after.Queues {
			want := uint64(0)
			if i < n {
				want = uint64(60 / n)
			}
			if got := after.Queues[i].TXFrames - before.Queues[i].TXFrames; got != want {
				t.Errorf("%d can send: queue %d has sent %d frames, want %d", n, i, got, want)
			}
		}
	}
}

// TestAttachDuringClose starts no poller once Close has begun.
func TestAttachDuringClose(t *testing.T) {
	for range 50 {
		r := newRig(t, rigConfig{idle: true})
		r.d.LinkEndpoint().Attach(nil)
		var wg sync.WaitGroup
		wg.Go(func() { r.d.LinkEndpoint().Attach(r.rec) })
		wg.Go(func() { r.d.Close() })
		wg.Wait()
	}
}

// TestNewAddress sends from the interface's new Ethernet address, also on routes that
// are older.
func TestNewAddress(t *testing.T) {
	r := newRig(t, rigConfig{})
	e := r.d.LinkEndpoint()
	old := e.LinkAddress()
	const changed = tcpip.LinkAddress("\x02\x00\x00\x00\x00\x99")
	r.d.ep.setMAC(string(changed))
	if got := tcpip.LinkAddress(r.d.MAC()); e.LinkAddress() != changed || got != changed {
		t.Errorf("the address is %q and %q, want %q", e.LinkAddress(), got, changed)
	}
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{ReserveHeaderBytes: ethernetLen})
	defer pkt.DecRef()
	pkt.EgressRoute.LocalLinkAddress, pkt.EgressRoute.RemoteLinkAddress = old, "\x02\x00\x00\x00\x00\x01"
	e.AddHeader(pkt)
	if h := header.Ethernet(pkt.LinkHeader().Slice()); h.SourceAddress() != changed || h.DestinationAddress() != pkt.EgressRoute.RemoteLinkAddress {
		t.Errorf("%x", []byte(h))
	}
}
