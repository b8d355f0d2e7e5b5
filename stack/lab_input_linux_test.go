package stack_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
)

// TestLabBadInput has what can be wrong with the interface and the addresses:
// each is an error that says what, and what to do, and leaves nothing behind.
func TestLabBadInput(t *testing.T) {
	for _, tc := range []struct {
		name    string
		lab     lab.Config
		cfg     stack.Config
		prepare func(t *testing.T, l *lab.Lab)
		want    []error
		text    []string
	}{
		{
			name: "no such interface",
			cfg:  stack.Config{Interface: "eth7"},
			want: []error{syscall.ENODEV},
			text: []string{"eth7", "there are: afx0, lo"},
		},
		{
			name:    "interface down",
			prepare: func(t *testing.T, l *lab.Lab) { check(t, l.SetDown()) },
			want:    []error{syscall.ENETDOWN},
			text:    []string{"afx0", "ip link set"},
		},
		{
			name: "MTU too large for the chunk",
			lab:  lab.Config{MTU: 3000},
			cfg:  withChunk(2048, xsk.MultiBufferOff),
			want: []error{syscall.EINVAL},
			text: []string{"MTU 3000", "chunk of 2048 bytes", "4096"},
		},
		{
			name: "MTU too large for 17 chunks",
			lab:  lab.Config{MTU: 40000},
			cfg:  withChunk(2048, xsk.MultiBufferAuto),
			want: []error{syscall.EINVAL},
			text: []string{"afx0", "MTU 40000", "MTU of 34798"},
		},
		{
			name: "MTU too large",
			lab:  lab.Config{MTU: 65535},
			text: []string{"afx0", "MTU 65535", "to 65517"},
		},
		{
			name: "queue out of range",
			lab:  lab.Config{Queues: 2},
			cfg:  withQueues(2),
			want: []error{syscall.EINVAL},
			text: []string{"queue 2", "0 to 1"},
		},
		{
			name: "queue twice",
			cfg:  withQueues(0, 0),
			text: []string{"Config.Queues[1]", "twice"},
		},
		{
			name:    "queue busy",
			prepare: takeQueue,
			want:    []error{syscall.EBUSY},
			text:    []string{"queue 0", "another AF_XDP socket has this queue"},
		},
		{
			name:    "foreign program",
			prepare: attachProgram,
			want:    []error{syscall.EBUSY},
			text:    []string{"afxnet_steer", "is there", "not replaced", "stop the process that attached it"},
		},
		{
			name:    "second stack",
			prepare: func(t *testing.T, l *lab.Lab) { openIn(t, l, stack.Config{}) },
			want:    []error{syscall.EBUSY},
			text:    []string{"is there", "not replaced"},
		},
		{
			name: "address of the host, IPv4",
			cfg:  withAddress("10.77.0.3/24"),
			want: []error{syscall.EADDRINUSE},
			text: []string{"10.77.0.3", "the host has it on afx0", "take this one from afx0"},
		},
		{
			name: "address of the host, IPv6",
			cfg:  withAddress("fd77::3/64"),
			want: []error{syscall.EADDRINUSE},
			text: []string{"fd77::3", "the host has it on afx0"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			lab.Require(t, lab.NetNS, lab.XDP)
			l := lab.New(t, tc.lab)
			if tc.prepare != nil {
				tc.prepare(t, l)
			}
			wantRefused(t, l, tc.cfg, tc.want, tc.text)
		})
	}
}

// wantRefused wants an error, and nothing else.
func wantRefused(t *testing.T, l *lab.Lab, cfg stack.Config, want []error, text []string) {
	t.Helper()
	wantRefusedOnce(t, l, cfg, 1, want, text)
}

// wantRefusedOnce is wantRefused for what a stall of the machine can let through: it
// wants one of so many tries to be refused.
func wantRefusedOnce(t *testing.T, l *lab.Lab, cfg stack.Config, tries int, want []error, text []string) {
	t.Helper()
	xdp, before := attached(t, l), descriptors.Open(t)
	s, err := tryOpen(l, cfg)
	for try := 1; err == nil && try < tries; try++ {
		t.Logf("try %d: not refused", try)
		check(t, s.Close())
		s, err = tryOpen(l, cfg)
	}
	if err == nil {
		s.Close()
		t.Fatal("Open succeeded")
	}
	t.Log(err)
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%v: not %v", err, w)
		}
	}
	for _, w := range text {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: does not say %q", err, w)
		}
	}
	if after := attached(t, l); after != xdp {
		t.Errorf("XDP on the interface before %+v, after %+v", xdp, after)
	}
	if left := before.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func withChunk(size int, several xsk.MultiBuffer) (cfg stack.Config) {
	cfg.Device.MultiBuffer = several
	cfg.Device.UMEM.ChunkSize = size
	return cfg
}

func withQueues(queues ...uint32) (cfg stack.Config) {
	cfg.Device.Queues = queues
	return cfg
}

func withAddress(p string) stack.Config {
	return stack.Config{Addresses: []netip.Prefix{netip.MustParsePrefix(p)}}
}

func attached(t *testing.T, l *lab.Lab) hostif.XDP {
	t.Helper()
	ifc, err := l.Host.Interface()
	check(t, err)
	return ifc.XDP
}

// takeQueue has a socket on queue 0 that is not the stack's.
func takeQueue(t *testing.T, l *lab.Lab) {
	t.Helper()
	err := l.Host.Do(func() error {
		s, err := xsk.Open(xsk.Config{Interface: lab.HostDevice})
		if err == nil {
			t.Cleanup(func() { check(t, s.Close()) })
		}
		return err
	})
	check(t, err)
}

// attachProgram has a program on the interface that is not the stack's.
func attachProgram(t *testing.T, l *lab.Lab) {
	t.Helper()
	err := l.Host.Do(func() error {
		p, err := xsk.LoadProgram(xsk.ProgramConfig{Interface: lab.HostDevice, Queues: 1})
		if err != nil {
			return err
		}
		t.Cleanup(func() { check(t, p.Close()) })
		return p.Attach()
	})
	check(t, err)
}

// TestLabDuplicateAddress has another host on the link with the stack's
// address: the check finds it, and names it.
func TestLabDuplicateAddress(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	peer, err := l.Peer.Interface()
	check(t, err)
	kernelEcho(t, l.Peer, 7)
	kernelEcho(t, l.Host, 7)
	for _, p := range []netip.Prefix{l.Peer.V4, l.Peer.V6} {
		t.Run(p.String(), func(t *testing.T) {
			// Other addresses are free; they must not be the answer.
			cfg := stack.Config{Addresses: []netip.Prefix{l.StackV4, p, l.StackV6}}
			// An answer has to be received within 200 ms.
			wantRefusedOnce(t, l, cfg, 3, []error{syscall.EADDRINUSE}, []string{p.Addr().String(), peer.MAC.String(), "afx0"})
			// The owner was not disturbed.
			if err := reach(l.Host, "tcp", hostPort(p.Addr(), 7), patience); err != nil {
				t.Errorf("the address's owner: %v", err)
			}
			cfg.NoDuplicateCheck = true
			s, err := tryOpen(l, cfg)
			if err != nil {
				t.Fatalf("NoDuplicateCheck: %v", err)
			}
			check(t, s.Close())
		})
	}
	// Nobody has the stack's own.
	s, err := tryOpen(l, stack.Config{Addresses: []netip.Prefix{l.StackV4, l.StackV6}})
	if err != nil {
		t.Fatal(err)
	}
	serveEcho(t, s, 7)
	for _, f := range families(l) {
		if err := reach(l.Peer, "tcp", hostPort(f.stack, 7), patience); err != nil {
			t.Error(err)
		}
	}
	check(t, s.Close())
}

// TestLabDuplicateCheckDown has no link to ask: the stack starts, and works when
// the link comes.
func TestLabDuplicateCheckDown(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	check(t, l.SetCarrier(false))
	s := openIn(t, l, stack.Config{Addresses: []netip.Prefix{l.StackV4, l.StackV6}})
	check(t, l.SetCarrier(true))
	s.works(t)
}

// inChild runs TestLabChild with fewer privileges than this process has:
// capabilities and limits can be given up, but not got back.
func inChild(t *testing.T, what string) {
	t.Helper()
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	err := l.Host.Do(func() error {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLabChild$", "-test.v")
		cmd.Env = append(os.Environ(), childEnv+"="+what)
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		if err == nil && !strings.Contains(string(out), "--- PASS: TestLabChild") {
			err = errors.New("the child did not run its test")
		}
		return err
	})
	check(t, err)
	if xdp := attached(t, l); xdp != (hostif.XDP{}) {
		t.Errorf("left on the interface: %+v", xdp)
	}
}

func TestLabNoPrivileges(t *testing.T)      { inChild(t, "no privileges") }
func TestLabNoRawPrivilege(t *testing.T)    { inChild(t, "no CAP_NET_RAW") }
func TestLabMemoryLimit(t *testing.T)       { inChild(t, "memory limit") }
func TestLabEnoughPrivileges(t *testing.T)  { inChild(t, "capabilities only") }
func TestLabEnoughUnderALimit(t *testing.T) { inChild(t, "small enough") }

func TestLabChild(t *testing.T) {
	cfg := stack.Config{
		Interface:        lab.HostDevice,
		Addresses:        []netip.Prefix{netip.MustParsePrefix("10.77.0.1/24"), netip.MustParsePrefix("fd77::1/64")},
		NoDuplicateCheck: true,
	}
	limit := func(bytes uint64) {
		check(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: bytes, Max: bytes}))
	}
	var want error
	var text []string
	switch child() {
	case "no privileges":
		lab.KeepCapabilities(t)
		want, text = os.ErrPermission, []string{"CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"}
	case "no CAP_NET_RAW":
		lab.KeepCapabilities(t, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON)
		want, text = os.ErrPermission, []string{"CAP_NET_RAW"}
	case "memory limit":
		limit(64 << 10)
		lab.KeepCapabilities(t, unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON)
		want, text = syscall.ENOBUFS, []string{"RLIMIT_MEMLOCK", "ulimit -l", "CAP_IPC_LOCK", "KiB"}
	case "capabilities only":
		lab.KeepCapabilities(t, unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_IPC_LOCK)
	case "small enough":
		limit(1 << 20)
		lab.KeepCapabilities(t, unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF)
		cfg.Device.Rings = xsk.RingSizes{RX: 64, TX: 64}
		cfg.Device.UMEM.Chunks = 192
	default:
		return // the tests above run it as a child
	}
	before := descriptors.Open(t)
	s, err := stack.Open(cfg)
	if want == nil {
		if err != nil {
			t.Fatal(err)
		}
		check(t, s.Close())
		return
	}
	if err == nil {
		t.Fatal("Open succeeded")
	}
	t.Log(err)
	if !errors.Is(err, want) {
		t.Errorf("%v: not %v", err, want)
	}
	for _, w := range text {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v: does not say %q", err, w)
		}
	}
	if left := before.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
}
