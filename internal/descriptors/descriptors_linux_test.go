package descriptors

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func eventfd(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestNew sees each kind of leak, and it alone, while old descriptors are closed.
func TestNew(t *testing.T) {
	old, gone, reused := eventfd(t), eventfd(t), eventfd(t)
	defer unix.Close(old)
	before := Open(t)
	if fresh := before.New(Open(t)); len(fresh) > 0 {
		t.Errorf("nothing was opened: %v", fresh)
	}

	// More are closed than opened.
	for _, fd := range []int{gone, reused} {
		if err := unix.Close(fd); err != nil {
			t.Fatal(err)
		}
	}
	if fresh := before.New(Open(t)); len(fresh) > 0 {
		t.Errorf("two were closed: %v", fresh)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := unix.Dup3(int(null.Fd()), reused, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(reused)
	dup, err := unix.FcntlInt(uintptr(old), unix.F_DUPFD_CLOEXEC, reused+1)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dup)
	want := Snapshot{int(null.Fd()): os.DevNull, reused: os.DevNull, dup: "anon_inode:[eventfd]"}
	if fresh := before.New(Open(t)); !maps.Equal(fresh, want) {
		t.Errorf("new: %v, want %v", fresh, want)
	}
}

// TestRemoved has a file lose its name.
func TestRemoved(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before := Open(t)
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if fresh := before.New(Open(t)); len(fresh) > 0 {
		t.Errorf("nothing was opened: %v", fresh)
	}
}

// TestOpen has the runtime's own descriptors, and not the one it reads by.
func TestOpen(t *testing.T) {
	before := Open(t)
	r, w, err := os.Pipe() // needs the poller
	if err != nil {
		t.Fatal(err)
	}
	fresh := before.New(Open(t))
	if len(fresh) != 2 || fresh[int(r.Fd())] == "" || fresh[int(w.Fd())] == "" {
		t.Errorf("new with a pipe: %v", fresh)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if fresh := before.New(Open(t)); len(fresh) != 1 || fresh[int(w.Fd())] == "" {
		t.Errorf("new with half a pipe: %v", fresh)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if fresh := before.New(Open(t)); len(fresh) > 0 {
		t.Errorf("new without it: %v", fresh)
	}
}
