package hostif_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// TestGroups joins groups on one of two interfaces, from a thread of another
// namespace.
func TestGroups(t *testing.T) {
	l := lab.New(t, lab.Config{})
	var g, other *hostif.Groups // on the lab's interface and on lo
	err := l.Host.Do(func() error {
		ifc, err := hostif.Lookup(l.Host.Device)
		if err == nil {
			g, other = hostif.OpenGroups(ifc.Index), hostif.OpenGroups(1)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	is := func(g *hostif.Groups, group netip.Addr, want bool) {
		t.Helper()
		if got, err := g.Member(group); got != want || err != nil {
			t.Errorf("Member(%v) = %v, %v, want %v", group, got, err, want)
		}
	}
	for _, group := range []netip.Addr{netip.MustParseAddr("239.77.1.2"), netip.MustParseAddr("ff05::77:102")} {
		is(g, group, false)
		if err := g.Join(group); err != nil {
			t.Fatal(err)
		}
		is(g, group, true)
		is(g, group.Next(), false)
		is(other, group, false)
		if err := g.Join(group); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("Join again: %v, want EADDRINUSE", err)
		}
		if err := g.Leave(group); err != nil {
			t.Error(err)
		}
		is(g, group, false)
		if err := g.Leave(group); !errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Errorf("Leave again: %v, want EADDRNOTAVAIL", err)
		}
		// Close leaves what was not left.
		if err := g.Join(group); err != nil {
			t.Fatal(err)
		}
	}
	is(g, netip.MustParseAddr("224.0.0.1"), true)
	is(g, netip.MustParseAddr("ff02::1"), true)
	for range 2 {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := g.Member(netip.MustParseAddr("224.0.0.1")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Member after Close: %v, want os.ErrClosed", err)
	}
	err = l.Host.Do(func() error {
		ifc, err := hostif.Lookup(l.Host.Device)
		if err == nil {
			g = hostif.OpenGroups(ifc.Index)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	is(g, netip.MustParseAddr("239.77.1.2"), false)
	is(g, netip.MustParseAddr("ff05::77:102"), false)
}
