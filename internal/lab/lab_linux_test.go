package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/hostif"
)

func TestOpen(t *testing.T) {
	l := New(t, Config{Queues: 2, TXQueues: 1, MTU: 3000})
	for _, tc := range []struct {
		n      *Namespace
		rx, tx int
		addrs  []netip.Prefix
	}{
		{l.Host, 2, 1, []netip.Prefix{netip.MustParsePrefix("10.77.0.3/24"), netip.MustParsePrefix("fd77::3/64")}},
		{l.Peer, 2, 2, []netip.Prefix{netip.MustParsePrefix("10.77.0.2/24"), netip.MustParsePrefix("fd77::2/64")}},
	} {
		ifc, err := tc.n.Interface()
		if err != nil {
			t.Fatal(err)
		}
		if ifc.Name != tc.n.Device || ifc.MTU != 3000 || !ifc.Up || !ifc.Running || ifc.RXQueues != tc.rx || ifc.TXQueues != tc.tx {
			t.Errorf("got %+v", ifc)
		}
		err = tc.n.Do(func() error {
			addrs, err := hostif.Addresses(ifc.Index)
			if fmt.Sprint(addrs) != fmt.Sprint(tc.addrs) {
				t.Errorf("%s has addresses %v, want %v", ifc.Name, addrs, tc.addrs)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if l.StackV4.String() != "10.77.0.1/24" || l.StackV6.String() != "fd77::1/64" {
		t.Errorf("stack addresses are %v, %v", l.StackV4, l.StackV6)
	}
}

func TestOpenInvalid(t *testing.T) {
	if l, err := Open(Config{Queues: -1}); err == nil || l != nil {
		t.Errorf("got %v, %v", l, err)
	}
}

func TestTwoLabs(t *testing.T) {
	a, b := New(t, Config{}), New(t, Config{MTU: 2000})
	la, err := a.Peer.Listen("tcp", "10.77.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer la.Close()
	lb, err := b.Peer.Listen("tcp", "10.77.0.2:7") // the same address, elsewhere
	if err != nil {
		t.Fatal(err)
	}
	defer lb.Close()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	for _, lab := range []struct {
		l  *Lab
		at net.Listener
	}{{a, la}, {b, lb}} {
		conn, err := lab.l.Host.Dial(ctx, "tcp", "10.77.0.2:7")
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		accepted, err := lab.at.Accept()
		if err != nil {
			t.Fatal(err)
		}
		accepted.Close()
	}
}

func TestClose(t *testing.T) {
	l := New(t, Config{})
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := l.Host.Do(func() error { t.Error("f was called"); return nil }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Do: got %v, want net.ErrClosed", err)
	}
	if err := l.SetDown(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("SetDown: got %v, want net.ErrClosed", err)
	}
	if _, err := l.Peer.Stats(PeerDevice); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Stats: got %v, want net.ErrClosed", err)
	}
}

func TestDelete(t *testing.T) {
	l := New(t, Config{})
	for range 2 {
		if err := l.Delete(); err != nil {
			t.Error(err)
		}
	}
	for _, n := range []*Namespace{l.Host, l.Peer} {
		if _, err := n.Interface(); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%s: got %v, want ENODEV", n.Device, err)
		}
	}
	if err := l.SetDown(); !errors.Is(err, unix.ENODEV) {
		t.Errorf("SetDown: got %v, want ENODEV", err)
	}
}

func TestChange(t *testing.T) {
	l := New(t, Config{})
	check := func(err error, n *Namespace, up, running bool, mtu int) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		ifc, err := n.Interface()
		if err != nil {
			t.Fatal(err)
		}
		if ifc.Up != up || ifc.Running != running || ifc.MTU != mtu {
			t.Errorf("got %+v, want up %v, running %v, MTU %d", ifc, up, running, mtu)
		}
	}
	check(l.SetMTU(2500), l.Host, true, true, 2500)
	check(nil, l.Peer, true, true, 2500)
	check(l.SetDown(), l.Host, false, false, 2500)
	check(l.SetUp(), l.Host, true, true, 2500)
	check(l.SetCarrier(false), l.Peer, false, false, 2500)
	check(l.SetCarrier(true), l.Host, true, true, 2500)
	if err := l.SetMTU(100); err == nil {
		t.Error("SetMTU 100: got no error")
	}
	roundTrip(t, l, "tcp", l.Host.V6.Addr(), l.Peer) // addresses are there still
	roundTrip(t, l, "udp", l.Peer.V6.Addr(), l.Host)
}

// TestLeaks opens and closes many labs: no descriptor and no thread remains.
func TestLeaks(t *testing.T) {
	Require(t, NetNS)
	const labs = 50
	run := func() {
		for range labs {
			l, err := Open(Config{Queues: 2})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	run() // the runtime keeps threads it once needed; let it have them
	before, threads := descriptors.Open(t), count(t, "/proc/self/task")
	run()
	if left := before.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left after %d labs: %v", labs, left)
	}
	if got := count(t, "/proc/self/task"); got > threads+labs/10 {
		t.Errorf("%d threads before, after %d labs %d", threads, labs, got)
	}
}

func count(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestCloseOnExec checks that no descriptor of an open lab passes to a child.
func TestCloseOnExec(t *testing.T) {
	l := New(t, Config{})
	_ = l
	for fd, target := range descriptors.Open(t) {
		if !strings.HasPrefix(target, "net:") && !strings.HasPrefix(target, "socket:") {
			continue
		}
		info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
		if err != nil {
			continue // closed meanwhile
		}
		var flags uint
		for line := range strings.Lines(string(info)) {
			fmt.Sscanf(line, "flags:\t%o", &flags)
		}
		if flags&unix.O_CLOEXEC == 0 {
			t.Errorf("descriptor %d, %s, is not close-on-exec", fd, target)
		}
	}
}

// TestCarrierSoon takes the carrier away from labs that are new: with it, their
// addresses are in use again.
func TestCarrierSoon(t *testing.T) {
	Require(t, NetNS)
	for range 40 {
		l := New(t, Config{})
		for _, on := range []bool{false, true, false, true} {
			if err := l.SetCarrier(on); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
