package steering

import (
	"net/netip"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

// TestLabFollowAgain has the program not take an address of the interface, and take the
// next one: nothing is wrong then.
func TestLabFollowAgain(t *testing.T) {
	_, i := attach(t)
	for _, mac := range []string{"\x01\x00\x5e\x00\x00\x01", string(i.dev.MAC)} {
		i.follow(hostif.Event{Change: hostif.ChangeMAC, State: hostif.State{Present: true, MAC: mac}})
	}
}

// TestLabClaimNarrow claims addresses where the MTU is too small for IPv6 already: that
// is found when the one of IPv6 is claimed.
func TestLabClaimNarrow(t *testing.T) {
	l, i := attach(t)
	i.unwatch() // or it may tell of another MTU
	i.follow(hostif.Event{Change: hostif.ChangeMTU, State: hostif.State{Present: true, MTU: 1000}})
	for _, addr := range []netip.Addr{l.StackV4.Addr(), l.StackV6.Addr()} {
		if err := l.Host.Do(func() error { return i.AddAddress(addr) }); err != nil {
			t.Fatal(err)
		}
		text := ""
		if addr.Is6() {
			text = "has an MTU of 1000 now"
		}
		finds(t, i, xsk.SubjectMTU, text, "ip link set "+lab.HostDevice+" mtu")
	}
}

// TestLabTags has others switch the offload of VLAN tags on again: that is found each
// time, and once.
func TestLabTags(t *testing.T) {
	l, i := attach(t)
	set := func(on bool) {
		t.Helper()
		if err := l.Host.Do(func() error { _, err := hostif.SetOffload(lab.HostDevice, vlanOffload, on); return err }); err != nil {
			t.Fatal(err)
		}
	}
	set(true)
	lab.Eventually(t, 20*time.Second, "finding", func() bool { return len(i.Findings()) > 0 })
	const text, fix = "takes VLAN tags off again", "ethtool -K " + lab.HostDevice + " rxvlan off"
	finds(t, i, xsk.SubjectOffloads, text, fix)
	i.unguard()
	var own *tags
	l.Host.Do(func() error { own = i.openTags(); return nil }) //nolint:errcheck // it returns none
	defer own.close()
	for _, on := range []bool{true, true, false, false, true} {
		before := own.on
		set(on)
		i.findTags(own)
		if on && !before {
			finds(t, i, xsk.SubjectOffloads, text, fix)
		}
		finds(t, i, xsk.SubjectOffloads, "", "")
	}
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	i.findTags(own)
	finds(t, i, xsk.SubjectOffloads, "", "")
}

// attach attaches the program in a lab until the test ends. That Close fails is an error
// of the test.
func attach(t *testing.T) (l *lab.Lab, i *Interface) {
	t.Helper()
	lab.Require(t, lab.NetNS, lab.XDP)
	l = lab.New(t, lab.Config{})
	dev, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	err = l.Host.Do(func() error {
		i, err = Attach(dev, xsk.AttachAuto)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Host.Do(i.Close); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return l, i
}
