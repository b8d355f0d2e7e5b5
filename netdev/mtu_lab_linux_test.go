package netdev

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

// TestLabMTUShrinks makes the MTU of both ends smaller while a connection is there:
// it goes on.
func TestLabMTUShrinks(t *testing.T) {
	const size, mtu = 1 << 20, 1280
	l := lab.New(t, lab.Config{})
	d, s := labStack(t, l, Config{})
	ln, err := gonet.ListenTCP(s, tcpip.FullAddress{Port: 7}, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	data := pattern(1, size)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			c.Write(data)
		}
	}()
	c, err := l.Peer.Dial(context.Background(), "tcp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	end := time.Now().Add(20 * time.Second)
	if err := c.SetDeadline(end); err != nil {
		t.Fatal(err)
	}
	if err := l.SetMTU(mtu); err != nil {
		t.Fatal(err)
	}
	for d.MTU() != mtu {
		if time.Now().After(end) {
			t.Fatalf("the device has an MTU of %d, its interface %d", d.MTU(), mtu)
		}
		runtime.Gosched()
	}
	if _, err := c.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, size)
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, or others: %v", n, size, err)
	}
}

// TestLabMTUNarrow gives the interface an MTU below what the device can do: it says so
// and is down for as long.
func TestLabMTUNarrow(t *testing.T) {
	l := lab.New(t, lab.Config{})
	told := make(chan error, 100)
	d, _ := labStack(t, l, Config{OnLink: func(err error) { told <- err }})
	set := func(mtu uint32) {
		t.Helper()
		if err := l.Host.Do(func() error { return setMTU(lab.HostDevice, mtu) }); err != nil {
			t.Fatal(err)
		}
	}
	late := time.After(20 * time.Second)
	next := func() error {
		t.Helper()
		select {
		case err := <-told:
			return err
		case <-late:
			t.Fatal("OnLink was not told")
			return nil
		}
	}
	for _, back := range []int{minMTU, 1500} {
		set(minMTU - 1)
		checkNarrow(t, next(), "575")
		checkNarrow(t, d.LinkErr(), "575")
		set(uint32(back))
		if err := next(); err != nil || d.MTU() != back {
			t.Errorf("back at %d: MTU %d, %v", back, d.MTU(), err)
		}
	}
}

// TestLabMTUBelowIPv6 gives the interface an MTU that is too small for IPv6: the device
// says so each time.
func TestLabMTUBelowIPv6(t *testing.T) {
	l := lab.New(t, lab.Config{})
	found := make(chan xsk.Finding, 100)
	labStack(t, l, Config{OnFinding: func(f xsk.Finding) { found <- f }})
	for _, mtu := range []uint32{1279, 1280, 1278} {
		if err := l.Host.Do(func() error { return setMTU(lab.HostDevice, mtu) }); err != nil {
			t.Fatal(err)
		}
		if mtu >= 1280 {
			continue
		}
		select {
		case f := <-found:
			if f.Subject != xsk.SubjectMTU || !strings.Contains(f.Text, fmt.Sprintf("%s has an MTU of %d now", lab.HostDevice, mtu)) {
				t.Errorf("MTU %d: %v", mtu, f)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("MTU %d: OnFinding was not told", mtu)
		}
	}
}

// checkNarrow wants the error of an interface whose MTU is too small.
func checkNarrow(t *testing.T, err error, mtu string) {
	t.Helper()
	if !errors.Is(err, syscall.ENETDOWN) || errors.Is(err, syscall.ENODEV) || errors.Is(err, ErrNoCarrier) || !strings.Contains(err.Error(), "an MTU of "+mtu) {
		t.Errorf("%v, want ENETDOWN and the MTU, for now", err)
	}
}

// setMTU changes one end only, and goes lower than the lab does.
func setMTU(device string, mtu uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	ifr.SetUint32(mtu)
	return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, ifr)
}
