package hostif

import (
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// WatchSmall is Watch with the smallest receive buffer there is. overruns may
// be called after stop.
func WatchSmall(index int, fn func(Event)) (stop func(), overruns func() int, err error) {
	w, err := newWatcher(index, fn)
	if err != nil {
		return nil, nil, err
	}
	var sockErr error
	if err := w.conn.Control(func(fd uintptr) {
		sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	}); err != nil || sockErr != nil {
		w.file.Close()
		return nil, nil, os.NewSyscallError("setsockopt", sockErr)
	}
	go w.run()
	return w.stop, func() int { return w.overruns }, nil
}

// WatchAddressesClosed is WatchAddresses on a socket that is closed.
func WatchAddressesClosed(ended func(error)) (stop func(), err error) {
	l, err := listen(unix.RTNLGRP_IPV4_IFADDR)
	if err != nil {
		return nil, err
	}
	if err := l.file.Close(); err != nil {
		return nil, err
	}
	go l.runAddresses(nil, ended)
	return l.stop, nil
}

// TellAddresses is what WatchAddresses does with a batch of messages.
var TellAddresses = tellAddresses

// inDir is a keeper with a directory of the test's own.
func inDir(dir string) keeper {
	return keeper{recordDir(dir), openNetdev, openDeviceFiles, openFlowTool, openOffloadTool}
}

// SetNAPIIn is SetNAPI with a directory of the test's own for the records.
func SetNAPIIn(dir string, index int, queue uint32, values NAPIValues) (*HeldNAPI, error) {
	return inDir(dir).set(index, queue, values)
}

// RestoreSettingsIn is RestoreSettings for such a directory.
func RestoreSettingsIn(dir string) error { return inDir(dir).restoreAll() }

// Abandon does what the end of the process does: it lets go of the record, and
// restores nothing.
func (h *HeldNAPI) Abandon() error {
	if h.Device {
		heldDevices.Lock()
		defer heldDevices.Unlock()
		clear(heldDevices.of)
	}
	return h.record.keep()
}

// HoldOffloadIn is HoldOffload with such a directory, and without a record an error.
func HoldOffloadIn(dir, name, feature string, on bool) (*HeldOffload, error) {
	return inDir(dir).holdOffload(name, feature, on)
}

// Abandon does what the end of the process does: see HeldNAPI.
func (h *HeldOffload) Abandon() error { return h.record.keep() }

// SetOldNAPIIn is SetNAPIIn on a kernel that has no settings for one NAPI.
func SetOldNAPIIn(dir string, index int, values NAPIValues) (*HeldNAPI, error) {
	k := inDir(dir)
	k.open = func() (netdev, error) { return nil, unix.ENOENT }
	return k.set(index, 0, values)
}

// ReadDevice returns the settings that a device has as a whole.
func ReadDevice(index int) (NAPIValues, error) {
	files, err := openDeviceFiles(index)
	if err != nil {
		return nil, err
	}
	defer files.close()
	return files.read(NAPIValues{NAPIDeferHardIRQs: 0, NAPIGROFlushTimeout: 0})
}

// SystemFiles are where a device's files are without a mount.
func SystemFiles(index int) (string, error) {
	files, err := systemFiles(index, unix.EPERM)
	if err != nil {
		return "", err
	}
	return files.dir()
}

// OtherProcess runs f as a process would that holds no settings of a device.
func OtherProcess(f func()) {
	swap := func(other map[string]*deviceHolders) map[string]*deviceHolders {
		heldDevices.Lock()
		defer heldDevices.Unlock()
		mine := heldDevices.of
		heldDevices.of = other
		return mine
	}
	mine := swap(make(map[string]*deviceHolders))
	f()
	swap(mine)
}

// LookupBelow is Lookup with sysfs at root.
func LookupBelow(root, name string) (Interface, error) { return lookup(name, root) }

// SysfsQueues counts the queues of an interface below root.
func SysfsQueues(ifc Interface, root string) (rx, tx int) { return ifc.sysfsQueues(root) }

// WatchAddressesAsked is WatchAddresses by a goroutine that has asked for all addresses
// some times already.
func WatchAddressesAsked(times int, fn func(netip.Prefix, int, bool), ended func(error)) (stop func(), err error) {
	l, err := listen(unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, err
	}
	for range times {
		if err := l.askAddresses(); err != nil {
			l.file.Close()
			return nil, err
		}
	}
	go l.runAddresses(fn, ended)
	return l.stop, nil
}

// CountQueuesOf counts the queues of an interface for which the kernel has allocated
// so many, and that has none below root.
func CountQueuesOf(ifc *Interface, allocated int, root string) error {
	tool, err := openEthtool()
	if err != nil {
		return err
	}
	defer tool.close()
	return ifc.countQueues(tool, &netlink.LinkAttrs{NumRxQueues: allocated, NumTxQueues: allocated}, root)
}
