package hostif_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// TestLookupLoopback needs no privileges.
func TestLookupLoopback(t *testing.T) {
	lo, err := hostif.Lookup("lo")
	if err != nil {
		t.Fatal(err)
	}
	if lo.Name != "lo" || lo.Index != 1 || !lo.Up || !lo.Running || lo.MTU != 65536 || lo.RXQueues != 1 || lo.TXQueues != 1 || lo.XDP.Mode != hostif.XDPNone {
		t.Errorf("got %+v", lo)
	}
	addrs, err := hostif.Addresses(lo.Index)
	if err != nil || len(addrs) == 0 || addrs[0] != netip.MustParsePrefix("127.0.0.1/8") {
		t.Errorf("got %v, %v", addrs, err)
	}
	if stats, err := hostif.DriverStats("lo"); err != nil || len(stats) != 0 {
		t.Errorf("got %v, %v", stats, err)
	}
}

func TestLookupMissing(t *testing.T) {
	for _, name := range []string{"afx9", "a-name-too-long-for-the-kernel", ""} {
		_, err := hostif.Lookup(name)
		if err == nil || !strings.Contains(err.Error(), strconv.Quote(name)) {
			t.Errorf("%q: got %v", name, err)
		}
		if name != "" && (!errors.Is(err, unix.ENODEV) || !strings.Contains(err.Error(), "lo")) {
			t.Errorf("%q: got %v, want ENODEV and the interfaces there are", name, err)
		}
	}
	if _, err := hostif.Addresses(1 << 30); !errors.Is(err, unix.ENODEV) {
		t.Errorf("Addresses: got %v, want ENODEV", err)
	}
	if _, err := hostif.DriverStats("afx9"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("DriverStats: got %v, want ENODEV", err)
	}
}

func TestLookupQueues(t *testing.T) {
	for _, queues := range []struct{ host, peer int }{{1, 1}, {2, 1}, {4, 3}} {
		l := lab.New(t, lab.Config{Queues: queues.host, PeerQueues: queues.peer})
		for n, want := range map[*lab.Namespace]int{l.Host: queues.host, l.Peer: queues.peer} {
			ifc, err := n.Interface()
			if err != nil {
				t.Fatal(err)
			}
			if ifc.RXQueues != want || ifc.TXQueues != want || ifc.Combined != 0 || ifc.Driver != "veth" || len(ifc.MAC) != 6 {
				t.Errorf("got %+v, want %d queues", ifc, want)
			}
		}
	}
}

// sysfsQueues makes a directory of queues below root, as sysfs has them.
func sysfsQueues(t *testing.T, root, name string, queues ...string) {
	t.Helper()
	for _, q := range queues {
		if err := os.MkdirAll(filepath.Join(root, name, "queues", q), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSysfsQueues checks that sysfs is believed only where it shows the same
// interface.
func TestSysfsQueues(t *testing.T) {
	ifc := hostif.Interface{Name: "eth7", Index: 7, MAC: []byte{2, 0, 0, 0, 0, 7}}
	root := t.TempDir()
	sysfsQueues(t, root, ifc.Name, "rx-0", "rx-1", "tx-0")
	for _, tc := range []struct {
		name, index, mac string
		rx, tx           int
	}{
		{"same", "7\n", "02:00:00:00:00:07\n", 2, 1},
		{"other index", "8\n", "02:00:00:00:00:07\n", 0, 0},
		{"other address", "7\n", "02:00:00:00:00:08\n", 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for file, text := range map[string]string{"ifindex": tc.index, "address": tc.mac} {
				if err := os.WriteFile(filepath.Join(root, ifc.Name, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if rx, tx := hostif.SysfsQueues(ifc, root); rx != tc.rx || tx != tc.tx {
				t.Errorf("got %d, %d", rx, tx)
			}
		})
	}
	if rx, tx := hostif.SysfsQueues(ifc, t.TempDir()); rx != 0 || tx != 0 {
		t.Error("an empty root was believed")
	}
}

// TestLookupMounted counts the queues of a device whose driver tells of no channels, in a
// network namespace that /sys is not of: by a sysfs of its own, not by what is allocated.
func TestLookupMounted(t *testing.T) {
	l := lab.New(t, lab.Config{})
	none := t.TempDir()
	err := l.Host.Do(func() error {
		lo, err := hostif.Lookup("lo")
		if err != nil {
			return err
		}
		before := descriptors.Open(t)
		if err := hostif.CountQueuesOf(&lo, 7, none); err != nil {
			return err
		}
		if lo.RXQueues != 1 || lo.TXQueues != 1 {
			t.Errorf("%d and %d queues, want 1", lo.RXQueues, lo.TXQueues)
		}
		if left := before.New(descriptors.Open(t)); len(left) > 0 {
			t.Errorf("descriptors that are left: %v", left)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestLookupSysfs counts queues in sysfs, which knows of those that are for
// receiving only, and may not show those for receiving.
func TestLookupSysfs(t *testing.T) {
	root := t.TempDir()
	for _, tc := range []struct {
		add    []string
		rx, tx int
	}{{nil, 1, 1}, {[]string{"tx-0", "tx-1"}, 1, 2}, {[]string{"rx-0", "rx-1", "rx-2"}, 3, 2}} {
		sysfsQueues(t, root, "lo", tc.add...)
		if tc.add != nil {
			if err := os.WriteFile(filepath.Join(root, "lo/ifindex"), []byte("1\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		ifc, err := hostif.LookupBelow(root, "lo")
		if err != nil || ifc.RXQueues != tc.rx || ifc.TXQueues != tc.tx {
			t.Errorf("with %v: got %+v, %v", tc.add, ifc, err)
		}
	}
}

func TestHolder(t *testing.T) {
	l := lab.New(t, lab.Config{})
	added := netip.MustParsePrefix("10.77.9.9/32")
	if err := l.Host.AddAddress(added); err != nil {
		t.Fatal(err)
	}
	err := l.Host.Do(func() error {
		for addr, want := range map[netip.Addr]string{
			l.Host.V4.Addr():                   lab.HostDevice,
			l.Host.V6.Addr():                   lab.HostDevice,
			added.Addr():                       lab.HostDevice,
			netip.MustParseAddr("127.0.0.1"):   "lo",
			netip.MustParseAddr("::1"):         "lo",
			l.StackV4.Addr():                   "",
			l.StackV6.Addr():                   "",
			l.Peer.V4.Addr():                   "",
			netip.MustParseAddr("10.77.0.255"): "",
		} {
			if got, err := hostif.Holder(addr); err != nil || got != want {
				t.Errorf("%v: %q, %v, want %q", addr, got, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
