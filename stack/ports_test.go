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
