package guest

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

// napiConfig is a zero-copy socket on each queue, with settings of its NAPI.
func napiConfig() xsk.SetConfig {
	return xsk.SetConfig{Socket: xsk.Config{
		Interface: lab.HostDevice, Bind: xsk.BindZeroCopy,
		NAPI: xsk.NAPI{DeferHardIRQs: 2, GROFlushTimeout: 200 * time.Microsecond},
	}}
}

// runNAPI is the child of TestNAPI: it sets, says so, and waits for its end.
func runNAPI() error {
	set, err := xsk.OpenAll(napiConfig())
	if err != nil {
		return err
	}
	fmt.Println("set")
	<-make(chan struct{})
	return set.Close()
}

// napis reads the settings of every queue's NAPI.
func (g *ground) napis(t *testing.T) (all []hostif.NAPIValues) {
	t.Helper()
	err := g.Host.Do(func() error {
		ifc, err := g.Host.Interface()
		if err != nil {
			return err
		}
		for q := range g.queues {
			_, n, err := hostif.ReadNAPI(ifc.Index, uint32(q))
			if err != nil {
				return err
			}
			all = append(all, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// records counts those that NAPIs have for the next start.
func records(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/run/afxnet/settings")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return len(entries)
}

// TestNAPI sets the NAPI of each queue of a NIC, which keeps it when the process is
// killed. The next one restores it, and so does one that is closed.
func TestNAPI(t *testing.T) {
	eachNIC(t, func(t *testing.T, g *ground) {
		before := g.napis(t)
		expect := func(step string, set bool, left int) {
			t.Helper()
			for q, now := range g.napis(t) {
				want := maps.Clone(before[q])
				if set {
					want[hostif.NAPIDeferHardIRQs], want[hostif.NAPIGROFlushTimeout] = 2, 200_000
				}
				if !maps.Equal(now, want) {
					t.Errorf("%s: queue %d: %v, want %v", step, q, now, want)
				}
			}
			if n := records(t); n != left {
				t.Errorf("%s: %d records, want %d", step, n, left)
			}
		}
		expect("new", false, 0)
		cmd := g.child("napi")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = g.Host.Do(cmd.Start)
		}
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "set\n" {
			t.Errorf("the child says %q: %v", line, err)
		}
		expect("while the child lives", true, g.queues)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() //nolint:errcheck // it was killed
		lab.Eventually(t, patience, "the end of the program", func() bool {
			ifc, err := g.Host.Interface()
			return err == nil && ifc.XDP == hostif.XDP{}
		})
		g.running(t)
		expect("killed", true, g.queues)

		plain := napiConfig()
		plain.Socket.NAPI = xsk.NAPI{}
		set := g.openAll(t, plain)
		expect("the next one, which asks for nothing", false, 0)
		if err := set.Close(); err != nil {
			t.Error(err)
		}
		set = g.openAll(t, napiConfig())
		expect("one that asks", true, g.queues)
		for _, s := range set.Sockets() {
			if n := s.NAPI(); n.ID == 0 || n.DeferHardIRQs != 2 || n.GROFlushTimeout != 200*time.Microsecond {
				t.Errorf("queue %d: %+v", s.Queue(), n)
			}
		}
		if err := set.Close(); err != nil {
			t.Error(err)
		}
		g.running(t)
		expect("closed", false, 0)
	})
}
