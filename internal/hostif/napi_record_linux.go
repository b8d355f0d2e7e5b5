package hostif

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

const napiPrefix = "napi-"

// napiRecordName is the file of a NAPI. The kernel gives an id once per boot.
func napiRecordName(id uint32) string { return napiPrefix + strconv.FormatUint(uint64(id), 10) }

// napiRecord tells of the settings of one NAPI.
type napiRecord struct {
	Boot      string
	Namespace uint64 // of the network, see netdev.namespace
	NAPI      uint32
	Index     int // of the interface
	Queue     uint32
	Before    NAPIValues
	Set       NAPIValues // what was to be changed, to these values
}

// writeNAPIRecord makes r what rec has, with the boot and the namespace.
func writeNAPIRecord(rec *record, n netdev, r *napiRecord) (err error) {
	r.Boot = bootID()
	if r.Namespace, err = n.namespace(); err != nil {
		return err
	}
	return rec.write(r)
}

// undoNAPI undoes what r tells of. done is false if the NAPI is not here but may be,
// later or in another namespace.
func (k keeper) undoNAPI(n netdev, r *napiRecord) (done bool, err error) {
	if len(r.Set) == 0 {
		return true, nil
	}
	id := r.NAPI
	now, err := readNAPI(n, id)
	if errors.Is(err, unix.ENOENT) {
		// It is gone, was moved with its device, or has come again under
		// another id: some drivers make NAPIs with the program (veth), in the
		// same memory, where irq-suspend-timeout survives (Linux 6.18).
		here, err := n.namespace()
		if err != nil || here != r.Namespace {
			return false, err
		}
		id, err = queueNAPI(n, r.Index, r.Queue)
		switch {
		case errors.Is(err, unix.ENODEV):
			return true, nil
		case err != nil || id == r.NAPI:
			return false, nil // the device is down, or has fewer queues now
		}
		other, err := k.dir.lock(napiRecordName(id))
		if errors.Is(err, unix.EBUSY) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		defer other.leave()
		if now, err = readNAPI(n, id); err != nil {
			return false, err
		}
	} else if err != nil {
		return false, err
	}
	return true, writeNAPI(n, id, now.back(r.Before, r.Set))
}

// back is what to set for before to be there again: what still has the value that
// was set.
func (v NAPIValues) back(before, set NAPIValues) NAPIValues {
	back := make(NAPIValues)
	for name, x := range set {
		if v[name] == x && before[name] != x {
			back[name] = before[name]
		}
	}
	return back
}

// restoreNAPI undoes a dead process's record.
func (k keeper) restoreNAPI(rec *record) (done bool, err error) {
	var r napiRecord
	if err := rec.read(&r); err != nil {
		return false, err
	}
	n, err := k.open()
	if err != nil {
		return false, err
	}
	defer n.close()
	return k.undoNAPI(n, &r)
}
