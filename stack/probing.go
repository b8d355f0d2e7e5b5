package stack

import (
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A probing is a net.KeepAliveConfig as netstack has it. It is made once for all
// connections of a listener, which only read it. A zero field leaves the option as
// it is.
type probing struct {
	enable   bool
	idle     tcpip.KeepaliveIdleOption
	interval tcpip.KeepaliveIntervalOption
	count    int
}

// newProbing returns what config asks for, with the meaning that package net gives
// to it. At a value that is out of bounds it ends, with what comes before and
// EINVAL.
func newProbing(config net.KeepAliveConfig) (*probing, tcpip.Error) {
	p := &probing{enable: config.Enable}
	d, terr := keepAliveTime(config.Idle, keepAliveIdle)
	if terr != nil {
		return p, terr
	}
	p.idle = tcpip.KeepaliveIdleOption(d)
	if d, terr = keepAliveTime(config.Interval, keepAliveInterval); terr != nil {
		return p, terr
	}
	p.interval = tcpip.KeepaliveIntervalOption(d)
	switch n := config.Count; {
	case n == 0:
		p.count = keepAliveCount
	case n > maxKeepAliveCount:
		return p, &tcpip.ErrInvalidOptionValue{}
	case n > 0:
		p.count = n
	}
	return p, nil
}

// set sets all but enable. An endpoint knows the options: it cannot fail. A new
// endpoint begins with netstack's defaults.
func (p *probing) set(ep tcpip.Endpoint, isNew bool) {
	if p.idle != 0 {
		_ = ep.SetSockOpt(&p.idle)
	}
	if p.interval != 0 {
		_ = ep.SetSockOpt(&p.interval)
	}
	if p.count != 0 && !(isNew && p.count == tcp.DefaultKeepaliveCount) {
		_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, p.count)
	}
}

// begin starts the probing of a new endpoint. It is enabled last, so that its timer
// is set once.
func (p *probing) begin(ep tcpip.Endpoint) {
	if p.enable {
		p.set(ep, true)
		ep.SocketOptions().SetKeepAlive(true)
	}
}
