//go:build linux && (amd64 || arm64)

package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// newLab makes a lab whose peer knows the MAC address of the process.
func newLab(t *testing.T, cfg lab.Config) *lab.Lab {
	t.Helper()
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, cfg)
	host, err := l.Host.Interface()
	if err == nil {
		err = l.Peer.SetNeighbor(l.StackV4.Addr(), host.MAC)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// exchange sends n datagrams of random length and content from the kernel's sockets
// of the peer, and wants each back.
func exchange(t *testing.T, l *lab.Lab, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := l.Peer.Dial(ctx, "udp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // Read would hang
	random := rand.NewChaCha8([32]byte{1})
	back := make([]byte, 2048)
	for i := range n {
		question := make([]byte, 1+int(random.Uint64()%1400))
		random.Read(question) //nolint:errcheck // never fails
		if _, err := c.Write(question); err != nil {
			t.Fatal(err)
		}
		k, err := c.Read(back)
		if err != nil || !bytes.Equal(back[:k], question) {
			t.Fatalf("datagram %d of %d bytes: %d came back, %v", i, len(question), k, err)
		}
	}
}

// attached returns the id of the program on the lab's interface, 0 if there is none.
func attached(t *testing.T, l *lab.Lab) uint32 {
	t.Helper()
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	return ifc.XDP.ID
}

// maps returns the ids of the BPF maps that a process has descriptors of.
func maps(t *testing.T, pid int) (ids []ebpf.MapID) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // closed meanwhile
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "map_id:"); ok {
				if id, err := strconv.ParseUint(strings.TrimSpace(v), 10, 32); err == nil {
					ids = append(ids, ebpf.MapID(id))
				}
			}
		}
	}
	return ids
}

// closed waits until a process has nothing open that it had not before.
func closed(t *testing.T, pid int, before descriptors.Snapshot) {
	t.Helper()
	lab.Eventually(t, patience, "the helper closes what it had", func() bool {
		return len(before.New(descriptors.OpenIn(t, pid))) == 0
	})
}

// left are the program and the maps of a helper, to see them go.
type left struct {
	program uint32
	maps    []ebpf.MapID
}

func see(t *testing.T, l *lab.Lab, helper *child) left {
	t.Helper()
	is := left{attached(t, l), maps(t, helper.Process.Pid)}
	if is.program == 0 || len(is.maps) == 0 {
		t.Fatalf("while a process has the interface: %+v", is)
	}
	return is
}

// gone waits until the kernel has neither the program nor a map any more, and the
// queue takes another socket.
func (is left) gone(t *testing.T, l *lab.Lab) {
	t.Helper()
	lab.Eventually(t, patience, "the program is off the interface", func() bool { return attached(t, l) == 0 })
	lab.Eventually(t, patience, "the program is gone", func() bool {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(is.program))
		if err == nil {
			p.Close()
		}
		return errors.Is(err, os.ErrNotExist)
	})
	for _, id := range is.maps {
		lab.Eventually(t, patience, fmt.Sprintf("map %d is gone", id), func() bool {
			m, err := ebpf.NewMapFromID(id)
			if err == nil {
				m.Close()
			}
			return errors.Is(err, os.ErrNotExist)
		})
	}
	err := l.Host.Do(func() error {
		s, err := xsk.Open(xsk.Config{Interface: lab.HostDevice, Rings: xsk.RingSizes{RX: 64, TX: 64}, BusyTimeout: patience})
		if err != nil {
			return err
		}
		return s.Close()
	})
	if err != nil {
		t.Errorf("queue 0 afterwards: %v", err)
	}
}

// TestUnprivileged has a process that can do nothing by privilege exchange datagrams
// with the kernel of the peer, on all queues that there are; when it ends, the helper
// has what it had before.
func TestUnprivileged(t *testing.T) {
	for _, queues := range []int{1, 2} {
		t.Run(fmt.Sprint(queues), func(t *testing.T) {
			l := newLab(t, lab.Config{Queues: queues})
			// Huge pages if there are any.
			helper, o := startHelper(t, l, order{HugeOK: true, Huge: umem.HugePagesTry})
			before := descriptors.OpenIn(t, helper.Process.Pid)
			for range 2 {
				c := start(t, l, "nobody", o)
				c.expect(fmt.Sprintf("open %d native", queues))
				is := see(t, l, helper)
				exchange(t, l, 200)
				c.stdin.Close()
				if line := c.expect("redirected"); line != "redirected 200" {
					t.Errorf("%q", line)
				}
				c.stop()
				is.gone(t, l)
				closed(t, helper.Process.Pid, before)
			}
			helper.stop()
			if _, err := os.Stat(o.Path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the helper has ended, its socket: %v", err)
			}
		})
	}
}

// TestKillProcess kills a process that has the interface: nothing is left, and the
// next one gets it.
func TestKillProcess(t *testing.T) {
	l := newLab(t, lab.Config{})
	helper, o := startHelper(t, l, order{})
	before := descriptors.OpenIn(t, helper.Process.Pid)
	for range 3 {
		c := start(t, l, "nobody", o)
		c.expect("open")
		exchange(t, l, 10)
		is := see(t, l, helper)
		c.kill()
		next := start(t, l, "nobody", o) // at once
		next.expect("open")
		exchange(t, l, 10)
		next.kill()
		is.gone(t, l)
		closed(t, helper.Process.Pid, before)
	}
	helper.stop()
}

// TestKillHelper kills the helper: the kernel takes the program off, and the process
// is told.
func TestKillHelper(t *testing.T) {
	l := newLab(t, lab.Config{})
	helper, o := startHelper(t, l, order{})
	c := start(t, l, "nobody", o)
	c.expect("open")
	exchange(t, l, 10)
	is := see(t, l, helper)
	helper.kill()
	c.expect("the helper has gone: ")
	c.stop()
	is.gone(t, l)
	// Its Unix socket is still there. The next helper replaces it.
	again := start(t, l, "helper", o)
	again.expect("serving")
	c = start(t, l, "nobody", o)
	c.expect("open")
	exchange(t, l, 10)
	c.stdin.Close()
	c.expect("redirected 10")
	c.stop()
	again.stop()
}

// TestRefusals are what the helper does not give, and its words.
func TestRefusals(t *testing.T) {
	l := newLab(t, lab.Config{Queues: 2})
	host := l.Host.V4.Addr()
	for _, tc := range []struct {
		name string
		what string
		o    order
		says string
	}{
		{"address", "nobody", order{Claim: []netip.Addr{netip.MustParseAddr("10.77.0.9")}}, "the helper gives [10.77.0.1/32 fd77::1/128]: permission denied (choose one of these"},
		{"host's address", "nobody", order{Allow: []netip.Prefix{netip.PrefixFrom(host, 24).Masked()}, Claim: []netip.Addr{host}}, "the host has it on afx0: address already in use"},
		{"another user", "root", order{}, "user 0 may not have afx0: permission denied"},
		{"listed user only", "nobody", order{Users: []uint32{0}}, "user 65534 may not have afx0: permission denied"},
		{"memory", "nobody", order{Memory: 1 << 20}, "at most 1048576 are allowed"},
		{"queue", "nobody", order{Queues: []uint32{1, 2}}, "queue 2: there are [0 1] to have: permission denied"},
		{"huge pages", "nobody", order{Huge: umem.HugePagesRequire}, "huge pages are not allowed (option -huge-pages of the helper): permission denied"},
		{"no huge pages", "nobody", order{HugeOK: true, Huge: umem.HugePagesRequire}, "cannot allocate memory (reserve huge pages: sysctl vm.nr_hugepages=4)"},
		{"queue twice", "nobody", order{Queues: []uint32{1, 1}}, "queue 1 is named twice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.o.HugeOK && hugePages(t) {
				t.Skip("there are huge pages here")
			}
			helper, o := startHelper(t, l, tc.o)
			c := start(t, l, tc.what, o)
			if line := c.expect("error: "); !strings.Contains(line, tc.says) {
				t.Errorf("%q does not say %q", line, tc.says)
			}
			lab.Eventually(t, patience, "no program is on the interface", func() bool { return attached(t, l) == 0 })
			helper.stop()
		})
	}
}

// hugePages tells whether the machine has free huge pages.
func hugePages(t *testing.T) bool {
	t.Helper()
	for _, name := range []string{"free_hugepages", "nr_overcommit_hugepages"} {
		text, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/" + name)
		if err == nil && strings.TrimSpace(string(text)) != "0" {
			return true
		}
	}
	return false
}

// TestOneAtATime has a second process ask for an interface that another has.
func TestOneAtATime(t *testing.T) {
	l := newLab(t, lab.Config{})
	helper, o := startHelper(t, l, order{Users: []uint32{lab.Nobody, uint32(os.Getuid())}})
	c := start(t, l, "nobody", o)
	c.expect("open")
	exchange(t, l, 10)
	err := l.Host.Do(func() error {
		_, err := Open(Config{Path: o.Path, Socket: xsk.Config{BusyTimeout: -1}})
		return err
	})
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(fmt.Sprint(err), "process "+strconv.Itoa(c.Process.Pid)) {
		t.Errorf("a second process: %v", err)
	}
	exchange(t, l, 10)
	c.stdin.Close()
	c.expect("redirected 20")
	c.stop()
	helper.stop()
}

// TestOtherNamespace opens from a network namespace that the interface is not in.
func TestOtherNamespace(t *testing.T) {
	l := newLab(t, lab.Config{})
	helper, o := startHelper(t, l, order{Users: []uint32{uint32(os.Getuid())}})
	err := l.Peer.Do(func() error {
		_, err := Open(Config{Path: o.Path})
		return err
	})
	if !errors.Is(err, unix.EXDEV) || !strings.Contains(fmt.Sprint(err), "network namespace") {
		t.Error(err)
	}
	lab.Eventually(t, patience, "no program is on the interface", func() bool { return attached(t, l) == 0 })
	helper.stop()
}

// TestAddresses claims and releases, in this process.
func TestAddresses(t *testing.T) {
	l := newLab(t, lab.Config{})
	helper, o := startHelper(t, l, order{Users: []uint32{uint32(os.Getuid())}})
	err := l.Host.Do(func() error {
		set, err := Open(Config{Path: o.Path, Socket: xsk.Config{Interface: lab.HostDevice}})
		if err != nil {
			return err
		}
		if set.Device() != lab.HostDevice || set.Mode() != xsk.AttachNative || set.Err() != nil {
			t.Errorf("%s, %v, %v", set.Device(), set.Mode(), set.Err())
		}
		for _, a := range o.Claim {
			if err := errors.Join(set.AddAddress(a), set.AddAddress(a), set.RemoveAddress(a)); err != nil {
				t.Error(err)
			}
			if err := set.RemoveAddress(a); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("removed twice: %v", err)
			}
		}
		for _, a := range []string{"0.0.0.0", "224.0.0.1", "fd77::1%afx0", "10.77.0.2"} {
			if err := set.AddAddress(netip.MustParseAddr(a)); err == nil {
				t.Errorf("%s is claimed", a)
			}
		}
		if ifc, err := hostif.Lookup(lab.HostDevice); err != nil || ifc.XDP.ID == 0 {
			t.Errorf("%+v, %v", ifc, err)
		}
		if err := set.Detach(); err != nil {
			t.Error(err)
		}
		if id := attached(t, l); id != 0 {
			t.Errorf("program %d is there after Detach", id)
		}
		if _, err := set.Counters(); err != nil || set.Err() != nil {
			t.Errorf("after Detach: %v, %v", err, set.Err())
		}
		if err := set.AddAddress(o.Claim[0]); !errors.Is(err, net.ErrClosed) {
			t.Errorf("AddAddress after Detach: %v", err)
		}
		return errors.Join(set.Close(), set.Close())
	})
	if err != nil {
		t.Error(err)
	}
	helper.stop()
}

// TestGroups joins and leaves multicast groups, in this process: the helper's kernel is
// a member as long as somebody is in them, and the process's sockets get what is sent
// there.
func TestGroups(t *testing.T) {
	l := newLab(t, lab.Config{})
	groups := []netip.Addr{netip.MustParseAddr("239.77.1.2"), netip.MustParseAddr("ff05::77:102")}
	helper, o := startHelper(t, l, order{
		Users:  []uint32{uint32(os.Getuid())},
		Groups: []netip.Prefix{netip.MustParsePrefix("224.0.0.0/4"), netip.MustParsePrefix("ff05::77:0/112")},
	})
	err := l.Host.Do(func() error {
		ifc, err := hostif.Lookup(lab.HostDevice)
		if err != nil {
			return err
		}
		kernel := hostif.OpenGroups(ifc.Index)
		defer kernel.Close()
		member := func(want bool) {
			t.Helper()
			for _, g := range groups {
				if is, err := kernel.Member(g); is != want || err != nil {
					t.Errorf("the kernel in %v: %v, %v, want %v", g, is, err, want)
				}
			}
		}
		set, err := Open(Config{Path: o.Path, Socket: xsk.Config{UMEM: umem.Config{HugePages: umem.HugePagesTry}}})
		if err != nil {
			return err
		}
		defer set.Close()
		if on, err := set.Sockets()[0].Region().HugePages(); on || !errors.Is(err, unix.EINVAL) {
			t.Errorf("huge pages, which the helper does not give: %v, %v", on, err)
		}
		for _, g := range groups {
			if err := errors.Join(set.JoinGroup(g), set.JoinGroup(g), set.LeaveGroup(g)); err != nil {
				t.Error(err)
			}
		}
		member(true)
		c, err := l.Peer.ListenPacket("udp", net.JoinHostPort(l.Peer.V4.Addr().String(), "0"))
		if err != nil {
			return err
		}
		defer c.Close()
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(groups[0], 7))
		if err := l.Peer.AddRoute(netip.PrefixFrom(groups[0], 32), lab.PeerDevice); err != nil {
			return err
		}
		if _, err := c.WriteTo([]byte("to the group"), to); err != nil {
			return err
		}
		s, descs := set.Sockets()[0], make([]umem.Desc, 1)
		lab.Eventually(t, patience, "the datagram to the group", func() bool { return s.RX().Receive(descs) == 1 })
		if b := s.Region().Bytes(descs[0]); !bytes.HasSuffix(b, []byte("to the group")) {
			t.Errorf("%q", b)
		}
		s.RX().Recycle(descs)
		for _, g := range groups {
			if err := set.LeaveGroup(g); err != nil {
				t.Error(err)
			}
			if err := set.LeaveGroup(g); !errors.Is(err, unix.EADDRNOTAVAIL) {
				t.Errorf("left twice: %v", err)
			}
		}
		member(false)
		for group, want := range map[string]error{
			"ff05::78:1":  unix.EACCES,           // the helper does not give it
			"224.0.0.251": errors.ErrUnsupported, // the link's protocols use it
			"10.77.0.1":   unix.EACCES,           // none
		} {
			var op *xsk.OpError
			if err := set.JoinGroup(netip.MustParseAddr(group)); !errors.Is(err, want) || !errors.As(err, &op) || op.Remedy == "" {
				t.Errorf("%s: %v, want %v and what to do", group, err, want)
			}
		}
		for _, g := range groups {
			if err := set.JoinGroup(g); err != nil {
				t.Error(err)
			}
		}
		err = set.Close()
		member(false)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	helper.stop()
}

// TestServerConfig refuses what would not be as it seems.
func TestServerConfig(t *testing.T) {
	ok := ServerConfig{Interface: "eth0", Users: []uint32{1}}
	for field, change := range map[string]func(*ServerConfig){
		"Interface":    func(c *ServerConfig) { c.Interface = "" },
		"Users":        func(c *ServerConfig) { c.Users = nil },
		"Addresses[0]": func(c *ServerConfig) { c.Addresses = make([]netip.Prefix, 1) },
		"the address 10.0.0.5/32, or the network 10.0.0.0/24": func(c *ServerConfig) {
			c.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")}
		},
		"Groups[0]":     func(c *ServerConfig) { c.Groups = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
		"Queues":        func(c *ServerConfig) { c.Queues = make([]uint32, maxQueues+1) },
		"Queues: empty": func(c *ServerConfig) { c.Queues = []uint32{} },
		"Queues[1]":     func(c *ServerConfig) { c.Queues = []uint32{3, 3} },
		"Attach":        func(c *ServerConfig) { c.Attach = xsk.AttachJoin + 1 },
		"MaxMemory":     func(c *ServerConfig) { c.MaxMemory = -1 },
	} {
		c := ok
		change(&c)
		if _, err := c.withDefaults(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if c, err := ok.withDefaults(); err != nil || c.MaxMemory == 0 || c.Log == nil {
		t.Errorf("%+v, %v", c, err)
	}
}
