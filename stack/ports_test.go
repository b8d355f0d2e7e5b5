package stack

import (
	"net"
	"syscall"
	"testing"
)

// TestPortsComeBack dials from the wildcard, over and over, to where nobody listens
// and to where somebody does. When a connection is over, its port is free.
func TestPortsComeBack(t *testing.T) {
	const port = 20000
	for _, host := range []string{addrB, addrB6, addrA, "127.0.0.1", "::1"} {
		for _, from := range []net.TCPAddr{
			{Port: port}, {IP: net.IPv4zero, Port: port}, {IP: net.IPv6unspecified, Port: port},
			{IP: net.IPv4zero}, {IP: net.IPv6unspecified},
		} {
			t.Run(host+" from "+from.String(), func(t *testing.T) {
				p := newPair(t)
				// Few enough to be used up.
				if terr := p.a.ns.SetPortRange(port, port+2); terr != nil {
					t.Fatal(terr)
				}
				there := p.b
				if host != addrB && host != addrB6 {
					there = p.a
				}
				l, err := there.Listen("tcp", net.JoinHostPort(host, "80"))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				d := &Dialer{Stack: p.a, LocalAddr: &from}
				for range 5 {
					_, err := d.Dial("tcp", net.JoinHostPort(host, "81"))
					wantOp(t, err, "dial", syscall.ECONNREFUSED)
					c, err := d.Dial("tcp", net.JoinHostPort(host, "80"))
					if err != nil {
						t.Fatal(err)
					}
					if from.Port != 0 && c.LocalAddr().(*net.TCPAddr).Port != port {
						t.Fatalf("dialed from %v", c.LocalAddr())
					}
					s, err := l.Accept()
					if err != nil {
						t.Fatal(err)
					}
					c.(*TCPConn).SetLinger(0) //nolint:errcheck // it is open
					c.Close()
					s.Read(make([]byte, 1)) //nolint:errcheck // the reset
					s.Close()
				}
				again, err := p.a.Listen("tcp", ":20000")
				if err != nil {
					t.Fatalf("the port is taken: %v", err)
				}
				again.Close()
			})
		}
	}
}

// TestDialFromTakenPort dials from a port at the wildcard that somebody has at another
// address than the one that it would be from.
func TestDialFromTakenPort(t *testing.T) {
	p := newPair(t)
	l, err := p.a.Listen("tcp", "127.0.0.1:20000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &Dialer{Stack: p.a, LocalAddr: &net.TCPAddr{Port: 20000}}
	_, err = d.Dial("tcp", addrB+":80")
	oe := wantOp(t, err, "dial", syscall.EADDRINUSE)
	if oe.Err.Error() != "bind: address already in use" {
		t.Errorf("%v: want the error of bind", oe.Err)
	}
}

// TestDialNobodyHere dials a port of the stack's own where nobody listens, of the few
// that a dial may be from. The answer is never a connection with itself.
func TestDialNobodyHere(t *testing.T) {
	const port = "20000"
	for _, tc := range []struct{ from, to string }{
		{"", "127.0.0.1"}, {"", "localhost"}, {"", ""}, {"", "::1"}, {"", addrA}, {"", addrA6},
		{"127.0.0.1", "127.0.0.1"}, {"127.9.8.7", "127.9.8.7"}, {"::1", "::1"}, {addrA, addrA}, {addrA6, addrA6},
	} {
		t.Run(tc.from+" "+tc.to, func(t *testing.T) {
			p := newPair(t)
			if terr := p.a.ns.SetPortRange(20000, 20001); terr != nil {
				t.Fatal(terr)
			}
			d := &Dialer{Stack: p.a}
			if tc.from != "" {
				d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(tc.from)}
			}
			for range 64 { // of two ports each may come by chance
				within(t, "dial", func() {
					c, err := d.Dial("tcp", net.JoinHostPort(tc.to, port))
					if err == nil {
						t.Errorf("connected from %v to %v", c.LocalAddr(), c.RemoteAddr())
						c.Close()
						return
					}
					wantOp(t, err, "dial", syscall.ECONNREFUSED)
				})
				if t.Failed() {
					return
				}
			}
		})
	}
}
