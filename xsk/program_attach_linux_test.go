//go:build linux && (amd64 || arm64)

package xsk

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// attachInLab attaches a program to the host end, with the lab's stack
// addresses.
func attachInLab(tb testing.TB, l *lab.Lab, mode AttachMode) *Program {
	tb.Helper()
	lab.Require(tb, lab.XDP)
	p, err := loadInLab(l, mode)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Error(err)
		}
	})
	if err := l.Host.Do(p.Attach); err != nil {
		tb.Fatal(err)
	}
	return p
}

func loadInLab(l *lab.Lab, mode AttachMode) (p *Program, err error) {
	err = l.Host.Do(func() error {
		p, err = LoadProgram(ProgramConfig{Interface: l.Host.Device, Mode: mode})
		if err != nil {
			return err
		}
		return errors.Join(p.AddAddress(l.StackV4.Addr()), p.AddAddress(l.StackV6.Addr()))
	})
	return p, err
}

// labState reads what is attached to the host end.
func labState(tb testing.TB, l *lab.Lab) (s xdpState) {
	tb.Helper()
	err := l.Host.Do(func() error {
		ifc, err := net.InterfaceByName(l.Host.Device)
		if err != nil {
			return err
		}
		s, err = readXDPState(ifc.Index)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestAttachModes(t *testing.T) {
	for _, tc := range []struct{ ask, want AttachMode }{
		{AttachAuto, AttachNative},
		{AttachNative, AttachNative},
		{AttachGeneric, AttachGeneric},
	} {
		t.Run(tc.ask.String(), func(t *testing.T) {
			l := lab.New(t, lab.Config{})
			p := attachInLab(t, l, tc.ask)
			want := xdpState{native: p.ID()}
			if tc.want == AttachGeneric {
				want = xdpState{generic: p.ID()}
			}
			if got := labState(t, l); got != want {
				t.Errorf("attached: %+v, want %+v", got, want)
			}
			if p.Mode() != tc.want || p.NativeErr() != nil {
				t.Errorf("Mode = %v, NativeErr = %v, want %v", p.Mode(), p.NativeErr(), tc.want)
			}
			if err := l.Host.Do(p.Attach); !errors.Is(err, os.ErrExist) {
				t.Errorf("second Attach: %v, want os.ErrExist", err)
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if got := labState(t, l); got != (xdpState{}) {
				t.Errorf("after Close: %+v", got)
			}
		})
	}
}

// The loopback interface has no native mode.
func TestAttachFallback(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	try := func(mode AttachMode) (p *Program) {
		err := l.Host.Do(func() error {
			var err error
			if p, err = LoadProgram(ProgramConfig{Interface: "lo", MAC: steerMAC, Mode: mode}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.Close() })
			return p.Attach()
		})
		if mode == AttachNative {
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("native: %v, want errors.ErrUnsupported", err)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if p := try(AttachNative); p.Mode() != AttachAuto {
		t.Errorf("Mode = %v, want auto for not attached", p.Mode())
	}
	p := try(AttachAuto)
	if p.Mode() != AttachGeneric || !errors.Is(p.NativeErr(), errors.ErrUnsupported) {
		t.Errorf("Mode = %v, NativeErr = %v, want generic and why", p.Mode(), p.NativeErr())
	}
}

// A driver that supports native mode but refuses is an error in AttachAuto. veth
// does at this MTU without BPF_F_XDP_HAS_FRAGS, as on a kernel that has not got
// it.
func TestAttachRefusedByDriver(t *testing.T) {
	l := lab.New(t, lab.Config{MTU: 9000})
	lab.Require(t, lab.XDP)
	var p *Program
	err := l.Host.Do(func() (err error) {
		p, err = loadProgram(ProgramConfig{Interface: l.Host.Device}, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = l.Host.Do(p.Attach)
	var op *OpError
	if !errors.As(err, &op) || !strings.Contains(op.Remedy, "set an MTU of") || !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, unix.ERANGE) {
		t.Errorf("MTU 9000: %v, want *OpError with a remedy about the MTU, unsupported", err)
	}
	if got := labState(t, l); got != (xdpState{}) {
		t.Errorf("attached: %+v, want nothing", got)
	}
}

func TestAttachBesideForeignProgram(t *testing.T) {
	for _, tc := range []struct {
		name  string
		flags link.XDPAttachFlags
	}{
		{"native", link.XDPDriverMode},
		{"generic", link.XDPGenericMode},
	} {
		for _, mode := range []AttachMode{AttachAuto, AttachNative, AttachGeneric} {
			t.Run(fmt.Sprintf("foreign=%s/mode=%v", tc.name, mode), func(t *testing.T) {
				l := lab.New(t, lab.Config{})
				lab.Require(t, lab.XDP)
				attachForeign(t, l, tc.flags)
				before := labState(t, l)
				p, err := loadInLab(l, mode)
				if err != nil {
					t.Fatal(err)
				}
				defer p.Close()

				err = l.Host.Do(p.Attach)
				if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EEXIST) {
					t.Fatalf("Attach: %v, want EBUSY or EEXIST", err)
				}
				id := max(before.native, before.generic)
				if want := fmt.Sprintf(`program %d "foreign_prog" in %s mode`, id, tc.name); !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not name %q", err, want)
				}
				if got := labState(t, l); got != before || p.Mode() != AttachAuto {
					t.Errorf("attached: %+v, Mode %v, want %+v as before", got, p.Mode(), before)
				}
			})
		}
	}
}

// attachForeign attaches a program that passes everything.
func attachForeign(t *testing.T, l *lab.Lab, flags link.XDPAttachFlags) {
	t.Helper()
	attachNamed(t, l, "foreign_prog", flags)
}

// attachNamed attaches a program of that name that passes everything.
func attachNamed(t *testing.T, l *lab.Lab, name string, flags link.XDPAttachFlags) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         name,
		Type:         ebpf.XDP,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
		License:      "GPL",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	attachProgram(t, l, prog, flags)
}

// attachProgram attaches a program to the host end until the test ends.
func attachProgram(t *testing.T, l *lab.Lab, prog *ebpf.Program, flags link.XDPAttachFlags) {
	t.Helper()
	err := l.Host.Do(func() error {
		ifc, err := net.InterfaceByName(l.Host.Device)
		if err != nil {
			return err
		}
		lnk, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifc.Index, Flags: flags})
		if err == nil {
			t.Cleanup(func() { lnk.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// cilium/ebpf closes links that are collected.
func TestAttachSurvivesGC(t *testing.T) {
	l := lab.New(t, lab.Config{})
	p := attachInLab(t, l, AttachAuto)
	for range 5 {
		runtime.GC()
	}
	if got := labState(t, l); got.native != p.ID() {
		t.Errorf("after garbage collection: %+v, want program %d", got, p.ID())
	}
	runtime.KeepAlive(p)
}

func TestCloseAfterInterfaceIsGone(t *testing.T) {
	l := lab.New(t, lab.Config{})
	p := attachInLab(t, l, AttachAuto)
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// TestAttachLiveTraffic sends the table's frames from the other end. No socket
// is there, so all of them go on to the kernel.
func TestAttachLiveTraffic(t *testing.T) {
	for _, mode := range []AttachMode{AttachNative, AttachGeneric} {
		t.Run(mode.String(), func(t *testing.T) {
			l := lab.New(t, lab.Config{})
			p := attachInLab(t, l, mode)
			send := frameSender(t, l)
			mac := p.Config().MAC
			frame := etherFrame(mac, typeIPv4, ipv4Packet(l.StackV4.Addr(), protoUDP, 0, nil, make([]byte, 26)))
			other := etherFrame(mac, typeIPv6, ipv6Packet(l.Peer.V6.Addr(), l.Host.V6.Addr(), 59))
			for range 50 {
				send(frame)
				send(other)
			}
			lab.Eventually(t, 10*time.Second, "50 frames without socket and 50 without address", func() bool {
				c, err := p.Counters()
				if err != nil {
					t.Fatal(err)
				}
				return c.PassNoSocket == 50 && c.PassNoAddress >= 50
			})
		})
	}
}

// frameSender returns a function that sends a frame from the peer's end.
func frameSender(t *testing.T, l *lab.Lab) func([]byte) {
	t.Helper()
	var fd int
	var to unix.SockaddrLinklayer
	err := l.Peer.Do(func() error {
		ifc, err := net.InterfaceByName(l.Peer.Device)
		if err != nil {
			return err
		}
		to.Ifindex = ifc.Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func(frame []byte) {
		t.Helper()
		if err := unix.Sendto(fd, frame, 0, &to); err != nil {
			t.Fatal(err)
		}
	}
}

// attachChildEnv makes this test binary a process that attaches to the named
// interface and waits to be killed.
const attachChildEnv = "AFXNET_TEST_ATTACH_CHILD"

func TestAttachChild(t *testing.T) {
	device := os.Getenv(attachChildEnv)
	if device == "" {
		return // not the child of TestAttachEndsWithProcess
	}
	p, err := LoadProgram(ProgramConfig{Interface: device})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Attach(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("attached")
	os.Stdin.Read(make([]byte, 1)) // until the parent is gone too
	runtime.KeepAlive(p)
}

func TestAttachEndsWithProcess(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	kill := startAttached(t, l, "TestAttachChild", attachChildEnv)
	if got := labState(t, l); got.native == 0 {
		t.Errorf("while the child runs: %+v", got)
	}
	kill()
	lab.Eventually(t, limit, "no program after SIGKILL", func() bool { return labState(t, l) == (xdpState{}) })
}

// startAttached runs a test of this binary in a process of its own in the lab, with
// the host end's name in a variable, and returns once it says that it is attached.
func startAttached(t *testing.T, l *lab.Lab, test, env string) (kill func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), env+"="+l.Host.Device)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := l.Host.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cmd.Process.Kill() //nolint:errcheck // SIGKILL; Wait tells
		cmd.Wait()         //nolint:errcheck // "signal: killed"
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "attached\n" {
		kill()
		t.Fatalf("child: %q, %v, %s", line, err, stderr.String())
	}
	return kill
}
