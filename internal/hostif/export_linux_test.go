package hostif

import (
	"os"

	"golang.org/x/sys/unix"
)

// WatchSmall is Watch with the smallest receive buffer there is. overruns may
// be called after stop.
func WatchSmall(index int, fn func(Event)) (stop func(), overruns func() int, err error) {
	w, err := newWatcher(index, fn)
	if err != nil {
		return nil, nil, err
	}
	var sockErr error
	if err := w.conn.Control(func(fd uintptr) {
		sockErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
	}); err != nil || sockErr != nil {
		w.file.Close()
		return nil, nil, os.NewSyscallError("setsockopt", sockErr)
	}
	go w.run()
	return w.stop, func() int { return w.overruns }, nil
}

// SetNAPIIn is SetNAPI with a directory of the test's own for the records.
func SetNAPIIn(dir string, index int, queue uint32, values NAPIValues) (*HeldNAPI, error) {
	return napiKeeper{dir, openNetdev}.set(index, queue, values)
}

// RestoreNAPIsIn is RestoreNAPIs for such a directory.
func RestoreNAPIsIn(dir string) error { return napiKeeper{dir, openNetdev}.restoreAll() }

// Abandon does what the end of the process does: it lets go of the record, and
// restores nothing.
func (h *HeldNAPI) Abandon() error { return h.record.keep() }

// SysfsQueues counts the queues of an interface below root.
func SysfsQueues(ifc Interface, root string) (rx, tx int, ok bool) {
	return ifc.sysfsQueues(root)
}
