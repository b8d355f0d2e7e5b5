//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// attachObject has somebody else load ProgramObject and attach what is in it.
func attachObject(t *testing.T, l *lab.Lab, change func(*ebpf.CollectionSpec)) *ebpf.Collection {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(ProgramObject()))
	if err != nil {
		t.Fatal(err)
	}
	delete(spec.Programs, "afxnet_verdict")
	if change != nil {
		change(spec)
	}
	c, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	attachProgram(t, l, c.Programs[steerName], link.XDPDriverMode)
	return c
}

// keys counts the entries of a hash table.
func keys(t *testing.T, m *ebpf.Map) (n int) {
	t.Helper()
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	it := m.Iterate()
	for it.Next(&key, &value) {
		n++
	}
	if err := it.Err(); err != nil {
		t.Error(err)
	}
	return n
}

// TestJoin exchanges packets through the program that somebody else has attached,
// takes its maps over from a process that died, and leaves them empty.
func TestJoin(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	theirs := attachObject(t, l, nil)
	before := labState(t, l)
	if err := theirs.Maps["addr4"].Put([]byte{192, 0, 2, 1}, addrOwn); err != nil { // a dead process's
		t.Fatal(err)
	}

	p := attachInLab(t, l, AttachJoin)
	cfg := p.Config()
	if p.ID() != before.native || p.Mode() != AttachNative || cfg.Queues != 256 || cfg.MaxAddresses != 1024 {
		t.Errorf("program %d of %+v in mode %v, %+v", p.ID(), before, p.Mode(), cfg)
	}
	if n := keys(t, theirs.Maps["addr4"]); n != 1 {
		t.Errorf("%d IPv4 addresses, want ours alone", n)
	}
	s := mustOpen(t, l, small(Config{}))
	s.RX().Refill()
	if err := p.AddSocket(0, s.FD()); err != nil {
		t.Fatal(err)
	}
	testVeth(t, l, s)
	if c, err := p.Counters(); err != nil || c.RedirectIPv4 == 0 {
		t.Errorf("counters %+v, %v", c, err)
	}
	own := etherFrame(cfg.MAC, typeIPv4, ipv4Packet(l.StackV4.Addr(), protoUDP, 0, nil, make([]byte, 26)))
	if v, err := p.Test(own); v != RedirectIPv4 || err != nil {
		t.Errorf("Test: %v, %v", v, err)
	}

	// One at a time, and the second one does no harm.
	if _, err := loadInLab(l, AttachJoin); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), "one process at a time") {
		t.Errorf("a second one: %v", err)
	}
	if got := p.Addresses(); len(got) != 2 || keys(t, theirs.Maps["addr4"]) != 1 {
		t.Errorf("after a second one: %v", got)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if n := keys(t, theirs.Maps["addr4"]) + keys(t, theirs.Maps["addr6"]); n != 0 {
		t.Errorf("%d addresses after Close", n)
	}
	if got := labState(t, l); got != before {
		t.Errorf("after Close %+v is attached, want %+v", got, before)
	}
	p, err := loadInLab(l, AttachJoin)
	if err != nil {
		t.Fatalf("again: %v", err)
	}
	if err := p.AddSocket(0, s.FD()); err != nil { // its place is free
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// TestLockTaken attaches where somebody, who needs no privilege for that, has taken the
// name by which others see that the program is in use.
func TestLockTaken(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	p, err := loadInLab(l, AttachNative)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = l.Host.Do(func() error {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("@%s-%d", steerName, p.ID())}); err != nil {
			return err
		}
		return p.Attach()
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := labState(t, l); got.native != p.ID() {
		t.Errorf("attached: %+v, want program %d", got, p.ID())
	}
}

// TestJoinErrors finds nothing, something else, another version, or may not look.
func TestJoinErrors(t *testing.T) {
	lab.Require(t, lab.XDP)
	for _, tc := range []struct {
		name    string
		prepare func(*testing.T, *lab.Lab)
		caps    uint64
		is      error
		says    []string
	}{
		{name: "nothing", is: os.ErrNotExist, says: []string{"no program is there", "xdp-loader load -n afxnet_steer afx0"}},
		{name: "foreign", prepare: func(t *testing.T, l *lab.Lab) { attachForeign(t, l, link.XDPDriverMode) },
			is: os.ErrNotExist, says: []string{`"foreign_prog" is there`}},
		{name: "an empty dispatcher", prepare: func(t *testing.T, l *lab.Lab) { attachNamed(t, l, dispatcherName, link.XDPDriverMode) },
			is: os.ErrNotExist, says: []string{"dispatcher runs no programs"}},
		{name: "only its name", prepare: func(t *testing.T, l *lab.Lab) { attachNamed(t, l, steerName, link.XDPDriverMode) },
			is: errors.ErrUnsupported, says: []string{`has no map "xsks"`}},
		{name: "another version", prepare: func(t *testing.T, l *lab.Lab) {
			attachObject(t, l, func(spec *ebpf.CollectionSpec) {
				ins := spec.Programs[steerName].Instructions
				for i := range ins {
					if ins[i].Constant == 4 && ins[i].OpCode.Class().IsALU() { // some 4 becomes a 6
						ins[i].Constant = 6
						return
					}
				}
				t.Fatal("nothing to change")
			})
		}, is: errors.ErrUnsupported, says: []string{"tag"}},
		{name: "no capability", prepare: func(t *testing.T, l *lab.Lab) { attachObject(t, l, nil) },
			caps: 1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN, is: os.ErrPermission, says: []string{"CAP_SYS_ADMIN"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := lab.New(t, lab.Config{})
			if tc.prepare != nil {
				tc.prepare(t, l)
			}
			before := bpfDescriptors(t)
			load := func() error {
				p, err := LoadProgram(ProgramConfig{Interface: lab.HostDevice, Mode: AttachJoin})
				if err == nil {
					p.Close()
				}
				return err
			}
			err := l.Host.Do(load)
			if tc.caps != 0 {
				err = withCapabilities(l.Host, tc.caps, load)
			}
			var op *OpError
			if !errors.Is(err, tc.is) || !errors.As(err, &op) || op.Op != "join program" {
				t.Errorf("%v, want %v", err, tc.is)
			}
			for _, want := range tc.says {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
			if left := before.New(bpfDescriptors(t)); len(left) > 0 {
				t.Errorf("BPF descriptors that are left: %v", left)
			}
		})
	}
}

// TestJoinGone has the program go between the two steps.
func TestJoinGone(t *testing.T) {
	lab.Require(t, lab.XDP)
	l := lab.New(t, lab.Config{})
	own := attachInLab(t, l, AttachNative)
	if _, err := loadInLab(l, AttachJoin); !errors.Is(err, unix.EBUSY) || len(own.Addresses()) != 2 {
		t.Errorf("joining a Program that is its process's own: %v", err)
	}
	// As if that had not locked it.
	if err := own.lock.Close(); err != nil {
		t.Fatal(err)
	}
	own.lock = nil
	p, err := loadInLab(l, AttachJoin)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Host.Do(p.Attach); !errors.Is(err, os.ErrNotExist) || p.Mode() != AttachAuto {
		t.Errorf("Attach: %v, mode %v", err, p.Mode())
	}
	if err := p.AddAddress(netip.MustParseAddr("192.0.2.2")); err != nil {
		t.Error(err)
	}
}

// TestDispatcherPriorities reads the configuration of libxdp's dispatcher.
func TestDispatcherPriorities(t *testing.T) {
	config := make([]byte, dispatcherConfig)
	config[0], config[1], config[2] = dispatcherMagic, dispatcherVersion, 2
	config[dispatcherPrios], config[dispatcherPrios+4], config[dispatcherPrios+5] = 10, 50, 1
	if got := parsePriorities(config); len(got) != 2 || got[0] != 10 || got[1] != 306 {
		t.Errorf("%v", got)
	}
	for _, change := range []func([]byte) []byte{
		func(b []byte) []byte { return b[:len(b)-1] },
		func(b []byte) []byte { b[0]++; return b },
		func(b []byte) []byte { b[1]++; return b },
		func(b []byte) []byte { b[2] = dispatcherPlaces + 1; return b },
		func(b []byte) []byte { return nil },
	} {
		if got := parsePriorities(change(bytes.Clone(config))); got != nil {
			t.Errorf("%v", got)
		}
	}
	if s := describeComponents([]component{{id: 1, name: "filter", prio: 10}, {id: 2, name: "count", prio: -1}}); s != `1 "filter" at priority 10, 2 "count"` {
		t.Error(s)
	}
}
