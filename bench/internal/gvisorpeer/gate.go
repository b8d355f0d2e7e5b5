package gvisorpeer

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A gate is a link endpoint that can be shut: after shut, nothing is inside
// WritePackets and nothing gets in, so that the socket and the rings below may
// go. It also ends what the endpoint runs in its own way, since not every
// endpoint of gVisor survives being detached.
type gate struct {
	gstack.LinkEndpoint
	mtu uint32 // bytes of IP packet

	mu     sync.RWMutex // held for reading while a packet is written
	closed bool
}

// WritePackets sends, or fails if the gate is shut.
func (g *gate) WritePackets(pkts gstack.PacketBufferList) (int, tcpip.Error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return 0, &tcpip.ErrClosedForSend{}
	}
	return g.LinkEndpoint.WritePackets(pkts)
}

// Attach passes on a dispatcher, but not the end of one: stop does that.
func (g *gate) Attach(d gstack.NetworkDispatcher) {
	if d != nil {
		g.LinkEndpoint.Attach(d)
	}
}

// MTU is the device's, or less if the endpoint cannot do it.
func (g *gate) MTU() uint32 { return min(g.mtu, g.LinkEndpoint.MTU()) }

// GSOMaxSize and SupportedGSO are the endpoint's, if it has any.
func (g *gate) GSOMaxSize() uint32 {
	if e, ok := g.LinkEndpoint.(gstack.GSOEndpoint); ok {
		return e.GSOMaxSize()
	}
	return 0
}

func (g *gate) SupportedGSO() gstack.SupportedGSO {
	if e, ok := g.LinkEndpoint.(gstack.GSOEndpoint); ok {
		return e.SupportedGSO()
	}
	return gstack.GSONotSupported
}

// shut waits for those inside WritePackets and lets nobody in any more.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}
