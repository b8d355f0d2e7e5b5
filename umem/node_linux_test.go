package umem

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNode places a region on node 0, which every machine has, and on one that
// none has.
func TestNode(t *testing.T) {
	for _, huge := range []HugePages{HugePagesOff, HugePagesTry} {
		r, err := New(Config{Chunks: 64, Node: OnNode(0), HugePages: huge})
		if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EPERM) {
			t.Skip("no NUMA policy here: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.Node(); n != 0 || err != nil {
			t.Errorf("the region lies on node %d, %v", n, err)
		}
		r.Memory()[64*4096-1] = 1
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	r, err := New(Config{Chunks: 64, Node: OnNode(1023)})
	if err == nil {
		r.Close()
	}
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "NUMA node 1023") {
		t.Errorf("a node that does not exist: %v", err)
	}
	if n, ok := OnNode(3).Number(); n != 3 || !ok {
		t.Errorf("OnNode(3) is %d, %v", n, ok)
	}
	if _, ok := (Config{}).Node.Number(); ok {
		t.Error("the zero value names a node")
	}
}

// TestPopulate touches every page, as on kernels without MADV_POPULATE_WRITE.
func TestPopulate(t *testing.T) {
	mem, unmap, err := mapAnonymous(3*4096, false, OnNode(0))
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, unix.EPERM) {
		t.Skip("no NUMA policy here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	touch(mem)
	for i, b := range mem {
		if b != 0 {
			t.Fatalf("byte %d is %d", i, b)
		}
	}
	if err := unmap(); err != nil {
		t.Error(err)
	}
}
