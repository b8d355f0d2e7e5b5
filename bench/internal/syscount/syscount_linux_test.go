package syscount

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// TestCount counts calls of this process that it makes a known number of times.
func TestCount(t *testing.T) {
	lab.Require(t, lab.BPF)
	c, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const calls = 1000
	for range calls {
		unix.Getppid()
	}
	all, err := c.Count()
	if err != nil {
		t.Fatal(err)
	}
	if got := all[os.Getpid()][unix.SYS_GETPPID]; got != calls {
		t.Errorf("%d calls were counted as %d", calls, got)
	}
	if n, err := c.Total(os.Getpid()); err != nil || n < calls {
		t.Errorf("%d calls and more were counted as %d, %v", calls, n, err)
	}
	if len(all) != 1 {
		t.Errorf("%d processes were counted", len(all))
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestOthers does not count a process that it was not asked about.
func TestOthers(t *testing.T) {
	lab.Require(t, lab.BPF)
	c, err := Open(1)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	unix.Getppid()
	all, err := c.Count()
	if err != nil {
		t.Fatal(err)
	}
	if n := len(all[os.Getpid()]); n != 0 {
		t.Errorf("%d kinds of calls of this process", n)
	}
}

func TestTooMany(t *testing.T) {
	if _, err := Open(make([]int, maxProcesses+1)...); err == nil {
		t.Error("no error")
	}
	var none *Counter
	if err := none.Close(); err != nil {
		t.Error(err)
	}
}

func TestName(t *testing.T) {
	if Name(unix.SYS_SENDTO) != "sendto" || Name(-1) != "other" {
		t.Errorf("got %q, %q", Name(unix.SYS_SENDTO), Name(-1))
	}
}
