package stack

import (
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// An icmpError is what an ICMP message says of a packet that the stack has sent:
// in the terms of netstack, which acts on it, and of Linux, which programs know.
// It is netstack's cause of an error, so that a socket which asks for causes has
// the errno although netstack has no error for it.
type icmpError struct {
	kind      gstack.TransportErrorKind
	errno     syscall.Errno
	hard      bool   // a connected socket is told: waiting does not help
	info      uint32 // bytes of IP payload, of "packet too big"
	v6        bool
	typ, code uint8
}

// enonet is ENONET of Linux, which other systems do not have.
const enonet = syscall.Errno(64)

// An icmpMeaning is what a code means to sockets.
type icmpMeaning struct {
	errno syscall.Errno
	hard  bool
}

// unreachable4 and unreachable6 are what the codes of "destination unreachable"
// mean on Linux, by their number.
var (
	unreachable4 = [...]icmpMeaning{
		{syscall.ENETUNREACH, false},  // network unreachable
		{syscall.EHOSTUNREACH, false}, // host unreachable
		{syscall.ENOPROTOOPT, true},   // protocol unreachable
		{syscall.ECONNREFUSED, true},  // port unreachable
		{syscall.EMSGSIZE, true},      // fragmentation needed
		{syscall.EOPNOTSUPP, false},   // source route failed
		{syscall.ENETUNREACH, true},   // network unknown
		{syscall.EHOSTDOWN, true},     // host unknown
		{enonet, true},                // source host isolated
		{syscall.ENETUNREACH, true},   // network prohibited
		{syscall.EHOSTUNREACH, true},  // host prohibited
		{syscall.ENETUNREACH, false},  // network unreachable for the type of service
		{syscall.EHOSTUNREACH, false}, // host unreachable for the type of service
		{syscall.EHOSTUNREACH, true},  // filtered
		{syscall.EHOSTUNREACH, true},  // precedence violated
		{syscall.EHOSTUNREACH, true},  // precedence too low
	}
	unreachable6 = [...]icmpMeaning{
		{syscall.ENETUNREACH, false},  // no route
		{syscall.EACCES, true},        // prohibited
		{syscall.EHOSTUNREACH, false}, // beyond the scope of the source address
		{syscall.EHOSTUNREACH, false}, // address unreachable
		{syscall.ECONNREFUSED, true},  // port unreachable
		{syscall.EACCES, true},        // the source address failed a policy
		{syscall.EACCES, true},        // the route rejects
	}
)

// newICMPError returns the meaning of a message by its header, or false if it is
// none that sockets hear of.
func newICMPError(v6 bool, h []byte) (e *icmpError, ok bool) {
	if len(h) < header.ICMPv4MinimumSize {
		return nil, false
	}
	e = &icmpError{v6: v6, typ: h[0], code: h[1]}
	var m icmpMeaning
	if v6 {
		m, ok = meaning6(header.ICMPv6Type(e.typ), e.code)
	} else {
		m, ok = meaning4(header.ICMPv4Type(e.typ), e.code)
	}
	e.errno, e.hard = m.errno, m.hard
	e.kind = kindOf(e.errno)
	return e, ok
}

func meaning4(typ header.ICMPv4Type, code uint8) (m icmpMeaning, ok bool) {
	switch typ {
	case header.ICMPv4DstUnreachable:
		if int(code) < len(unreachable4) {
			return unreachable4[code], true
		}
	case header.ICMPv4TimeExceeded:
		// That a packet's fragments did not all arrive is nobody's to hear, but
		// with IPv6 it is.
		return icmpMeaning{syscall.EHOSTUNREACH, false}, code == 0
	case header.ICMPv4ParamProblem:
		return icmpMeaning{syscall.EPROTO, true}, true
	}
	return m, false
}

func meaning6(typ header.ICMPv6Type, code uint8) (m icmpMeaning, ok bool) {
	switch typ {
	case header.ICMPv6DstUnreachable:
		if int(code) < len(unreachable6) {
			return unreachable6[code], true
		}
		return icmpMeaning{syscall.EPROTO, true}, true
	case header.ICMPv6PacketTooBig:
		return icmpMeaning{syscall.EMSGSIZE, true}, true
	case header.ICMPv6TimeExceeded:
		return icmpMeaning{syscall.EHOSTUNREACH, false}, true
	case header.ICMPv6ParamProblem:
		return icmpMeaning{syscall.EPROTO, true}, true
	}
	return m, false
}

// kindOf returns netstack's kind for an errno: that of the error for which the
// table in errors.go has it, or one with the same effect.
func kindOf(errno syscall.Errno) gstack.TransportErrorKind {
	switch errno {
	case syscall.EMSGSIZE:
		return gstack.PacketTooBigTransportError
	case syscall.ENETUNREACH:
		return gstack.DestinationNetworkUnreachableTransportError
	case syscall.ENOPROTOOPT, syscall.EPROTO:
		return gstack.DestinationProtoUnreachableTransportError
	case syscall.ECONNREFUSED:
		return gstack.DestinationPortUnreachableTransportError
	case syscall.EOPNOTSUPP:
		return gstack.SourceRouteFailedTransportError
	case syscall.EHOSTDOWN:
		return gstack.DestinationHostDownTransportError
	}
	if errno == enonet { // no case: elsewhere its number is another's
		return gstack.SourceHostIsolatedTransportError
	}
	return gstack.DestinationHostUnreachableTransportError
}

// Kind implements gstack.TransportError.
func (e *icmpError) Kind() gstack.TransportErrorKind { return e.kind }

// Origin implements tcpip.SockErrorCause.
func (e *icmpError) Origin() tcpip.SockErrOrigin {
	if e.v6 {
		return tcpip.SockExtErrorOriginICMP6
	}
	return tcpip.SockExtErrorOriginICMP
}

// Type, Code and Info implement tcpip.SockErrorCause.
func (e *icmpError) Type() uint8  { return e.typ }
func (e *icmpError) Code() uint8  { return e.code }
func (e *icmpError) Info() uint32 { return e.info }

// A toldError is an error that has come by ICMP, as netstack's endpoints and ours
// return it.
type toldError struct {
	tcpip.Error // how netstack would say it
	errno       syscall.Errno
}

// told returns the error for an errno.
func told(errno syscall.Errno) tcpip.Error {
	return &toldError{&tcpip.ErrHostUnreachable{}, errno}
}

// untold is the errno of an ICMP error that the owner of a connected datagram socket
// has not been told of yet.
type untold struct{ errno atomic.Uint32 }

// hear keeps an error, if it is one that such a socket is told, and tells whether it
// is.
func (u *untold) hear(terr gstack.TransportError) bool {
	e, ok := terr.(*icmpError)
	if !ok || !e.hard {
		return false
	}
	u.errno.Store(uint32(e.errno))
	return true
}

// failure returns the error, once.
func (u *untold) failure() tcpip.Error {
	if u.errno.Load() != 0 { // mostly not, and a read is cheaper
		if errno := u.errno.Swap(0); errno != 0 {
			return told(syscall.Errno(errno))
		}
	}
	return nil
}

// isUndelivered reports whether a message is one that netstack's IP layer tells
// transport endpoints nothing of, although Linux does.
func (e *icmpError) isUndelivered() bool {
	if !e.v6 {
		return header.ICMPv4Type(e.typ) != header.ICMPv4DstUnreachable
	}
	switch header.ICMPv6Type(e.typ) {
	case header.ICMPv6PacketTooBig:
		return false
	case header.ICMPv6DstUnreachable:
		c := header.ICMPv6Code(e.code)
		return c != header.ICMPv6NetworkUnreachable && c != header.ICMPv6PortUnreachable
	}
	return true
}
