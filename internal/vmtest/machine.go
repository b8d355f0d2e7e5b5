package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

// Machine is a virtual machine to run the guest's tests in.
type Machine struct {
	Kernel *Kernel
	Pairs  []wiring.Pair

	// Run and Skip are the -test.run and -test.skip of the guest, all and none if
	// empty; Env is its environment.
	Run, Skip string
	Env       []string

	// Limit is how long it may take from start to end.
	Limit time.Duration
}

// memory and processors are what the guest has, half of it in each of two NUMA nodes.
// igb makes a queue for each processor.
const (
	memory     = "1024M"
	halfMemory = "512M"
	processors = "2"
)

// farBus is a PCI bus of NUMA node wiring.FarNode.
const farBus = "far"

// guestSlack is for how much shorter the guest's own limit is than the
// machine's, so that a test that hangs tells where.
const guestSlack = 30 * time.Second

// output is what a run left behind.
type output struct {
	tests   []byte // what the test binary wrote: -test.v=test2json
	console []byte // of the kernel
	elapsed time.Duration
	wires   []string // what went over those that this process is
}

// run boots the machine with init as the first process and waits for its end.
// dir is for the files it takes. The error is nil if the machine switched itself
// off, whatever its tests said.
func (m *Machine) run(ctx context.Context, e emulator, dir, init string) (*output, error) {
	ctx, cancel := context.WithTimeout(ctx, m.Limit)
	defer cancel()
	initrd, console, results := filepath.Join(dir, "initramfs"), filepath.Join(dir, "console"), filepath.Join(dir, "results")
	if err := writeInitramfs(initrd, init, m.Kernel.Modules); err != nil {
		return nil, err
	}
	args := []string{
		"-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-m", memory, "-smp", processors,
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none",
		"-serial", "file:" + console, "-serial", "file:" + results,
		"-object", "memory-backend-ram,id=m0,size=" + halfMemory, "-numa", "node,nodeid=0,cpus=0,memdev=m0",
		"-object", "memory-backend-ram,id=m1,size=" + halfMemory, "-numa", "node,nodeid=1,cpus=1,memdev=m1",
		"-device", fmt.Sprintf("pxb-pcie,id=%s,bus_nr=128,numa_node=%d", farBus, wiring.FarNode),
		"-kernel", m.Kernel.Image, "-initrd", initrd, "-append", m.commandLine(),
	}
	var files []*os.File
	var tell []func() string
	for i, p := range m.Pairs {
		w, err := newWire(i, p, firstFile+len(files))
		if err != nil {
			return nil, err
		}
		defer w.close() //nolint:errcheck // the run is over
		files = append(files, w.files...)
		if w.tell != nil {
			tell = append(tell, w.tell)
		}
		args = append(args, w.arguments(i, p)...)
	}
	cmd := e.command(ctx, args...)
	cmd.ExtraFiles = files
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	// The thread that starts it has to stay: see tether.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tether(cmd)
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("vmtest: start the machine: %w", err)
	}
	done := make(chan struct{})
	stuck := make(chan bool, 1)
	go func() { stuck <- watch(done, cancel, console) }()
	err := cmd.Wait()
	close(done)
	out := &output{elapsed: time.Since(begin)}
	for _, f := range tell {
		out.wires = append(out.wires, f())
	}
	switch {
	case <-stuck:
		err = errStuck
	case ctx.Err() != nil:
		err = fmt.Errorf("the machine took longer than %v: %w", m.Limit, ctx.Err())
	}
	if err != nil {
		err = fmt.Errorf("vmtest: %w: %s", err, bytes.TrimSpace(complaints.Bytes()))
	}
	var readErr, readErr2 error
	out.tests, readErr = os.ReadFile(results)
	out.console, readErr2 = os.ReadFile(console)
	return out, errors.Join(err, readErr, readErr2)
}

// errStuck says that the emulator has lost a timer interrupt, as QEMU sometimes
// does with several processors on a busy computer: one of the guest's processors
// sleeps for good.
var errStuck = errors.New("vmtest: the emulator has lost a timer interrupt")

// stuckSign is how the guest's kernel puts it.
const stuckSign = "timer wakeup didn't happen"

// watch reads the console now and then until done is closed, and ends a machine
// that is stuck.
func watch(done <-chan struct{}, end func(), console string) (stuck bool) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return false
		case <-tick.C:
		}
		text, err := os.ReadFile(console)
		if err == nil && bytes.Contains(text, []byte(stuckSign)) {
			end()
			return true
		}
	}
}

// commandLine is that of the kernel. Without randomized addresses all machines are
// alike. What it does not know goes to the first
// process: name=value to its environment, and its arguments follow "--".
func (m *Machine) commandLine() string {
	line := []string{
		"console=ttyS0", wiring.NoKASLR, "loglevel=6", "panic=-1", "oops=panic", "net.ifnames=0", "mitigations=off", "numa_balancing=disable",
		wiring.PairsEnv + "=" + wiring.Join(m.Pairs),
	}
	line = append(line, m.Env...)
	line = append(line, "--", "-test.v=test2json", "-test.timeout="+max(m.Limit-guestSlack, guestSlack).String())
	if m.Run != "" {
		line = append(line, "-test.run="+m.Run)
	}
	if m.Skip != "" {
		line = append(line, "-test.skip="+m.Skip)
	}
	return strings.Join(line, " ")
}

// firstFile is the descriptor that the first of exec.Cmd.ExtraFiles becomes.
const firstFile = 3

// arguments describes the devices of the pair with this number to QEMU: each on a
// port of its own, since igb wants that.
func (w *wire) arguments(number int, p wiring.Pair) (args []string) {
	for side := range wiring.Sides {
		id := fmt.Sprintf("%d%d", number, side)
		port, bus := 2*number+int(side)+1, ""
		if p.Far() {
			bus = ",bus=" + farBus
		}
		device := fmt.Sprintf("%s,bus=p%s,netdev=n%s,mac=%v", p.Model(), id, id, wiring.MAC(number, side))
		if p.Model() == wiring.VirtioPCI {
			device += ",disable-legacy=on"
			if p.DMA() {
				device += ",iommu_platform=on"
			}
		}
		if side == wiring.Ours {
			device += w.device
		}
		args = append(args,
			"-device", fmt.Sprintf("pcie-root-port,id=p%s,chassis=%d,slot=%d%s", id, port, port, bus),
			"-netdev", w.netdev[side]+",id=n"+id,
			"-device", device)
	}
	return args
}

// buildGuest compiles the guest's tests into one static program.
func buildGuest(ctx context.Context, name string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-ldflags=-s -w", "-o", name, "./guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("vmtest: build the guest: %w\n%s", err, out)
	}
	return nil
}
