package hostif_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

const rxVLAN = "rx-vlan-hw-parse"

// offloadLab is a lab with a directory for records.
type offloadLab struct {
	*lab.Lab
	*testing.T
	dir string
}

func newOffloadLab(t *testing.T) *offloadLab {
	return &offloadLab{Lab: lab.New(t, lab.Config{}), T: t, dir: filepath.Join(t.TempDir(), "records")}
}

// hold takes the offload as a process does that has nothing in common with others but
// the device and the directory.
func (l *offloadLab) hold(on bool) (h *hostif.HeldOffload, err error) {
	err = l.Host.Do(func() error {
		h, err = hostif.HoldOffloadIn(l.dir, lab.HostDevice, rxVLAN, on)
		return err
	})
	return h, err
}

func (l *offloadLab) mustHold() *hostif.HeldOffload {
	l.Helper()
	h, err := l.hold(false)
	if err != nil {
		l.Fatal(err)
	}
	return h
}

// ethtool is somebody else.
func (l *offloadLab) ethtool(on bool) {
	l.Helper()
	err := l.Host.Do(func() error { _, err := hostif.SetOffload(lab.HostDevice, rxVLAN, on); return err })
	if err != nil {
		l.Fatal(err)
	}
}

func (l *offloadLab) restoreAll(n *lab.Namespace) {
	l.Helper()
	if err := n.Do(func() error { return hostif.RestoreSettingsIn(l.dir) }); err != nil {
		l.Error(err)
	}
}

func (l *offloadLab) done(errs ...error) {
	l.Helper()
	if err := errors.Join(errs...); err != nil {
		l.Error(err)
	}
}

func (l *offloadLab) on() (on bool) {
	l.Helper()
	err := l.Host.Do(func() (err error) { on, err = hostif.FeatureOn(lab.HostDevice, rxVLAN); return err })
	if err != nil {
		l.Error(err)
	}
	return on
}

func (l *offloadLab) expect(step string, on bool, records int) {
	l.Helper()
	if got := l.on(); got != on {
		l.Errorf("%s: on is %v, want %v", step, got, on)
	}
	entries, err := os.ReadDir(l.dir)
	if len(entries) != records || err != nil && !errors.Is(err, os.ErrNotExist) {
		l.Errorf("%s: %d records, want %d: %v, %v", step, len(entries), records, entries, err)
	}
}

// TestHoldOffload has several hold the offload, and end in any order, some of them
// without restoring: the last one does, or the next start.
func TestHoldOffload(t *testing.T) {
	l := newOffloadLab(t)
	l.expect("new", true, 0)
	first, second := l.mustHold(), l.mustHold()
	if _, err := l.hold(true); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the other setting: %v", err)
	}
	l.restoreAll(l.Host)
	l.expect("two", false, 1)
	l.done(first.Restore(), first.Restore())
	l.restoreAll(l.Host)
	l.expect("the second", false, 1)
	third := l.mustHold()
	l.done(second.Abandon())
	l.restoreAll(l.Host)
	l.expect("the third", false, 1)
	l.done(third.Restore(), third.Restore())
	l.expect("none", true, 0)

	for range 2 {
		first, second = l.mustHold(), l.mustHold()
		l.done(first.Restore(), second.Abandon())
		l.expect("the last is dead", false, 1)
		l.restoreAll(l.Peer)
		l.expect("looked for elsewhere", false, 1)
		l.restoreAll(l.Host)
		l.expect("looked for here", true, 0)
	}
	l.done(l.mustHold().Abandon())
	first = l.mustHold()
	l.expect("the next one holds it", false, 1)
	l.done(first.Restore())
	l.expect("the next one has restored it", true, 0)

	first = l.mustHold()
	l.done(l.Delete(), first.Restore())
	if entries, err := os.ReadDir(l.dir); len(entries) != 0 || err != nil {
		t.Errorf("the device is gone, and there are still records: %v, %v", entries, err)
	}
	if _, err := l.hold(false); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no device: %v", err)
	}
}

// TestHoldOffloadChangedByOthers is an administrator who has it off, or switches it on
// meanwhile.
func TestHoldOffloadChangedByOthers(t *testing.T) {
	l := newOffloadLab(t)
	h := l.mustHold()
	l.ethtool(true)
	l.done(h.Restore())
	l.expect("switched on while it was held", true, 0)
	l.done(l.mustHold().Abandon())
	l.ethtool(true)
	l.restoreAll(l.Host)
	l.expect("switched on after the kill", true, 0)
	l.ethtool(false)
	h = l.mustHold()
	l.expect("off before", false, 0)
	l.done(h.Restore())
	l.restoreAll(l.Host)
	l.expect("off before, and after", false, 0)
}

// TestHoldOffloadShared has several take and leave the offload at once: it is off while
// somebody has it, and on in the end.
func TestHoldOffloadShared(t *testing.T) {
	l := newOffloadLab(t)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 10 {
				h, err := l.hold(false)
				if err != nil {
					t.Error(err)
					return
				}
				if l.on() {
					t.Error("on while it is held")
				}
				if i == 0 && n%3 == 0 {
					l.done(h.Abandon())
				} else {
					l.done(h.Restore())
				}
				l.restoreAll(l.Host)
			}
		})
	}
	all.Wait()
	l.expect("all restored", true, 0)
}

// TestHoldOffloadUnrecorded is a process that may not write records: it switches the
// offload, and back, all the same.
func TestHoldOffloadUnrecorded(t *testing.T) {
	l := newOffloadLab(t)
	l.dir = filepath.Join(l.dir, "below")
	if err := os.Mkdir(filepath.Dir(l.dir), 0o700); err != nil {
		t.Fatal(err)
	}
	var h *hostif.HeldOffload
	err := l.Host.Do(func() error {
		// The thread's access to files becomes nobody's; it keeps CAP_NET_ADMIN.
		if err := unix.Setfsuid(65534); err != nil {
			return err
		}
		defer unix.Setfsuid(0) //nolint:errcheck // it has none
		if _, err := hostif.HoldOffloadIn(l.dir, lab.HostDevice, rxVLAN, false); !errors.Is(err, os.ErrPermission) {
			t.Errorf("a record: %v", err)
		}
		if on, err := hostif.FeatureOn(lab.HostDevice, rxVLAN); err != nil || !on {
			t.Errorf("no record, and the offload was switched off: %v", err)
		}
		var err error
		h, err = hostif.HoldOffload(lab.HostDevice, rxVLAN, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	l.expect("switched off", false, 0)
	l.done(h.Restore(), h.Restore())
	l.expect("restored", true, 0)
}
