package hostif

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// HeldNAPI is a NAPI whose settings were changed, or a device's where the kernel has
// none for one NAPI.
type HeldNAPI struct {
	ID     uint32     // as SO_INCOMING_NAPI_ID tells it; 0 for a device's settings
	Values NAPIValues // all of them, as read back
	Device bool       // they are of the whole device
	record *record
	undo   func() error
}

// Restore gives the settings the values that they had before, in the namespace
// SetNAPI was called in, but for those that somebody else has changed meanwhile,
// and nothing if the NAPI is gone. A device's wait for the last of their holders. It
// is idempotent and safe for concurrent use.
func (h *HeldNAPI) Restore() error { return h.undo() }

// SetNAPI changes settings of the NAPI that serves a receive queue, for itself
// alone: one holder at a time, others get unix.EBUSY. It is RestoreSettings, too.
// Until Restore it holds two file descriptors. If the process ends without it, the
// next RestoreSettings does it.
//
// Before Linux 6.13 it changes NAPIDeferHardIRQs and NAPIGROFlushTimeout of the whole
// device. Those have as many holders as want the same, in one process.
//
// errors.Is(err, errors.ErrUnsupported) holds where the kernel or the driver cannot;
// os.ErrPermission without CAP_NET_ADMIN, or if the record of the former values
// cannot be written below /run/afxnet.
func SetNAPI(index int, queue uint32, values NAPIValues) (*HeldNAPI, error) {
	return settings.set(index, queue, values)
}

// errOldKernel is a kernel that has no settings for one NAPI.
var errOldKernel = fmt.Errorf("settings per NAPI need Linux 6.13 or later: %w", errors.ErrUnsupported)

func (k keeper) set(index int, queue uint32, values NAPIValues) (*HeldNAPI, error) {
	h, err := k.setNAPI(index, queue, values)
	if errors.Is(err, errOldKernel) {
		if h, err = k.setDevice(index, values); err != nil {
			return nil, fmt.Errorf("hostif: NAPIs of interface index %d, as a whole before Linux 6.13: %w", index, err)
		}
		return h, nil
	}
	if err != nil {
		return nil, napiError(index, queue, err)
	}
	return h, nil
}

func (k keeper) setNAPI(index int, queue uint32, values NAPIValues) (*HeldNAPI, error) {
	n, err := k.open()
	if errors.Is(err, unix.ENOENT) {
		return nil, errOldKernel
	}
	if err != nil {
		return nil, err
	}
	fail := func(err error) (*HeldNAPI, error) {
		n.close()
		return nil, err
	}
	id, err := queueNAPI(n, index, queue)
	if err != nil {
		return fail(err)
	}
	name := napiRecordName(id)
	end, err := k.begin(name)
	if err != nil {
		return fail(err)
	}
	defer end()
	about := napiRecord{NAPI: id, Index: index, Queue: queue}
	rec, after, err := k.change(name, values, steps{
		read:  func() (NAPIValues, error) { return readNAPI(n, id) },
		write: func(v NAPIValues) error { return writeNAPI(n, id, v) },
		record: func(rec *record, before, set NAPIValues) error {
			about.Before, about.Set = before, set
			return writeNAPIRecord(rec, n, &about)
		},
		undo: func() (bool, error) { return k.undoNAPI(n, &about) },
	})
	if err != nil {
		return fail(err)
	}
	return &HeldNAPI{ID: id, Values: after, record: rec, undo: sync.OnceValue(func() error {
		defer n.close()
		if err := k.finish(rec, func() (bool, error) { return k.undoNAPI(n, &about) }); err != nil {
			return napiError(index, queue, err)
		}
		return nil
	})}, nil
}

// steps are what keeper.change is made of, for settings of one kind.
type steps struct {
	read   func() (NAPIValues, error)
	write  func(NAPIValues) error
	record func(rec *record, before, set NAPIValues) error // before they are set
	undo   func() (done bool, err error)                   // once they are recorded
}

// change sets what is not as values have it, on record under a name, and reads it
// back. begin comes before it. If it fails, the record is gone and all is as before,
// or else the record tells of it.
func (k keeper) change(name string, values NAPIValues, s steps) (rec *record, after NAPIValues, err error) {
	if rec, err = k.dir.lock(name); err != nil {
		return nil, nil, err
	}
	before, err := s.read()
	var set NAPIValues
	if err == nil {
		set, err = before.change(values)
	}
	if err == nil {
		err = s.record(rec, before.only(set), set)
	}
	if err != nil {
		return nil, nil, errors.Join(err, rec.remove())
	}
	after = before
	if err = s.write(set); err == nil {
		after, err = s.read()
	}
	if err == nil {
		err = after.are(values)
	}
	if err != nil {
		return nil, nil, errors.Join(err, rec.end(s.undo()))
	}
	return rec, after, nil
}

// change is which of the values to set where v are set. The error is about one that
// v lacks.
func (v NAPIValues) change(values NAPIValues) (NAPIValues, error) {
	change := make(NAPIValues)
	for name, x := range values {
		old, ok := v[name]
		if _, some := v[NAPIDeferHardIRQs]; !ok && !some {
			return nil, errOldKernel
		}
		if !ok {
			return nil, fmt.Errorf("%v for one NAPI needs Linux %s or later: %w", name, name.since(), errors.ErrUnsupported)
		}
		if old != x {
			change[name] = x
		}
	}
	return change, nil
}

// are says which of the values v lacks, once they were set.
func (v NAPIValues) are(values NAPIValues) error {
	for name, x := range values {
		if v[name] != x {
			return fmt.Errorf("%v was set to %d, the kernel left it at %d: %w", name, x, v[name], errors.ErrUnsupported)
		}
	}
	return nil
}

// ReadNAPI returns the id and the settings of the NAPI that serves a receive queue,
// those that this kernel has. errors.Is(err, errors.ErrUnsupported) holds where
// nobody tells which that is, and unix.ENOENT where it is off, as while the
// interface is down.
func ReadNAPI(index int, queue uint32) (id uint32, values NAPIValues, err error) {
	n, err := openNetdev()
	if err == nil {
		defer n.close()
		id, err = queueNAPI(n, index, queue)
	}
	if err == nil {
		values, err = readNAPI(n, id)
	}
	if err != nil {
		return 0, nil, napiError(index, queue, err)
	}
	return id, values, nil
}

// only returns those of the values that of names.
func (v NAPIValues) only(of NAPIValues) NAPIValues {
	some := make(NAPIValues, len(of))
	for name := range of {
		some[name] = v[name]
	}
	return some
}

func napiError(index int, queue uint32, err error) error {
	return fmt.Errorf("hostif: NAPI of queue %d, interface index %d: %w", queue, index, err)
}
