package hostif_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// napiLab is a lab whose veth has a NAPI because GRO is on, with or without a
// program, and a directory for records.
type napiLab struct {
	*lab.Lab
	*testing.T
	dir   string
	index int
}

func newNAPILab(t *testing.T) *napiLab {
	l := &napiLab{Lab: lab.New(t, lab.Config{}), T: t, dir: filepath.Join(t.TempDir(), "records")}
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	l.index = ifc.Index
	l.gro(true)
	l.in(func() error {
		_, values, err := hostif.ReadNAPI(l.index, 0)
		if _, ok := values[hostif.NAPIDeferHardIRQs]; err == nil && !ok {
			t.Skip("before Linux 6.13: no settings per NAPI")
		}
		return err
	})
	return l
}

func (l *napiLab) in(f func() error) {
	l.Helper()
	if err := l.Host.Do(f); err != nil {
		l.Fatal(err)
	}
}

func (l *napiLab) gro(on bool) {
	l.Helper()
	l.in(func() error {
		_, err := hostif.SetOffload(lab.HostDevice, "rx-gro", on)
		return err
	})
}

func (l *napiLab) set(values hostif.NAPIValues) (h *hostif.HeldNAPI, err error) {
	err = l.Host.Do(func() error {
		h, err = hostif.SetNAPIIn(l.dir, l.index, 0, values)
		return err
	})
	return h, err
}

func (l *napiLab) mustSet(values hostif.NAPIValues) *hostif.HeldNAPI {
	l.Helper()
	h, err := l.set(values)
	if err != nil {
		l.Fatal(err)
	}
	return h
}

// expect wants the settings to be so, and the directory to have so many records.
func (l *napiLab) expect(step string, want hostif.NAPIValues, records int) {
	l.Helper()
	l.in(func() error {
		_, got, err := hostif.ReadNAPI(l.index, 0)
		if !maps.Equal(got, want) {
			l.Errorf("%s: %v, want %v", step, got, want)
		}
		return err
	})
	entries, err := os.ReadDir(l.dir)
	if len(entries) != records || err != nil && !errors.Is(err, os.ErrNotExist) {
		l.Errorf("%s: %d records, want %d: %v, %v", step, len(entries), records, entries, err)
	}
}

func (l *napiLab) current() (values hostif.NAPIValues) {
	l.in(func() (err error) {
		_, values, err = hostif.ReadNAPI(l.index, 0)
		return err
	})
	return values
}

// with is values with others in their place.
func with(values hostif.NAPIValues, more hostif.NAPIValues) hostif.NAPIValues {
	values = maps.Clone(values)
	maps.Copy(values, more)
	return values
}

var askedNAPI = hostif.NAPIValues{hostif.NAPIDeferHardIRQs: 2, hostif.NAPIGROFlushTimeout: 5e9, hostif.NAPIIRQSuspendTimeout: 20e6}

// TestSetNAPI sets, reads back and restores.
func TestSetNAPI(t *testing.T) {
	l := newNAPILab(t)
	before := l.current()
	h := l.mustSet(askedNAPI)
	if h.ID == 0 || !maps.Equal(h.Values, with(before, askedNAPI)) {
		t.Errorf("%+v", h)
	}
	l.expect("set", with(before, askedNAPI), 1)
	if _, err := l.set(askedNAPI); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second holder: %v", err)
	}
	l.in(func() error { return hostif.RestoreSettingsIn(l.dir) })
	l.expect("a live holder's record looked at", with(before, askedNAPI), 1)
	for range 2 { // from outside the namespace
		if err := h.Restore(); err != nil {
			t.Error(err)
		}
		l.expect("restored", before, 0)
	}

	h = l.mustSet(nil)
	l.expect("nothing asked for", before, 1)
	if err := h.Restore(); err != nil {
		t.Error(err)
	}
	if _, ok := before[hostif.NAPIThreaded]; ok {
		thread := hostif.NAPIValues{hostif.NAPIThreaded: hostif.NAPIThreadedOn}
		h := l.mustSet(thread)
		l.expect("threaded", with(before, thread), 1)
		if err := h.Restore(); err != nil {
			t.Error(err)
		}
		l.expect("not threaded", before, 0)
	}
	if _, err := l.set(hostif.NAPIValues{hostif.NAPIDeferHardIRQs: 1 << 31}); !errors.Is(err, unix.ERANGE) {
		t.Errorf("out of range: %v", err)
	}
	l.expect("refused", before, 0)
}

// TestNAPIChangedByOthers leaves alone what somebody else has changed meanwhile.
func TestNAPIChangedByOthers(t *testing.T) {
	l := newNAPILab(t)
	before := l.current()
	h := l.mustSet(askedNAPI)
	theirs := hostif.NAPIValues{hostif.NAPIGROFlushTimeout: 77}
	l.in(func() error { _, err := hostif.SetNAPIIn(t.TempDir(), l.index, 0, theirs); return err })
	if err := h.Restore(); err != nil {
		t.Error(err)
	}
	l.expect("restored", with(before, theirs), 0)
}

// TestNAPIRestoredLater is a process that ended without restoring: the next one
// does, whether it looks for such or sets for itself.
func TestNAPIRestoredLater(t *testing.T) {
	l := newNAPILab(t)
	before := l.current()
	for range 2 {
		if err := l.mustSet(askedNAPI).Abandon(); err != nil {
			t.Fatal(err)
		}
		l.expect("abandoned", with(before, askedNAPI), 1)
		l.in(func() error { return hostif.RestoreSettingsIn(l.dir) })
		l.expect("restored", before, 0)
	}
	if err := l.mustSet(askedNAPI).Abandon(); err != nil {
		t.Fatal(err)
	}
	other := hostif.NAPIValues{hostif.NAPIGROFlushTimeout: 9}
	h := l.mustSet(other)
	l.expect("another's", with(before, other), 1)
	if err := h.Restore(); err != nil {
		t.Error(err)
	}
	l.expect("all restored", before, 0)

	// From another namespace it is not seen, and its record is kept.
	if err := l.mustSet(askedNAPI).Abandon(); err != nil {
		t.Fatal(err)
	}
	if err := l.Peer.Do(func() error { return hostif.RestoreSettingsIn(l.dir) }); err != nil {
		t.Error(err)
	}
	l.expect("looked for elsewhere", with(before, askedNAPI), 1)
	l.in(func() error { return hostif.RestoreSettingsIn(l.dir) })
	l.expect("looked for here", before, 0)
}

// TestNAPIComesAgain has the NAPI go, as veth's does with GRO, and come again under
// another id: what it still has of the settings is restored then.
func TestNAPIComesAgain(t *testing.T) {
	l := newNAPILab(t)
	before := l.current()
	h := l.mustSet(askedNAPI)
	l.gro(false)
	if _, err := l.set(askedNAPI); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no NAPI: %v", err)
	}
	if err := h.Restore(); err != nil {
		t.Errorf("restore without a NAPI: %v", err)
	}
	l.gro(true)
	l.in(func() error { return hostif.RestoreSettingsIn(l.dir) })
	l.expect("come again", before, 0)

	h = l.mustSet(askedNAPI)
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if err := h.Restore(); err != nil {
		t.Errorf("restore without the device: %v", err)
	}
	if entries, err := os.ReadDir(l.dir); len(entries) != 0 || err != nil {
		t.Errorf("the device is gone, and there are still records: %v, %v", entries, err)
	}
	if _, err := l.set(askedNAPI); !errors.Is(err, unix.ENODEV) {
		t.Errorf("no device: %v", err)
	}
}

// TestNAPIOfSeveralQueues is refused where the driver does not link NAPIs to queues.
func TestNAPIOfSeveralQueues(t *testing.T) {
	l := lab.New(t, lab.Config{Queues: 2})
	err := l.Host.Do(func() error {
		ifc, err := hostif.Lookup(lab.HostDevice)
		if err != nil {
			return err
		}
		if _, err := hostif.SetOffload(lab.HostDevice, "rx-gro", true); err != nil {
			return err
		}
		_, err = hostif.SetNAPIIn(t.TempDir(), ifc.Index, 1, askedNAPI)
		return err
	})
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("two queues, two NAPIs, and no links: %v", err)
	}
}

// TestNAPIRestoredBySeveral has several look for the same record at once, some of
// them elsewhere: whoever is done finds the settings restored, and can set them.
func TestNAPIRestoredBySeveral(t *testing.T) {
	l := newNAPILab(t)
	before := l.current()
	for range 20 {
		if err := l.mustSet(askedNAPI).Abandon(); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for _, n := range []*lab.Namespace{l.Host, l.Peer, l.Host, l.Peer, l.Peer} {
			all.Go(func() {
				err := n.Do(func() error {
					if err := hostif.RestoreSettingsIn(l.dir); err != nil || n == l.Peer {
						return err
					}
					_, now, err := hostif.ReadNAPI(l.index, 0)
					if !maps.Equal(now, before) {
						t.Errorf("%v, want %v", now, before)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		l.expect("looked for by several", before, 0)

		if err := l.mustSet(askedNAPI).Abandon(); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if err := l.Peer.Do(func() error { return hostif.RestoreSettingsIn(l.dir) }); err != nil {
				t.Error(err)
			}
		})
		h, err := l.set(askedNAPI)
		all.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Restore(); err != nil {
			t.Error(err)
		}
		l.expect("set while others look", before, 0)
	}
}
