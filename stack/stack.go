package stack

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack/internal/segments"
)

// A Stack is a TCP/IP stack of its own on one network interface. All methods
// may be called from any goroutine.
type Stack struct {
	cfg        Config
	ns         *gstack.Stack
	own4, own6 netip.Addr // first address of each family; invalid if none
	index      int        // of the interface, see interfaceIndex
	idle       idler      // what goroutines do before they sleep; may be nil
	sleepers   sync.Pool  // of *sleeper, what they sleep on

	clock clock     // netstack's
	ports portTable // what listeners listen on
	guard guard     // between the IP and transport layers
	fast  fastIP    // past the IP layer

	udp              tcpip.UDPStats // netstack's; its Stats copies all there are
	droppedDatagrams atomic.Uint64  // see Stats

	inlineErr error // why stack/inline is imported and not used

	resolver  resolver
	renewal   renewal
	announcer announcer

	link      gstack.LinkEndpoint
	closeLink func() error   // frees the device; nil: nothing to free
	dev       *netdev.Device // what link is part of; nil if the caller keeps it

	closeOnce sync.Once
	closeErr  error

	mu     sync.Mutex // guards what follows; a leaf
	first  *socket    // all open sockets, linked through next
	closed bool
	down   *downError // not nil while the device is gone
	outage uint64     // how often it went
}

// newStack makes a stack over a link. The link is attached here, and closed
// with the stack. qdisc may be nil. verified says that the link has checked
// the IPv4 header, TCP and UDP checksums of every unfragmented packet that it
// delivers. idle may be nil.
func newStack(cfg Config, link gstack.LinkEndpoint, qdisc gstack.QueueingDiscipline, verified bool, idle idler) (*Stack, error) {
	s, err := newBare(cfg, link, qdisc, verified, idle)
	if err != nil {
		return nil, err
	}
	if err := s.configure(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// newBare makes a stack that has no addresses yet, and so answers nobody.
func newBare(cfg Config, link gstack.LinkEndpoint, qdisc gstack.QueueingDiscipline, verified bool, idle idler) (*Stack, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.Addresses = slices.Clone(cfg.Addresses)
	cfg.Gateways = slices.Clone(cfg.Gateways)
	cfg.Routes = slices.Clone(cfg.Routes)
	cfg.Neighbors = slices.Clone(cfg.Neighbors)
	cfg.Nameservers = whole(cfg.Nameservers, cfg.Interface)

	s := &Stack{cfg: cfg, index: findIndex(cfg.Interface), idle: idle, link: link}
	s.resolver.init(s)
	s.clock.Clock = systemClock()
	s.fast.guard = &s.guard
	s.fast.long = newLongLines(idle)
	s.fast.off.Store(cfg.NoFastIP)
	var err error
	if s.ns, err = newNetstack(cfg.Profile, verified, &s.fast, &s.clock); err != nil {
		return nil, err
	}
	s.udp = s.ns.Stats().UDP
	if d, ok := idle.(batcher); ok && verified && !cfg.NoInline {
		var p *segments.Processor
		// Only what takes the short way is processed inline.
		if p, s.inlineErr = segments.Offered(); p != nil && !s.fast.off.Load() {
			s.fast.inline.start(p, d, &s.clock)
		}
	}
	if terr := s.ns.CreateNICWithOptions(nicID, link, gstack.NICOptions{Name: cfg.Interface, QDisc: qdisc}); terr != nil {
		return nil, errors.Join(stackError("create interface", terr), s.Close())
	}
	s.renewal.start(s)
	return s, nil
}

// configure gives a bare stack its addresses, routes and neighbours.
func (s *Stack) configure() error {
	for _, p := range s.cfg.Addresses {
		if err := s.addAddress(p); err != nil {
			return err
		}
	}
	table, err := s.addLoopback()
	if err != nil {
		return err
	}
	s.ns.SetRouteTable(append(table, s.routes()...))
	for _, n := range s.cfg.Neighbors {
		terr := s.ns.AddStaticNeighbor(nicID, familyOf(n.Addr), tcpipAddr(n.Addr), tcpip.LinkAddress(n.HardwareAddr))
		if terr != nil {
			return stackError("add neighbor "+n.Addr.String(), terr)
		}
	}
	return nil
}

func (s *Stack) addAddress(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case a.Is4() && !s.own4.IsValid():
		s.own4 = a
	case a.Is6() && !s.own6.IsValid():
		s.own6 = a
	}
	terr := s.ns.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol:          familyOf(a),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpipAddr(a), PrefixLen: p.Bits()},
	}, gstack.AddressProperties{})
	if terr != nil {
		return stackError("add address "+p.String(), terr)
	}
	s.fast.add(p)
	return nil
}

// routes returns netstack's route table, which is searched from the front:
// longest prefixes first.
func (s *Stack) routes() []tcpip.Route {
	all := slices.Clone(s.cfg.Routes)
	for _, p := range s.cfg.Addresses {
		all = append(all, Route{Destination: p.Masked()})
	}
	for _, g := range s.cfg.Gateways {
		zero := netip.IPv4Unspecified()
		if g.Is6() {
			zero = netip.IPv6Unspecified()
		}
		all = append(all, Route{Destination: netip.PrefixFrom(zero, 0), Gateway: g})
	}
	slices.SortStableFunc(all, func(a, b Route) int {
		return cmp.Compare(b.Destination.Bits(), a.Destination.Bits())
	})
	table := make([]tcpip.Route, 0, len(all))
	for _, r := range all {
		t := tcpip.Route{
			Destination: tcpip.AddressWithPrefix{
				Address:   tcpipAddr(r.Destination.Addr()),
				PrefixLen: r.Destination.Bits(),
			}.Subnet(),
			NIC: nicID,
		}
		if r.Gateway.IsValid() {
			t.Gateway = tcpipAddr(r.Gateway)
		}
		table = append(table, t)
	}
	return table
}

// Netstack returns the gVisor stack below, for what this package does not
// offer: raw endpoints, packet filters, statistics. It is the only place in
// the API with a type of gVisor, whose API is not stable. Endpoints made with
// it are not known to the Stack: Close aborts them, and nothing else does.
//
// The first call makes the stack slower for good, as Config.NoFastIP does: what
// can be set up in netstack then applies to every packet. Stats tells counts
// without it.
func (s *Stack) Netstack() *gstack.Stack {
	s.fast.retire()
	return s.ns
}

// Close ends the stack. Connections are reset, not finished: close those
// first whose last bytes matter. Every blocked call returns an error for
// which errors.Is(err, net.ErrClosed) holds, and so does every later one.
// Close returns when the stack's goroutines have ended. Calls after the first
// wait for it and return the same.
func (s *Stack) Close() error {
	s.closeOnce.Do(s.shutdown)
	return s.closeErr
}

func (s *Stack) shutdown() {
	s.mu.Lock()
	s.closed = true
	var open []*socket
	for k := s.first; k != nil; k = k.next {
		k.halt(stopStack)
		open = append(open, k)
	}
	s.mu.Unlock()
	s.renewal.end()
	s.announcer.end()

	// The calls that were blocked are on their way out. Wait for them, so
	// that none is inside netstack when it is taken apart.
	for _, k := range open {
		k.release(true)
	}
	// Connections that their owners have closed live on, in TIME-WAIT or with
	// data to send. They are reset while the link still carries it.
	for _, ep := range s.ns.RegisteredEndpoints() {
		ep.Abort()
	}
	// The link must be quiet before netstack is closed and waited for. Close
	// ends the goroutines that process segments, so one that is on its way in,
	// such as the reset of a peer that closes too, would stay in the queue of its
	// endpoint for good. Wait waits for the link with a lock held that a packet
	// on its way in needs.
	s.link.Close()
	s.link.Wait()
	if s.closeLink != nil {
		s.closeErr = s.closeLink()
	}
	s.fast.inline.close()
	endTimeWaits(s.ns)
	s.ns.Close()
	s.ns.Wait()
}

// linkDown makes every call that waits for packets, now and later, return an
// error for which errors.Is holds with ENETDOWN and with cause. Those that wait for
// peers return one once for each outage: see receiving. Connections stay, and go on
// after linkUp.
func (s *Stack) linkDown(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == nil {
		s.outage++
	}
	s.down = &downError{cause}
	for k := s.first; k != nil; k = k.next {
		k.halt(stopDown)
	}
}

// linkUp ends what linkDown began.
func (s *Stack) linkUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = nil
	for k := s.first; k != nil; k = k.next {
		k.resume(stopDown)
	}
}

// outageNow returns the error of the outage that lasts, nil if none does, and its number.
func (s *Stack) outageNow() (*downError, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down, s.outage
}

// whyDown returns the error that stopDown stands for.
func (s *Stack) whyDown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == nil { // back since
		return &downError{errWasAway}
	}
	return s.down
}

// add makes k known, so that it hears of the end of the stack or the device.
func (s *Stack) add(k *socket) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	if s.down != nil {
		k.halt(stopDown)
	}
	k.next = s.first
	if k.next != nil {
		k.next.prev = k
	}
	s.first = k
	return nil
}

// remove forgets k, which add has made known.
func (s *Stack) remove(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		s.first = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	}
	k.prev, k.next = nil, nil
}
