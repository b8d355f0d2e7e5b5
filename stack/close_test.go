package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/netdev"
)

// blocked starts every kind of call that can block on a's side and returns
// when all have parked. The errors come in the map's channels.
func blocked(t *testing.T, p *pair) map[string]chan error {
	t.Helper()
	b := make([]byte, 1)
	errs := make(map[string]chan error)
	start := func(name string, f func() error) {
		p.parkA.drain()
		ch := make(chan error, 1)
		errs[name] = ch
		go func() { ch <- f() }()
		p.parkA.wait(t)
	}
	c1, _ := p.connect(t, "tcp", addrB)
	start("tcp read", func() error { _, err := c1.Read(b); return err })

	c2, _ := p.connect(t, "tcp", addrB)
	c2.SetWriteBuffer(4 << 10)
	start("tcp write", func() error { _, err := c2.Write(make([]byte, 64<<20)); return err })

	l, err := p.a.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	start("accept", func() error { _, err := l.Accept(); return err })

	u, err := p.a.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	start("udp read", func() error { _, _, err := u.ReadFrom(b); return err })

	p.wa.hold.Store(true) // what is sent now stays charged to the sender
	uw, err := p.a.Dial("udp", addrB+":9")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { uw.Close() })
	uw.(*UDPConn).SetWriteBuffer(4 << 10)
	start("udp write", func() error {
		for {
			if _, err := uw.Write(make([]byte, 1000)); err != nil {
				return err
			}
		}
	})
	start("dial", func() error {
		c, err := p.a.Dial("tcp", addrB+":9")
		if err == nil {
			c.Close()
		}
		return err
	})
	return errs
}

func TestStackCloseEndsBlockedCalls(t *testing.T) {
	p := newPair(t)
	errs := blocked(t, p)
	within(t, "Stack.Close", func() { p.a.Close() })
	for name, ch := range errs {
		within(t, name, func() {
			if err := <-ch; !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v, want net.ErrClosed", name, err)
			}
		})
	}
	if err := p.a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	_, err := p.a.Dial("tcp", addrB+":9")
	wantOp(t, err, "dial", net.ErrClosed)
	_, err = p.a.Listen("tcp", ":0")
	wantOp(t, err, "listen", net.ErrClosed)
	_, err = p.a.ListenPacket("udp", ":0")
	wantOp(t, err, "listen", net.ErrClosed)
}

// TestLinkDownSoon has packets refused by a device that is down, before it has told
// the stack.
func TestLinkDownSoon(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	c, _ := ow.tcpPair(t, addrB)
	s := ow.s[0]
	s.dev.SetLink(errors.New("unplugged"))
	s.linkUp() // as if it had not been told
	for want, terrs := range map[syscall.Errno][]tcpip.Error{
		syscall.ENETDOWN: {
			&tcpip.ErrNetworkUnreachable{}, &tcpip.ErrHostUnreachable{},
			&toldError{&tcpip.ErrHostUnreachable{}, syscall.EHOSTUNREACH}, // of a next hop that does not answer
		},
		syscall.EACCES: {&toldError{&tcpip.ErrHostUnreachable{}, syscall.EACCES}},
	} {
		for _, terr := range terrs {
			if err := c.callErr(&c.rd.parker, "connect", terr); !errors.Is(err, want) {
				t.Errorf("%T: %v, want %v", terr, err, want)
			}
		}
	}
}

// TestNoCarrier has calls wait out a carrier that is lost, and what was sent meanwhile
// arrive.
func TestNoCarrier(t *testing.T) {
	ow := newOverWire(t, overWireOptions{})
	near, far := ow.tcpPair(t, addrB)
	s := ow.s[0]
	l, err := s.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			c.Close()
		}
		accepted <- err
	}()
	got := make(chan string, 1)
	go func() {
		b := make([]byte, len("answer"))
		_, err := io.ReadFull(near, b)
		got <- fmt.Sprintf("%s, %v", b, err)
	}()
	u, err := s.ListenPacket("udp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()

	s.dev.SetLink(fmt.Errorf("eth0: %w: %w", netdev.ErrNoCarrier, syscall.ENETDOWN))
	if _, err := near.Write([]byte("question")); err != nil {
		t.Errorf("TCP: %v", err)
	}
	if _, err := u.WriteTo([]byte("lost"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addrB+":9"))); err != nil {
		t.Errorf("UDP: %v", err)
	}
	if err := near.callErr(&near.rd.parker, "connect", &tcpip.ErrHostUnreachable{}); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("to a host that cannot be asked: %v, want EHOSTUNREACH", err)
	}
	if n := deviceStats(s)[0].Drops["tx link down"]; n == 0 {
		t.Error("nothing was dropped")
	}
	s.dev.SetLink(nil)

	b := make([]byte, len("question"))
	if _, err := io.ReadFull(far, b); err != nil || string(b) != "question" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := far.Write([]byte("answer")); err != nil {
		t.Error(err)
	}
	within(t, "Read", func() {
		if got := <-got; got != "answer, <nil>" {
			t.Error(got)
		}
	})
	c, err := ow.s[1].Dial("tcp", addrA+":80")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	within(t, "Accept", func() {
		if err := <-accepted; err != nil {
			t.Error(err)
		}
	})
}

func TestLinkDown(t *testing.T) {
	p := newPair(t)
	errs := blocked(t, p)
	cause := errors.New("unplugged")
	p.a.linkDown(cause)
	for name, ch := range errs {
		within(t, name, func() {
			err := <-ch
			if !errors.Is(err, syscall.ENETDOWN) || !errors.Is(err, cause) || errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v, want ENETDOWN and the cause", name, err)
			}
		})
	}
	_, err := p.a.Dial("tcp", addrB+":9")
	wantOp(t, err, "dial", syscall.ENETDOWN)
	p.wa.release()
	p.a.linkUp()
	c, s := p.connect(t, "tcp", addrB)
	p.a.linkDown(cause)
	_, err = c.Write([]byte("x"))
	wantOp(t, err, "write", syscall.ENETDOWN)
	_, err = c.Read(make([]byte, 1))
	wantOp(t, err, "read", syscall.ENETDOWN)
	p.a.linkUp()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("Write after linkUp: %v", err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Errorf("peer: %v", err)
	}
}

func TestCloseWhileBlocked(t *testing.T) {
	for _, side := range []string{"read", "write", "udp read", "udp write"} {
		t.Run(side, func(t *testing.T) {
			p := newPair(t)
			var c net.Conn
			if side[0] == 'u' {
				c, _ = p.a.Dial("udp", addrB+":9")
				c.(*UDPConn).SetWriteBuffer(4 << 10)
				p.wa.hold.Store(true)
			} else {
				conn, _ := p.connect(t, "tcp", addrB)
				conn.SetWriteBuffer(4 << 10)
				c = conn
			}
			const callers = 3
			errs := make(chan error, callers)
			p.parkA.drain()
			for range callers {
				go func() {
					var err error
					for err == nil {
						if side == "read" || side == "udp read" {
							_, err = c.Read(make([]byte, 1))
						} else {
							_, err = c.Write(make([]byte, 1000))
						}
					}
					errs <- err
				}()
			}
			p.parkA.wait(t)
			within(t, "Close", func() { c.Close() })
			for range callers {
				wantOp(t, <-errs, strings.TrimPrefix(side, "udp "), net.ErrClosed)
			}
		})
	}
}

func TestListenerCloseWakesAll(t *testing.T) {
	p := newPair(t)
	l, err := p.a.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	const callers = 4
	errs := make(chan error, callers)
	for range callers {
		go func() { _, err := l.Accept(); errs <- err }()
	}
	p.parkA.wait(t)
	l.Close()
	for range callers {
		wantOp(t, <-errs, "accept", net.ErrClosed)
	}
}

// TestDialCanceled cancels dials before they start, while they wait, and
// after they are over.
func TestDialCanceled(t *testing.T) {
	p := newPair(t)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := p.a.DialContext(canceled, "tcp", addrB+":9")
	wantOp(t, err, "dial", context.Canceled)

	past, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	_, err = p.a.DialContext(past, "tcp", addrB+":9")
	if oe := wantOp(t, err, "dial", context.DeadlineExceeded); !oe.Timeout() {
		t.Errorf("%v: Timeout is false", err)
	}

	p.wb.loseAll(0)
	ctx, cancel := context.WithCancel(context.Background())
	dialed := make(chan error, 1)
	p.parkA.drain()
	go func() { _, err := p.a.DialContext(ctx, "tcp", addrB+":9"); dialed <- err }()
	p.parkA.wait(t)
	cancel()
	oe := wantOp(t, <-dialed, "dial", context.Canceled)
	if oe.Timeout() || oe.Err.Error() != "operation was canceled" || oe.Addr.String() != addrB+":9" {
		t.Errorf("%+v: not as package net has it", oe)
	}

	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err = p.a.DialContext(ctx, "tcp", addrB+":9")
	wantTimeout(t, err, "dial")
	if n := len(p.a.ns.RegisteredEndpoints()); n != 0 {
		t.Errorf("%d endpoints are left of failed dials", n)
	}

	p.wb.lose.Store(nil)
	ctx, cancel = context.WithCancel(context.Background())
	l, _ := p.b.Listen("tcp", addrB+":0")
	defer l.Close()
	c, err := p.a.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cancel()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Errorf("Write after the context of the dial was canceled: %v", err)
	}
}

// TestBacklog connects many times before the first Accept.
func TestBacklog(t *testing.T) {
	p := newPair(t)
	l, err := p.b.ListenTCP("tcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	const conns = 300
	for range conns {
		c, err := p.a.Dial("tcp", dialable(l.Addr()))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range conns / 2 {
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	l.Close() // resets the rest
	if n := len(p.b.ports.byPort); n != 0 {
		t.Errorf("%d ports are taken after Close", n)
	}
}

// TestDialWhileStackCloses runs the two against each other.
func TestDialWhileStackCloses(t *testing.T) {
	for range 30 {
		p := newPair(t)
		l, err := p.b.Listen("tcp", addrB+":80")
		if err != nil {
			t.Fatal(err)
		}
		const dialers = 4
		errs := make(chan error, dialers)
		for i := range dialers {
			go func() {
				network := "tcp"
				if i == 0 {
					network = "udp"
				}
				for {
					c, err := p.a.Dial(network, addrB+":80")
					if err != nil {
						errs <- err
						return
					}
					c.Close()
				}
			}()
		}
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		within(t, "Stack.Close", func() { p.a.Close() })
		for range dialers {
			wantOp(t, <-errs, "dial", net.ErrClosed)
		}
	}
}

// TestCloseTwiceAtOnce closes a socket from two goroutines, of which each may use
// the port again when its call is over, whichever came first: servers close what
// they serve when they are told to end, and so does who told them.
func TestCloseTwiceAtOnce(t *testing.T) {
	p := newPair(t)
	for name, listen := range map[string]func() (io.Closer, error){
		"udp":  func() (io.Closer, error) { return p.a.ListenPacket("udp", ":53") },
		"udp4": func() (io.Closer, error) { return p.a.ListenPacket("udp4", addrA+":53") },
		"tcp":  func() (io.Closer, error) { return p.a.Listen("tcp", ":53") },
		"tcp4": func() (io.Closer, error) { return p.a.Listen("tcp4", addrA+":53") },
	} {
		t.Run(name, func(t *testing.T) {
			c, err := listen()
			if err != nil {
				t.Fatal(err)
			}
			for round := range raced.Few(2000, 500) {
				first, begun := make(chan bool, 1), make(chan struct{})
				go func(c io.Closer) {
					close(begun)
					first <- c.Close() == nil
				}(c)
				<-begun
				mine := c.Close() == nil
				if c, err = listen(); err != nil {
					t.Fatalf("round %d, after a Close that was the first: %v: %v", round, mine, err)
				}
				if <-first == mine {
					t.Fatalf("round %d: of two calls of Close not just one failed", round)
				}
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
