package guest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/handover"
)

// hugePages is how many the tests reserve.
const hugePages = 32

// reserveHugePages has the kernel set huge pages of 2 MiB aside until the test ends,
// which has to have given all of them back by then.
func reserveHugePages(t *testing.T) {
	t.Helper()
	inMachine(t)
	const file = "/proc/sys/vm/nr_hugepages"
	if err := os.WriteFile(file, []byte(strconv.Itoa(hugePages)), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		lab.Eventually(t, patience, "the huge pages back", func() bool { return freeHugePages(t) == hugePages })
		if err := os.WriteFile(file, []byte("0"), 0); err != nil {
			t.Error(err)
		}
	})
	if n := freeHugePages(t); n != hugePages {
		t.Fatalf("%d huge pages, want %d", n, hugePages)
	}
}

func freeHugePages(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// unaligned is packet memory on huge pages, in chunks that cross the borders of
// ordinary ones.
var unaligned = umem.Config{ChunkSize: 3072, Unaligned: true, HugePages: umem.HugePagesRequire}

// TestHugePages sends and receives raw packets, zero-copy, in chunks on huge pages: also
// such that cross the borders of ordinary pages, which a device cannot have on those.
// TestHandover has igb do it, which takes seconds to be bound.
func TestHugePages(t *testing.T) {
	g := open(t, wiring.Virtio, 0)
	reserveHugePages(t)
	for name, memory := range map[string]umem.Config{"aligned": {HugePages: umem.HugePagesRequire}, "unaligned": unaligned} {
		t.Run(name, func(t *testing.T) {
			r := openRaw(t, g, xsk.Config{Bind: xsk.BindZeroCopy, UMEM: memory})
			region := r.sockets[0].Region()
			if on, err := region.HugePages(); !on || err != nil || region.Unaligned() != memory.Unaligned || freeHugePages(t) == hugePages {
				t.Errorf("huge pages: %v, %v, %d of %d are free, unaligned: %v", on, err, freeHugePages(t), hugePages, region.Unaligned())
			}
			r.exchange(t, rawCount, 1500)
		})
	}
	cfg := xsk.Config{Bind: xsk.BindZeroCopy, UMEM: unaligned}
	cfg.UMEM.HugePages = umem.HugePagesOff
	s, err := g.tryOpenSocket(t, g.Host, cfg)
	if err == nil {
		err = errors.Join(errOpened, s.Close())
	}
	explained(t, "unaligned chunks on ordinary pages", err, errors.ErrUnsupported, "huge pages")
}

// farNIC sets a NIC up that is of another NUMA node than the calling thread, which
// stays on its own, and returns its name.
func farNIC(t *testing.T) (name string) {
	t.Helper()
	runtime.LockOSThread() // the thread ends with the test
	var first unix.CPUSet
	first.Set(0)
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		t.Fatal(err)
	}
	for _, pair := range []wiring.Pair{wiring.IGB, wiring.Virtio} {
		name = nics(t, pair)[wiring.Ours]
		dev, err := hostif.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if n := dev.NUMANode(); n != wiring.FarNode {
			t.Fatalf("%s is of node %d, want %d", pair, n, wiring.FarNode)
		}
	}
	setFlags(t, name, unix.IFF_UP)
	t.Cleanup(func() { setFlags(t, name, 0) })
	return name
}

// setFlags sets an interface of this network namespace up or down.
func setFlags(t *testing.T, name string, flags uint16) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		t.Fatal(err)
	}
}

// TestNode takes packet memory from the NUMA node of the device, or from the one that
// is asked for, wherever the thread runs that opens it: on ordinary pages, on huge
// ones, and from a helper.
func TestNode(t *testing.T) {
	name := farNIC(t)
	reserveHugePages(t)
	expect := func(what string, s *xsk.Socket, want int) {
		t.Helper()
		if n, err := s.Region().Node(); n != want || err != nil {
			t.Errorf("%s: memory of node %d, %v, want %d", what, n, err, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		what string
		umem umem.Config
		node int
	}{
		{"ordinary pages", umem.Config{}, wiring.FarNode},
		{"huge pages", umem.Config{HugePages: umem.HugePagesRequire}, wiring.FarNode},
		{"another node", umem.Config{Node: umem.OnNode(0)}, 0},
		{"huge pages of another node", umem.Config{Node: umem.OnNode(0), HugePages: umem.HugePagesRequire}, 0},
	} {
		s, err := xsk.Open(xsk.Config{Interface: name, Bind: xsk.BindCopy, UMEM: c.umem})
		if err != nil {
			t.Fatal(err)
		}
		expect(c.what, s, c.node)
	}
	if r, err := xsk.Check(name); err != nil || r.NUMANode != wiring.FarNode {
		t.Errorf("%v, %v", r, err)
	}

	path := filepath.Join(t.TempDir(), "sock")
	l, err := handover.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() {
		served <- handover.Serve(ctx, l, handover.ServerConfig{Interface: name, Users: []uint32{0}, HugePages: true})
	}()
	for _, pages := range []umem.HugePages{umem.HugePagesOff, umem.HugePagesTry} {
		set, err := handover.Open(handover.Config{Path: path, Queues: []uint32{0}, Socket: xsk.Config{Bind: xsk.BindCopy, UMEM: umem.Config{HugePages: pages}}})
		if err != nil {
			t.Fatal(err)
		}
		s := set.Sockets()[0]
		if on, err := s.Region().HugePages(); on != (pages != umem.HugePagesOff) || err != nil {
			t.Errorf("huge pages from the helper: %v, %v", on, err)
		}
		expect("from a helper", s, wiring.FarNode)
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
