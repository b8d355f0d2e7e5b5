package hostif_test

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// inFilter reports whether the interface's multicast filter has a group.
func inFilter(t *testing.T, n *lab.Namespace, group net.HardwareAddr) bool {
	t.Helper()
	var text []byte
	err := n.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/dev_mcast")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		// index, name, users, global users, address
		if f := strings.Fields(line); len(f) == 5 && f[1] == n.Device && f[4] == strings.ReplaceAll(group.String(), ":", "") {
			return true
		}
	}
	return false
}

func TestJoinMulticast(t *testing.T) {
	l := lab.New(t, lab.Config{})
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	groups := []net.HardwareAddr{{0x33, 0x33, 0xff, 0, 0, 0x77}, {1, 0, 0x5e, 0, 0, 0x77}}
	join := func(index int, groups ...net.HardwareAddr) (close func() error, err error) {
		err = l.Host.Do(func() error {
			c, err := hostif.JoinMulticast(index, groups...)
			if err == nil {
				close = c.Close
			}
			return err
		})
		return close, err
	}

	first, err := join(ifc.Index, groups...)
	if err != nil {
		t.Fatal(err)
	}
	second, err := join(ifc.Index, groups[0])
	if err != nil {
		t.Fatal(err)
	}
	check := func(step string, want ...bool) {
		t.Helper()
		for i, group := range groups {
			if got := inFilter(t, l.Host, group); got != want[i] {
				t.Errorf("%s: %v in filter: %v, want %v", step, group, got, want[i])
			}
		}
	}
	check("joined", true, true)
	for range 2 {
		if err := first(); err != nil {
			t.Error(err)
		}
	}
	check("first closed", true, false)
	if err := second(); err != nil {
		t.Error(err)
	}
	check("both closed", false, false)

	if _, err := join(ifc.Index, net.HardwareAddr{2, 0, 0, 0, 0, 1}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("unicast address: got %v, want EINVAL", err)
	}
	if _, err := join(1<<30, groups...); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no interface: got %v, want ENODEV", err)
	}
	late, err := join(ifc.Index, groups...)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := late(); err != nil {
		t.Errorf("close after the interface: %v", err)
	}
}

func TestSetOffload(t *testing.T) {
	const feature = "tx-checksum-ip-generic"
	l := lab.New(t, lab.Config{Offloads: true})
	set := func(feature string, on bool) (undo func() error, err error) {
		err = l.Peer.Do(func() error {
			undo, err = hostif.SetOffload(lab.PeerDevice, feature, on)
			return err
		})
		return undo, err
	}
	check := func(step string, want bool) {
		t.Helper()
		err := l.Peer.Do(func() error {
			on, err := hostif.FeatureOn(lab.PeerDevice, feature)
			if on != want {
				t.Errorf("%s: on is %v, want %v", step, on, want)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check("new", true)
	undo, err := set(feature, false)
	if err != nil {
		t.Fatal(err)
	}
	check("switched off", false)
	same, err := set(feature, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := same(); err != nil {
		t.Error(err)
	}
	check("no change undone", false)
	for range 2 { // from outside the namespace
		if err := undo(); err != nil {
			t.Error(err)
		}
		check("undone", true)
	}

	if _, err := set("no-such-feature", true); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("unknown feature: got %v", err)
	}
	if _, err := set("rx-all", true); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a feature veth has not: got %v", err)
	}
	late, err := set(feature, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := late(); err != nil {
		t.Errorf("undo after the interface: %v", err)
	}
	if _, err := set(feature, false); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no interface: got %v, want ENODEV", err)
	}
}

// TestSetOffloadRenamed undoes on an interface that has another name by then, while
// another one has the old name.
func TestSetOffloadRenamed(t *testing.T) {
	const feature = "tx-checksum-ip-generic"
	l := lab.New(t, lab.Config{Offloads: true})
	on := func(name string, want bool) {
		t.Helper()
		if got, err := hostif.FeatureOn(name, feature); err != nil || got != want {
			t.Errorf("%s: on is %v, %v, want %v", name, got, err, want)
		}
	}
	err := l.Peer.Do(func() error {
		undo, err := hostif.SetOffload(lab.PeerDevice, feature, false)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName(lab.PeerDevice)
		if err != nil {
			return err
		}
		other := netlink.NewVeth(netlink.NewLinkAttrs())
		other.Name, other.PeerName = lab.PeerDevice, "other0"
		if err := errors.Join(
			netlink.LinkSetDown(link), netlink.LinkSetName(link, "renamed0"), netlink.LinkAdd(other),
		); err != nil {
			return err
		}
		same, err := hostif.SetOffload(lab.PeerDevice, feature, false)
		if err != nil {
			return err
		}
		on("renamed0", false)
		if err := undo(); err != nil {
			return err
		}
		on("renamed0", true)
		on(lab.PeerDevice, false)
		return same()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSetOffloadRefused asks for what the device cannot do, and then for what it
// lacked: nothing remains to be wanted.
func TestSetOffloadRefused(t *testing.T) {
	const segmentation, checksum = "tx-tcp-segmentation", "tx-checksum-ip-generic"
	l := lab.New(t, lab.Config{}) // without either
	err := l.Host.Do(func() error {
		if _, err := hostif.SetOffload(lab.HostDevice, segmentation, true); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("segmentation without checksums: %v", err)
		}
		if _, err := hostif.SetOffload(lab.HostDevice, checksum, true); err != nil {
			return err
		}
		on, err := hostif.FeatureOn(lab.HostDevice, segmentation)
		if on {
			t.Error("what was refused has come with the checksums")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSetCombined asks veth, which has no combined channels: the guest of package
// vmtest tests it on devices that have.
func TestSetCombined(t *testing.T) {
	l := lab.New(t, lab.Config{})
	err := l.Host.Do(func() error {
		_, err := hostif.SetCombined(lab.HostDevice, 2)
		return err
	})
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("two combined channels on veth: %v", err)
	}
	if _, err := hostif.SetCombined("no-such-device", 1); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no such device: %v", err)
	}
}
