package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

// TestMain is the first process of the machine, a child of a test, or neither.
func TestMain(m *testing.M) {
	if work, ok := children[os.Getenv(childEnv)]; ok {
		if err := work(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getpid() != 1 {
		os.Exit(m.Run())
	}
	// The kernel hands on what it does not count among its parameters.
	os.Args = slices.DeleteFunc(os.Args, func(arg string) bool { return arg == wiring.NoKASLR })
	if err := boot(); err != nil {
		fmt.Fprintln(os.Stderr, "boot:", err) // tests will tell what is missing
	}
	m.Run()
	switchOff()
}

// resultsTTY is the serial line that test results go to. The kernel's messages
// have the other one.
const resultsTTY = "/dev/ttyS1"

// boot makes a system out of a bare kernel.
func boot() error {
	var errs []error
	for _, m := range []struct{ kind, dir string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"bpf", "/sys/fs/bpf"}} {
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			errs = append(errs, fmt.Errorf("mount %s: %w", m.dir, err))
		}
	}
	if err := openResults(); err != nil {
		errs = append(errs, err)
	}
	modules, err := filepath.Glob("/modules/*") // sorted
	errs = append(errs, err)
	for _, m := range modules {
		if err := loadModule(m); err != nil {
			errs = append(errs, fmt.Errorf("load %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}

// openResults makes the serial line standard output and error, and keeps the
// terminal's hands off the bytes.
func openResults() error {
	fd, err := unix.Open(resultsTTY, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", resultsTTY, err)
	}
	tio, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	tio.Oflag &^= unix.OPOST
	tio.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, tio); err != nil {
		return err
	}
	return errors.Join(unix.Dup3(fd, 1, 0), unix.Dup3(fd, 2, 0))
}

// moduleInitCompressed is MODULE_INIT_COMPRESSED_FILE (linux/module.h, 5.17).
const moduleInitCompressed = 4

func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := 0
	if strings.HasSuffix(name, ".xz") {
		flags = moduleInitCompressed
	}
	err = unix.FinitModule(int(f.Fd()), "", flags)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// switchOff ends the machine once the results are out.
func switchOff() {
	unix.IoctlSetInt(1, unix.TCSBRK, 1) //nolint:errcheck // it waits until all is sent, or there is nothing to be done
	err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	panic(err) // the kernel does not return, and panics too when its first process does
}
