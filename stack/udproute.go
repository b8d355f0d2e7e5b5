package stack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// route returns the route to an address. If it is not cached, it is the caller's
// to release. how may be nil.
//
// Routes are the same for the life of a Stack unless somebody changes them by way
// of Netstack; after its first call they are looked up each time. So are those
// from another address than the usual one.
func (e *udpEndpoint) route(to netip.Addr, how *sendControl, set *sendOptions) (r *gstack.Route, cached bool, terr tcpip.Error) {
	source := e.source
	if how != nil && how.source.IsValid() {
		source = tcpipAddr(how.source)
		if how.source.Is4() != to.Is4() {
			return nil, false, &tcpip.ErrInvalidOptionValue{}
		}
		if source != e.source && e.sock.stack.ns.CheckLocalAddress(0, familyOf(to), source) == 0 {
			if to.Is4() { // Linux has an error for each family
				return nil, false, &tcpip.ErrNetworkUnreachable{}
			}
			return nil, false, &tcpip.ErrInvalidOptionValue{}
		}
	}
	if e.sock.stack.fast.retired.Load() {
		r, terr = e.findRoute(to, source, set)
		return r, false, terr
	}
	if e.routes.noLoop != set.noLoop {
		e.routes.release()
		e.routes.noLoop = set.noLoop
	}
	if r = e.routes.find(to); r == nil {
		if r, terr = e.findRoute(to, e.source, set); terr != nil {
			return nil, false, terr
		}
		e.routes.add(to, r)
	}
	if source != e.source && source != r.LocalAddress() {
		r, terr = e.findRoute(to, source, set)
		return r, false, terr
	}
	return r, true, nil
}

// findRoute has netstack find a route from an address, or any if that has no
// bytes. Datagrams to a group come back to those sockets of the stack that are in
// it, unless the socket has it otherwise.
func (e *udpEndpoint) findRoute(to netip.Addr, source tcpip.Address, set *sendOptions) (*gstack.Route, tcpip.Error) {
	return e.sock.stack.findRoute(e.nic, source, to, !set.noLoop)
}

// maxRoutes is how many routes a socket keeps: some 300 KB. A server with more
// clients than that has some of them looked up for each datagram.
const maxRoutes = 1024

// A routeCache is a hash table of routes by destination, each of which has one
// place in it. It doubles when two want the same place.
type routeCache struct {
	seed   uint64
	noLoop bool            // what sendOptions had when the routes were found
	slots  []*gstack.Route // nil before the first route
}

func (c *routeCache) slot(to netip.Addr) **gstack.Route {
	b := to.As16()
	hi, lo := binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:])
	return &c.slots[mix(hi^c.seed, lo^c.seed>>32)&uint64(len(c.slots)-1)]
}

// find returns the route to an address, or nil.
func (c *routeCache) find(to netip.Addr) *gstack.Route {
	if len(c.slots) == 0 {
		return nil
	}
	if r := *c.slot(to); r != nil && r.RemoteAddress() == tcpipAddr(to) {
		return r
	}
	return nil
}

// add takes over a route. Another may have to go for it.
func (c *routeCache) add(to netip.Addr, r *gstack.Route) {
	if len(c.slots) == 0 {
		c.slots = make([]*gstack.Route, 1)
	}
	for *c.slot(to) != nil && len(c.slots) < maxRoutes {
		old := c.slots
		c.slots = make([]*gstack.Route, 2*len(old))
		for _, r := range old {
			if r != nil {
				*c.slot(addrOf(r.RemoteAddress())) = r
			}
		}
	}
	at := c.slot(to)
	if *at != nil {
		(*at).Release()
	}
	*at = r
}

// release gives all routes back.
func (c *routeCache) release() {
	for _, r := range c.slots {
		if r != nil {
			r.Release()
		}
	}
	c.slots = nil
}
