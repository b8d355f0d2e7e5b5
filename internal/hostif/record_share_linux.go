package hostif

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// share is lock for settings that several may hold, each with the record locked; the
// last one restores them. Others have it if it is not empty.
func (d recordDir) share(name string) (*record, error) {
	rec, err := d.lock(name)
	if errors.Is(err, unix.EBUSY) {
		return d.lockAs(name, unix.LOCK_SH)
	}
	return rec, err
}

// share has others share the record from now on.
func (r *record) share() error { return r.flock(unix.LOCK_SH) }

// last makes the lock one that nobody shares, or gives it up if somebody does.
func (r *record) last() (bool, error) {
	err := r.flock(unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func (r *record) flock(how int) error {
	if err := unix.Flock(int(r.file.Fd()), how|unix.LOCK_NB); err != nil {
		return &os.PathError{Op: "flock", Path: r.file.Name(), Err: err}
	}
	return nil
}
