package netdev

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// labStack runs a netstack of gVisor's own making on the lab's AF_XDP side.
func labStack(t *testing.T, l *lab.Lab, cfg Config) (*Device, *gstack.Stack) {
	t.Helper()
	cfg = withFlag(cfg)
	cfg.Interface = lab.HostDevice
	var d *Device
	err := l.Host.Do(func() (err error) {
		if d, err = Open(cfg); err != nil {
			return err
		}
		if err = d.AddAddress(l.StackV4.Addr()); err != nil {
			return err
		}
		return d.AddAddress(l.StackV6.Addr())
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newNetstack(t, d, l.StackV4.Addr().AsSlice(), l.StackV6.Addr().AsSlice())
	t.Cleanup(func() {
		s.Destroy()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, s
}

// echo serves until the listener is closed.
func echo(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() { defer c.Close(); io.Copy(c, c) }()
	}
}

func TestLabTCP(t *testing.T) {
	l := lab.New(t, lab.Config{})
	d, s := labStack(t, l, Config{})
	ln, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 7}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echo(ln)
	c, err := l.Peer.Dial(context.Background(), "tcp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
	if err != nil {
		st, _ := d.Stats()
		t.Fatalf("%v; %+v", err, st)
	}
	defer c.Close()
	msg, back := make([]byte, 64), make([]byte, 64)
	for range 2000 {
		for i := range msg {
			msg[i] = byte(rand.Uint32())
		}
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, back); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(msg, back) {
			t.Fatal("echo differs")
		}
	}
	// Bulk.
	const size = 64 << 20
	want := make(chan [32]byte, 1)
	go func() {
		h := sha256.New()
		r := rand.NewChaCha8([32]byte{1})
		buf := make([]byte, 1<<16)
		for n := 0; n < size; n += len(buf) {
			r.Read(buf)
			h.Write(buf)
			if _, err := c.Write(buf); err != nil {
				t.Error(err)
				break
			}
		}
		want <- [32]byte(h.Sum(nil))
	}()
	h := sha256.New()
	if _, err := io.CopyN(h, c, size); err != nil {
		t.Fatal(err)
	}
	if <-want != [32]byte(h.Sum(nil)) {
		t.Fatal("bulk differs")
	}
	st, err := d.Stats()
	t.Logf("%+v %v", st, err)
}

// TestLabFewTXQueues answers connections over an interface that has more queues to
// receive than to send, and refuses to open one that has none to send among those
// that were asked for.
func TestLabFewTXQueues(t *testing.T) {
	l := lab.New(t, lab.Config{Queues: 2, TXQueues: 1})
	err := l.Host.Do(func() error {
		d, err := Open(Config{Interface: lab.HostDevice, Queues: []uint32{1}})
		if err == nil {
			d.Close()
		}
		return err
	})
	if err == nil || !strings.HasPrefix(err.Error(), "netdev: Config.Queues: [1]: ") {
		t.Errorf("a queue that cannot send: %v", err)
	}
	_, s := labStack(t, l, Config{})
	ln, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 7}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echo(ln)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	end, _ := ctx.Deadline()
	for i := range 16 { // half of them would be answered on the other queue
		c, err := l.Peer.Dial(ctx, "tcp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		defer c.Close()
		msg := []byte("there and back")
		if err := c.SetDeadline(end); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(msg); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, msg); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
}

// TestLabTXQueuesFewer has the interface lose a queue to send while it is being opened:
// nothing is sent on that.
func TestLabTXQueuesFewer(t *testing.T) {
	l := lab.New(t, lab.Config{Queues: 2, TXQueues: 1})
	err := l.Host.Do(func() error {
		dev, err := hostif.Lookup(lab.HostDevice)
		if err != nil {
			return err
		}
		dev.TXQueues = 2 // as it was before
		cfg, err := Config{Interface: lab.HostDevice}.withDefaults()
		if err != nil {
			return err
		}
		d, err := open(t.Context(), cfg, dev)
		if err != nil {
			return err
		}
		if len(d.senders) != 1 {
			t.Errorf("%d queues to send on, want 1", len(d.senders))
		}
		return d.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLabOpenContext ends a context while Open waits for the carrier: it fails, and
// leaves nothing. It does not begin with one that has ended.
func TestLabOpenContext(t *testing.T) {
	l := lab.New(t, lab.Config{})
	if err := l.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	late, cancel := context.WithTimeoutCause(t.Context(), linkReturn/10, io.ErrUnexpectedEOF)
	defer cancel()
	err := l.Host.Do(func() error {
		for _, ctx := range []context.Context{ended, late} {
			d, err := OpenContext(ctx, withFlag(Config{Interface: lab.HostDevice}))
			if err == nil {
				d.Close()
			}
			if !errors.Is(err, context.Cause(ctx)) || !errors.Is(err, ctx.Err()) || !strings.Contains(fmt.Sprint(err), lab.HostDevice) {
				t.Errorf("opened with a context that ended: %v", err)
			}
			dev, err := hostif.Lookup(lab.HostDevice)
			if err != nil {
				return err
			}
			if dev.XDP.Mode != hostif.XDPNone {
				t.Errorf("the program is still there: %v", dev.XDP)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	labStack(t, l, Config{}) // the queue is free
}

// TestLabQueuesAdded takes the queues that a driver adds for the program, as
// virtio_net does.
func TestLabQueuesAdded(t *testing.T) {
	l := lab.New(t, lab.Config{Queues: 3})
	err := l.Host.Do(func() error {
		dev, err := hostif.Lookup(lab.HostDevice)
		if err != nil {
			return err
		}
		dev.RXQueues, dev.TXQueues = 1, 1 // as it was before
		steer, sockets, err := take(t.Context(), Config{Interface: lab.HostDevice}, dev)
		if err != nil {
			return err
		}
		if len(sockets) != 3 {
			t.Errorf("%d sockets for 3 queues", len(sockets))
		}
		return giveBack(steer, sockets)
	})
	if err != nil {
		t.Fatal(err)
	}
}
