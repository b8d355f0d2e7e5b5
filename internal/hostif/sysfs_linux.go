package hostif

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// deviceFiles are the files of a device in sysfs.
type deviceFiles struct {
	root  string // where the devices are
	index int
	close func()
}

// openDeviceFiles finds the files of the device with this index in the caller's
// network namespace. A sysfs shows the namespace it was mounted in, so it mounts one
// of its own, where nobody else sees it; without CAP_SYS_ADMIN it takes /sys, if that
// has the same device.
func openDeviceFiles(index int) (*deviceFiles, error) {
	fd, mountErr := mountSysfs()
	if mountErr == nil {
		mount := os.NewFile(uintptr(fd), "sysfs")
		return &deviceFiles{
			root: netBelow(fd), index: index,
			close: func() { mount.Close() },
		}, nil
	}
	return systemFiles(index, mountErr)
}

// systemFiles are those of /sys, where mounting another one failed.
func systemFiles(index int, mountErr error) (*deviceFiles, error) {
	link, err := netlink.LinkByIndex(index)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		err = unix.ENODEV
	}
	if err != nil {
		return nil, err
	}
	f := &deviceFiles{root: "/sys/class/net", index: index, close: func() {}}
	dir, err := f.dir()
	mac := link.Attrs().HardwareAddr.String()
	if err != nil || filepath.Base(dir) != link.Attrs().Name || mac != "" && sysfsValue(dir+"/address") != mac {
		return nil, fmt.Errorf("/sys is of another network namespace, and mounting one of this failed: %w", mountErr)
	}
	return f, nil
}

// dir is where the device's files are now: it can be renamed. errors.Is(err,
// unix.ENODEV) holds if it is gone.
func (f *deviceFiles) dir() (string, error) {
	devices, err := os.ReadDir(f.root)
	for _, d := range devices {
		dir := filepath.Join(f.root, d.Name())
		if sysfsValue(dir+"/ifindex") == strconv.Itoa(f.index) {
			return dir, nil
		}
	}
	if err == nil {
		err = unix.ENODEV
	}
	return "", err
}

// netBelow is where a sysfs that mountSysfs has mounted has the interfaces.
func netBelow(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) + "/class/net" }

// mountSysfs mounts the sysfs of the caller's network namespace nowhere, for as long
// as the descriptor is open.
func mountSysfs() (fd int, err error) {
	ctx, err := unix.Fsopen("sysfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(ctx)
	if err := unix.FsconfigCreate(ctx); err != nil {
		return -1, os.NewSyscallError("fsconfig", err)
	}
	fd, err = unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	return fd, os.NewSyscallError("fsmount", err)
}
