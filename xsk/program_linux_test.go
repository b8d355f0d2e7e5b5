//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/lab"
)

func TestProgramAddresses(t *testing.T) {
	p := loadTestProgram(t) // has 2, room for 8 of each family
	mapped := netip.AddrFrom16(steerOther4.As16())
	if err := p.AddAddress(mapped); err != nil {
		t.Fatal(err)
	}
	if err := p.AddAddress(steerOther4); err != nil {
		t.Errorf("again: %v", err)
	}
	if got, want := p.Addresses(), []netip.Addr{steerOwn4, steerOther4, steerOwn6}; !slices.Equal(got, want) {
		t.Errorf("Addresses = %v, want %v", got, want)
	}
	frame := etherFrame(steerMAC, typeIPv4, ipv4Packet(steerOther4, protoTCP, 0, nil, nil))
	expectVerdict(t, p, frame, RedirectIPv4)
	if err := p.RemoveAddress(mapped); err != nil {
		t.Fatal(err)
	}
	expectVerdict(t, p, frame, PassNoAddress)
	if err := p.RemoveAddress(steerOther4); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("RemoveAddress of a removed address: %v, want os.ErrNotExist", err)
	}
	if err := p.AddAddress(steerAllNodes); err == nil {
		t.Error("a multicast address is accepted")
	}

	a := netip.MustParseAddr("198.51.100.1")
	for range 6 { // the group of loadTestProgram is the eighth
		if err := p.AddAddress(a); err != nil {
			t.Fatal(err)
		}
		a = a.Next()
	}
	err := p.AddAddress(a)
	if !errors.Is(err, unix.E2BIG) || !strings.Contains(err.Error(), "MaxAddresses") {
		t.Errorf("one address too many: %v, want E2BIG and MaxAddresses", err)
	}
}

func TestProgramGroups(t *testing.T) {
	p := loadTestProgram(t) // has one of each family
	if got, want := p.Groups(), []netip.Addr{steerGroup4, steerGroup6}; !slices.Equal(got, want) {
		t.Errorf("Groups = %v, want %v", got, want)
	}
	for _, f := range []struct {
		group, address netip.Addr
		frame          []byte
		redirect       Verdict
	}{
		{steerGroup4, steerOwn4, etherFrame(steerGroupMAC4, typeIPv4, ipv4Packet(steerGroup4, protoUDP, 0, nil, nil)), RedirectIPv4},
		{steerGroup6, steerOwn6, etherFrame(steerGroupMAC6, typeIPv6, ipv6Packet(steerOther6, steerGroup6, protoUDP)), RedirectIPv6},
	} {
		if err := p.RemoveAddress(f.group); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("RemoveAddress(%v): %v, want os.ErrNotExist", f.group, err)
		}
		if err := p.RemoveGroup(f.address); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("RemoveGroup(%v): %v, want os.ErrNotExist", f.address, err)
		}
		expectVerdict(t, p, f.frame, f.redirect)
		if err := p.RemoveGroup(f.group); err != nil {
			t.Error(err)
		}
		expectVerdict(t, p, f.frame, PassMulticast)
		if err := p.RemoveGroup(f.group); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("RemoveGroup(%v) again: %v, want os.ErrNotExist", f.group, err)
		}
		if err := p.AddGroup(f.address); err == nil {
			t.Errorf("AddGroup(%v) has no error", f.address)
		}
	}
	if err := p.AddGroup(steerAllNodes.WithZone("lo")); err == nil {
		t.Error("a group with a zone is accepted")
	}
	mapped := netip.AddrFrom16(steerGroup4.As16())
	if err := errors.Join(p.AddGroup(mapped), p.AddGroup(steerGroup4)); err != nil {
		t.Error(err)
	}
	if got, want := p.Groups(), []netip.Addr{steerGroup4}; !slices.Equal(got, want) {
		t.Errorf("Groups = %v, want %v", got, want)
	}
}

func expectVerdict(t *testing.T, p *Program, frame []byte, want Verdict) {
	t.Helper()
	if got, err := p.Test(frame); err != nil || got != want {
		t.Errorf("Test = %v, %v, want %v", got, err, want)
	}
}

func TestProgramSetMAC(t *testing.T) {
	p := loadTestProgram(t)
	frame := etherFrame(steerOtherMAC, typeIPv4, ipv4Packet(steerOwn4, protoTCP, 0, nil, nil))
	expectVerdict(t, p, frame, PassForeignMAC)
	if err := p.SetMAC(steerBcast); err == nil {
		t.Error("a group address is accepted")
	}
	if err := p.SetMAC(steerOtherMAC); err != nil {
		t.Fatal(err)
	}
	expectVerdict(t, p, frame, RedirectIPv4)
	if got := p.Config().MAC; !slices.Equal(got, steerOtherMAC) {
		t.Errorf("Config().MAC = %v, want %v", got, steerOtherMAC)
	}
}

func TestProgramAddSocketErrors(t *testing.T) {
	p := loadTestProgram(t) // 4 queues
	addTestSocket(t, p)
	other, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(udp)
	for _, tc := range []struct {
		name  string
		queue uint32
		fd    int
		want  error // nil: any
	}{
		{"taken queue", 0, other, unix.EEXIST},
		{"queue out of range", 4, other, nil},
		{"last queue number", NoQueue - 1, other, nil},
		{"UDP socket", 1, udp, unix.EOPNOTSUPP},
		{"no descriptor", 1, -1, unix.EBADF},
	} {
		err := p.AddSocket(tc.queue, tc.fd)
		var op *OpError
		if !errors.As(err, &op) || op.Queue != tc.queue || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want *OpError for queue %d wrapping %v", tc.name, err, tc.queue, tc.want)
		}
	}
	if err := p.RemoveSocket(3); err != nil {
		t.Errorf("remove from an empty queue: %v", err)
	}
}

func TestProgramClosed(t *testing.T) {
	p := loadTestProgram(t)
	for range 2 {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, countersErr := p.Counters()
	_, testErr := p.Test(steerCases()[0].frame)
	for name, err := range map[string]error{
		"Attach":        p.Attach(),
		"SetMAC":        p.SetMAC(steerMAC),
		"AddSocket":     p.AddSocket(0, 0),
		"RemoveSocket":  p.RemoveSocket(0),
		"AddAddress":    p.AddAddress(steerOther4),
		"RemoveAddress": p.RemoveAddress(steerOwn4),
		"AddGroup":      p.AddGroup(steerGroup4),
		"RemoveGroup":   p.RemoveGroup(steerGroup4),
		"Counters":      countersErr,
		"Test":          testErr,
	} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s after Close: %v, want net.ErrClosed", name, err)
		}
	}
}

func TestLoadProgramErrors(t *testing.T) {
	if _, err := LoadProgram(ProgramConfig{Interface: "lo"}); err == nil || !strings.Contains(err.Error(), "MAC") {
		t.Errorf("interface without MAC address: %v", err)
	}
	_, err := LoadProgram(ProgramConfig{Interface: "no-such-device"})
	var op *OpError
	if !errors.As(err, &op) || op.Device != "no-such-device" {
		t.Errorf("no interface: %v, want *OpError with its name", err)
	}
}

// TestProgramCapabilities goes through a Program's life with the capabilities
// that the remedy names, and fails with none.
func TestProgramCapabilities(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	err := withCapabilities(l.Host, 1<<unix.CAP_BPF|1<<unix.CAP_NET_ADMIN, func() error {
		p, err := LoadProgram(ProgramConfig{Interface: l.Host.Device})
		if err != nil {
			return err
		}
		defer p.Close()
		_, err = p.Counters()
		return errors.Join(err, p.AddAddress(l.StackV4.Addr()), p.SetMAC(steerMAC), p.Attach(), p.Close())
	})
	if err != nil {
		t.Errorf("CAP_BPF and CAP_NET_ADMIN: %v", err)
	}
	err = withCapabilities(l.Host, 0, func() error {
		_, err := LoadProgram(ProgramConfig{Interface: l.Host.Device})
		return err
	})
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_BPF") {
		t.Errorf("no capabilities: %v, want os.ErrPermission and the capabilities", err)
	}

	// The name of a foreign program is for CAP_SYS_ADMIN only.
	attachForeign(t, l, link.XDPDriverMode)
	err = withCapabilities(l.Host, 1<<unix.CAP_BPF|1<<unix.CAP_NET_ADMIN, func() error {
		p, err := LoadProgram(ProgramConfig{Interface: l.Host.Device})
		if err != nil {
			return err
		}
		defer p.Close()
		return p.Attach()
	})
	want := fmt.Sprintf("program %d in native mode", labState(t, l).native)
	if !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), want) {
		t.Errorf("foreign program: %v, want EBUSY and %q", err, want)
	}
}

// withCapabilities runs f in a namespace with only these capabilities in
// effect. They belong to the thread, which n.Do has locked.
func withCapabilities(n *lab.Namespace, set uint64, f func() error) error {
	return n.Do(func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var full [2]unix.CapUserData
		if err := unix.Capget(&hdr, &full[0]); err != nil {
			return os.NewSyscallError("capget", err)
		}
		reduced := full
		reduced[0].Effective, reduced[1].Effective = uint32(set), uint32(set>>32)
		if err := unix.Capset(&hdr, &reduced[0]); err != nil {
			return os.NewSyscallError("capset", err)
		}
		defer unix.Capset(&hdr, &full[0])
		return f()
	})
}

// TestProgramDescriptors checks that every descriptor is close-on-exec, and
// that Close leaves none.
func TestProgramDescriptors(t *testing.T) {
	l := lab.New(t, lab.Config{})
	before := bpfDescriptors(t)
	p := attachInLab(t, l, AttachAuto)
	attached := before.New(bpfDescriptors(t))
	if len(attached) < 7 { // 2 programs, 5 maps; the link
		t.Errorf("%d BPF descriptors while attached, want 7 or more: %v", len(attached), attached)
	}
	for fd, what := range attached {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%d, %s, is inherited: flags %#x, %v", fd, what, flags, err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if left := before.New(bpfDescriptors(t)); len(left) > 0 {
		t.Errorf("BPF descriptors that are left: %v", left)
	}
}

// bpfDescriptors returns those of BPF objects.
func bpfDescriptors(t *testing.T) descriptors.Snapshot {
	t.Helper()
	all := descriptors.Open(t)
	maps.DeleteFunc(all, func(_ int, what string) bool { return !strings.Contains(what, "bpf") })
	return all
}

// TestProgramConcurrent is for the race detector, and for Close beside the
// rest.
func TestProgramConcurrent(t *testing.T) {
	p := loadTestProgram(t)
	frame := steerCases()[0].frame
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			a := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
			for n := range 200 {
				_, countersErr := p.Counters()
				_, testErr := p.Test(frame)
				err := errors.Join(p.AddAddress(a), p.RemoveAddress(a), p.SetMAC(steerMAC),
					p.RemoveSocket(0), countersErr, testErr)
				p.Addresses()
				p.Config()
				if i == 0 && n == 150 {
					err = errors.Join(err, p.Close())
				}
				if err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
