package stack_test

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/stack"
)

// TestLabNames asks a nameserver on kernel sockets for the names of services there.
func TestLabNames(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	peer4, peer6 := l.Peer.V4.Addr(), l.Peer.V6.Addr()
	names, err := l.Peer.ListenPacket("udp", hostPort(peer4, 53))
	check(t, err)
	t.Cleanup(func() { names.Close() })
	go serveNames(names, peer4, peer6)
	kernelEcho(t, l.Peer, 7)
	s := openIn(t, l, stack.Config{Nameservers: []netip.AddrPort{netip.AddrPortFrom(peer4, 0)}})
	for network, want := range map[string]netip.Addr{"tcp4": peer4, "tcp6": peer6, "udp4": peer4, "udp6": peer6, "tcp": {}} {
		d := stack.Dialer{Stack: s.Stack, Timeout: patience}
		c, err := d.Dial(network, "server.example.:7")
		if err != nil {
			t.Errorf("%s: %v", network, err)
			continue
		}
		if got := c.RemoteAddr().String(); want.IsValid() && got != hostPort(want, 7) {
			t.Errorf("%s: connected to %s, want %v", network, got, want)
		}
		if err := traffic.Exchange(c, []byte("are you there?"), patience); err != nil {
			t.Errorf("%s: %v", network, err)
		}
		c.Close()
	}
	_, err = s.Dial("tcp", "nobody.example.:7")
	var dns *net.DNSError
	if !errors.As(err, &dns) || !dns.IsNotFound || dns.Server != hostPort(peer4, 53) {
		t.Errorf("%v: want no such host on %v", err, peer4)
	}
	names.Close()
	_, err = s.Dial("tcp", "server.example.:7")
	if !errors.As(err, &dns) || dns.IsNotFound {
		t.Errorf("without a nameserver: %v, want a *net.DNSError", err)
	}
	s.conserved(t)
}
