package netdiff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// sentinels are what errors.Is is asked about, for every error.
var sentinels = []struct {
	name   string
	target error
}{
	{"EOF", io.EOF}, {"ErrUnexpectedEOF", io.ErrUnexpectedEOF},
	{"net.ErrClosed", net.ErrClosed}, {"net.ErrWriteToConnected", net.ErrWriteToConnected},
	{"os.ErrDeadlineExceeded", os.ErrDeadlineExceeded},
	{"context.Canceled", context.Canceled}, {"context.DeadlineExceeded", context.DeadlineExceeded},
	{"errors.ErrUnsupported", errors.ErrUnsupported},
	{"os.ErrPermission", os.ErrPermission}, {"os.ErrExist", os.ErrExist}, {"os.ErrNotExist", os.ErrNotExist},
	{"EACCES", syscall.EACCES}, {"EADDRINUSE", syscall.EADDRINUSE}, {"EADDRNOTAVAIL", syscall.EADDRNOTAVAIL},
	{"EAFNOSUPPORT", syscall.EAFNOSUPPORT}, {"EAGAIN", syscall.EAGAIN}, {"EALREADY", syscall.EALREADY},
	{"EBADF", syscall.EBADF}, {"ECONNABORTED", syscall.ECONNABORTED}, {"ECONNREFUSED", syscall.ECONNREFUSED},
	{"ECONNRESET", syscall.ECONNRESET}, {"EDESTADDRREQ", syscall.EDESTADDRREQ}, {"EDOM", syscall.EDOM},
	{"EFAULT", syscall.EFAULT}, {"EHOSTDOWN", syscall.EHOSTDOWN}, {"EHOSTUNREACH", syscall.EHOSTUNREACH},
	{"EINPROGRESS", syscall.EINPROGRESS}, {"EINVAL", syscall.EINVAL}, {"EIO", syscall.EIO},
	{"EISCONN", syscall.EISCONN}, {"EMSGSIZE", syscall.EMSGSIZE}, {"ENETDOWN", syscall.ENETDOWN},
	{"ENETUNREACH", syscall.ENETUNREACH}, {"ENOBUFS", syscall.ENOBUFS}, {"ENODEV", syscall.ENODEV},
	{"ENOPROTOOPT", syscall.ENOPROTOOPT}, {"ENOTCONN", syscall.ENOTCONN}, {"EOPNOTSUPP", syscall.EOPNOTSUPP},
	{"EPERM", syscall.EPERM}, {"EPIPE", syscall.EPIPE}, {"EPROTO", syscall.EPROTO}, {"EPROTONOSUPPORT", syscall.EPROTONOSUPPORT},
	{"ETIMEDOUT", syscall.ETIMEDOUT},
}

// names makes addresses of different grounds comparable: ports get names, by the
// behaviour or in the order in which they are seen, and the addresses of both ends
// and of loopback are all "host", for on loopback they are the same. Which end is
// meant, the port tells.
type names struct {
	hosts []netip.Addr // with those of loopback
	texts []string     // addresses of the ground in texts, and what to write for them

	mu    sync.Mutex // guards the rest
	ports map[place]string
	met   int // ports of which only the order is known
}

// A place is a port of a protocol: TCP and UDP sockets may have the same number.
type place struct {
	udp bool
	at  netip.AddrPort // see keyOf
}

// placeOf returns the place of an address of TCP or UDP.
func placeOf(a net.Addr) place {
	_, udp := a.(*net.UDPAddr)
	return place{udp, keyOf(ipOf(a), portOf(a))}
}

// port returns the name of a port. Two hosts may have chosen the same number; a
// wildcard stands for any address.
func (n *names) port(p place) string {
	if p.at.Port() == 0 {
		return "0"
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if name := n.find(p); name != "" {
		return name
	}
	// Not numbered by len(ports): a socket that gets the number of the hole at its
	// address takes its place in ports.
	n.met++
	n.ports[p] = "port" + strconv.Itoa(n.met)
	return n.ports[p]
}

// find returns the name of a port, or nothing. Preconditions: mu is held.
func (n *names) find(p place) string {
	if name := n.ports[p]; name != "" {
		return name
	}
	if name := n.ports[place{p.udp, keyOf(netip.Addr{}, int(p.at.Port()))}]; name != "" {
		return name
	}
	if a := p.at.Addr(); !a.IsValid() || a.IsLoopback() {
		for known, name := range n.ports {
			if known.udp == p.udp && known.at.Port() == p.at.Port() {
				return name
			}
		}
	}
	return ""
}

// keyOf returns an address as names knows it: without a zone, IPv4 as such, and no
// address for a wildcard.
func keyOf(a netip.Addr, port int) netip.AddrPort {
	a = a.Unmap().WithZone("")
	if a.IsUnspecified() {
		a = netip.Addr{}
	}
	return netip.AddrPortFrom(a, uint16(port))
}

// call gives the port of an address a name. The address is one that the test knows
// to be right.
func (n *names) call(a net.Addr, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[placeOf(a)] = name
}

// known tells whether the port of an address has a name.
func (n *names) known(a net.Addr) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.find(placeOf(a)) != ""
}

func ipOf(a net.Addr) netip.Addr {
	var ip net.IP
	switch a := a.(type) {
	case *net.TCPAddr:
		ip = a.IP
	case *net.UDPAddr:
		ip = a.IP
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr
}

func portOf(a net.Addr) int {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	return 0
}

// addrPort is addr for an address of UDP.
func (n *names) addrPort(ap netip.AddrPort) string {
	return n.ip(ap.Addr().AsSlice()) + zone(ap.Addr().Zone()) + ":" + n.port(place{true, keyOf(ap.Addr(), int(ap.Port()))})
}

func zone(z string) string {
	if z == "" {
		return ""
	}
	return "%zone"
}

// ip tells 4 bytes, 16, and 4 mapped to 16 apart.
func (n *names) ip(ip net.IP) string {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return fmt.Sprintf("<%d bytes>", len(ip))
	}
	form := ""
	if a.Is4In6() {
		form = "mapped "
	}
	a = a.Unmap()
	for _, h := range n.hosts {
		if a.WithZone("") == h {
			if a.Is4() {
				return form + "host4"
			}
			return form + "host6"
		}
	}
	return form + a.String()
}

// short leaves out whether an IPv4 address is in 4 bytes or in 16, which for a
// net.IP is the same (net.IP.Equal, net.IP.String).
func (n *names) short(ip net.IP) string {
	if v4 := ip.To4(); v4 != nil {
		return n.ip(v4)
	}
	return n.ip(ip)
}

// addr returns an address and what it is.
func (n *names) addr(a net.Addr) string {
	switch a := a.(type) {
	case nil:
		return "-"
	case *net.TCPAddr:
		if a == nil {
			return "nil *TCPAddr"
		}
		return "TCP " + n.short(a.IP) + zone(a.Zone) + ":" + n.port(placeOf(a))
	case *net.UDPAddr:
		if a == nil {
			return "nil *UDPAddr"
		}
		return "UDP " + n.short(a.IP) + zone(a.Zone) + ":" + n.port(placeOf(a))
	}
	// What package net puts into the errors of WriteToUDPAddrPort is of a type that
	// is not exported, with the text of the netip.AddrPort.
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil && a.String() != "invalid AddrPort" {
		return "other " + n.text(a.String())
	}
	return strings.ToUpper(a.Network()) + " " + n.addrPort(ap)
}

var endpointInText = regexp.MustCompile(`(\[[0-9a-f:.%]+\]|[0-9.]+):[0-9]+\b`)

// text replaces addresses and ports of the ground in a text.
func (n *names) text(s string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s = endpointInText.ReplaceAllStringFunc(s, func(endpoint string) string {
		ap, err := netip.ParseAddrPort(endpoint)
		if err != nil {
			return endpoint
		}
		at := keyOf(ap.Addr(), int(ap.Port()))
		name := cmp.Or(n.find(place{false, at}), n.find(place{true, at})) // a text does not say which
		if name == "" {
			return endpoint
		}
		host, _ := strings.CutSuffix(endpoint, ":"+strconv.Itoa(int(ap.Port())))
		return host + ":" + name
	})
	return strings.NewReplacer(n.texts...).Replace(s)
}

// err returns all that a caller can find out about an error.
func (n *names) err(err error) string {
	switch err {
	case nil:
		return "ok"
	case io.EOF:
		return "EOF"
	}
	var b strings.Builder
	oe, isOp := err.(*net.OpError)
	if isOp {
		fmt.Fprintf(&b, "OpError(%s %s %s -> %s)", oe.Op, oe.Net, n.addr(oe.Source), n.addr(oe.Addr))
	} else {
		b.WriteString("no OpError")
	}
	known, late := false, false
	for _, s := range sentinels {
		switch {
		case !errors.Is(err, s.target):
		case isOp && oe.Op == "dial" && (s.target == context.DeadlineExceeded || s.target == os.ErrDeadlineExceeded):
			// Which of the two a dial says depends, in package net, on which of
			// its timers is first.
			late = true
		default:
			b.WriteString(" is " + s.name)
			known = true
		}
	}
	if late {
		b.WriteString(" is a deadline")
		known = true
	}
	if se := new(os.SyscallError); errors.As(err, &se) {
		call := se.Syscall
		if call == "splice" || call == "sendfile" || call == "copy_file_range" {
			call = "read" // what a copy is made with is each network's matter
		}
		b.WriteString(" in " + call)
	}
	if ae := new(net.AddrError); errors.As(err, &ae) {
		fmt.Fprintf(&b, " AddrError(%s %q)", n.text(ae.Addr), ae.Err)
	}
	if de := new(net.DNSError); errors.As(err, &de) {
		fmt.Fprintf(&b, " DNSError(%s %q notfound=%v timeout=%v)", de.Name, de.Err, de.IsNotFound, de.IsTimeout)
	}
	if ue := net.UnknownNetworkError(""); errors.As(err, &ue) {
		fmt.Fprintf(&b, " UnknownNetworkError(%s)", string(ue))
	}
	if te, ok := err.(net.Error); ok {
		if te.Timeout() {
			b.WriteString(" timeout")
		}
		if t, ok := err.(interface{ Temporary() bool }); ok && t.Temporary() {
			b.WriteString(" temporary")
		}
	} else {
		b.WriteString(" no net.Error")
	}
	if !known {
		b.WriteString(" text " + strconv.Quote(n.text(innermost(err).Error())))
	}
	return b.String()
}

// cause returns what an error is, and not how package net or golang.org/x/net has
// packed it.
func (n *names) cause(err error) string {
	if err == nil {
		return "ok"
	}
	text := ""
	for _, s := range sentinels {
		if errors.Is(err, s.target) {
			text += " is " + s.name
		}
	}
	if te, ok := errors.AsType[net.Error](err); ok && te.Timeout() {
		text += " timeout"
	}
	if text == "" {
		return "text " + strconv.Quote(n.text(innermost(err).Error()))
	}
	return text[1:]
}

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// TestPlaces has a TCP and a UDP socket with the same number, and another host's at its
// wildcard.
func TestPlaces(t *testing.T) {
	n := &names{ports: make(map[place]string)}
	tcp, udp := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7}
	n.call(tcp, "far")
	n.call(udp, "near")
	if far, near := n.addr(tcp), n.addr(udp); !strings.HasSuffix(far, ":far") || !strings.HasSuffix(near, ":near") {
		t.Errorf("got %s and %s", far, near)
	}
	if wildcard := (&net.UDPAddr{Port: 7}); !n.known(wildcard) || n.known(&net.UDPAddr{Port: 8}) {
		t.Errorf("a port that another has is known: %v, one that nobody has: %v", n.known(wildcard), n.known(&net.UDPAddr{Port: 8}))
	}
}

// TestMet has ports that no behaviour has named, after one name and after two: how many
// there are is up to chance, since a socket may get a number that has a name already.
func TestMet(t *testing.T) {
	for _, named := range [][]int{{7}, {7, 8}} {
		n := &names{ports: make(map[place]string)}
		for _, port := range named {
			n.call(&net.UDPAddr{Port: port}, "near")
		}
		for i, port := range []int{80, 81} {
			at := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: port}
			for range 2 {
				if got, want := n.addr(at), fmt.Sprintf("UDP 192.0.2.1:port%d", i+1); got != want {
					t.Errorf("after %d names: got %s, want %s", len(named), got, want)
				}
			}
		}
	}
}
