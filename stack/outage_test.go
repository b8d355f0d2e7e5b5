package stack

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// A receiver is a socket that waits for peers, and one of its calls.
type receiver struct {
	name     string
	call     func() error
	deadline func(time.Time) error
	close    func() error
	send     func() error // has the call return
	op       string
}

// receivers are all calls that wait for peers, each with a socket of its own.
func receivers(t *testing.T, p *pair, six bool) (all []receiver) {
	t.Helper()
	at, family := addrA, "4"
	if six {
		at, family = addrA6, "6"
	}
	b := make([]byte, 64)
	udp := func(name string, call func(*UDPConn) error) {
		c := listenUDP(t, p.a, "udp"+family, ":0")
		to := &net.UDPAddr{IP: net.ParseIP(at), Port: c.LocalAddr().(*net.UDPAddr).Port}
		from := listenUDP(t, p.b, "udp"+family, ":0")
		send := func() error { _, err := from.WriteToUDP([]byte("x"), to); return err }
		all = append(all, receiver{name, func() error { return call(c) }, c.SetReadDeadline, c.Close, send, "read"})
	}
	udp("Read", func(c *UDPConn) error { _, err := c.Read(b); return err })
	udp("ReadFrom", func(c *UDPConn) error { _, _, err := c.ReadFrom(b); return err })
	udp("ReadFromUDPAddrPort", func(c *UDPConn) error { _, _, err := c.ReadFromUDPAddrPort(b); return err })
	udp("ReadMsgUDP", func(c *UDPConn) error { _, _, _, _, err := c.ReadMsgUDP(b, nil); return err })
	udp("ReadBatch", func(c *UDPConn) error { _, err := c.ReadBatch([]Message{{Buffers: [][]byte{b}}}, 0); return err })

	l, err := p.a.Listen("tcp"+family, net.JoinHostPort(at, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	all = append(all, receiver{"Accept", func() error {
		c, err := l.Accept()
		if err == nil {
			c.Close()
		}
		return err
	}, l.(*TCPListener).SetDeadline, l.Close, func() error {
		c, err := p.b.Dial("tcp", l.Addr().String())
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	}, "accept"})

	network, echo := "ip4:icmp", []byte{8, 0, 0, 0, 0, 0, 0, 1}
	to := addrB
	if six {
		network, echo, to = "ip6:ipv6-icmp", []byte{128, 0, 0, 0, 0, 0, 0, 1}, addrB6
	}
	icmp, err := p.a.Dial(network, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { icmp.Close() })
	all = append(all, receiver{"ICMPConn.Read", func() error { _, err := icmp.Read(b); return err },
		icmp.SetReadDeadline, icmp.Close, func() error { _, err := icmp.Write(echo); return err }, "read"})
	return all
}

// TestOutage sets the device down under each call that waits for peers. It is told of
// that once, by a temporary error, and then waits for the device, in a further outage
// too; for one that is gone for good it does not wait.
func TestOutage(t *testing.T) {
	for _, six := range []bool{false, true} {
		p := newPair(t)
		for _, r := range receivers(t, p, six) {
			t.Run(fmt.Sprintf("%s/six=%v", r.name, six), func(t *testing.T) { testOutage(t, p, r) })
		}
	}
}

func testOutage(t *testing.T, p *pair, r receiver) {
	down := fmt.Errorf("eth0 is down: %w", syscall.ENETDOWN)
	calls := make(chan error, 1)
	start := func() {
		t.Helper()
		p.parkA.drain()
		go func() { calls <- r.call() }()
		p.parkA.wait(t)
	}
	told := func() {
		t.Helper()
		err := <-calls
		wantOp(t, err, r.op, syscall.ENETDOWN)
		if ne, ok := err.(interface{ Temporary() bool }); !ok || !ne.Temporary() || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, want a temporary error and no other", err)
		}
	}
	arrives := func() {
		t.Helper()
		if err := r.send(); err != nil {
			t.Fatal(err)
		}
		if err := <-calls; err != nil {
			t.Error(err)
		}
	}

	for range 3 {
		start()
		p.a.linkDown(down)
		told()
		start() // waits
		p.a.linkDown(fmt.Errorf("still: %w", down))
		if err := r.deadline(time.Now().Add(-1)); err != nil {
			t.Fatal(err)
		}
		if err := <-calls; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v, want the deadline", err)
		}
		if err := r.deadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		start()
		p.a.linkUp()
		arrives()
	}
	// Who comes when it is down already is told as well.
	p.a.linkDown(down)
	calls <- r.call()
	told()
	start()
	p.a.linkDown(fmt.Errorf("for good: %w: %w", syscall.ENETDOWN, syscall.ENODEV))
	for range 2 {
		err := <-calls
		wantOp(t, err, r.op, syscall.ENODEV)
		if err.(interface{ Temporary() bool }).Temporary() {
			t.Errorf("%v is temporary", err)
		}
		calls <- r.call()
	}
	<-calls
	p.a.linkUp() // a device that is made anew has another stack, but this test has one
	p.a.linkDown(down)
	calls <- r.call()
	told()
	start()
	if err := r.close(); err != nil {
		t.Error(err)
	}
	if err := <-calls; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v, want that it was closed", err)
	}
	p.a.linkUp()
}
