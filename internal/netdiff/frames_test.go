package netdiff

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/internal/wire"
)

// frames sees, and takes away, what goes between the ends of a ground.
type frames interface {
	// mute has one end of a connection hear nothing any more, so that the other
	// has a peer that is dead.
	mute(near, far tcpConn) error

	// deafen readies a Dialer of the far end, which has a local address and a
	// port, for connections that hear nothing until hear is called.
	deafen(d *net.Dialer) (hear func() error)

	// watch returns a function for the sequence number of a segment that has gone
	// from one address to another since. It waits for one, and is to be called
	// once. It needs raw sockets where package net is the near end.
	watch(from, to netip.AddrPort, until time.Time) (sequence func() (uint32, error), err error)
}

// onWire is frames for a wire in memory: it is its filter.
type onWire struct {
	mu   sync.RWMutex
	deaf map[[2]netip.AddrPort]bool        // who hears nothing of whom; of nobody if that is not valid
	seqs map[[2]netip.AddrPort]chan uint32 // of flows that are watched
}

func (o *onWire) setDeaf(who, whom netip.AddrPort, deaf bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.deaf == nil {
		o.deaf = make(map[[2]netip.AddrPort]bool)
	}
	if o.deaf[[2]netip.AddrPort{who, whom}] = deaf; !deaf {
		delete(o.deaf, [2]netip.AddrPort{who, whom})
	}
}

func (o *onWire) mute(near, far tcpConn) error {
	o.setDeaf(addrPortOf(far.LocalAddr()), addrPortOf(near.LocalAddr()), true)
	return nil
}

func (o *onWire) deafen(d *net.Dialer) (hear func() error) {
	port := addrPortOf(d.LocalAddr)
	o.setDeaf(port, netip.AddrPort{}, true)
	return func() error { o.setDeaf(port, netip.AddrPort{}, false); return nil }
}

func (o *onWire) watch(from, to netip.AddrPort, until time.Time) (func() (uint32, error), error) {
	seq := make(chan uint32, 1)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seqs == nil {
		o.seqs = make(map[[2]netip.AddrPort]chan uint32)
	}
	o.seqs[[2]netip.AddrPort{from, to}] = seq
	return func() (uint32, error) {
		late := time.NewTimer(time.Until(until))
		defer late.Stop()
		select {
		case s := <-seq:
			return s, nil
		case <-late.C:
			return 0, syscall.ETIMEDOUT
		}
	}, nil
}

// filter loses TCP segments for holePort, those of IPv6 for wiredHalf, and those for
// the deaf.
func (o *onWire) filter(dir wire.Dir, frame []byte) wire.Verdict {
	src, dst, seq, ok := segmentIn(frame)
	if !ok {
		return wire.Pass
	}
	o.mu.RLock()
	watched := o.seqs[[2]netip.AddrPort{src, dst}]
	deaf := dir == wire.From0 && len(o.deaf) != 0 && (o.deaf[[2]netip.AddrPort{dst, src}] || o.deaf[[2]netip.AddrPort{dst}])
	o.mu.RUnlock()
	if watched != nil {
		select {
		case watched <- seq:
		default:
		}
	}
	if deaf || dst.Port() == holePort || dst.Port() == wiredHalf && dst.Addr().Is6() {
		return wire.Drop
	}
	return wire.Pass
}

// segmentIn returns what a frame with a TCP segment says.
func segmentIn(frame []byte) (src, dst netip.AddrPort, seq uint32, ok bool) {
	const ethernet = 14
	if len(frame) < ethernet+40 {
		return src, dst, 0, false
	}
	ip, at := frame[ethernet:], 0
	var from, to netip.Addr
	switch {
	case binary.BigEndian.Uint16(frame[12:]) == 0x0800 && ip[9] == syscall.IPPROTO_TCP:
		at = int(ip[0]&15) * 4
		from, to = netip.AddrFrom4([4]byte(ip[12:])), netip.AddrFrom4([4]byte(ip[16:]))
	case binary.BigEndian.Uint16(frame[12:]) == 0x86dd && ip[6] == syscall.IPPROTO_TCP:
		at = 40
		from, to = netip.AddrFrom16([16]byte(ip[8:])), netip.AddrFrom16([16]byte(ip[24:]))
	}
	if at == 0 || len(ip) < at+8 {
		return src, dst, 0, false
	}
	h := ip[at:]
	src, dst = netip.AddrPortFrom(from, binary.BigEndian.Uint16(h)), netip.AddrPortFrom(to, binary.BigEndian.Uint16(h[2:]))
	return src, dst, binary.BigEndian.Uint32(h[4:]), true
}

// bare returns a connection without what a mutant has put around it.
func bare(c tcpConn) tcpConn {
	for {
		bad, ok := c.(*badTCP)
		if !ok {
			return c
		}
		c = bad.tcpConn
	}
}
