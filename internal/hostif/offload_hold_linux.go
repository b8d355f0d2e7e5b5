package hostif

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const offloadPrefix = "offload-"

// offloadRecord tells of one offload of a device.
type offloadRecord struct {
	Boot      string
	Namespace uint64 // of the network, see offloadTool.namespace
	Index     int
	Feature   string // empty: nothing was changed
	Wanted    bool   // before
	Active    bool   // before
	Set       bool
}

// HeldOffload is an offload that was switched on or off.
type HeldOffload struct {
	record *record // nil: nothing was changed, or nothing could be recorded
	undo   func() error
}

// Restore has the offload as it was before, in the namespace HoldOffload was called
// in, whatever the device is called then, unless somebody else has changed it back
// meanwhile, and nothing if the device is gone. In another namespace it does not find
// the device, which keeps the setting. It waits for the last of its holders.
// It is idempotent and safe for concurrent use.
func (h *HeldOffload) Restore() error { return h.undo() }

// HoldOffload is SetOffload for devices that outlive the process, with RestoreSettings
// before it. If the process ends without Restore, the next RestoreSettings does it.
// Several processes may hold the same; who wants the other setting gets unix.EBUSY.
// Until Restore it holds two file descriptors.
//
// A process that may not write below /run/afxnet has no record: what it leaves behind
// stays.
func HoldOffload(name, feature string, on bool) (*HeldOffload, error) {
	h, err := settings.holdOffload(name, feature, on)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		undo, err := SetOffload(name, feature, on)
		if err != nil {
			return nil, err
		}
		return &HeldOffload{undo: undo}, nil
	}
	if err != nil {
		return nil, offloadError(name, feature, err)
	}
	return h, nil
}

func (k keeper) holdOffload(name, feature string, on bool) (_ *HeldOffload, err error) {
	tool, err := k.offloads()
	if err != nil {
		return nil, err
	}
	unused := func(err error) (*HeldOffload, error) {
		tool.close()
		if err != nil {
			return nil, err
		}
		return &HeldOffload{undo: func() error { return nil }}, nil
	}
	about := offloadRecord{Boot: bootID(), Feature: feature, Set: on}
	if about.Index, err = tool.index(name); err != nil {
		return unused(err)
	}
	if about.Namespace, err = tool.namespace(); err != nil {
		return unused(err)
	}
	// First what has no record: what cannot be changed.
	now, err := tool.readFeature(name, feature)
	if err == nil && !now.available && now.active != on {
		err = leftAt(now)
	}
	if err != nil || !now.available {
		return unused(err)
	}
	end, err := k.dir.serialize()
	if err != nil {
		return unused(err)
	}
	defer end()
	// A record of this offload that could not be undone is taken over.
	if _, err := k.restoreSerialized(); err != nil {
		return unused(err)
	}
	rec, err := k.dir.share(fmt.Sprintf("%s%d-%d-%s", offloadPrefix, about.Namespace, about.Index, feature))
	if err != nil {
		return unused(err)
	}
	changed, err := takeOffload(tool, name, rec, &about)
	leave := func() (done bool, err error) {
		if last, err := rec.last(); !last {
			return false, err
		}
		return undoOffload(tool, &about)
	}
	if err != nil {
		return unused(errors.Join(err, rec.end(leave())))
	}
	if !changed {
		return unused(rec.remove())
	}
	return &HeldOffload{record: rec, undo: sync.OnceValue(func() error {
		defer tool.close()
		if err := k.finish(rec, leave); err != nil {
			return offloadError(name, feature, err)
		}
		return nil
	})}, nil
}

// takeOffload switches the offload that about is of, and completes about with what the
// record of its other holders has, or else writes the record. changed is false if there
// are none and nothing is to be done.
func takeOffload(tool offloadTool, name string, rec *record, about *offloadRecord) (changed bool, err error) {
	var others offloadRecord
	now, err := tool.readFeature(name, about.Feature)
	if err == nil {
		err = rec.read(&others)
	}
	if err != nil {
		return false, err
	}
	switch {
	case others.Feature == "" && now.wanted == about.Set && now.active == about.Set:
		return false, nil
	case others.Feature == "":
		about.Wanted, about.Active = now.wanted, now.active
		err = rec.write(about)
	case others.Set != about.Set:
		err = fmt.Errorf("another stack has set it to %v: %w", others.Set, unix.EBUSY)
		*about = others
	default:
		*about = others
	}
	switch {
	case err != nil || now.wanted == about.Set && now.active == about.Set:
	case now.active == about.Set:
		// The driver has it so by itself, and could have it otherwise later.
		err = tool.wantFeature(name, about.Feature, about.Set)
	default:
		_, err = setFeature(tool, name, about.Feature, about.Set)
	}
	if err == nil {
		err = rec.share()
	}
	return err == nil, err
}

// undoOffload undoes what about tells of. It goes by what is wanted: the driver may
// not have done it, or not yet. A device that is gone has nothing to restore.
func undoOffload(tool offloadTool, about *offloadRecord) (done bool, err error) {
	name, err := tool.name(about.Index)
	var now featureState
	if err == nil {
		now, err = tool.readFeature(name, about.Feature)
	}
	if err == nil && now.wanted == about.Set && about.Wanted != about.Set {
		err = tool.wantFeature(name, about.Feature, about.Wanted)
		if err == nil && about.Active == about.Wanted {
			err = checkFeature(tool, name, about.Feature, about.Active)
		}
	}
	if errors.Is(err, unix.ENODEV) {
		return true, nil
	}
	return err == nil, err
}

// restoreOffload undoes a dead process's record.
func (k keeper) restoreOffload(rec *record) (done bool, err error) {
	var about offloadRecord
	if err := rec.read(&about); err != nil || about.Feature == "" {
		return err == nil, err
	}
	tool, err := k.offloads()
	if err != nil {
		return false, err
	}
	defer tool.close()
	namespace, err := tool.namespace()
	if err != nil || namespace != about.Namespace {
		return false, err
	}
	return undoOffload(tool, &about)
}
