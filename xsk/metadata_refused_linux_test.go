//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// addTap makes a tap device in the lab's host namespace: its driver runs programs
// and declares no metadata.
func addTap(t *testing.T, l *lab.Lab, name string) {
	t.Helper()
	err := l.Host.Do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("open", err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return os.NewSyscallError("ioctl", unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	})
	if err != nil {
		t.Skip("no tap device: ", err)
	}
}

func TestMetadataRefused(t *testing.T) {
	requireMetadata(t)
	l := lab.New(t, lab.Config{})
	addTap(t, l, "tap0")
	for _, tc := range []struct {
		name string
		cfg  ProgramConfig
		is   error
		says []string
	}{
		{"no such metadata", ProgramConfig{Interface: lab.HostDevice, Metadata: 0x80}, nil, []string{"load program, afx0", "unknown 0x80"}},
		{"generic mode", ProgramConfig{Interface: lab.HostDevice, Metadata: RXHash, Mode: AttachGeneric}, errors.ErrUnsupported, []string{"load program, afx0", "generic mode", "DEV_BOUND"}},
		{"driver", ProgramConfig{Interface: "tap0", Metadata: RXHash | RXVLANTag}, errors.ErrUnsupported,
			[]string{"load program, tap0", "hash, vlan tag: not declared by the driver tun", "declares nothing", "Check"}},
		{"driver, native", ProgramConfig{Interface: "tap0", Metadata: RXTimestamp, Mode: AttachNative}, errors.ErrUnsupported, []string{"tap0", "timestamp: not declared"}},
		{"no interface", ProgramConfig{Interface: "nope0", Metadata: RXHash}, nil, []string{"find interface, nope0"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := bpfDescriptors(t)
			var p *Program
			err := l.Host.Do(func() (err error) {
				p, err = LoadProgram(tc.cfg)
				return err
			})
			if err == nil {
				p.Close()
				t.Fatal("loaded")
			}
			var op *OpError
			if !errors.As(err, &op) || op.Device != tc.cfg.Interface || op.Queue != NoQueue || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%#v", err)
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if left := before.New(bpfDescriptors(t)); len(left) > 0 {
				t.Errorf("BPF descriptors that are left: %v", left)
			}
			t.Log(err)
		})
	}
	// Without metadata the same device takes the same program.
	err := l.Host.Do(func() error {
		p, err := LoadProgram(ProgramConfig{Interface: "tap0"})
		if err != nil {
			return err
		}
		return errors.Join(p.Attach(), p.Close())
	})
	if err != nil {
		t.Error("without metadata: ", err)
	}
}

// TestMetadataElsewhere has a program asked to go where it was not bound to: an
// interface that took the name of another.
func TestMetadataElsewhere(t *testing.T) {
	requireMetadata(t)
	l := lab.New(t, lab.Config{})
	p, err := loadMetadata(l, ProgramConfig{Metadata: RXHash})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = l.Host.Do(func() error {
		lo, err := net.InterfaceByName("lo")
		if err != nil {
			return err
		}
		p.ifindex = lo.Index
		return p.Attach()
	})
	if !errors.Is(err, unix.EINVAL) || p.Mode() != AttachAuto {
		t.Errorf("attached in %v mode: %v", p.Mode(), err)
	}
}

// TestMetadataCapabilities needs no more capabilities with metadata than without.
func TestMetadataCapabilities(t *testing.T) {
	requireMetadata(t)
	l := lab.New(t, lab.Config{})
	err := withCapabilities(l.Host, 1<<unix.CAP_BPF|1<<unix.CAP_NET_ADMIN, func() error {
		p, err := LoadProgram(ProgramConfig{Interface: l.Host.Device, Metadata: rxMetadataAll})
		if err != nil {
			return err
		}
		return errors.Join(p.Attach(), p.Close())
	})
	if err != nil {
		t.Errorf("CAP_BPF and CAP_NET_ADMIN: %v", err)
	}
	err = withCapabilities(l.Host, 0, func() error {
		_, err := LoadProgram(ProgramConfig{Interface: l.Host.Device, Metadata: RXHash})
		return err
	})
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "CAP_BPF") {
		t.Errorf("no capabilities: %v, want os.ErrPermission and the capabilities", err)
	}
}

const hiddenBTF = "AFXNET_TEST_HIDDEN_BTF"

// TestMetadataWithoutBTF hides the kernel's types from a child, as a kernel built
// without them does: metadata is refused with the reason, and the program without
// metadata loads.
func TestMetadataWithoutBTF(t *testing.T) {
	requireMetadata(t)
	if os.Getenv(hiddenBTF) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMetadataWithoutBTF$", "-test.v")
		cmd.Env = append(os.Environ(), hiddenBTF+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.Mount("none", kernelBTF, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	l := lab.New(t, lab.Config{})
	p, err := loadMetadata(l, ProgramConfig{Metadata: RXHash})
	if err == nil {
		p.Close()
	}
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "CONFIG_DEBUG_INFO_BTF") {
		t.Errorf("metadata without types: %v", err)
	}
	expectFinding(t, check(t, l), SubjectMetadata, Note, "does not tell its types", "CONFIG_DEBUG_INFO_BTF")
	attachInLab(t, l, AttachNative)
}

// TestMetadataFinding has Check say what Open gets.
func TestMetadataFinding(t *testing.T) {
	requireMetadata(t)
	l := lab.New(t, lab.Config{})
	expectFinding(t, check(t, l), SubjectMetadata, OK, "hash, timestamp, vlan tag", "")
	addTap(t, l, "tap0")
	err := l.Host.Do(func() error {
		r, err := Check("tap0")
		if err == nil {
			expectFinding(t, r, SubjectMetadata, OK, "declares no packet metadata", "")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
