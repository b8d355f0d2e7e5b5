package stack

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A msgConn is what package net's UDP connection and ours both do.
type msgConn interface {
	net.Conn
	net.PacketConn
	ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
	WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error)
}

// msgPairs returns a connected socket and the one it is connected to, of package
// net and of the stack.
func msgPairs(t *testing.T, host string) map[string][2]msgConn {
	t.Helper()
	ku, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Fatal(err)
	}
	kc, err := net.DialUDP("udp", nil, ku.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ku.Close(); kc.Close() })
	s := newPair(t).a
	u := listenUDP(t, s, "udp", net.JoinHostPort(host, "0"))
	c, err := s.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return map[string][2]msgConn{"net": {kc, ku}, "stack": {c.(msgConn), u}}
}

// errorShape describes an error without its addresses.
func errorShape(err error) string {
	var oe *net.OpError
	if !errors.As(err, &oe) {
		return fmt.Sprint(err)
	}
	e := oe.Err
	var se *os.SyscallError
	if errors.As(err, &se) {
		e = se.Err
	}
	return fmt.Sprintf("%s %s source %v addr %v: %v, timeout %v", oe.Op, oe.Net, oe.Source != nil, oe.Addr != nil, e, oe.Timeout())
}

// TestMsgLikeNet does the same with both and compares what is seen.
func TestMsgLikeNet(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		got := make(map[string][]string)
		for name, p := range msgPairs(t, host) {
			c, u := p[0], p[1]
			saw := func(format string, args ...any) { got[name] = append(got[name], fmt.Sprintf(format, args...)) }
			to := u.LocalAddr().(*net.UDPAddr)
			for _, size := range []int{0, 1, 5, 100} {
				for _, room := range []int{0, 1, 5, 200} {
					n, oobn, err := c.WriteMsgUDP(make([]byte, size), nil, nil)
					saw("write %d %d %v", n, oobn, err)
					n, oobn, flags, from, err := u.ReadMsgUDP(make([]byte, room), make([]byte, 64))
					saw("read %d %d %#x %v %v", n, oobn, flags, from.String() == c.LocalAddr().String(), err)
				}
			}
			n, _, err := u.WriteMsgUDPAddrPort([]byte("back"), nil, c.LocalAddr().(*net.UDPAddr).AddrPort())
			saw("write back %d %v", n, err)
			n, _, flags, ap, err := c.ReadMsgUDPAddrPort(make([]byte, 9), nil)
			saw("read back %d %#x %v %v", n, flags, ap.String() == u.LocalAddr().String(), err)

			_, _, err = c.WriteMsgUDP([]byte("x"), nil, to)
			saw("connected, addressed: %s", errorShape(err))
			_, _, err = c.WriteMsgUDPAddrPort([]byte("x"), nil, to.AddrPort())
			saw("connected, addressed by AddrPort: %s", errorShape(err))
			_, _, err = u.WriteMsgUDP([]byte("x"), nil, nil)
			saw("unconnected, not addressed: %s", errorShape(err))
			_, _, err = u.WriteMsgUDPAddrPort([]byte("x"), nil, netip.AddrPort{})
			saw("unconnected, not addressed by AddrPort: %s", errorShape(err))
			_, _, err = c.WriteMsgUDP([]byte("x"), make([]byte, 20), nil)
			saw("bad control message: %s", errorShape(err))
			_, _, err = c.WriteMsgUDP(make([]byte, 70_000), nil, nil)
			saw("too long: %s", errorShape(err))
			foreign := (&ipv4.ControlMessage{Src: net.ParseIP("192.0.2.1")}).Marshal()
			if host == "::1" {
				foreign = (&ipv6.ControlMessage{Src: net.ParseIP("2001:db8::1")}).Marshal()
			}
			_, _, err = u.WriteMsgUDP([]byte("x"), foreign, c.LocalAddr().(*net.UDPAddr))
			saw("from a foreign address: %s", errorShape(err))
			u.SetReadDeadline(time.Unix(1, 0))
			_, _, _, _, err = u.ReadMsgUDP(make([]byte, 1), nil)
			saw("late: %s", errorShape(err))
			u.Close()
			_, _, _, _, err = u.ReadMsgUDP(make([]byte, 1), nil)
			saw("closed: %s", errorShape(err))
			_, _, err = u.WriteMsgUDP([]byte("x"), nil, to)
			saw("closed: %s", errorShape(err))
		}
		for i, want := range got["net"] {
			if g := got["stack"][i]; g != want {
				t.Errorf("%s: stack %q, net %q", host, g, want)
			}
		}
	}
}

// TestControlMessages has golang.org/x/net parse what is told of datagrams, and
// make what is asked for them.
func TestControlMessages(t *testing.T) {
	for _, verified := range []bool{false, true} {
		p := newPairWith(t, pairOptions{verified: verified, a: testConfig(addrA, addrA6, "10.0.0.11", "fd00::11"), b: testConfig(addrB, addrB6)})
		u := listenUDP(t, p.b, "udp", ":53")
		c := listenUDP(t, p.a, "udp", ":0")
		b, oob := make([]byte, 100), make([]byte, 200)
		read := func(flags int) []byte {
			t.Helper()
			_, oobn, got, _, err := u.ReadMsgUDPAddrPort(b, oob)
			if err != nil || got != flags {
				t.Fatalf("flags %#x, %v; want %#x", got, err, flags)
			}
			return oob[:oobn]
		}
		to4, to6 := netip.MustParseAddrPort(addrB+":53"), netip.MustParseAddrPort("["+addrB6+"]:53")
		c.WriteToUDPAddrPort([]byte("x"), to4)
		if m := read(0); len(m) != 0 {
			t.Errorf("unasked: %x", m)
		}
		if err := u.SetControlMessage(ControlTTL|ControlPacketInfo|ControlTOS, true); err != nil {
			t.Fatal(err)
		}
		c.SetTTL(33)
		c.SetTOS(0x2e << 2)
		c.WriteToUDPAddrPort([]byte("x"), to4)
		m := read(0)
		var cm4 ipv4.ControlMessage
		if err := cm4.Parse(m); err != nil || cm4.TTL != 33 || cm4.Dst.String() != addrB || cm4.IfIndex != linkIndex {
			t.Errorf("%+v, %v", cm4, err)
		}
		all, err := syscall.ParseSocketControlMessage(m)
		if err != nil || len(all) != 3 || all[2].Header.Type != syscall.IP_TOS || !bytes.Equal(all[2].Data, []byte{0x2e << 2}) {
			t.Errorf("%+v, %v", all, err)
		}
		c.WriteToUDPAddrPort([]byte("x"), to6)
		var cm6 ipv6.ControlMessage
		if err := cm6.Parse(read(0)); err != nil || cm6.HopLimit != 33 || cm6.TrafficClass != 0x2e<<2 || cm6.Dst.String() != addrB6 || cm6.IfIndex != linkIndex {
			t.Errorf("%+v, %v", cm6, err)
		}

		// What is sent with a datagram is for that one.
		w := controlWriter{b: make([]byte, 100)}
		w.addInt(levelIP, typeTTL, 7)
		out4 := append((&ipv4.ControlMessage{Src: net.ParseIP("10.0.0.11")}).Marshal(), w.b[:w.n]...)
		if _, n, err := c.WriteMsgUDPAddrPort([]byte("x"), out4, to4); n != len(out4) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		n, oobn, _, from, err := u.ReadMsgUDPAddrPort(b, oob)
		if err := cm4.Parse(oob[:oobn]); err != nil || cm4.TTL != 7 {
			t.Errorf("%+v, %v", cm4, err)
		}
		if n != 1 || err != nil || from.Addr().String() != "10.0.0.11" {
			t.Errorf("from %v, %v", from, err)
		}
		out6 := &ipv6.ControlMessage{HopLimit: 8, TrafficClass: 9, Src: net.ParseIP("fd00::11"), IfIndex: linkIndex}
		if _, _, err := c.WriteMsgUDPAddrPort([]byte("x"), out6.Marshal(), to6); err != nil {
			t.Fatal(err)
		}
		_, oobn, _, from, err = u.ReadMsgUDPAddrPort(b, oob)
		if perr := cm6.Parse(oob[:oobn]); perr != nil || err != nil || cm6.HopLimit != 8 || cm6.TrafficClass != 9 || from.Addr().String() != "fd00::11" {
			t.Errorf("%+v from %v, %v, %v", cm6, from, perr, err)
		}
		c.WriteToUDPAddrPort([]byte("x"), to4)
		if cm4.Parse(read(0)); cm4.TTL != 33 { //nolint:errcheck // the TTL tells
			t.Errorf("the next one has TTL %d", cm4.TTL)
		}

		// Room for one message of three, and for none.
		oob = oob[:40]
		c.WriteToUDPAddrPort([]byte("x"), to4)
		if m := read(flagControlCut); len(m) != controlSpace(sizeInfo) {
			t.Errorf("%d bytes", len(m))
		}
		oob = oob[:0]
		c.WriteToUDPAddrPort([]byte("x"), to4)
		read(flagControlCut)
		oob = oob[:200]
		u.SetControlMessage(ControlTTL|ControlTOS, false)
		c.WriteToUDPAddrPort([]byte("x"), to4)
		cm4 = ipv4.ControlMessage{}
		if err := cm4.Parse(read(0)); err != nil || cm4.TTL != 0 || cm4.Dst.String() != addrB {
			t.Errorf("%+v, %v", cm4, err)
		}

		for _, bad := range []struct {
			oob  []byte
			want error
		}{
			{(&ipv4.ControlMessage{Src: net.ParseIP(addrB)}).Marshal(), syscall.ENETUNREACH},
			{(&ipv4.ControlMessage{IfIndex: 77}).Marshal(), syscall.ENODEV},
			{(&ipv6.ControlMessage{Src: net.ParseIP(addrA6)}).Marshal(), syscall.EINVAL},
			{make([]byte, controlHeader), syscall.EINVAL},
		} {
			_, _, err := c.WriteMsgUDPAddrPort([]byte("x"), bad.oob, to4)
			if !errors.Is(err, bad.want) {
				t.Errorf("%x: %v, want %v", bad.oob, err, bad.want)
			}
		}
		wantOp(t, u.SetControlMessage(1<<10, true), "set", syscall.EINVAL)
		for _, v := range []int{0, 256, -1} {
			wantOp(t, c.SetTTL(v), "set", syscall.EINVAL)
			wantOp(t, c.SetMulticastTTL(v), "set", syscall.EINVAL)
			wantOp(t, c.SetTOS(v+v/256-boolInt(v == 0)), "set", syscall.EINVAL)
		}
	}
}

// TestMsgBroadcast looks what a datagram for many tells as its local address, which is
// one to answer from, and answers from it. From the others nobody sends.
func TestMsgBroadcast(t *testing.T) {
	p := guardedPair(t)
	u, peer := listenUDP(t, p.a, "udp4", ":53"), listenUDP(t, p.b, "udp4", ":9")
	if err := u.SetControlMessage(ControlPacketInfo, true); err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(addrB + ":9")
	peer.SetReadDeadline(time.Now().Add(10 * time.Second)) // answers from nobody do not arrive
	b, oob := make([]byte, 10), make([]byte, 64)
	for _, host := range []string{addrA, "10.0.0.255", "255.255.255.255"} {
		p.wa.inject(header.IPv4ProtocolNumber, udpPacket(addrB, host, 53, "question"))
		_, oobn, _, _, err := u.ReadMsgUDPAddrPort(b, oob)
		all, perr := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil || perr != nil || len(all) != 1 {
			t.Fatalf("%s: %v, %v, %v", host, all, err, perr)
		}
		local, dst := net.IP(all[0].Data[4:8]), net.IP(all[0].Data[8:12])
		if local.String() != addrA || dst.String() != host {
			t.Errorf("%s: local address %v, destination %v", host, local, dst)
		}
		if _, _, err := u.WriteMsgUDPAddrPort([]byte("answer"), oob[:oobn], to); err != nil {
			t.Errorf("%s: answer: %v", host, err)
		} else if _, from, err := peer.ReadFromUDPAddrPort(b); from != netip.MustParseAddrPort(addrA+":53") || err != nil {
			t.Errorf("%s: answer from %v, %v", host, from, err)
		}
	}
	for host, want := range map[string]error{"10.0.0.255": syscall.ENETUNREACH, "255.255.255.255": syscall.EINVAL} {
		from := (&ipv4.ControlMessage{Src: net.ParseIP(host)}).Marshal()
		_, _, err := u.WriteMsgUDPAddrPort([]byte("x"), from, to)
		wantOp(t, err, "write", want)
	}
}
