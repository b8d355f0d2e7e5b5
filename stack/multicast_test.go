package stack

import (
	"net"
	"syscall"
	"testing"
	"time"
)

// groups are one for each family.
var groups = []struct{ group, from, other, bind string }{
	{"239.1.2.3", addrA, "10.0.0.11", "udp4"},
	{"ff05::123", addrA6, "fd00::11", "udp6"},
}

// hears returns which of some datagrams a socket gets; the last is sent to its own
// address and marks the end.
func hears(t *testing.T, u *UDPConn) (got []string) {
	t.Helper()
	for {
		u.SetReadDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, 100)
		n, _, err := u.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(b[:n]) == "end" {
			return got
		}
		got = append(got, string(b[:n]))
	}
}

func TestMulticast(t *testing.T) {
	for _, g := range groups {
		t.Run(g.group, func(t *testing.T) {
			p := newPairWith(t, pairOptions{a: testConfig(addrA, addrA6, "10.0.0.11", "fd00::11"), b: testConfig(addrB, addrB6)})
			u := listenUDP(t, p.b, "udp", ":53")
			group := &net.UDPAddr{IP: net.ParseIP(g.group), Port: 53}
			unicast := &net.UDPAddr{IP: net.ParseIP(addrB), Port: 53}
			c := listenUDP(t, p.a, "udp", net.JoinHostPort(g.from, "0"))
			d := listenUDP(t, p.a, "udp", net.JoinHostPort(g.other, "0"))
			c4 := listenUDP(t, p.a, "udp", ":0")
			say := func() []string {
				t.Helper()
				for text, k := range map[string]*UDPConn{"one": c} {
					if _, err := k.WriteTo([]byte(text), group); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := d.WriteTo([]byte("two"), group); err != nil {
					t.Fatal(err)
				}
				if _, err := c4.WriteTo([]byte("end"), unicast); err != nil {
					t.Fatal(err)
				}
				return hears(t, u)
			}
			want := func(step string, want ...string) {
				t.Helper()
				got := say()
				if len(got) != len(want) {
					t.Fatalf("%s: %q, want %q", step, got, want)
				}
				for i := range got {
					if got[i] != want[i] {
						t.Fatalf("%s: %q, want %q", step, got, want)
					}
				}
			}
			ok := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			one, two := &net.IPAddr{IP: net.ParseIP(g.from)}, &net.IPAddr{IP: net.ParseIP(g.other)}
			want("not joined")
			ok(u.JoinGroup(nil, group))
			want("joined", "one", "two")
			wantOp(t, u.JoinGroup(nil, group), "set", syscall.EADDRINUSE)
			ok(u.ExcludeSourceSpecificGroup(nil, group, one))
			want("without one", "two")
			wantOp(t, u.ExcludeSourceSpecificGroup(nil, group, one), "set", syscall.EADDRNOTAVAIL)
			wantOp(t, u.JoinSourceSpecificGroup(nil, group, one), "set", syscall.EINVAL)
			ok(u.IncludeSourceSpecificGroup(nil, group, one))
			want("with one again", "one", "two")
			wantOp(t, u.IncludeSourceSpecificGroup(nil, group, one), "set", syscall.EADDRNOTAVAIL)
			ok(u.LeaveGroup(nil, group))
			want("left")
			wantOp(t, u.LeaveGroup(nil, group), "set", syscall.EADDRNOTAVAIL)
			ok(u.JoinSourceSpecificGroup(&net.Interface{Index: linkIndex}, group, two))
			want("two only", "two")
			ok(u.JoinSourceSpecificGroup(nil, group, one))
			want("both", "one", "two")
			ok(u.LeaveSourceSpecificGroup(nil, group, two))
			want("one only", "one")
			ok(u.LeaveSourceSpecificGroup(nil, group, one))
			want("neither")
			wantOp(t, u.LeaveSourceSpecificGroup(nil, group, one), "set", syscall.EINVAL)
			wantOp(t, u.ExcludeSourceSpecificGroup(nil, group, one), "set", syscall.EINVAL)

			for _, none := range []net.Addr{nil, (*net.IPAddr)(nil), &net.IPAddr{}} {
				wantOp(t, u.JoinSourceSpecificGroup(nil, group, none), "set", syscall.EINVAL)
				wantOp(t, u.LeaveGroup(nil, group), "set", syscall.EADDRNOTAVAIL)
			}

			wantOp(t, u.JoinGroup(nil, unicast), "set", syscall.EINVAL)
			wantOp(t, u.JoinGroup(nil, &net.TCPAddr{IP: group.IP}), "set", syscall.EINVAL)
			wantOp(t, u.JoinGroup(&net.Interface{Index: 77, Name: "other"}, group), "set", syscall.ENODEV)
			wantOp(t, u.SetMulticastInterface(&net.Interface{Index: 77}), "set", syscall.ENODEV)
			ok(u.SetMulticastInterface(nil))
			u.Close()
			wantOp(t, u.JoinGroup(nil, group), "set", net.ErrClosed)
		})
	}
}

// TestMulticastLoopback sends to a group that the stack itself is in.
func TestMulticastLoopback(t *testing.T) {
	for _, g := range groups {
		p := newPair(t)
		u := listenUDP(t, p.a, "udp", ":53")
		group := &net.UDPAddr{IP: net.ParseIP(g.group), Port: 53}
		if err := u.JoinGroup(nil, group); err != nil {
			t.Fatal(err)
		}
		c := listenUDP(t, p.a, "udp", ":0")
		conn, err := p.a.Dial("udp", group.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		dialed := conn.(*UDPConn)
		say := func() []string {
			t.Helper()
			_, err1 := c.WriteTo([]byte("hello"), group)
			_, err2 := dialed.Write([]byte("hello"))
			_, err3 := c.WriteTo([]byte("end"), &net.UDPAddr{Port: 53})
			if err1 != nil || err2 != nil || err3 != nil {
				t.Fatal(err1, err2, err3)
			}
			return hears(t, u)
		}
		for _, on := range []bool{true, false, true} {
			for _, k := range []*UDPConn{c, dialed} {
				if err := k.SetMulticastLoopback(on); err != nil {
					t.Fatal(err)
				}
			}
			if got := say(); len(got) != 2*boolInt(on) {
				t.Errorf("%s, loopback %v: %q", g.group, on, got)
			}
		}
	}
}

// TestListenMulticast has two sockets in one group on one port.
func TestListenMulticast(t *testing.T) {
	for _, g := range groups {
		p := newPair(t)
		group := &net.UDPAddr{IP: net.ParseIP(g.group), Port: 5353}
		u, err := p.b.ListenMulticastUDP("udp", nil, group)
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.b.ListenMulticastUDP(g.bind, nil, group)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.LocalAddr().(*net.UDPAddr); !got.IP.IsUnspecified() || got.Port != group.Port {
			t.Errorf("LocalAddr is %v", got)
		}
		c := listenUDP(t, p.a, "udp", ":0")
		for _, open := range [][]*UDPConn{{u, v}, {v}} {
			if _, err := c.WriteTo([]byte("hello"), group); err != nil {
				t.Fatal(err)
			}
			for _, k := range open {
				b := make([]byte, 10)
				k.SetReadDeadline(time.Now().Add(10 * time.Second))
				if n, _, err := k.ReadFrom(b); string(b[:n]) != "hello" || err != nil {
					t.Errorf("%q, %v", b[:n], err)
				}
			}
			u.Close()
		}
		v.Close()
		_, err = p.b.ListenMulticastUDP("udp", nil, nil)
		wantOp(t, err, "listen", errMissingAddress)
		_, err = p.b.ListenMulticastUDP("tcp", nil, group)
		wantOp(t, err, "listen", net.UnknownNetworkError("tcp"))
		_, err = p.b.ListenMulticastUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(addrB), Port: 5353})
		wantOp(t, err, "listen", syscall.EINVAL)
		_, err = p.b.ListenMulticastUDP("udp", &net.Interface{Name: "other"}, group)
		wantOp(t, err, "listen", syscall.ENODEV)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
