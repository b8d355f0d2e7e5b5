package umem

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// freeHugePages returns the number of 2 MiB pages that a mapping could get.
func freeHugePages(tb testing.TB) int {
	tb.Helper()
	const dir = "/sys/kernel/mm/hugepages/hugepages-2048kB/"
	n := 0
	for _, name := range []string{"free_hugepages", "nr_overcommit_hugepages"} {
		text, err := os.ReadFile(dir + name)
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		if err != nil {
			tb.Fatal(err)
		}
		v, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			tb.Fatal(err)
		}
		n += v
	}
	return n
}

// moreChunks is a size in chunks of 4096 for which there are not enough huge
// pages.
func moreChunks(tb testing.TB) int { return (freeHugePages(tb) + 1) * hugePageSize / 4096 }

func TestHugePagesRequire(t *testing.T) {
	chunks := moreChunks(t)
	if chunks > 1<<18 {
		t.Skip("too many huge pages to exhaust")
	}
	r, err := New(Config{Chunks: chunks, HugePages: HugePagesRequire})
	if err == nil {
		r.Close()
		t.Fatal("New succeeded without huge pages")
	}
	if !errors.Is(err, unix.ENOMEM) {
		t.Errorf("%v: not ENOMEM", err)
	}
	for _, want := range []string{"umem: ", "huge pages", "vm.nr_hugepages=" + strconv.Itoa(chunks*4096/hugePageSize), "mmap"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestHugePagesTry(t *testing.T) {
	chunks := moreChunks(t)
	if chunks > 1<<18 {
		t.Skip("too many huge pages to exhaust")
	}
	r := newRegion(t, Config{Chunks: chunks, HugePages: HugePagesTry})
	if on, err := r.HugePages(); on || !errors.Is(err, unix.ENOMEM) {
		t.Errorf("HugePages = %v, %v: want ENOMEM", on, err)
	}
}

func TestHugePages(t *testing.T) {
	if freeHugePages(t) < 2 {
		t.Skip("no free huge pages: sysctl vm.nr_hugepages=2")
	}
	// Not a multiple of 2 MiB: what is unmapped must be what was mapped.
	r := newRegion(t, Config{Chunks: 600, HugePages: HugePagesRequire})
	if on, err := r.HugePages(); !on || err != nil || len(r.Memory()) != 600*4096 {
		t.Errorf("HugePages = %v, %v with %d bytes", on, err, len(r.Memory()))
	}
}

// TestUnmapped holds Close to leaving no mapping. What somebody else has mapped
// there meanwhile, as the runtime may, does not have what the region had.
func TestUnmapped(t *testing.T) {
	r := newRegion(t, Config{Chunks: 1000})
	if r.OnHeap() {
		t.Error("a mapped region says that it is on the heap")
	}
	mem, page := r.Memory(), unix.Getpagesize()
	base := reflect.ValueOf(mem).Pointer()
	mark := make([]byte, 16)
	rand.Read(mark) //nolint:errcheck // never fails
	marked := func() (n int) {
		got := make([]byte, len(mark))
		for at := 0; at < len(mem); at += page {
			// The kernel reads, and says EFAULT where there is no memory.
			from := unix.RemoteIovec{Base: base + uintptr(at), Len: len(got)}
			to := unix.Iovec{Base: &got[0]}
			to.SetLen(len(got))
			if _, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{to}, []unix.RemoteIovec{from}, 0); err == nil && bytes.Equal(got, mark) {
				n++
			} else if err != nil && !errors.Is(err, unix.EFAULT) {
				t.Fatal(os.NewSyscallError("process_vm_readv", err))
			}
		}
		return n
	}
	for at := 0; at < len(mem); at += page {
		copy(mem[at:], mark)
	}
	if n := marked(); n != len(mem)/page {
		t.Fatalf("%d of %d pages have the mark", n, len(mem)/page)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n := marked(); n > 0 {
		t.Errorf("%d pages are there after Close", n)
	}
}
