package umem

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// memory returns a file of so many bytes.
func memory(t *testing.T, size int64) *os.File {
	t.Helper()
	fd, err := unix.MemfdCreate("umem", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "umem")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// TestFile has two regions over one file: each sees what the other writes, also
// after the file is closed.
func TestFile(t *testing.T) {
	cfg := Config{Chunks: 8, ChunkSize: 2048, File: memory(t, 8*2048)}
	var r [2]*Region
	for i := range r {
		var err error
		if r[i], err = New(cfg); err != nil {
			t.Fatal(err)
		}
	}
	if err := cfg.File.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(r[0].Memory()); n != 8*2048 {
		t.Errorf("%d bytes", n)
	}
	copy(r[0].Chunk(3*2048), "seen by both")
	if got := r[1].Chunk(3 * 2048); !bytes.HasPrefix(got, []byte("seen by both")) {
		t.Errorf("%q", got[:12])
	}
	for i := range r {
		if a := r[i].Audit(); a.Free != 8 {
			t.Errorf("%+v", a)
		}
		if err := r[i].Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestFileErrors(t *testing.T) {
	short, closed := memory(t, 7*2048), memory(t, 8*2048)
	closed.Close()
	for _, tc := range []struct {
		name string
		cfg  Config
		is   error
	}{
		{"too short", Config{Chunks: 8, ChunkSize: 2048, File: short}, unix.EINVAL},
		{"closed", Config{Chunks: 8, ChunkSize: 2048, File: closed}, os.ErrClosed},
		{"on the heap", Config{Chunks: 4, ChunkSize: 2048, File: short, OnHeap: true}, nil},
		{"not huge", Config{Chunks: 4, ChunkSize: 2048, File: short, HugePages: HugePagesRequire}, unix.EINVAL},
		{"no such node", Config{Chunks: 4, ChunkSize: 2048, File: short, Node: OnNode(1023)}, unix.EINVAL},
	} {
		r, err := New(tc.cfg)
		if err == nil {
			r.Close()
		}
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestFilePages has the region say on what pages a file lies, and where.
func TestFilePages(t *testing.T) {
	r := newRegion(t, Config{Chunks: 8, ChunkSize: 2048, File: memory(t, 8*2048), HugePages: HugePagesTry, Node: OnNode(0)})
	if on, err := r.HugePages(); on || !errors.Is(err, unix.EINVAL) {
		t.Errorf("ordinary pages: %v, %v", on, err)
	}
	if n, err := r.Node(); n != 0 || err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("node %d, %v", n, err)
	}
}

func TestSize(t *testing.T) {
	for _, tc := range []struct {
		cfg  Config
		want int
	}{
		{Config{}, 4096 * 4096},
		{Config{Chunks: 5, ChunkSize: 2048}, 10240},
		{Config{Chunks: 5, ChunkSize: 2048, HugePages: HugePagesTry}, 2 << 20},
		{Config{Chunks: 512, HugePages: HugePagesRequire}, 2 << 20},
		{Config{Chunks: 513, HugePages: HugePagesRequire}, 4 << 20},
	} {
		if n, err := tc.cfg.Size(); n != tc.want || err != nil {
			t.Errorf("%+v: %d bytes, %v, want %d", tc.cfg, n, err, tc.want)
		}
	}
	if _, err := (Config{Chunks: 1}).Size(); err == nil {
		t.Error("one chunk has a size")
	}
}
