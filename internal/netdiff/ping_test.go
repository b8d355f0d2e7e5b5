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
