package hostif

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const fakeFeature = "rx-vlan-hw-parse"

// fakeOffload is a device with one offload.
type fakeOffload struct {
	featureState
	stuck   bool  // the driver leaves it as it is
	blind   error // of every reading after a change
	changed func()
	err     error // of a change
	writes  int
	gone    bool
}

func newFakeOffload() *fakeOffload {
	return &fakeOffload{featureState: featureState{available: true, wanted: true, active: true}}
}

func (d *fakeOffload) close()                     {}
func (d *fakeOffload) namespace() (uint64, error) { return 42, nil }
func (d *fakeOffload) index(string) (int, error)  { return 7, nil }

func (d *fakeOffload) name(index int) (string, error) {
	if index != 7 || d.gone {
		return "", unix.ENODEV
	}
	return "eth0", nil
}

func (d *fakeOffload) readFeature(_, _ string) (featureState, error) {
	if d.blind != nil && d.writes > 0 {
		return featureState{}, d.blind
	}
	return d.featureState, nil
}

func (d *fakeOffload) wantFeature(_, _ string, on bool) error {
	if d.err != nil {
		return d.err
	}
	d.writes++
	d.wanted = on
	if !d.stuck {
		d.active = on
	}
	if d.changed != nil {
		d.changed()
	}
	return nil
}

func (d *fakeOffload) expect(t *testing.T, step string, wanted, active bool) {
	t.Helper()
	if d.wanted != wanted || d.active != active {
		t.Errorf("%s: %+v, want %v, %v", step, d.featureState, wanted, active)
	}
}

func (d *fakeOffload) keeper(dir string) keeper {
	k := keeperOf(dir, newFakeNetdev())
	k.offloads = func() (offloadTool, error) { return d, nil }
	return k
}

func mustHold(t *testing.T, k keeper) *HeldOffload {
	t.Helper()
	h, err := k.holdOffload("eth0", fakeFeature, false)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustRestore(t *testing.T, h *HeldOffload) {
	t.Helper()
	if err := h.Restore(); err != nil {
		t.Error(err)
	}
}

// TestSetFeatureRefused wants a feature that the driver leaves as it is, or that
// cannot be read back, to be wanted as before.
func TestSetFeatureRefused(t *testing.T) {
	d := newFakeOffload()
	d.stuck = true
	if _, err := setFeature(d, "eth0", fakeFeature, false); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("left as it is: %v", err)
	}
	d.expect(t, "left as it is", true, true)

	d = newFakeOffload()
	d.blind = unix.EIO
	if _, err := setFeature(d, "eth0", fakeFeature, false); !errors.Is(err, unix.EIO) {
		t.Errorf("not read back: %v", err)
	}
	d.expect(t, "not read back", true, true)
}

// TestHoldOffloadTable goes through what devices have and lack: the offload is off, or
// as it was, and back afterwards, without a record.
func TestHoldOffloadTable(t *testing.T) {
	fixed := func(on bool) *fakeOffload { return &fakeOffload{featureState: featureState{active: on}} }
	for _, tc := range []struct {
		name          string
		device        *fakeOffload
		records       int // while it is held
		is            error
		says          string
		wanted, after bool
	}{
		{name: "on", device: newFakeOffload(), records: 1, wanted: true, after: true},
		{name: "off", device: &fakeOffload{featureState: featureState{available: true}}},
		{name: "off by itself", device: &fakeOffload{featureState: featureState{available: true, wanted: true}, stuck: true}, records: 1, wanted: true},
		{name: "on by itself", device: &fakeOffload{featureState: featureState{available: true, active: true}}, records: 1},
		{name: "fixed off", device: fixed(false)},
		{name: "fixed on", device: fixed(true), is: errors.ErrUnsupported, says: "leaves it at true", after: true},
		{name: "stuck", device: &fakeOffload{featureState: newFakeOffload().featureState, stuck: true}, is: errors.ErrUnsupported, says: "leaves it at true", wanted: true, after: true},
		{name: "no privilege", device: &fakeOffload{featureState: newFakeOffload().featureState, err: unix.EPERM}, is: os.ErrPermission, wanted: true, after: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := tc.device.keeper(t.TempDir())
			h, err := k.holdOffload("eth0", fakeFeature, false)
			if tc.is != nil {
				if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v, want %v, %q", err, tc.is, tc.says)
				}
			} else if err != nil {
				t.Fatal(err)
			} else {
				tc.device.expect(t, "held", false, false)
				leftRecords(t, k, tc.records)
				mustRestore(t, h)
			}
			tc.device.expect(t, "restored", tc.wanted, tc.after)
			leftRecords(t, k, 0)
		})
	}
}

// TestHoldOffloadOrder wants the record written before the change, and restored
// wherever the process ends.
func TestHoldOffloadOrder(t *testing.T) {
	d := newFakeOffload()
	k := d.keeper(t.TempDir())
	seen := 0
	d.changed = func() {
		files, err := filepath.Glob(string(k.dir) + "/offload-42-7-*")
		if err != nil || len(files) != 1 {
			t.Errorf("%d records: %v", len(files), err)
			return
		}
		if text, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(text), fakeFeature) {
			t.Errorf("the record is %q, %v", text, err)
		}
		seen++
	}
	h := mustHold(t, k)
	mustRestore(t, h)
	if seen != 2 {
		t.Errorf("%d changes, want 2", seen)
	}
	leftRecords(t, k, 0)

	// Killed before the change, after one that the driver has not done, and after it.
	for _, at := range []featureState{{true, true, true}, {true, false, true}, {true, false, false}} {
		d := newFakeOffload()
		k := d.keeper(t.TempDir())
		if err := mustHold(t, k).Abandon(); err != nil {
			t.Fatal(err)
		}
		d.featureState = at
		if err := k.restoreAll(); err != nil {
			t.Errorf("%+v: %v", at, err)
		}
		d.expect(t, "the next start", true, true)
		leftRecords(t, k, 0)
	}
}

// TestHoldOffloadRestoreFails keeps the record of what the driver does not take back.
// The next one who wants the same takes it over, and restores it.
func TestHoldOffloadRestoreFails(t *testing.T) {
	d := newFakeOffload()
	k := d.keeper(t.TempDir())
	h := mustHold(t, k)
	d.err = unix.EIO
	if err := h.Restore(); !errors.Is(err, unix.EIO) {
		t.Errorf("restore: %v", err)
	}
	leftRecords(t, k, 1)
	if err := k.restoreAll(); !errors.Is(err, unix.EIO) {
		t.Errorf("the next start: %v", err)
	}
	h = mustHold(t, k)
	d.err = nil
	mustRestore(t, h)
	d.expect(t, "taken over", true, true)
	leftRecords(t, k, 0)

	h = mustHold(t, k)
	d.stuck = true
	if err := h.Restore(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("left off: %v", err)
	}
	d.expect(t, "left off", true, false)
	if err := k.restoreAll(); err != nil {
		t.Errorf("left off, the next start: %v", err)
	}
	leftRecords(t, k, 0)

	d = newFakeOffload()
	k = d.keeper(t.TempDir())
	h = mustHold(t, k)
	d.gone = true
	mustRestore(t, h)
	leftRecords(t, k, 0)
}
