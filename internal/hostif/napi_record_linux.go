package hostif

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const recordPrefix = "napi-"

// recordName is the file of a NAPI. The kernel gives an id once per boot.
func recordName(id uint32) string { return recordPrefix + strconv.FormatUint(uint64(id), 10) }

// napiRecord is what such a file holds. An empty one, or half a one, is of a
// process that had changed nothing yet.
type napiRecord struct {
	Boot      string // which boot the rest is about
	Namespace uint64 // of the network, see netdev.namespace
	NAPI      uint32
	Index     int // of the interface
	Queue     uint32
	Before    NAPIValues
	Set       NAPIValues // what was to be changed, to these values
}

// lockedRecord is a record whose lock this process has.
type lockedRecord struct {
	keeper napiKeeper
	file   *os.File
	napiRecord
}

// serializeTries times serializePause is how long who holds the directory may take,
// some milliseconds usually.
const (
	serializeTries = 200
	serializePause = 10 * time.Millisecond
)

// serialize makes this the only one that looks for records that nobody has locked:
// in between, a record is locked by those that hold it, and by nobody who only looks.
func (k napiKeeper) serialize() (end func(), err error) {
	// Others must not open the directory, nor a record: who can could lock it.
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("the record of the former settings: %w (needs a %s that the process may write to)", err, k.dir)
	}
	dir, err := os.Open(k.dir)
	if err != nil {
		return nil, err
	}
	for range serializeTries {
		if err = unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(serializePause)
	}
	if err != nil {
		dir.Close()
		return nil, &os.PathError{Op: "flock", Path: k.dir, Err: err}
	}
	return func() { dir.Close() }, nil
}

// lock makes or takes over a record; serialize comes before it. The error wraps unix.EBUSY if another holder
// lives, also in this process.
func (k napiKeeper) lock(name string) (*lockedRecord, error) {
	path := filepath.Join(k.dir, name)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("the record of the former settings: %w", err)
		}
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				err = fmt.Errorf("%s is locked by who has set it, a socket of this or another process: %w", path, unix.EBUSY)
			}
			return nil, err
		}
		// Its last holder may have removed it before we had the lock.
		if now, statErr := os.Stat(path); statErr == nil {
			mine, err := f.Stat()
			if err == nil && os.SameFile(now, mine) {
				return &lockedRecord{keeper: k, file: f}, nil
			}
		}
		f.Close()
	}
}

// read fills in what the file has; nothing if it is not whole, or of another boot.
func (r *lockedRecord) read() error {
	text, err := io.ReadAll(io.NewSectionReader(r.file, 0, 1<<16))
	if err != nil {
		return err
	}
	var rec napiRecord
	if json.Unmarshal(text, &rec) == nil && rec.Boot == bootID() {
		r.napiRecord = rec
	}
	return nil
}

// write makes rec what the file has, before what it tells of is done.
func (r *lockedRecord) write(n netdev, rec napiRecord) error {
	var err error
	rec.Boot = bootID()
	if rec.Namespace, err = n.namespace(); err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	text, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	if err := r.file.Truncate(0); err != nil {
		return err
	}
	if _, err := r.file.WriteAt(text, 0); err != nil {
		return err
	}
	r.napiRecord = rec
	return nil
}

// restore undoes what the record tells of. done is false if the NAPI is not here
// but may be, later or in another namespace.
func (r *lockedRecord) restore(n netdev) (done bool, err error) {
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
		other, err := r.keeper.lock(recordName(id))
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
	back := make(NAPIValues)
	for v, x := range r.Set {
		if now[v] == x && r.Before[v] != x {
			back[v] = r.Before[v]
		}
	}
	return true, writeNAPI(n, id, back)
}

// end restores what this holder changed, and removes the record. A NAPI that is
// gone for good needs neither; what may come again leaves the record to the next
// start.
func (r *lockedRecord) end(n netdev) error {
	done, err := r.restore(n)
	if err != nil || !done {
		return errors.Join(err, r.keep())
	}
	return r.remove()
}

// leave gives up the lock, and removes the record if it has nothing to tell.
func (r *lockedRecord) leave() {
	if at, err := r.file.Stat(); err == nil && at.Size() == 0 {
		r.remove() //nolint:errcheck // an empty record does no harm
		return
	}
	r.keep() //nolint:errcheck // nothing was written
}

// keep gives up the lock and leaves the record.
func (r *lockedRecord) keep() error { return r.file.Close() }

// remove unlinks the record, then gives up the lock.
func (r *lockedRecord) remove() error {
	err := os.Remove(r.file.Name())
	if errors.Is(err, os.ErrNotExist) {
		err = nil // somebody has cleaned up
	}
	return errors.Join(err, r.file.Close())
}

// RestoreNAPIs restores the settings that processes left behind which ended without
// doing so, for the devices in the caller's network namespace, and removes their
// records. Those that live keep theirs. It needs what SetNAPI needs, once there is
// something to do.
func RestoreNAPIs() error { return napis.restoreAll() }

func (k napiKeeper) restoreAll() error {
	if entries, err := os.ReadDir(k.dir); err != nil || len(entries) == 0 {
		return nil // none were ever made, or they are not ours to see
	}
	end, err := k.serialize()
	if err != nil {
		return fmt.Errorf("hostif: restore NAPIs: %w", err)
	}
	defer end()
	return k.restoreSerialized()
}

func (k napiKeeper) restoreSerialized() error {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return fmt.Errorf("hostif: restore NAPIs: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), recordPrefix) {
			continue
		}
		if err := k.restoreOne(e.Name()); err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("hostif: restore %s: %w", e.Name(), err))
		}
	}
	return errors.Join(errs...)
}

func (k napiKeeper) restoreOne(name string) error {
	rec, err := k.lock(name)
	if err != nil {
		return err
	}
	n, err := k.open()
	if err != nil {
		return errors.Join(err, rec.keep())
	}
	defer n.close()
	if err := rec.read(); err != nil {
		return errors.Join(err, rec.keep())
	}
	return rec.end(n)
}

// bootID tells this boot from others, for a directory that outlived one.
func bootID() string { return sysfsValue("/proc/sys/kernel/random/boot_id") }
