package hostif_test

import (
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// deviceLab is a lab on a kernel that has no settings for one NAPI, with a
// directory for records.
type deviceLab struct {
	*lab.Lab
	*testing.T
	dir   string
	index int
}

func newDeviceLab(t *testing.T) *deviceLab {
	l := &deviceLab{Lab: lab.New(t, lab.Config{}), T: t, dir: filepath.Join(t.TempDir(), "records")}
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	l.index = ifc.Index
	return l
}

func (l *deviceLab) set(dir string, values hostif.NAPIValues) (h *hostif.HeldNAPI, err error) {
	err = l.Host.Do(func() error {
		h, err = hostif.SetOldNAPIIn(dir, l.index, values)
		return err
	})
	return h, err
}

func (l *deviceLab) mustSet(values hostif.NAPIValues) *hostif.HeldNAPI {
	l.Helper()
	h, err := l.set(l.dir, values)
	if err != nil {
		l.Fatal(err)
	}
	return h
}

// restoreAll is the next start of a process in this namespace.
func (l *deviceLab) restoreAll(n *lab.Namespace) {
	l.Helper()
	if err := n.Do(func() error { return hostif.RestoreSettingsIn(l.dir) }); err != nil {
		l.Error(err)
	}
}

// rename gives the device another name, and takes it down.
func (l *deviceLab) rename(name string) {
	l.Helper()
	err := l.Host.Do(func() error {
		link, err := netlink.LinkByIndex(l.index)
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetDown(link), netlink.LinkSetName(link, name))
	})
	if err != nil {
		l.Fatal(err)
	}
}

// expect wants the device's two settings to be so, and so many records.
func (l *deviceLab) expect(step string, polls, timeout uint64, records int) {
	l.Helper()
	err := l.Host.Do(func() error {
		now, err := hostif.ReadDevice(l.index)
		if now[hostif.NAPIDeferHardIRQs] != polls || now[hostif.NAPIGROFlushTimeout] != timeout {
			l.Errorf("%s: %v, want %d and %d", step, now, polls, timeout)
		}
		return err
	})
	if err != nil {
		l.Errorf("%s: %v", step, err)
	}
	entries, err := os.ReadDir(l.dir)
	if len(entries) != records || err != nil && !errors.Is(err, os.ErrNotExist) {
		l.Errorf("%s: %d records, want %d: %v", step, len(entries), records, err)
	}
}

func (l *deviceLab) restore(h *hostif.HeldNAPI) {
	l.Helper()
	for range 2 {
		if err := h.Restore(); err != nil {
			l.Error(err)
		}
	}
}

var askedDevice = hostif.NAPIValues{hostif.NAPIDeferHardIRQs: 2, hostif.NAPIGROFlushTimeout: 5e9}

// TestDeviceNAPI sets a device as a whole: those who want the same share it, and the
// last one restores it.
func TestDeviceNAPI(t *testing.T) {
	l := newDeviceLab(t)
	l.expect("new", 0, 0, 0)
	h := l.mustSet(askedDevice)
	if !h.Device || h.ID != 0 || h.Values[hostif.NAPIDeferHardIRQs] != 2 || h.Values[hostif.NAPIGROFlushTimeout] != 5e9 {
		t.Errorf("%+v", h)
	}
	l.expect("set", 2, 5e9, 1)
	same := l.mustSet(askedDevice)
	if _, err := l.set(l.dir, hostif.NAPIValues{hostif.NAPIDeferHardIRQs: 3}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("other values: %v", err)
	}
	l.restoreAll(l.Host)
	l.restore(h)
	l.expect("one of two", 2, 5e9, 1)
	l.rename("nic7")
	l.restore(same)
	l.rename(lab.HostDevice)
	l.expect("the last, of a device by another name", 0, 0, 0)

	for _, values := range []hostif.NAPIValues{{hostif.NAPIIRQSuspendTimeout: 1}, {hostif.NAPIDeferHardIRQs: 2, hostif.NAPIThreaded: 1}} {
		if _, err := l.set(l.dir, values); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "before Linux 6.13") {
			t.Errorf("%v: %v", values, err)
		}
	}
	if _, err := l.set(l.dir, hostif.NAPIValues{hostif.NAPIDeferHardIRQs: 1 << 31, hostif.NAPIGROFlushTimeout: 1}); !errors.Is(err, unix.ERANGE) {
		t.Errorf("out of range: %v", err)
	}
	l.expect("refused", 0, 0, 0)
	h = l.mustSet(hostif.NAPIValues{hostif.NAPIGROFlushTimeout: 0})
	l.expect("the same as before", 0, 0, 1)
	l.restore(h)
}

// TestDeviceNAPIShared has several take and leave the same settings at once: while
// somebody has them, they are set.
func TestDeviceNAPIShared(t *testing.T) {
	l := newDeviceLab(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 5 {
				h, err := l.set(l.dir, askedDevice)
				if err != nil {
					t.Error(err)
					return
				}
				err = l.Host.Do(func() error {
					now, err := hostif.ReadDevice(l.index)
					if !maps.Equal(now, askedDevice) {
						t.Errorf("%v while held", now)
					}
					return err
				})
				if err := errors.Join(err, h.Restore()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	l.expect("all restored", 0, 0, 0)
}

// TestSystemFiles takes /sys without the privilege to mount one, in the namespace that
// it shows and in no other.
func TestSystemFiles(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err := hostif.SystemFiles(lo.Index); err != nil || dir != "/sys/class/net/lo" {
		t.Errorf("%q, %v", dir, err)
	}
	l := newDeviceLab(t)
	err = l.Host.Do(func() error { _, err := hostif.SystemFiles(l.index); return err })
	if !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "/sys is of another network namespace") {
		t.Errorf("%v", err)
	}
	if _, err := hostif.SystemFiles(1 << 30); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no device: %v", err)
	}
}

// TestDeviceNAPIElsewhere is a process that holds them, one that ended without
// restoring, and somebody who changed them meanwhile.
func TestDeviceNAPIElsewhere(t *testing.T) {
	l := newDeviceLab(t)
	dead := func() {
		t.Helper()
		if err := l.mustSet(askedDevice).Abandon(); err != nil {
			t.Fatal(err)
		}
	}
	dead()
	l.restoreAll(l.Peer)
	l.expect("looked for elsewhere", 2, 5e9, 1)
	l.restoreAll(l.Host)
	l.expect("looked for here", 0, 0, 0)

	dead()
	h := l.mustSet(hostif.NAPIValues{hostif.NAPIGROFlushTimeout: 9})
	l.expect("another's", 0, 9, 1)
	hostif.OtherProcess(func() {
		if _, err := l.set(l.dir, hostif.NAPIValues{hostif.NAPIGROFlushTimeout: 9}); !errors.Is(err, unix.EBUSY) {
			t.Errorf("another process: %v", err)
		}
	})
	if _, err := l.set(t.TempDir(), hostif.NAPIValues{hostif.NAPIGROFlushTimeout: 77}); err != nil {
		t.Fatal(err)
	}
	l.restore(h)
	l.expect("changed by somebody else", 0, 77, 0)

	h = l.mustSet(askedDevice)
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	l.restore(h)
	if entries, err := os.ReadDir(l.dir); len(entries) != 0 || err != nil {
		t.Errorf("the device is gone, and there are still records: %v, %v", entries, err)
	}
	if _, err := l.set(l.dir, askedDevice); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no device: %v", err)
	}
}
