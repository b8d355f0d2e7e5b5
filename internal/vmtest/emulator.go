package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// emulator is how to call qemu-system-x86_64.
type emulator struct {
	args []string // a program and its first arguments
	env  []string // besides this process's
}

// emulatorName is the emulator's directory in the store.
const emulatorName = "qemu-" + emulatorSuite

// Emulator returns QEMU: the one in PATH if it knows igb, otherwise Debian's,
// which runs out of the store.
func (s *store) Emulator(ctx context.Context) (emulator, error) {
	if path, err := exec.LookPath("qemu-system-x86_64"); err == nil {
		if e := (emulator{args: []string{path}}); e.check(ctx) == nil {
			return e, nil
		}
	}
	dir, ok, err := s.get(emulatorName)
	if err != nil {
		return emulator{}, err
	}
	if !ok {
		var errs []error
		for _, archive := range archives {
			if dir, err = s.fetchEmulator(ctx, archive); err == nil {
				break
			}
			errs = append(errs, err)
		}
		if err != nil {
			return emulator{}, errors.Join(errs...)
		}
	}
	e := packaged(dir)
	return e, e.check(ctx)
}

// packaged calls QEMU with the libraries, modules, firmware and loader of its
// packages, which are unpacked in root. Modules of another version, which the system
// may have, would end it.
func packaged(root string) emulator {
	lib := filepath.Join(root, "usr/lib/x86_64-linux-gnu")
	return emulator{
		args: []string{
			filepath.Join(root, "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", lib,
			filepath.Join(root, "usr/bin/qemu-system-x86_64"),
			"-L", filepath.Join(root, "usr/share/qemu"), "-L", filepath.Join(root, "usr/share/seabios"),
		},
		env: []string{"QEMU_MODULE_DIR=" + filepath.Join(lib, "qemu")},
	}
}

// check tells whether it runs and has the devices. It asks for each by itself: a list
// of all would have QEMU load all modules that it finds, also where packages that are
// not needed here would have put them.
func (e emulator) check(ctx context.Context) error {
	for _, device := range []string{"igb", "virtio-net-pci"} {
		out, err := e.command(ctx, "-device", device+",help").Output()
		if err != nil {
			return fmt.Errorf("vmtest: run %s: %w", strings.Join(e.args, " "), err)
		}
		if !strings.Contains(string(out), device+" options:") {
			return fmt.Errorf("vmtest: %s has no device %s: QEMU 8.0 or later is needed", e.args[0], device)
		}
	}
	return nil
}

func (e emulator) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, e.args[0], append(e.args[1:len(e.args):len(e.args)], args...)...)
	cmd.Env = append(cmd.Environ(), e.env...)
	return cmd
}

// unneeded is what packages have and QEMU does not need to run.
var unneeded = []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/icons", "var", "etc"}

func (s *store) fetchEmulator(ctx context.Context, archive string) (dir string, err error) {
	return s.put(ctx, func(ctx context.Context, tmp, dir string) (string, error) {
		v, err := newAPT(ctx, filepath.Join(tmp, "apt"), archive)
		if err != nil {
			return "", err
		}
		if err := v.unpackAll(ctx, dir, "qemu-system-x86"); err != nil {
			return "", err
		}
		for _, d := range unneeded {
			if err := os.RemoveAll(filepath.Join(dir, d)); err != nil {
				return "", err
			}
		}
		return emulatorName, packaged(dir).check(ctx)
	})
}
