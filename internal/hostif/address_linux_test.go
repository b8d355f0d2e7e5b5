package hostif_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

func TestAddAddress(t *testing.T) {
	l := lab.New(t, lab.Config{})
	err := l.Host.Do(func() error {
		ifc, err := hostif.Lookup(l.Host.Device)
		if err != nil {
			return err
		}
		before, err := hostif.Addresses(ifc.Index)
		if err != nil {
			return err
		}
		for _, prefix := range []netip.Prefix{l.StackV4, l.StackV6} {
			undo, err := hostif.AddAddress(l.Host.Device, prefix)
			if err != nil {
				return err
			}
			if now, err := hostif.Addresses(ifc.Index); err != nil || !slices.Contains(now, prefix) {
				t.Errorf("after adding %v: %v, %v", prefix, now, err)
			}
			if _, err := hostif.AddAddress(l.Host.Device, prefix); !errors.Is(err, unix.EEXIST) {
				t.Errorf("adding %v again: got %v, want EEXIST", prefix, err)
			}
			for range 2 {
				if err := undo(); err != nil {
					t.Error(err)
				}
			}
		}
		if after, err := hostif.Addresses(ifc.Index); err != nil || !slices.Equal(after, before) {
			t.Errorf("%v, %v afterwards, %v before", after, err, before)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAddAddressGone takes an address off an interface that is gone.
func TestAddAddressGone(t *testing.T) {
	l := lab.New(t, lab.Config{})
	err := l.Host.Do(func() error {
		undo, err := hostif.AddAddress(l.Host.Device, l.StackV4)
		if err != nil {
			return err
		}
		if err := l.Delete(); err != nil {
			return err
		}
		return undo()
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := hostif.AddAddress("afx9", l.StackV4); !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v, want ENODEV", err)
	}
}
