package hostif

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const devicePrefix = "device-"

// deviceSettings are the settings that a device has as a whole, since Linux 5.8, by
// their files in sysfs.
var deviceSettings = map[NAPIValue]string{
	NAPIDeferHardIRQs:   "napi_defer_hard_irqs",
	NAPIGROFlushTimeout: "gro_flush_timeout",
}

// deviceRecord tells of the settings of a device.
type deviceRecord struct {
	Boot      string
	Namespace uint64 // of the network, see namespaceCookie
	Index     int
	Before    NAPIValues
	Set       NAPIValues // what was to be changed, to these values
}

// deviceHolders are those in this process that hold the same settings of a device.
type deviceHolders struct {
	count  int
	values NAPIValues // as asked for
	after  NAPIValues // as read back
	record *record
	files  *deviceFiles
	about  deviceRecord
}

// heldDevices are the holders by path of their record.
var heldDevices = struct {
	sync.Mutex
	of map[string]*deviceHolders
}{of: make(map[string]*deviceHolders)}

// setDevice is SetNAPI where the kernel has no settings for one NAPI.
func (k keeper) setDevice(index int, values NAPIValues) (*HeldNAPI, error) {
	for name := range values {
		if deviceSettings[name] == "" {
			return nil, fmt.Errorf("%v needs Linux %s or later: %w", name, name.since(), errors.ErrUnsupported)
		}
	}
	heldDevices.Lock()
	defer heldDevices.Unlock()
	namespace, err := namespaceCookie()
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s%d-%d", devicePrefix, namespace, index)
	path := string(k.dir) + "/" + name
	holders := heldDevices.of[path]
	switch {
	case holders == nil:
		if holders, err = k.changeDevice(name, deviceRecord{Boot: bootID(), Namespace: namespace, Index: index}, values); err != nil {
			return nil, err
		}
		heldDevices.of[path] = holders
	case !maps.Equal(holders.values, values):
		return nil, fmt.Errorf("another socket of this process has set %v: %w", holders.values, unix.EBUSY)
	}
	holders.count++
	return &HeldNAPI{Device: true, Values: maps.Clone(holders.after), record: holders.record, undo: sync.OnceValue(func() error {
		heldDevices.Lock()
		defer heldDevices.Unlock()
		if holders.count--; holders.count > 0 {
			return nil
		}
		delete(heldDevices.of, path)
		defer holders.files.close()
		if err := k.finish(holders.record, func() (bool, error) { return holders.files.undo(&holders.about) }); err != nil {
			return fmt.Errorf("hostif: NAPIs of interface index %d: %w", index, err)
		}
		return nil
	})}, nil
}

// changeDevice makes the first holder, with what about lacks.
func (k keeper) changeDevice(name string, about deviceRecord, values NAPIValues) (*deviceHolders, error) {
	end, err := k.begin(name)
	if err != nil {
		return nil, err
	}
	defer end()
	files, err := k.files(about.Index)
	if err != nil {
		return nil, err
	}
	rec, after, err := k.change(name, values, steps{
		read:  func() (NAPIValues, error) { return files.read(values) },
		write: files.write,
		record: func(rec *record, before, set NAPIValues) error {
			about.Before, about.Set = before, set
			return rec.write(about)
		},
		undo: func() (bool, error) { return files.undo(&about) },
	})
	if err != nil {
		files.close()
		return nil, err
	}
	return &deviceHolders{values: maps.Clone(values), after: after, record: rec, files: files, about: about}, nil
}

// restoreDevice undoes a dead process's record.
func (k keeper) restoreDevice(rec *record) (done bool, err error) {
	var about deviceRecord
	if err := rec.read(&about); err != nil || len(about.Set) == 0 {
		return err == nil, err
	}
	namespace, err := namespaceCookie()
	if err != nil || namespace != about.Namespace {
		return false, err
	}
	files, err := k.files(about.Index)
	if errors.Is(err, unix.ENODEV) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer files.close()
	return files.undo(&about)
}

// namespaceCookie tells the thread's network namespace from all others since boot. The
// inode of one that is gone is soon that of another.
func namespaceCookie() (uint64, error) {
	tool, err := openEthtool()
	if err != nil {
		return 0, err
	}
	defer tool.close()
	return tool.namespace()
}

// undo restores what about tells of. A device that is gone has nothing to restore.
func (f *deviceFiles) undo(about *deviceRecord) (done bool, err error) {
	now, err := f.read(about.Set)
	if err == nil {
		err = f.write(now.back(about.Before, about.Set))
	}
	if errors.Is(err, unix.ENODEV) {
		return true, nil
	}
	return err == nil, err
}

// read returns the settings that of names.
func (f *deviceFiles) read(of NAPIValues) (NAPIValues, error) {
	dir, err := f.dir()
	if err != nil {
		return nil, err
	}
	values := make(NAPIValues)
	for name := range of {
		text, err := os.ReadFile(dir + "/" + deviceSettings[name])
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s of a device needs Linux 5.8 or later: %w: %w", deviceSettings[name], errors.ErrUnsupported, err)
		}
		if err != nil {
			return nil, err
		}
		if values[name], err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// write changes settings.
func (f *deviceFiles) write(values NAPIValues) error {
	dir, err := f.dir()
	if err != nil {
		return err
	}
	for name, x := range values {
		file, err := os.OpenFile(dir+"/"+deviceSettings[name], os.O_WRONLY|os.O_TRUNC, 0)
		if err == nil {
			_, err = file.Write(strconv.AppendUint(nil, x, 10))
			file.Close()
		}
		if errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("%w (needs CAP_NET_ADMIN in the initial user namespace, and a user who may write to the file)", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
