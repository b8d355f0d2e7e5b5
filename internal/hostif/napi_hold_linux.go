package hostif

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// A NAPI's settings belong to the device: the kernel keeps them when the process
// that made them ends, however it ends, and a driver's NAPI finds them again after
// it was away (napi_config). Nothing in the kernel can be told to forget them. So
// whoever changes them leaves a record of what they were, in a file below
// napiRecords that it keeps locked; the lock goes with the process. A record that
// nobody has locked is a dead process's: RestoreNAPIs puts its settings back.
//
//	lock and write the record -> change the settings -> restore -> unlink the record
//
// Who looks for such records locks the directory meanwhile, so that another one
// does not take it for a holder. At any step, a restore is right that only touches
// what still has the value the record's owner gave it: somebody else's later change
// stays.

// napiRecords is a directory that is empty after a boot.
const napiRecords = "/run/afxnet"

// napiKeeper changes settings and restores them.
type napiKeeper struct {
	dir  string
	open func() (netdev, error)
}

var napis = napiKeeper{dir: napiRecords, open: openNetdev}

// HeldNAPI is a NAPI whose settings were changed.
type HeldNAPI struct {
	ID     uint32     // as SO_INCOMING_NAPI_ID tells it
	Values NAPIValues // all of them, as read back
	record *lockedRecord
	undo   func() error
}

// Restore gives the settings the values that they had before, in the namespace
// SetNAPI was called in, but for those that somebody else has changed meanwhile,
// and nothing if the NAPI is gone. It is idempotent and safe for concurrent use.
func (h *HeldNAPI) Restore() error { return h.undo() }

// SetNAPI changes settings of the NAPI that serves a receive queue, for itself
// alone: one holder at a time, others get unix.EBUSY. It is RestoreNAPIs, too. Until Restore it holds two
// file descriptors. If the process ends without it, the next RestoreNAPIs does it.
//
// errors.Is(err, errors.ErrUnsupported) holds where the kernel or the driver cannot;
// os.ErrPermission without CAP_NET_ADMIN, or if the record of the former values
// cannot be written below /run/afxnet.
func SetNAPI(index int, queue uint32, values NAPIValues) (*HeldNAPI, error) {
	return napis.set(index, queue, values)
}

func (k napiKeeper) set(index int, queue uint32, values NAPIValues) (_ *HeldNAPI, err error) {
	n, err := k.open()
	if errors.Is(err, unix.ENOENT) {
		return nil, napiError(index, queue, fmt.Errorf("settings per NAPI need Linux 6.13 or later: %w", errors.ErrUnsupported))
	}
	if err != nil {
		return nil, napiError(index, queue, err)
	}
	fail := func(err error) (*HeldNAPI, error) {
		n.close()
		return nil, napiError(index, queue, err)
	}
	id, err := queueNAPI(n, index, queue)
	if err != nil {
		return fail(err)
	}
	end, err := k.serialize()
	if err != nil {
		return fail(err)
	}
	defer end()
	if err := k.restoreSerialized(); err != nil {
		return fail(err)
	}
	rec, err := k.lock(recordName(id))
	if err != nil {
		return fail(err)
	}
	before, err := readNAPI(n, id)
	if err != nil {
		return fail(errors.Join(err, rec.remove()))
	}
	change := make(NAPIValues)
	for v, x := range values {
		old, ok := before[v]
		if !ok {
			return fail(errors.Join(fmt.Errorf("%v for one NAPI needs Linux %s or later: %w", v, v.since(), errors.ErrUnsupported), rec.remove()))
		}
		if old != x {
			change[v] = x
		}
	}
	if err := rec.write(n, napiRecord{NAPI: id, Index: index, Queue: queue, Before: before.only(change), Set: change}); err != nil {
		return fail(errors.Join(err, rec.remove()))
	}
	err = writeNAPI(n, id, change)
	after := before
	if err == nil {
		after, err = readNAPI(n, id)
	}
	for v, x := range values {
		if err == nil && after[v] != x {
			err = fmt.Errorf("%v was set to %d, the kernel left it at %d: %w", v, x, after[v], errors.ErrUnsupported)
		}
	}
	if err != nil {
		return fail(errors.Join(err, rec.end(n)))
	}
	return &HeldNAPI{ID: id, Values: after, record: rec, undo: sync.OnceValue(func() error {
		defer n.close()
		if end, err := k.serialize(); err == nil {
			defer end()
		} // else restore nevertheless
		if err := rec.end(n); err != nil {
			return napiError(index, queue, err)
		}
		return nil
	})}, nil
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
