package guest

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/xsk"
)

// deviceNAPIConfig is a socket on each queue, in copy mode, with settings that old
// kernels have for the whole device.
func deviceNAPIConfig() xsk.SetConfig {
	cfg := napiConfig()
	cfg.Socket.Bind = xsk.BindCopy
	return cfg
}

// runDeviceNAPI is the child of TestOldKernelNAPI.
func runDeviceNAPI() error {
	set, err := xsk.OpenAll(deviceNAPIConfig())
	if err != nil {
		return err
	}
	fmt.Println("set")
	<-make(chan struct{})
	return set.Close()
}

// TestOldKernelNAPI has a kernel without settings for one NAPI: all queues share the
// device's. They are restored by Close, and after a kill by the next one.
func TestOldKernelNAPI(t *testing.T) {
	if os.Getenv(wiring.OldKernelEnv) == "" {
		t.Skip("needs a kernel without settings per NAPI: another machine has it")
	}
	for _, pair := range []wiring.Pair{wiring.IGB, wiring.Virtio} {
		if _, ok := wiring.Find(pair); !ok {
			continue
		}
		t.Run(pair.String(), func(t *testing.T) { oldKernelNAPI(t, open(t, pair, 0)) })
	}
}

func oldKernelNAPI(t *testing.T, g *ground) {
	sysfs := t.TempDir()
	if err := g.Host.Do(func() error { return unix.Mount("sysfs", sysfs, "sysfs", 0, "") }); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(sysfs, 0) //nolint:errcheck // the machine ends
	expect := func(step, want string, left int) {
		t.Helper()
		got := ""
		for _, file := range []string{"napi_defer_hard_irqs", "gro_flush_timeout"} {
			text, err := os.ReadFile(filepath.Join(sysfs, "class/net", lab.HostDevice, file))
			if err != nil {
				t.Fatal(err)
			}
			got += strings.TrimSpace(string(text)) + " "
		}
		if got != want+" " {
			t.Errorf("%s: %s, want %s", step, got, want)
		}
		if n := records(t); n != left {
			t.Errorf("%s: %d records, want %d", step, n, left)
		}
	}
	expect("new", "0 0", 0)
	cmd := g.child("device napi")
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
	expect("while the child lives", "2 200000", 1)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() //nolint:errcheck // it was killed
	lab.Eventually(t, patience, "the end of the program", func() bool {
		ifc, err := g.Host.Interface()
		return err == nil && ifc.XDP.ID == 0
	})
	g.running(t)
	expect("killed", "2 200000", 1)
	plain := deviceNAPIConfig()
	plain.Socket.NAPI = xsk.NAPI{}
	set := g.openAll(t, plain)
	expect("the next one, which asks for nothing", "0 0", 0)
	if err := set.Close(); err != nil {
		t.Error(err)
	}
	g.running(t)
	set = g.openAll(t, deviceNAPIConfig())
	expect("one that asks", "2 200000", 1)
	for _, s := range set.Sockets() {
		if n := s.NAPI(); !n.Device || n.ID != 0 || n.DeferHardIRQs != 2 || n.GROFlushTimeout != 200*time.Microsecond {
			t.Errorf("queue %d: %+v", s.Queue(), n)
		}
	}
	if err := set.Close(); err != nil {
		t.Error(err)
	}
	g.running(t)
	expect("closed", "0 0", 0)
}
