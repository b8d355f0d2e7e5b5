package hostif

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Some settings belong to the device: the kernel keeps them when the process that
// made them ends, however it ends, and nothing in it can be told to forget them. So
// whoever changes them leaves a record of what they were, in a file below
// settingsRecords that it keeps locked; the lock goes with the process. A record
// that nobody has locked is a dead process's: RestoreSettings undoes what it tells of.
//
//	lock and write the record -> change the settings -> restore -> unlink the record
//
// Who looks for such records locks the directory meanwhile, so that another one
// does not take it for a holder. At any step, a restore is right that only touches
// what still has the value the record's owner gave it: somebody else's later change
// stays.

// settingsRecords is a directory that is empty after a boot. Until then it keeps
// records of network namespaces that are gone: nothing tells whether a namespace is
// there, for a mere descriptor or socket keeps it. In the directory above it may
// lie what is for others, such as the socket of a helper (xsk/handover).
const settingsRecords = "/run/afxnet/settings"

// keeper changes settings and restores them. Package tests have one with a
// directory and a kernel of their own.
type keeper struct {
	dir      recordDir
	open     func() (netdev, error)
	files    func(index int) (*deviceFiles, error)
	flows    func() (flowTool, error)
	offloads func() (offloadTool, error)
}

var settings = keeper{
	dir: settingsRecords, open: openNetdev, files: openDeviceFiles, flows: openFlowTool, offloads: openOffloadTool,
}

// recordDir is a directory of records.
type recordDir string

// serializeTries times serializePause is how long who holds the directory may take,
// some milliseconds usually, but some drivers start their device anew for an offload.
const (
	serializeTries = 1000
	serializePause = 10 * time.Millisecond
)

// serialize makes this the only one that looks for records that nobody has locked:
// in between, a record is locked by those that hold it, and by nobody who only looks.
func (d recordDir) serialize() (end func(), err error) {
	// Others must not open the directory, nor a record: who can could lock it. Those
	// above it are anybody's to pass through.
	err = os.MkdirAll(filepath.Dir(string(d)), 0o755)
	if err == nil {
		err = os.MkdirAll(string(d), 0o700)
	}
	if err != nil {
		return nil, fmt.Errorf("the record of the former settings: %w (needs a %s that the process may write to)", err, d)
	}
	dir, err := os.Open(string(d))
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
		return nil, &os.PathError{Op: "flock", Path: string(d), Err: err}
	}
	return func() { dir.Close() }, nil
}

// lock makes or takes over a record; serialize comes before it. The error wraps
// unix.EBUSY if another holder lives, also in this process.
func (d recordDir) lock(name string) (*record, error) { return d.lockAs(name, unix.LOCK_EX) }

func (d recordDir) lockAs(name string, how int) (*record, error) {
	path := filepath.Join(string(d), name)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("the record of the former settings: %w", err)
		}
		if err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
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
				return &record{file: f}, nil
			}
		}
		f.Close()
	}
}

// record is a file whose lock this process has. An empty one, or half a one, is of a
// process that had changed nothing yet.
type record struct{ file *os.File }

// read fills in what the file has; nothing if it is not whole, or of another boot.
func (r *record) read(about any) error {
	text, err := io.ReadAll(io.NewSectionReader(r.file, 0, 1<<16))
	if err != nil {
		return err
	}
	var of struct{ Boot string }
	if json.Unmarshal(text, &of) == nil && of.Boot == bootID() {
		return json.Unmarshal(text, about)
	}
	return nil
}

// write makes about what the file has, before what it tells of is done. It has a
// field Boot, by which a later boot tells that it is no business of its own. What was
// there is replaced in one step: the process may be killed after any, and what it had
// told of may be done.
func (r *record) write(about any) error {
	text, err := json.Marshal(about)
	if err != nil {
		return err
	}
	at, err := r.file.Stat()
	if err != nil {
		return err
	}
	for len(text) < int(at.Size()) {
		text = append(text, ' ')
	}
	_, err = r.file.WriteAt(text, 0)
	return err
}

// end is what follows an attempt to restore: the record goes if that was done, or
// need not be, and stays for the next start if it failed, or has to be done later or
// in another namespace.
func (r *record) end(done bool, err error) error {
	if err != nil || !done {
		return errors.Join(err, r.keep())
	}
	return r.remove()
}

// leave gives up the lock, and removes the record if it has nothing to tell.
func (r *record) leave() {
	if at, err := r.file.Stat(); err == nil && at.Size() == 0 {
		r.remove() //nolint:errcheck // an empty record does no harm
		return
	}
	r.keep() //nolint:errcheck // nothing was written
}

// keep gives up the lock and leaves the record.
func (r *record) keep() error { return r.file.Close() }

// remove unlinks the record, then gives up the lock.
func (r *record) remove() error {
	err := os.Remove(r.file.Name())
	if errors.Is(err, os.ErrNotExist) {
		err = nil // somebody has cleaned up
	}
	return errors.Join(err, r.file.Close())
}

// RestoreSettings undoes what processes left behind that ended without doing so:
// settings of NAPIs and devices, offloads and flow rules, in the caller's network
// namespace. It removes their records; those that live keep theirs. It needs what
// SetNAPI, HoldOffload and AddFlow need, once there is something to do.
func RestoreSettings() error { return settings.restoreAll() }

func (k keeper) restoreAll() error {
	if entries, err := os.ReadDir(string(k.dir)); err != nil || len(entries) == 0 {
		return nil // none were ever made, or they are not ours to see
	}
	end, err := k.dir.serialize()
	if err != nil {
		return fmt.Errorf("hostif: restore settings: %w", err)
	}
	defer end()
	failed, err := k.restoreSerialized()
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		err = errors.Join(err, failed[name])
	}
	return err
}

// begin comes before a change of settings: it undoes what dead processes left, and
// until end nobody else looks for records. It fails if the record with this name, of
// the same settings, cannot be undone; others, of other devices say, stay for later.
func (k keeper) begin(name string) (end func(), err error) {
	if end, err = k.dir.serialize(); err != nil {
		return nil, err
	}
	failed, err := k.restoreSerialized()
	if err == nil {
		err = failed[name]
	}
	if err != nil {
		end()
		return nil, err
	}
	return end, nil
}

// finish undoes what a record of this process tells of, also if others cannot be kept
// from looking for records meanwhile.
func (k keeper) finish(rec *record, undo func() (done bool, err error)) error {
	if end, err := k.dir.serialize(); err == nil {
		defer end()
	}
	return rec.end(undo())
}

// restoreSerialized returns the errors by the records' names.
func (k keeper) restoreSerialized() (failed map[string]error, err error) {
	entries, err := os.ReadDir(string(k.dir))
	if err != nil {
		return nil, fmt.Errorf("hostif: restore settings: %w", err)
	}
	kinds := map[string]func(*record) (bool, error){
		napiPrefix: k.restoreNAPI, devicePrefix: k.restoreDevice, flowPrefix: k.restoreFlow, offloadPrefix: k.restoreOffload,
	}
	failed = make(map[string]error)
	for _, e := range entries {
		restore := kinds[e.Name()[:strings.Index(e.Name(), "-")+1]]
		if restore == nil {
			continue
		}
		rec, err := k.dir.lock(e.Name())
		if err == nil {
			err = rec.end(restore(rec))
		}
		if err != nil && !errors.Is(err, unix.EBUSY) {
			failed[e.Name()] = fmt.Errorf("hostif: restore %s: %w", e.Name(), err)
		}
	}
	return failed, nil
}

// bootID tells this boot from others, for a directory that outlived one.
func bootID() string { return sysfsValue("/proc/sys/kernel/random/boot_id") }
