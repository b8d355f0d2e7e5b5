package inmemory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/stack/gro"

	"github.com/afxnet/afxnet/bench/internal/gvisorpeer"
)

// addresses are those of the two stacks.
var addresses = [2]netip.Prefix{netip.MustParsePrefix("10.78.0.1/24"), netip.MustParsePrefix("10.78.0.2/24")}

// serverPort is where the second stack listens.
const serverPort = "7000"

// mtu is the longest IP packet in bytes.
const mtu = 1500

// theirOptions are the choices for gVisor's stacks.
type theirOptions struct {
	queue int  // packets that wait in a channel endpoint
	gso   bool // netstack cuts segments late, above the link
	gro   bool // received segments are joined, above the link
	copy  bool // each packet is copied into one piece, as a frame is
}

// theirKinds are the choices by kind. The length of the queue matters little,
// the late cutting is worth a fifth of the CPU time in bulk and costs nothing
// in rr; see BenchmarkOptions.
var theirKinds = map[string]theirOptions{
	"gvisor":      {queue: 4096, gso: true},
	"gvisor-gro":  {queue: 4096, gso: true, gro: true},
	"gvisor-copy": {queue: 4096, gso: true, copy: true},
}

// theirs is two netstacks whose channel endpoints are joined by two goroutines.
type theirs struct {
	options theirOptions
	eps     [2]*channel.Endpoint
	sockets [2]gvisorpeer.Sockets
	frames  atomic.Uint64
	watch   func(packet []byte) // for tests; nil: nobody. Set before Pair.

	cancel context.CancelFunc
	pumps  sync.WaitGroup
}

func newTheirs(o theirOptions) (*theirs, error) {
	t := &theirs{options: o}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	for i := range t.eps {
		t.eps[i] = channel.New(o.queue, mtu, tcpip.LinkAddress([]byte{2, 0, 0, 0, 0, byte(i + 1)}))
		if o.gso {
			t.eps[i].SupportedGSOKind = gstack.GVisorGSOSupported
		}
		if o.gro {
			// A merged packet's own checksum is wrong, and only with this does
			// netstack not look at it. GRO has verified each part, see
			// injector.
			t.eps[i].LinkEPCapabilities |= gstack.CapabilityRXChecksumOffload
		}
		ns, err := gvisorpeer.NewStack(t.eps[i], nil, addresses[i])
		if err != nil {
			return nil, errors.Join(err, t.Close())
		}
		t.sockets[i].Stack = ns
	}
	for i := range t.eps {
		t.pumps.Go(func() { t.pump(ctx, t.eps[i], t.eps[1-i]) })
	}
	return t, nil
}

// pump carries packets one way until ctx ends.
func (t *theirs) pump(ctx context.Context, from, to *channel.Endpoint) {
	var joiner gro.GRO
	joiner.Init(t.options.gro)
	joiner.Dispatcher = injector{to}
	for {
		pkt := from.ReadContext(ctx)
		if pkt == nil {
			return
		}
		// What has come meanwhile is one batch, as a link would give it.
		for n := 0; pkt != nil; n++ {
			in := t.carry(pkt)
			if t.options.gro {
				joiner.Enqueue(in)
			} else {
				to.InjectInbound(in.NetworkProtocolNumber, in)
			}
			in.DecRef()
			if n == maxBatch {
				break
			}
			pkt = from.Read()
		}
		joiner.Flush()
	}
}

// maxBatch bounds the packets between two flushes of GRO, as a link's receive
// batch does: 64 is that of Linux's NAPI, and of netdev.
const maxBatch = 64

// carry makes a packet that is received out of one that is sent.
func (t *theirs) carry(out *gstack.PacketBuffer) *gstack.PacketBuffer {
	defer out.DecRef()
	t.frames.Add(1)
	if t.watch != nil {
		v := out.ToView()
		t.watch(v.AsSlice())
		v.Release()
	}
	var payload buffer.Buffer
	if t.options.copy {
		payload = buffer.MakeWithView(out.ToView())
	} else {
		payload = out.ToBuffer()
	}
	in := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: payload})
	in.NetworkProtocolNumber = out.NetworkProtocolNumber
	return in
}

// An injector receives for an endpoint what GRO is done with. It drops what
// GRO has not found right, since netstack would not look again.
type injector struct{ ep *channel.Endpoint }

func (i injector) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *gstack.PacketBuffer) {
	if pkt.RXChecksumValidated {
		i.ep.InjectInbound(proto, pkt)
	}
}

func (injector) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *gstack.PacketBuffer) {}

func (t *theirs) Frames() uint64 { return t.frames.Load() }

func (t *theirs) Pair(ctx context.Context) (client, server conn, err error) {
	return pairOf(ctx,
		func(address string) (net.Listener, error) { return t.sockets[1].Listen("tcp4", address) },
		func(address string) (net.Conn, error) { return t.sockets[0].DialContext(ctx, "tcp4", address) })
}

func (t *theirs) Close() error {
	for _, s := range t.sockets {
		if s.Stack != nil {
			s.Stack.Close()
		}
	}
	t.cancel()
	t.pumps.Wait()
	for i, s := range t.sockets {
		if t.eps[i] != nil {
			t.eps[i].Close()
		}
		if s.Stack != nil {
			s.Stack.Destroy()
		}
	}
	return nil
}

// pairOf connects to a listener on the second stack from the first.
func pairOf(ctx context.Context, listen func(string) (net.Listener, error), dial func(string) (net.Conn, error)) (client, server conn, err error) {
	ln, err := listen(net.JoinHostPort(addresses[1].Addr().String(), serverPort))
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	c, err := dial(ln.Addr().String())
	if err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	s, err := ln.Accept()
	if err != nil {
		return nil, nil, errors.Join(err, c.Close(), ln.Close())
	}
	client, ok := c.(conn)
	server, ok2 := s.(conn)
	if !ok || !ok2 {
		return nil, nil, errors.Join(fmt.Errorf("%T and %T cannot be half closed", c, s), c.Close(), s.Close(), ln.Close())
	}
	return client, server, ln.Close()
}
