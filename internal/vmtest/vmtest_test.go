package vmtest

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

var (
	run    = flag.Bool("vm", false, "boot virtual machines; some 3 minutes, 3 GB of memory, and 450 MB from Debian the first time")
	only   = flag.String("vm.run", "", "run the guest's tests that match, as -run")
	keep   = flag.String("vm.keep", "", "directory to leave each machine's output, results and console, in")
	series = flag.String("vm.kernel", "6.18", "series of the kernel for TestZeroCopy, or newest")
)

// limit is how long a machine may take on a slow or busy computer, far more than it
// does.
const limit = 15 * time.Minute

// retries is how often a machine is started again that got stuck.
const retries = 2

// machine is what every test here needs.
type machine struct {
	store    *store
	emulator emulator
	init     string
}

var preparing sync.Mutex

// prepare skips the test unless it was asked for, by flag or by
// AFXNET_TEST_REQUIRE, and what it needs is there.
func prepare(t *testing.T) *machine {
	t.Helper()
	if !*run && !lab.Required(lab.VM) {
		t.Skipf("boots virtual machines: only with -vm, or %s=%s", lab.RequireEnv, lab.VM)
	}
	if runtime.GOARCH != "amd64" || runtime.GOOS != "linux" {
		lab.Missing(t, lab.VM, errors.New("the guest and its emulator are for Linux on amd64"))
	}
	preparing.Lock() // fetches once what several tests need
	defer preparing.Unlock()
	s, err := openStore()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{store: s, init: filepath.Join(t.TempDir(), "init")}
	if m.emulator, err = s.Emulator(t.Context()); err != nil {
		lab.Missing(t, lab.VM, err)
	}
	if err := buildGuest(t.Context(), m.init); err != nil {
		t.Fatal(err)
	}
	return m
}

// boot runs the guest's tests in a machine, reports them and returns them.
func (m *machine) boot(t *testing.T, vm *Machine, env ...string) *result {
	t.Helper()
	vm.Limit, vm.Env = limit, append(env, lab.RequireEnv+"=root,netns,bpf,xdp")
	dir := t.TempDir()
	if *keep != "" {
		dir = filepath.Join(*keep, strings.ReplaceAll(t.Name(), "/", "-"))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, results, err := m.once(t, vm, dir)
	for range retries {
		if !errors.Is(err, errStuck) {
			break
		}
		t.Log(err, "; once more")
		out, results, err = m.once(t, vm, dir)
	}
	for try := 0; try < retries && err == nil && results.muteWire(); try++ {
		failed := results.failures()
		t.Logf("nothing comes through %v: %q; once more without other devices", wiring.VirtioMulti, out.wires)
		for _, path := range failed {
			t.Logf("%s, in the guest:\n%s", path, results.at(strings.Split(path, "/")).messages())
		}
		again := *vm
		again.Run = "/" + wiring.VirtioMulti.String()
		_, more, err := m.once(t, &again, dir)
		if err == nil && more.action == "pass" {
			results.excuse(failed)
		}
	}
	t.Logf("Linux %s: %v from start to end", vm.Kernel.Release, out.elapsed.Round(100*time.Millisecond))
	results.report(t)
	if err != nil {
		t.Error(err)
	}
	if len(results.sub) == 0 {
		t.Error("no test ran")
	}
	if results.action != "pass" {
		t.Errorf("the guest says %q: %s", results.action, results.messages())
	}
	if trouble := trouble(out.console); trouble != "" {
		t.Errorf("the guest's kernel complains:\n%s", trouble)
	}
	if t.Failed() {
		t.Logf("console:\n%s", tail(out.console, 100))
		for _, w := range out.wires {
			t.Log(w)
		}
	}
	return results
}

// once runs a machine and reads its results.
func (m *machine) once(t *testing.T, vm *Machine, dir string) (*output, *result, error) {
	t.Helper()
	out, err := vm.run(t.Context(), m.emulator, dir, m.init)
	if out == nil {
		t.Fatal(err)
	}
	results, parseErr := parse(t.Context(), out.tests)
	if parseErr != nil {
		t.Fatal(parseErr)
	}
	return out, results, err
}

// trouble returns the lines of a kernel's log that should not be there.
func trouble(console []byte) string {
	var lines []string
	for line := range bytes.Lines(console) {
		for _, sign := range []string{"WARNING:", "BUG:", "Oops", "Kernel panic", "Call Trace", "Tx Unit Hang", "hung task", "Out of memory"} {
			if bytes.Contains(line, []byte(sign)) {
				lines = append(lines, string(bytes.TrimSpace(line)))
				break
			}
		}
	}
	return strings.Join(lines, "\n")
}

// tail returns the last n lines.
func tail(text []byte, n int) []byte {
	lines := bytes.SplitAfter(text, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], nil)
}

// TestZeroCopy runs the guest's tests on the devices that Linux has zero-copy
// for, in two machines at a time.
func TestZeroCopy(t *testing.T) {
	t.Parallel()
	m := prepare(t)
	k, err := m.store.Kernel(t.Context(), *series, Newest)
	if err != nil {
		lab.Missing(t, lab.VM, err)
	}
	pairs := []wiring.Pair{wiring.IGB, wiring.Virtio, wiring.VirtioPlain}
	if err := tryTap(); err == nil {
		pairs = append(pairs, wiring.VirtioMulti)
	} else if lab.Required(lab.VM) {
		t.Errorf("virtio with two queues: %v", err)
	} else {
		t.Logf("without virtio with two queues: %v", err)
	}
	if *only != "" {
		m.boot(t, &Machine{Kernel: k, Pairs: pairs, Run: *only})
		return
	}
	for name, vm := range map[string]*Machine{"busy": {Run: busy}, "rest": {Skip: busy}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm.Kernel, vm.Pairs = k, pairs
			m.boot(t, vm)
		})
	}
}

// busy are the guest's tests that move much. They have a machine to themselves: the
// others wait, most of the time, for drivers that start a device anew.
const busy = "^Test(Raw|Stack|SharedDevices)$"

// tryTap tells whether there can be a tap.
func tryTap() error {
	w, err := newTap(2, firstFile)
	if err != nil {
		return err
	}
	return w.close()
}

// TestOldKernel runs what is to happen on a kernel whose drivers have no
// zero-copy.
func TestOldKernel(t *testing.T) {
	t.Parallel()
	m := prepare(t)
	k, err := m.store.Kernel(t.Context(), "6.12", "6.1")
	if err != nil {
		lab.Missing(t, lab.VM, err)
	}
	m.boot(t, &Machine{Kernel: k, Pairs: []wiring.Pair{wiring.IGB, wiring.Virtio}, Run: "^TestOldKernel"}, wiring.OldKernelEnv+"=1")
}
