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
		{"huge", Config{Chunks: 4, ChunkSize: 2048, File: short, HugePages: HugePagesTry}, nil},
		{"node", Config{Chunks: 4, ChunkSize: 2048, File: short, Node: OnNode(0)}, nil},
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
