package netdiff

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/afxnet/afxnet/stack"
)

// pingBehaviours are about sockets of "ip4:icmp" and "ip6:ipv6-icmp". The kernel's
// see all messages that come, and the stack's only replies to what they have sent:
// others are passed over.
func pingBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) {
		all = append(all, behaviour{name: "ping/" + name, inside: true, raw: true, run: run})
	}
	add("Dial, Write, Read", func(e *env) {
		c := e.pinger(e.farHost.String())
		e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
		e.saw("%s", e.ping(c, c.Write, c.Read))
	})
	add("Dial, Write, ReadFrom", func(e *env) {
		c := e.pinger(e.farHost.String())
		var from net.Addr
		e.saw("%s", e.ping(c, c.Write, func(b []byte) (n int, err error) {
			n, from, err = c.(net.PacketConn).ReadFrom(b)
			return n, err
		}))
		e.saw("%s", e.addr(from))
	})
	add("ListenPacket, WriteTo, ReadFrom", func(e *env) {
		c, err := e.near.ListenPacket(icmpOf(e.nearHost), e.nearHost.String())
		e.must(err)
		e.saw("%s", e.addr(c.LocalAddr()))
		to := &net.IPAddr{IP: e.farHost.AsSlice()}
		e.saw("%s", e.ping(c, func(b []byte) (int, error) { return c.WriteTo(b, to) },
			func(b []byte) (int, error) { n, _, err := c.ReadFrom(b); return n, err }))
	})
	add("no host", func(e *env) {
		c, err := e.near.ListenPacket(icmpOf(e.nearHost), "")
		e.must(err)
		e.saw("%s", e.addr(c.LocalAddr()))
	})
	add("the wrong method", func(e *env) {
		c := e.pinger(e.farHost.String())
		_, err := c.(net.PacketConn).WriteTo(e.request(), &net.IPAddr{IP: e.farHost.AsSlice()})
		e.saw("%s", e.err(err))
		l, err := e.near.ListenPacket(icmpOf(e.nearHost), "")
		e.must(err)
		_, err = l.(net.Conn).Write(e.request())
		e.saw("%s", e.err(err))
		_, err = l.WriteTo(e.request(), e.farUDP(1))
		e.saw("%s", e.err(err))
		_, err = l.WriteTo(e.request(), (*net.IPAddr)(nil))
		e.saw("%s", e.err(err))
	})
	all = append(all, behaviour{name: "ping/Dial another address of 127/8", inside: true, raw: true, only: '4', run: func(e *env) {
		c := e.pinger("127.7.7.7")
		e.saw("%s %s", c.LocalAddr(), c.RemoteAddr())
		l, err := e.near.ListenPacket("ip4:icmp", "127.0.0.9")
		e.must(err)
		_, err = l.WriteTo(e.request(), &net.IPAddr{IP: net.IPv4(192, 0, 2, 250)})
		e.saw("leaves: %v", err == nil)
	}})
	add("what cannot be dialed", func(e *env) {
		other := e.farHosts[1]
		if e.family == '6' {
			other = e.farHosts[0]
		}
		for _, host := range []string{"", other.String(), "no such host"} {
			_, err := e.near.Dial(context.Background(), icmpOf(e.nearHost), host)
			e.saw("%s", e.err(err))
		}
		d := &net.Dialer{LocalAddr: e.nearUDP(0)}
		_, err := e.near.DialBy(context.Background(), d, icmpOf(e.nearHost), e.farHost.String())
		e.saw("%s", e.err(err))
	})
	add("WriteMsgIP, ReadMsgIP", func(e *env) {
		c := e.listenIP()
		to := &net.IPAddr{IP: e.farHost.AsSlice()}
		var from *net.IPAddr
		e.saw("%s", e.ping(c, func(b []byte) (int, error) {
			n, _, err := c.WriteMsgIP(b, nil, to)
			return n, err
		}, func(b []byte) (n int, err error) {
			n, _, _, from, err = c.ReadMsgIP(b, nil)
			return n, err
		}))
		e.saw("%s", e.ip(from.IP))
		e.saw("%s", e.ping(c, func(b []byte) (int, error) {
			n, err := c.WriteToIP(b, to)
			return n, err
		}, func(b []byte) (n int, err error) {
			n, from, err = c.ReadFromIP(b)
			return n, err
		}))
		e.saw("%s", e.ip(from.IP))
	})
	add("ReadMsgIP into 4 bytes cuts", func(e *env) {
		c := e.listenIP()
		for until := e.late(); time.Now().Before(until); { // whatever comes is longer
			_, err := c.WriteTo(e.request(), &net.IPAddr{IP: e.farHost.AsSlice()})
			e.must(err)
			e.must(c.SetReadDeadline(time.Now().Add(time.Second)))
			n, oobn, flags, _, err := c.ReadMsgIP(make([]byte, 4), make([]byte, 64))
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				e.saw("%d, %d, %#x, %s", n, oobn, flags, e.err(err))
				return
			}
		}
	})
	add("messages, the wrong way", func(e *env) {
		c, d := e.listenIP(), e.pinger(e.farHost.String()).(ipConn)
		to := &net.IPAddr{IP: e.farHost.AsSlice()}
		e.saw("%s", e.msg(d.WriteMsgIP(e.request(), nil, to)))
		e.saw("%s", e.msg(d.WriteMsgIP(e.request(), nil, nil)))
		e.saw("%s", e.msg(c.WriteMsgIP(e.request(), nil, nil)))
		e.saw("%s", e.msg(c.WriteMsgIP(e.request(), make([]byte, 16), to)))
		e.must(c.SetDeadline(time.Unix(1, 0)))
		e.saw("%s", e.msg(c.WriteMsgIP(e.request(), nil, to)))
		_, _, _, _, err := c.ReadMsgIP(make([]byte, 100), nil)
		e.saw("%s", e.err(err))
		e.must(c.Close())
		e.saw("%s", e.msg(c.WriteMsgIP(e.request(), nil, to)))
		_, _, _, _, err = c.ReadMsgIP(make([]byte, 100), nil)
		e.saw("%s", e.err(err))
	})
	add("SetReadBuffer and SetWriteBuffer", func(e *env) {
		c := e.listenIP()
		for _, n := range []int{-1, 0, 4096, 1 << 20} {
			e.saw("%s, %s", e.err(c.SetReadBuffer(n)), e.err(c.SetWriteBuffer(n)))
		}
		to := &net.IPAddr{IP: e.farHost.AsSlice()}
		e.saw("%s", e.ping(c, func(b []byte) (int, error) { return c.WriteTo(b, to) }, func(b []byte) (int, error) {
			n, _, err := c.ReadFrom(b)
			return n, err
		}))
		e.must(c.Close())
		e.saw("%s, %s", e.err(c.SetReadBuffer(4096)), e.err(c.SetWriteBuffer(4096)))
	})
	add("LocalAddr", func(e *env) {
		var none *net.IPAddr
		for _, from := range []net.Addr{none, &net.IPAddr{}, &net.IPAddr{IP: e.nearHost.AsSlice()}} {
			c, err := e.near.DialBy(context.Background(), &net.Dialer{LocalAddr: from}, icmpOf(e.nearHost), e.farHost.String())
			e.must(err)
			e.saw("%s %s", e.addr(c.LocalAddr()), e.addr(c.RemoteAddr()))
		}
		for _, from := range []net.Addr{&net.IPAddr{IP: e.strange(string(e.family)).AsSlice()}, (*net.TCPAddr)(nil)} {
			c, err := e.near.DialBy(context.Background(), &net.Dialer{LocalAddr: from}, icmpOf(e.nearHost), e.farHost.String())
			e.saw("%s", e.opened(c == nil, err))
		}
	})
	add("a deadline, and Close", func(e *env) {
		c := e.pinger(e.farHost.String())
		at := soon()
		e.must(c.SetReadDeadline(at))
		e.saw("%s", e.until(func() error { _, err := c.Read(make([]byte, 100)); return err }))
		e.saw("%s", when(at))
		e.must(c.Close())
		_, err := c.Read(make([]byte, 100))
		e.saw("%s", e.err(err))
		_, err = c.Write(e.request())
		e.saw("%s", e.err(err))
		e.saw("%s", e.err(c.Close()))
	})
	return all
}

// ipConn has the methods of a socket of "ip4:icmp" and "ip6:ipv6-icmp".
type ipConn interface {
	net.Conn
	net.PacketConn
	ReadFromIP(b []byte) (int, *net.IPAddr, error)
	ReadMsgIP(b, oob []byte) (n, oobn, flags int, addr *net.IPAddr, err error)
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	WriteMsgIP(b, oob []byte, addr *net.IPAddr) (n, oobn int, err error)
	WriteToIP(b []byte, addr *net.IPAddr) (int, error)
}

var (
	_ ipConn = (*net.IPConn)(nil)
	_ ipConn = (*stack.ICMPConn)(nil)
)

// listenIP returns a socket without a peer.
func (e *env) listenIP() ipConn {
	c, err := e.near.ListenPacket(icmpOf(e.nearHost), "")
	e.must(err)
	e.must(c.SetDeadline(e.late()))
	return c.(ipConn)
}

// pinger dials a host.
func (e *env) pinger(host string) net.Conn {
	c, err := e.near.Dial(context.Background(), icmpOf(e.nearHost), host)
	e.must(err)
	e.must(c.SetDeadline(e.late()))
	return c
}

// until calls until there is an error: what others send may come in between.
func (e *env) until(f func() error) string {
	for {
		if err := f(); err != nil {
			return e.err(err)
		}
	}
}

// pings counts echo requests, so that each can be told from others.
var pings atomic.Uint32

// request returns an echo request, with a checksum for IPv4.
func (e *env) request() []byte {
	b := binary.BigEndian.AppendUint16([]byte{8, 0, 0, 0}, uint16(pings.Add(1)))
	b = append(b, "\x00\x01afxnet"...)
	if e.family == '6' {
		b[0] = 128
		return b
	}
	binary.BigEndian.PutUint16(b[2:], ^onesSum(b))
	return b
}

// ping sends echo requests until there is a reply, and returns what is around it. A
// host answers only so many in a second, and other behaviours have it answer too.
func (e *env) ping(c interface{ SetReadDeadline(time.Time) error }, write, read func([]byte) (int, error)) string {
	for until := e.late(); time.Now().Before(until); {
		request := e.request()
		if n, err := write(request); n != len(request) || err != nil {
			return e.io(n, err)
		}
		e.must(c.SetReadDeadline(time.Now().Add(time.Second)))
		text, err := e.reply(request, read)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return text + ", " + e.err(err)
		}
	}
	return "no reply"
}

// reply reads until there is a reply to a request, and returns what is around it.
func (e *env) reply(request []byte, read func([]byte) (int, error)) (string, error) {
	typ := byte(0)
	if e.family == '6' {
		typ = 129
	}
	for {
		b := make([]byte, 200)
		n, err := read(b)
		if err != nil {
			return "", err
		}
		m, text := b[:n], "no IP header"
		if n > 20 && m[0] == 0x45 && e.family == '4' {
			src, _ := netip.AddrFromSlice(m[12:16])
			text = fmt.Sprintf("an IP header of %d bytes, from the peer: %v", binary.BigEndian.Uint16(m[2:]), src == e.farHost)
			m = m[20:]
		}
		if len(m) == len(request) && m[0] == typ && slices.Equal(m[4:], request[4:]) {
			return text, nil
		}
	}
}
