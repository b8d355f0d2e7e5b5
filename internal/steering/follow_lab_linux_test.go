package steering

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

// TestLabFollowAgain has the program not take an address of the interface, and take the
// next one: nothing is wrong then.
func TestLabFollowAgain(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	dev, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	var i *Interface
	err = l.Host.Do(func() error {
		i, err = Attach(dev, xsk.AttachAuto)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, mac := range []string{"\x01\x00\x5e\x00\x00\x01", string(dev.MAC)} {
		i.follow(hostif.Event{Change: hostif.ChangeMAC, State: hostif.State{Present: true, MAC: mac}})
	}
	if err := l.Host.Do(i.Close); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestLabClaimNarrow claims addresses where the MTU is too small for IPv6 already: that
// is found when the one of IPv6 is claimed.
func TestLabClaimNarrow(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	dev, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	var i *Interface
	err = l.Host.Do(func() error {
		if i, err = Attach(dev, xsk.AttachAuto); err != nil {
			return err
		}
		i.unwatch() // or it may tell of another MTU
		i.follow(hostif.Event{Change: hostif.ChangeMTU, State: hostif.State{Present: true, MTU: 1000}})
		for _, addr := range []netip.Addr{l.StackV4.Addr(), l.StackV6.Addr()} {
			if err := i.AddAddress(addr); err != nil {
				return errors.Join(err, i.Close())
			}
			text := ""
			if addr.Is6() {
				text = "has an MTU of 1000 now"
			}
			finds(t, i, xsk.SubjectMTU, text, "ip link set "+lab.HostDevice+" mtu")
		}
		return i.Close()
	})
	if err != nil {
		t.Error(err)
	}
}
