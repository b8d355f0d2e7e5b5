package netdev

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

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

func TestLabTCP(t *testing.T) {
	l := lab.New(t, lab.Config{})
	d, s := labStack(t, l, Config{})
	ln, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 7}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
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
