package stack

import (
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack/internal/segments"
)

// batches stands for a device that the inliner may work on.
type batches struct {
	parks
	set  []bool // of each call of AfterBatch: there is a function
	hold int    // bytes
}

func (b *batches) AfterBatch(f func(int)) { b.set = append(b.set, f != nil) }
func (*batches) QueueCount() int          { return 1 }
func (b *batches) ACKHold() int           { return b.hold }
func (*batches) SendACKs(int)             {}

// TestInlineAfterBatch wants the device to count on what a batch brings being
// processed at its end only while it is.
func TestInlineAfterBatch(t *testing.T) {
	for _, c := range []struct {
		name             string
		noFast, noInline bool
		retire           bool
		want             []bool
	}{
		{name: "inline", want: []bool{true}},
		{name: "after Netstack", retire: true, want: []bool{true, false}},
		{name: "NoInline", noInline: true, retire: true},
		{name: "NoFastIP", noFast: true, retire: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig(addrA)
			cfg.NoFastIP, cfg.NoInline = c.noFast, c.noInline
			link, far := newWire(true)
			defer far.Close()
			d := &batches{parks: make(parks, 1)}
			s, err := newStack(cfg, link, link, true, d)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if c.retire {
				s.Netstack()
				s.Netstack()
			}
			if !slices.Equal(d.set, c.want) {
				t.Errorf("AfterBatch with a function: %v, want %v", d.set, c.want)
			}
			if i := s.Info(); i.InlineErr != nil || i.Inline != (len(c.want) == 1) {
				t.Errorf("%+v", i)
			}
		})
	}
}

// TestInlineMTU holds what may wait for its acknowledgement to two full segments of
// the MTU that the device has, not of the one that it had.
func TestInlineMTU(t *testing.T) {
	p, err := segments.Offered()
	if err != nil {
		t.Fatal(err)
	}
	var in inliner
	d := new(batches)
	in.start(p, d, new(clock))
	defer in.close()
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{
		ReserveHeaderBytes: header.TCPMinimumSize, Payload: buffer.MakeWithData(make([]byte, 5000)),
	})
	defer pkt.DecRef()
	header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize)).Encode(&header.TCPFields{
		SeqNum: 7, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck,
	})
	for _, c := range []struct {
		hold int
		want segments.Data
	}{{9000, segments.Data{Seq: 7, Size: 5000}}, {5000, segments.Data{}}, {5001, segments.Data{Seq: 7, Size: 5000}}, {0, segments.Data{}}} {
		d.hold = c.hold
		if got := in.late(pkt, pkt.TransportHeader().Slice()); got != c.want {
			t.Errorf("two segments of %d bytes: %+v, want %+v", c.hold, got, c.want)
		}
	}
}

// TestRetireDozing calls Netstack while a goroutine sleeps in the poller's place,
// who had segments processed in it: traffic goes on, and one sleeps there again.
func TestRetireDozing(t *testing.T) {
	o := overWireOptions{chosen: true}
	o.config[0].Device.Poll, o.config[1].Device.Poll = netdev.PollBlock, netdev.PollBlock
	ow := newOverWire(t, o)
	c, s := ow.tcpPair(t, addrB)
	go io.Copy(s, s) //nolint:errcheck // ends with the connection
	exchange := func() {
		t.Helper()
		b := []byte("there and back")
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
	}
	dozing := func() int { return len(goroutinesOf("netdev.(*queue).doze(")) }
	within := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("%s: not within 20 s", what)
			}
		}
	}
	within("the echo sleeps in the poller's place", func() bool { exchange(); return dozing() == 1 })
	ow.s[1].Netstack()
	for range 200 {
		exchange()
	}
	within("it sleeps there again", func() bool { exchange(); return dozing() == 1 })
	ow.s[0].Netstack()
	for range 200 {
		exchange()
	}
}
