package stack

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/ports"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// A target is a stack that notes what comes of each frame. Its receive path is
// the real one, from a port of a wire to netstack's demultiplexer; behind that
// are endpoints that only take notes, so that all is done when the device's poll
// returns. Time stands still, and random numbers are all the same one.
type target struct {
	name   string
	merged bool // GRO is on

	// superseded is whether a pure ACK may make others needless, which takes GRO.
	superseded bool

	w     *wire.Wire
	d     *netdev.Device
	s     *Stack
	clock *faketime.ManualClock

	counters []*tcpip.StatCounter
	names    []string // of the counters, and of those that are not netstack's
	ip       []ipCounters
	rxBytes  int      // index of what counts bytes received
	at       []uint64 // their values when the last packet was done

	frames  [][]byte // of the burst
	refused []bool
	fed     int // calls of Woken since the burst began
	parcels []parcel
	events  []event           // since the last parcel was done
	total   map[string]uint64 // totals after the last burst
}

// ipCounters are counters of netstack's and what the short way has to add.
type ipCounters struct {
	tcpip.IPStats
	fast []*ipCounts
}

// sameRandom is a source of randomness that always says the same.
type sameRandom struct{}

func (sameRandom) Int63() int64 { return 0x1555555555555555 }
func (sameRandom) Seed(int64)   {}

func (sameRandom) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0x55
	}
	return len(b), nil
}

// dispositionConfig has addresses of all kinds of prefixes.
func dispositionConfig() Config {
	var c Config
	for _, p := range []string{"10.0.0.1/24", "10.0.0.77/24", "192.0.2.4/31", "198.51.100.7/32", "fd00::1/64", "fd00::77/64", "fe80::1/64"} {
		c.Addresses = append(c.Addresses, netip.MustParsePrefix(p))
	}
	c.Gateways = []netip.Addr{netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("fd00::fe")}
	c.Device.NoLateArm = true // or the minder may take the poll lock in the middle of a burst
	return c
}

func newTarget(t testing.TB, name string, cfg Config) *target {
	t.Helper()
	w, err := wire.New(wire.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 1024, OnHeap: true})
	if err != nil {
		t.Fatal(err)
	}
	sock, err := w.Port(0).Open(0, region, xsk.RingSizes{Fill: 256, Completion: 256, RX: 256, TX: 256})
	if err != nil {
		t.Fatal(err)
	}
	v := &target{name: name, merged: !cfg.Device.NoGRO, superseded: !cfg.Device.NoGRO && !cfg.Device.NoACKMerge, w: w, clock: faketime.NewManualClock()}
	v.d, err = netdev.NewOn([]*xsk.Socket{sock}, netdev.Link{Name: "wire0", MAC: w.Port(0).MAC(), MTU: 1500}, cfg.Device)
	if err != nil {
		t.Fatal(err)
	}
	link := &tracedLink{v.d.LinkEndpoint().(wholeLink), v}
	v.s = &Stack{cfg: cfg, link: link, dev: v.d, closeLink: v.d.Close}
	v.s.fast.guard = &v.s.guard
	v.s.fast.off.Store(cfg.NoFastIP)
	v.s.ns = gstack.New(gstack.Options{
		NetworkProtocols: []gstack.NetworkProtocolFactory{
			wrapIPv4(ipv4.NewProtocol, true, &v.s.fast),
			wrapIPv6(ipv6.NewProtocolWithOptions(ipv6.Options{}), true, &v.s.fast), // no duplicate address detection
			arp.NewProtocol,
		},
		TransportProtocols: []gstack.TransportProtocolFactory{
			func(s *gstack.Stack) gstack.TransportProtocol { return &tracedTCP{tcp.NewProtocolCUBIC(s), v} },
			udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
		HandleLocal: true,
		Clock:       v.clock,
		RandSource:  sameRandom{},
		SecureRNG:   sameRandom{},
	})
	v.s.fast.attach(v.s.ns)
	if err := setOptions(v.s.ns, cfg.Profile); err != nil {
		t.Fatal(err)
	}
	v.s.ns.SetICMPLimit(1e12)
	if terr := v.s.ns.CreateNICWithOptions(nicID, link, gstack.NICOptions{QDisc: v}); terr != nil {
		t.Fatal(terr)
	}
	if err := v.s.configure(); err != nil {
		t.Fatal(err)
	}
	for _, g := range []string{"224.0.0.251", "ff02::fb"} {
		a := netip.MustParseAddr(g)
		if terr := v.s.ns.JoinGroup(familyOf(a), nicID, tcpipAddr(a)); terr != nil {
			t.Fatal(terr)
		}
	}
	v.register(t)
	v.walk("", reflect.ValueOf(v.s.ns.Stats()))
	v.ip = []ipCounters{{v.s.ns.Stats().IP, []*ipCounts{&v.s.fast.v4, &v.s.fast.v6}}}
	for _, net := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		ip := v.s.fast.interfaceStats(net)
		v.walk(fmt.Sprintf("interface %#x", net), reflect.ValueOf(*ip))
		v.ip = append(v.ip, ipCounters{*ip, []*ipCounts{v.s.fast.counts(net)}})
	}
	v.at = make([]uint64, len(v.names))
	// While the poller is at work, which it is once at the start, a burst would be its.
	for deviceStats(v.s)[0].Sleeps == 0 {
		runtime.Gosched()
	}
	v.events = nil // of the start: group memberships
	v.deltas(0)
	t.Cleanup(func() {
		if err := v.s.Close(); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// register puts the endpoints into netstack's table.
func (v *target) register(t testing.TB) {
	t.Helper()
	add := func(name, local, remote string, proto tcpip.TransportProtocolNumber, flags ports.Flags, nic tcpip.NICID) {
		nets := []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber}
		var id gstack.TransportEndpointID
		for _, side := range []struct {
			text string
			addr *tcpip.Address
			port *uint16
		}{{local, &id.LocalAddress, &id.LocalPort}, {remote, &id.RemoteAddress, &id.RemotePort}} {
			if side.text == "" {
				continue
			}
			ap := netip.MustParseAddrPort(side.text)
			if *side.port = ap.Port(); !ap.Addr().IsUnspecified() {
				*side.addr = tcpipAddr(ap.Addr())
				nets = []tcpip.NetworkProtocolNumber{familyOf(ap.Addr())}
			}
		}
		if terr := v.s.ns.RegisterTransportEndpoint(nets, proto, id, &notingEndpoint{v, name}, flags, nic); terr != nil {
			t.Fatal(terr)
		}
	}
	for _, f := range dispositionFlows() {
		proto := udp.ProtocolNumber
		if f.TCP {
			proto = tcp.ProtocolNumber
		}
		if f.Src.Port() != unconnected {
			add("flow", f.Dst.String(), f.Src.String(), proto, ports.Flags{}, 0)
		}
	}
	for _, proto := range []tcpip.TransportProtocolNumber{tcp.ProtocolNumber, udp.ProtocolNumber} {
		share, recent := ports.Flags{LoadBalanced: true}, ports.Flags{MostRecent: true}
		add("any address", "[::]:7000", "", proto, ports.Flags{}, 0)
		add("one address", "10.0.0.1:7001", "", proto, ports.Flags{}, 0)
		add("one address", "[fd00::1]:7001", "", proto, ports.Flags{}, 0)
		add("shared 1", "[::]:7002", "", proto, share, 0)
		add("shared 2", "[::]:7002", "", proto, share, 0)
		add("older", "[::]:7003", "", proto, recent, 0)
		add("newer", "[::]:7003", "", proto, recent, 0)
		add("this device", "[::]:7004", "", proto, ports.Flags{}, nicID)
		add("another device", "[::]:7005", "", proto, ports.Flags{}, nicID+1)
		add("another device", "10.0.0.1:7006", "", proto, ports.Flags{}, nicID+1)
		add("behind it", "[::]:7006", "", proto, ports.Flags{}, 0)
		for _, a := range []string{"255.255.255.255:7007", "10.0.0.255:7007", "224.0.0.251:7007", "[ff02::fb]:7007"} {
			add("many", a, "", proto, recent, 0)
			add("many too", a, "", proto, recent, 0)
		}
	}
}

// walk finds all counters of netstack's statistics.
func (v *target) walk(name string, s reflect.Value) {
	for i := range s.NumField() {
		f, n := s.Field(i), strings.TrimPrefix(name+"."+s.Type().Field(i).Name, ".")
		switch c := f.Interface().(type) {
		case *tcpip.StatCounter:
			if n == "NICs.Rx.Bytes" {
				v.rxBytes = len(v.names)
			}
			v.counters, v.names = append(v.counters, c), append(v.names, n)
		case *tcpip.IntegralStatCounterMap: // see totals
		default:
			v.walk(n, f)
		}
	}
}

// value returns a counter as if no packet had taken a short way.
func (v *target) value(i int) uint64 {
	n := v.counters[i].Value()
	if v.s.fast.retired.Load() {
		return n
	}
	for k := range v.ip {
		ip := &v.ip[k]
		for _, fast := range ip.fast {
			switch v.counters[i] {
			case ip.PacketsReceived, ip.ValidPacketsReceived, ip.PacketsDelivered:
				n += fast.received.Load()
			case ip.PacketsSent:
				n += fast.sent.Load()
			}
		}
	}
	return n
}

// deltas returns what the counters have grown by since the last call, but for
// size bytes received.
func (v *target) deltas(size int) (all []delta) {
	for i := range v.at {
		n := v.value(i)
		by := n - v.at[i]
		if v.at[i] = n; i == v.rxBytes {
			by -= uint64(size)
		}
		if by != 0 {
			all = append(all, delta{i, by})
		}
	}
	return all
}

// burst has the target receive frames, 64 at most, in one batch, and tells what
// came of each.
func (v *target) burst(frames [][]byte) ([]outcome, error) {
	v.frames, v.refused, v.parcels = frames, make([]bool, len(frames)), v.parcels[:0]
	batches := v.total["batches"]
	// The poll is done by this goroutine, in between two calls of Woken.
	for v.fed = 0; v.fed < 2; {
		if v.d.PollBeforePark(v); v.fed < 2 {
			runtime.Gosched() // the poller holds the lock for a moment
		}
	}
	v.total = v.totals()
	if n := v.total["batches"] - batches; n > 1 {
		return nil, fmt.Errorf("the burst came in %d batches", n)
	}
	return attribute(v.frames, v.refused, v.parcels, v.merged, v.superseded)
}

// Woken implements netdev's waiter. It is called with nothing in the RX ring.
func (v *target) Woken() bool {
	if v.fed++; v.fed == 1 {
		for i, f := range v.frames {
			v.refused[i] = !v.w.Port(0).Inject(f)
		}
	}
	return v.fed > 1
}

// late returns what happened since the burst and is no packet's doing.
func (v *target) late() outcome {
	o := outcome{deltas: v.deltas(0), events: v.events}
	v.events = nil
	// Timers of the same moment fire in any order.
	slices.SortFunc(o.events, func(a, b event) int { return bytes.Compare(a.data, b.data) })
	return o
}

// totals returns what the wire and the device count by reason.
func (v *target) totals() map[string]uint64 {
	all := make(map[string]uint64)
	q := deviceStats(v.s)[0]
	maps.Copy(all, q.Drops)
	all["batches"], all["frames up"], all["partial"] = q.RXBatches, q.RXDelivered, q.RXPartial
	st := v.w.Stats()[wire.From1]
	all["wire: delivered"], all["wire: too long"], all["wire: no frame"] = st.Delivered, st.TooLong, st.NoFrame
	return all
}

// unknown returns how often netstack met which protocol that it does not speak.
func (v *target) unknown() map[string]uint64 {
	all := make(map[string]uint64)
	nics := v.s.ns.Stats().NICs
	for name, m := range map[string]*tcpip.IntegralStatCounterMap{"network protocol": nics.UnknownL3ProtocolRcvdPacketCounts, "transport protocol": nics.UnknownL4ProtocolRcvdPacketCounts} {
		for _, k := range m.Keys() {
			c, _ := m.Get(k)
			all[fmt.Sprintf("unknown %s %d", name, k)] = c.Value()
		}
	}
	return all
}

// wholeLink is all that netstack asks of a link.
type wholeLink interface {
	gstack.LinkEndpoint
	gstack.GSOEndpoint
}

// A tracedLink is the device with a target between it and netstack. It needs no
// link addresses: waiting for them takes goroutines, whose order is not given.
type tracedLink struct {
	wholeLink
	v *target
}

func (l *tracedLink) Capabilities() gstack.LinkEndpointCapabilities {
	return l.wholeLink.Capabilities() &^ gstack.CapabilityResolutionRequired
}

func (l *tracedLink) Attach(nd gstack.NetworkDispatcher) {
	if nd != nil {
		nd = &tracedDispatcher{nd, l.v}
	}
	l.wholeLink.Attach(nd)
}

type tracedDispatcher struct {
	gstack.NetworkDispatcher
	v *target
}

// DeliverNetworkPacket implements gstack.NetworkDispatcher.
func (d *tracedDispatcher) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *gstack.PacketBuffer) {
	v := d.v
	size := pkt.Data().Size()
	p := parcel{raw: append(bytes.Clone(pkt.LinkHeader().Slice()), flat(pkt)...)}
	d.NetworkDispatcher.DeliverNetworkPacket(proto, pkt)
	p.events, v.events = v.events, nil
	p.deltas = v.deltas(size)
	v.parcels = append(v.parcels, p)
}

func flat(pkt *gstack.PacketBuffer) []byte {
	b := pkt.Data().ToBuffer()
	defer b.Release()
	return b.Flatten()
}

// WritePacket implements gstack.QueueingDiscipline: what netstack sends ends
// here.
func (v *target) WritePacket(pkt *gstack.PacketBuffer) tcpip.Error {
	b := pkt.ToBuffer()
	defer b.Release()
	e := event{data: b.Flatten()}
	e.what, e.net, e.proto = "sent", pkt.NetworkProtocolNumber, pkt.TransportProtocolNumber
	v.events = append(v.events, e)
	return nil
}

// Close implements gstack.QueueingDiscipline.
func (v *target) Close() {}

// note adds what an endpoint got.
func (v *target) note(what, who string, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) *event {
	v.events = append(v.events, event{
		label: label{
			what: what, who: who, id: id,
			net: pkt.NetworkProtocolNumber, proto: pkt.TransportProtocolNumber,
			nic: pkt.NICID, input: pkt.InputNICID, kind: pkt.PktType,
			validated: pkt.RXChecksumValidated, verified: netdev.Verified(pkt),
			broadcast: pkt.NetworkPacketInfo.LocalAddressBroadcast, temporary: pkt.NetworkPacketInfo.LocalAddressTemporary,
		},
		network: bytes.Clone(pkt.NetworkHeader().Slice()), transport: bytes.Clone(pkt.TransportHeader().Slice()), data: flat(pkt),
	})
	return &v.events[len(v.events)-1]
}

// A tracedTCP is netstack's TCP, but for what it would queue to an endpoint.
type tracedTCP struct {
	gstack.TransportProtocol
	v *target
}

func (p *tracedTCP) QueuePacket(ep gstack.TransportEndpoint, id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) {
	p.v.note("queued", ep.(*notingEndpoint).name, id, pkt)
}

// A notingEndpoint takes notes.
type notingEndpoint struct {
	v    *target
	name string
}

func (e *notingEndpoint) HandlePacket(id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) {
	e.v.note("handled", e.name, id, pkt)
}

func (e *notingEndpoint) HandleError(terr gstack.TransportError, pkt *gstack.PacketBuffer) {
	n := e.v.note("error", e.name, gstack.TransportEndpointID{}, pkt)
	n.errKind, n.mtu = terr.Kind(), terr.Info()
	n.errOrigin, n.errType, n.errCode = uint32(terr.Origin()), uint32(terr.Type()), uint32(terr.Code())
}

func (e *notingEndpoint) Abort() {}
func (e *notingEndpoint) Wait()  {}
