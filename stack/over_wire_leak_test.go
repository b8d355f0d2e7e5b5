package stack

import (
	"os"
	"os/exec"
	"testing"

	"gvisor.dev/gvisor/pkg/refs"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/raced"
)

// leakEnv makes this process watch netstack's reference counts, which has to
// begin before the first packet.
const leakEnv = "AFXNET_TEST_LEAKS"

func init() {
	if os.Getenv(leakEnv) != "" {
		refs.SetLeakMode(refs.LeaksPanic)
	}
}

// TestPacketBufferLeaks runs tests in a process that watches reference counts,
// and looks at the end whether a packet buffer is left.
func TestPacketBufferLeaks(t *testing.T) {
	if testing.Short() {
		t.Skip("runs other tests again")
	}
	if raced.Enabled {
		t.Skip("runs other tests again, whose races show when they run by themselves")
	}
	for _, tests := range []string{
		"^TestOverWire(Faults|HalfClose|Many|UDP|Ping|Link|TinyRing)$",
		"^TestHostile$",
		"^Test(Floods|SmallPathMTU|EmptyDatagrams|WildIndices)$",
		"^Test(Crowd|CrowdClose|Copy|CopyErrors|CopyReset|Loopback|LoopbackClose|Multicast|ICMPConn)$",
	} {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(exe, "-test.short", "-test.run", tests+"|^TestNoLeaks$", mechanism.Argument())
		cmd.Env = append(os.Environ(), leakEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%.4000s", tests, err, out)
		}
	}
}

// TestNoLeaks is the last part of TestPacketBufferLeaks, and does nothing by
// itself. Its file comes after those of the tests before it.
func TestNoLeaks(t *testing.T) {
	if os.Getenv(leakEnv) == "" {
		t.Skip("a part of TestPacketBufferLeaks")
	}
	err := poll(func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = &leak{r}
			}
		}()
		refs.DoRepeatedLeakCheck()
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

type leak struct{ what any }

func (l *leak) Error() string { return l.what.(string) }
