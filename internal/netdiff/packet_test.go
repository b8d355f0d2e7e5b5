package netdiff

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// packetBehaviours are about datagrams.
func packetBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "packet/" + name, run: run}) }

	// All the ways to write, to a socket that listens, and all the ways to read.
	writers := []struct {
		name string
		do   func(*env, udpConn, *net.UDPAddr, []byte) (int, error)
	}{
		{"WriteTo", func(e *env, c udpConn, to *net.UDPAddr, b []byte) (int, error) { return c.WriteTo(b, to) }},
		{"WriteToUDP", func(e *env, c udpConn, to *net.UDPAddr, b []byte) (int, error) { return c.WriteToUDP(b, to) }},
		{"WriteToUDPAddrPort", func(e *env, c udpConn, to *net.UDPAddr, b []byte) (int, error) {
			return c.WriteToUDPAddrPort(b, to.AddrPort())
		}},
	}
	readers := []struct {
		name string
		do   func(*env, udpConn, []byte) (int, string, error)
	}{
		{"Read", func(e *env, c udpConn, b []byte) (int, string, error) {
			n, err := c.Read(b)
			return n, "", err
		}},
		{"ReadFrom", func(e *env, c udpConn, b []byte) (int, string, error) {
			n, a, err := c.ReadFrom(b)
			return n, e.addr(a), err
		}},
		{"ReadFromUDP", func(e *env, c udpConn, b []byte) (int, string, error) {
			n, a, err := c.ReadFromUDP(b)
			return n, e.addr(a), err
		}},
		{"ReadFromUDPAddrPort", func(e *env, c udpConn, b []byte) (int, string, error) {
			n, a, err := c.ReadFromUDPAddrPort(b)
			return n, e.addrPort(a), err
		}},
	}
	for _, w := range writers {
		add(w.name, func(e *env) {
			c, far := e.nearPacket(), e.farPacket()
			e.saw("%s", e.io(w.do(e, c, far.LocalAddr().(*net.UDPAddr), []byte("hello"))))
			e.saw("%q", e.datagram(far))
		})
		add(w.name+" of nothing", func(e *env) {
			c, far := e.nearPacket(), e.farPacket()
			e.saw("%s", e.io(w.do(e, c, far.LocalAddr().(*net.UDPAddr), nil)))
			e.saw("%q", e.datagram(far))
		})
		add(w.name+" to port 0", func(e *env) {
			c := e.nearPacket()
			e.saw("%s", e.io(w.do(e, c, e.farUDP(0), []byte("x"))))
		})
		add(w.name+" to nobody", func(e *env) {
			c := e.nearPacket()
			to := e.farUDP(e.closedUDP())
			for range 3 { // the refusal is not told
				e.saw("%s", e.io(w.do(e, c, to, []byte("x"))))
			}
			e.must(c.SetReadDeadline(soon()))
			e.saw("%s", e.read(c, 8))
		})
		add(w.name+" to an address of the other family", func(e *env) {
			c := e.nearPacket()
			e.saw("%s", e.io(w.do(e, c, &net.UDPAddr{IP: e.strange(e.other()).AsSlice(), Port: 80}, []byte("x"))))
		})
		for _, size := range []int{1472, 1473, 8192, 65507, 65508, 65527, 65528, 65535, 65536, 100000} {
			add(fmt.Sprintf("%s of %d bytes", w.name, size), func(e *env) {
				c, far := e.nearPacket(), e.farPacket()
				want := pattern(size)
				n, err := w.do(e, c, far.LocalAddr().(*net.UDPAddr), want)
				e.saw("%s", e.io(n, err))
				if err == nil {
					e.saw("%v", bytes.Equal(e.datagram(far), want))
				}
			})
		}
	}
	for _, r := range readers {
		get := func(e *env, c udpConn, size int) string {
			e.must(c.SetReadDeadline(e.late()))
			b := make([]byte, size)
			n, from, err := r.do(e, c, b)
			return fmt.Sprintf("%d: %q from %s, %s", n, b[:min(n, size)], from, e.err(err))
		}
		send := func(e *env, far, near udpConn, text string) {
			_, err := far.WriteToUDP([]byte(text), e.nearUDP(portOf(near.LocalAddr())))
			e.must(err)
		}
		add(r.name, func(e *env) {
			c, far := e.nearPacket(), e.farPacket()
			send(e, far, c, "hello")
			e.saw("%s", get(e, c, 100))
		})
		add(r.name+", connected", func(e *env) {
			c, far := e.connectedUDP()
			send(e, far, c, "hello")
			e.saw("%s", get(e, c, 100))
		})
		add(r.name+" of an empty datagram", func(e *env) {
			c, far := e.nearPacket(), e.farPacket()
			send(e, far, c, "")
			send(e, far, c, "next")
			e.saw("%s", get(e, c, 100))
			e.saw("%s", get(e, c, 100))
		})
		add(r.name+" of an empty datagram, connected", func(e *env) {
			c, far := e.connectedUDP()
			send(e, far, c, "")
			send(e, far, c, "next")
			e.saw("%s", get(e, c, 100))
			e.saw("%s", get(e, c, 100))
		})
		for _, size := range []int{0, 1, 4, 5, 6} {
			add(fmt.Sprintf("%s into %d bytes cuts", r.name, size), func(e *env) {
				c, far := e.nearPacket(), e.farPacket()
				send(e, far, c, "hello")
				send(e, far, c, "next")
				e.saw("%s", get(e, c, size))
				e.saw("%s", get(e, c, 100))
			})
		}
	}
	add("datagrams keep their bounds and order", func(e *env) {
		c, far := e.connectedUDP()
		for i := range 20 {
			e.saw("%s", e.io(c.Write(pattern(i*50))))
		}
		for range 20 {
			e.saw("%d", len(e.datagram(far)))
		}
	})
	for _, size := range []int{0, 1472, 1473, 65507, 65508, 65528, 100000} {
		add(fmt.Sprintf("Write of %d bytes", size), func(e *env) {
			c, far := e.connectedUDP()
			want := pattern(size)
			n, err := c.Write(want)
			e.saw("%s", e.io(n, err))
			if err == nil {
				e.saw("%v", bytes.Equal(e.datagram(far), want))
			}
		})
	}
	add("io.Writer of a packet too long leaves the socket well", func(e *env) {
		c, far := e.connectedUDP()
		e.saw("%s", e.io(c.Write(make([]byte, 100000))))
		e.send(c, "hello")
		e.saw("%q", e.datagram(far))
	})
	add("a connected socket hears its peer only", func(e *env) {
		c, far := e.connectedUDP()
		stranger := e.farPacket()
		_, err := stranger.WriteToUDP([]byte("stranger"), e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
		_, err = far.WriteToUDP([]byte("peer"), e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
		e.saw("%q", e.datagram(c))
		e.must(c.SetReadDeadline(soon()))
		e.saw("%s", e.read(c, 8))
	})
	add("a connected socket beside one that is not", func(e *env) {
		l := e.nearPacket()
		far := e.farPacket()
		_, err := far.WriteToUDP([]byte("hello"), e.nearUDP(portOf(l.LocalAddr())))
		e.must(err)
		n, from, err := l.ReadFromUDPAddrPort(make([]byte, 8))
		e.saw("%d %s %s", n, e.addrPort(from), e.err(err))
		e.saw("%s", e.io(l.WriteToUDPAddrPort([]byte("answer"), from)))
		e.saw("%q", e.datagram(far))
	})

	// Nobody listens at a peer's port.
	refused := func(e *env) udpConn {
		c, err := e.near.DialUDP(e.udp(), nil, e.farUDP(e.closedUDP()))
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.must(c.SetReadDeadline(e.late()))
		return c
	}
	add("refused, told to Read", func(e *env) {
		c := refused(e)
		e.saw("%s", e.refusal(c, func() string { return e.read(c, 8) }))
	})
	add("refused, told to a blocked Read", func(e *env) {
		c := refused(e)
		for {
			e.must(c.SetReadDeadline(time.Now().Add(time.Second)))
			read := e.blocked(func() string { return e.read(c, 8) })
			_, err := c.Write([]byte("x"))
			if s := read.result(); !strings.Contains(s, "os.ErrDeadlineExceeded") {
				e.must(err)
				e.saw("%s", strings.TrimPrefix(s, notBlocked)) // by a refusal that came late
				return
			}
		}
	})
	add("refused, told to Write", func(e *env) {
		c := refused(e)
		e.saw("%s", e.writeUntilError(c))
	})
	add("refused, told to ReadFrom", func(e *env) {
		c := refused(e)
		e.saw("%s", e.refusal(c, func() string {
			n, a, err := c.ReadFrom(make([]byte, 8))
			return fmt.Sprintf("%d %s %s", n, e.addr(a), e.err(err))
		}))
	})
	add("refused, told once", func(e *env) {
		c := refused(e)
		e.saw("%s", e.refusal(c, func() string { return e.read(c, 8) }))
		e.saw("%s", e.read(c, 8))
	})
	add("refused, and refused again", func(e *env) {
		c := refused(e)
		for range 3 {
			e.saw("%s", e.refusal(c, func() string { return e.read(c, 8) }))
		}
	})
	add("refused by a socket that was closed", func(e *env) {
		far, err := e.far.ListenUDP(e.udp(), e.farUDP(e.spare(e.far)))
		e.must(err)
		e.call(far.LocalAddr(), "far")
		c, err := e.near.DialUDP(e.udp(), nil, e.farUDP(portOf(far.LocalAddr())))
		e.must(err)
		e.call(c.LocalAddr(), "near")
		e.send(c, "hello")
		e.saw("%q", e.datagram(far))
		e.must(far.Close())
		e.saw("%s", e.refusal(c, func() string { return e.read(c, 8) }))
	})
	add("refused, then Close", func(e *env) {
		c := refused(e)
		e.saw("%s", e.refusal(c, func() string { return e.read(c, 8) }))
		e.saw("%s", e.err(c.Close()))
		e.saw("%s", e.read(c, 8))
	})

	// Bounds of buffers.
	add("a full receive buffer drops", func(e *env) {
		c, far := e.connectedUDP()
		e.must(c.SetReadBuffer(1))
		for range 200 {
			_, err := far.WriteToUDP(make([]byte, 1000), e.nearUDP(portOf(c.LocalAddr())))
			e.must(err)
		}
		e.must(c.SetReadDeadline(e.late()))
		e.saw("%d bytes", len(e.read(c, 1000)))
		n := 0
		for err := error(nil); err == nil; n++ {
			e.must(c.SetReadDeadline(soon()))
			_, err = c.Read(make([]byte, 1000))
		}
		e.saw("all %v", n >= 200)
	})
	add("many writers", func(e *env) {
		c, far := e.nearPacket(), e.farPacket()
		to := far.LocalAddr().(*net.UDPAddr).AddrPort()
		for i := range 4 {
			e.start(func() string {
				for range 10 {
					c.WriteToUDPAddrPort(bytes.Repeat([]byte{byte('a' + i)}, 100), to)
				}
				return ""
			})
		}
		count := make(map[string]int)
		for range 40 {
			count[string(e.datagram(far))]++
		}
		e.saw("%d %d", len(count), count[string(bytes.Repeat([]byte("b"), 100))])
	})

	// Addresses of both families on one socket.
	dual := func(e *env) (udpConn, udpConn) {
		p, err := e.near.ListenPacket("udp", ":0")
		e.must(err)
		e.call(p.LocalAddr(), "near")
		return p.(udpConn), e.farPacket()
	}
	add("a socket of both families sends", func(e *env) {
		c, far := dual(e)
		e.saw("%s", e.io(c.WriteTo([]byte("hello"), far.LocalAddr())))
		e.saw("%q", e.datagram(far))
	})
	add("a socket of both families, ReadFrom", func(e *env) {
		c, far := dual(e)
		_, err := far.WriteToUDP([]byte("hello"), e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
		e.must(c.SetReadDeadline(e.late()))
		n, a, err := c.ReadFrom(make([]byte, 8))
		e.saw("%d %s %s", n, e.names.text(a.String()), e.err(err))
		e.saw("%s", e.io(c.WriteTo([]byte("answer"), a)))
		e.saw("%q", e.datagram(far))
	})
	add("a socket of both families, ReadFromUDPAddrPort", func(e *env) {
		c, far := dual(e)
		_, err := far.WriteToUDP([]byte("hello"), e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
		e.must(c.SetReadDeadline(e.late()))
		n, a, err := c.ReadFromUDPAddrPort(make([]byte, 8))
		e.saw("%d %s %s", n, e.addrPort(a), e.err(err))
		e.saw("%s", e.io(c.WriteToUDPAddrPort([]byte("answer"), a)))
		e.saw("%q", e.datagram(far))
	})
	all = append(all, behaviour{name: "packet/a socket of both families sends to a mapped address", only: '4', run: func(e *env) {
		c, far := dual(e)
		to := netip.AddrPortFrom(netip.AddrFrom16(e.farHost.As16()), uint16(portOf(far.LocalAddr())))
		e.saw("%s", e.io(c.WriteToUDPAddrPort([]byte("hello"), to)))
		e.saw("%q", e.datagram(far))
	}}, behaviour{name: "packet/a socket of IPv4 sends to a mapped address", only: '4', run: func(e *env) {
		c, far := e.nearPacket(), e.farPacket()
		to := netip.AddrPortFrom(netip.AddrFrom16(e.farHost.As16()), uint16(portOf(far.LocalAddr())))
		e.saw("%s", e.io(c.WriteToUDPAddrPort([]byte("hello"), to)))
		e.saw("%s", e.io(c.WriteToUDP([]byte("hello"), net.UDPAddrFromAddrPort(to))))
		e.saw("%q", e.datagram(far))
	}})
	add("a wildcard as destination is the host itself", func(e *env) {
		c, err := e.near.ListenUDP(e.udp(), nil)
		e.must(err)
		e.call(c.LocalAddr(), "near")
		for _, ip := range []net.IP{nil, map[byte]net.IP{'4': net.IPv4zero, '6': net.IPv6zero}[e.family]} {
			e.saw("%s", e.io(c.WriteToUDP([]byte("hello"), &net.UDPAddr{IP: ip, Port: portOf(c.LocalAddr())})))
			e.saw("%q", e.datagram(c))
		}
	})
	add("RemoteAddr of a socket without a peer is nil", func(e *env) {
		c := e.nearPacket()
		e.saw("%v", c.RemoteAddr() == nil)
	})
	add("deadline of a Read, then a datagram", func(e *env) {
		c, far := e.connectedUDP()
		e.must(c.SetReadDeadline(time.Unix(1, 0)))
		e.saw("%s", e.read(c, 8))
		_, err := far.WriteToUDP([]byte("hello"), e.nearUDP(portOf(c.LocalAddr())))
		e.must(err)
		e.must(c.SetReadDeadline(e.late()))
		e.saw("%s", e.read(c, 8))
	})
	return all
}
