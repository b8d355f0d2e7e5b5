package stack_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
	"github.com/afxnet/afxnet/stack"
)

// resources is what a process can leak, beside descriptors.
type resources struct {
	goroutines, threads, mappings, umem int
}

func measure(t *testing.T) resources {
	t.Helper()
	r := resources{goroutines: runtime.NumGoroutine()}
	tasks, err := os.ReadDir("/proc/self/task")
	check(t, err)
	r.threads = len(tasks)
	maps, err := os.ReadFile("/proc/self/maps")
	check(t, err)
	r.mappings = strings.Count(string(maps), "\n")
	// Rings, and the BPF maps of the program.
	r.umem = strings.Count(string(maps), "socket:") + strings.Count(string(maps), "bpf")
	return r
}

// TestLabOpenClose opens and closes many stacks, with traffic on each: nothing
// is left of them.
func TestLabOpenClose(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	f := families(l)
	cycle := func(i int) {
		t.Helper()
		s, err := tryOpen(l, stack.Config{})
		if err != nil {
			t.Fatalf("open %d: %v", i, err)
		}
		ls := &labStack{Stack: s, lab: l}
		ln, err := s.Listen("tcp", ":80")
		check(t, err)
		go traffic.EchoTCP(ln)
		p, err := s.ListenPacket("udp", ":80")
		check(t, err)
		go traffic.EchoUDP(p)
		for _, network := range []string{"tcp", "udp"} {
			if err := reach(l.Peer, network, hostPort(f[i%2].stack, 80), patience); err != nil {
				t.Fatalf("stack %d: %s: %v", i, network, err)
			}
		}
		// Some are closed with connections open, unread and unsent.
		kernel, ours, err := ls.pair(f[i%2], true)
		check(t, err)
		go ours.Write(make([]byte, 1<<20))
		if i%2 == 0 {
			ours.Close()
			kernel.Close()
		}
		check(t, s.Close())
		kernel.Close()
		if i%3 == 0 {
			check(t, s.Close()) // a second time
		}
	}
	const warm = 5
	for i := range warm {
		cycle(i)
	}
	was, before := measure(t), descriptors.Open(t)
	n := longOr(1000, 50)
	for i := range n {
		cycle(warm + i)
	}
	// Goroutines of the test that end by themselves may still be on their way.
	err := eventually(patience, func() error {
		if left := before.New(descriptors.Open(t)); len(left) > 0 {
			return fmt.Errorf("descriptors that are left: %v", left)
		}
		is := measure(t)
		if is.goroutines > was.goroutines || is.umem > was.umem {
			return fmt.Errorf("%+v", is)
		}
		return nil
	})
	is := measure(t)
	if err != nil {
		t.Errorf("after %d stacks %v, before %+v", n, err, was)
		buf := make([]byte, 1<<20)
		t.Logf("%s", buf[:runtime.Stack(buf, true)])
	}
	// The runtime keeps threads and the memory of its heap: they may grow, but
	// not with every stack.
	if is.threads > was.threads+n/5 || is.mappings > was.mappings+n/2 {
		t.Errorf("after %d stacks %+v, before %+v", n, is, was)
	}
	t.Logf("before %+v, after %d stacks %+v", was, n, is)
}
