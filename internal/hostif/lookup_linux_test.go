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

// TestSysfsQueues checks that sysfs is believed only where it shows the same
// interface.
func TestSysfsQueues(t *testing.T) {
	ifc := hostif.Interface{Name: "eth7", Index: 7, MAC: []byte{2, 0, 0, 0, 0, 7}}
	root := t.TempDir()
	for _, dir := range []string{"rx-0", "rx-1", "tx-0"} {
		if err := os.MkdirAll(filepath.Join(root, "eth7/queues", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name, index, mac string
		ok               bool
	}{
		{"same", "7\n", "02:00:00:00:00:07\n", true},
		{"other index", "8\n", "02:00:00:00:00:07\n", false},
		{"other address", "7\n", "02:00:00:00:00:08\n", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for file, text := range map[string]string{"ifindex": tc.index, "address": tc.mac} {
				if err := os.WriteFile(filepath.Join(root, "eth7", file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			rx, tx, ok := hostif.SysfsQueues(ifc, root)
			if ok != tc.ok || ok && (rx != 2 || tx != 1) {
				t.Errorf("got %d, %d, %v", rx, tx, ok)
			}
		})
	}
	if _, _, ok := hostif.SysfsQueues(ifc, t.TempDir()); ok {
		t.Error("an empty root was believed")
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
