package raw

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// ReferenceRun is one run of the C program, which is bound and waits for
// Measure.
type ReferenceRun struct {
	ctx    context.Context
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr strings.Builder
	prog   *xsk.Program
	sock   *os.File
	done   bool // the result was read
}

// Start starts the program on a queue of cfg.Interface and returns when it is
// bound. ModeReceiveDrop needs cfg.Addr. The program ends with ctx, at the
// latest; call Measure or Close. It must be called in the network namespace of
// the interface.
func (c *Reference) Start(ctx context.Context, cfg Config, queue int, mode Mode, job Job) (_ *ReferenceRun, err error) {
	if mode == ModeReceiveDrop && !cfg.Addr.IsValid() {
		return nil, errors.New("raw: reference: Config.Addr is empty, so nothing arrives")
	}
	if mode == ModeTransmit && len(job.Frame) < ethernetLen {
		return nil, fmt.Errorf("raw: reference: Job.Frame has %d bytes: at least %d", len(job.Frame), ethernetLen)
	}
	if job.AckEvery != 0 {
		return nil, fmt.Errorf("raw: reference: Job.AckEvery: %w", errors.ErrUnsupported)
	}
	dev, err := hostif.Lookup(cfg.Interface)
	if err != nil {
		return nil, fmt.Errorf("raw: %w", err)
	}
	r := &ReferenceRun{ctx: ctx}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if cfg.Addr.IsValid() {
		if r.prog, err = xsk.LoadProgram(xsk.ProgramConfig{Interface: cfg.Interface, Queues: max(dev.RXQueues, dev.TXQueues, 1)}); err != nil {
			return nil, err
		}
		if err = errors.Join(r.prog.Attach(), r.prog.AddAddress(cfg.Addr)); err != nil {
			return nil, err
		}
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("raw: %w", os.NewSyscallError("socket", err))
	}
	r.sock = os.NewFile(uintptr(fd), "xdp")
	if err = r.launch(c.path, dev.Index, queue, mode, job); err != nil {
		return nil, err
	}
	if r.prog != nil {
		err = r.prog.AddSocket(uint32(queue), fd)
	}
	return r, err
}

// launch starts the process and waits until it says that it is ready.
func (r *ReferenceRun) launch(path string, ifindex, queue int, mode Mode, job Job) (err error) {
	cmd := exec.CommandContext(r.ctx, path, string(mode), strconv.Itoa(ifindex), strconv.Itoa(queue),
		strconv.FormatUint(job.Packets, 10), strconv.FormatInt(job.Duration.Nanoseconds(), 10), hex.EncodeToString(job.Frame))
	cmd.ExtraFiles = []*os.File{r.sock}
	cmd.Stderr = &r.stderr
	if r.in, err = cmd.StdinPipe(); err != nil {
		return fmt.Errorf("raw: reference: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("raw: reference: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("raw: reference: %w", err)
	}
	r.cmd, r.out = cmd, bufio.NewReader(out)
	if line, err := r.out.ReadString('\n'); line != "ready\n" {
		return fmt.Errorf("raw: reference: said %q instead of ready: %w", line, err)
	}
	return nil
}

// Measure lets the program work, returns what it did, and closes the run.
func (r *ReferenceRun) Measure() (res Result, err error) {
	defer func() { err = errors.Join(err, r.Close()) }()
	if _, err := r.in.Write([]byte("g")); err != nil {
		return res, fmt.Errorf("raw: reference: %w", err)
	}
	line, err := r.out.ReadString('\n')
	if err != nil {
		return res, fmt.Errorf("raw: reference: no result: %w", err)
	}
	r.done = true
	if err := json.Unmarshal([]byte(line), &res); err != nil {
		return res, fmt.Errorf("raw: reference: result %q: %w", line, err)
	}
	return res, nil
}

// Close ends the program if it still runs and detaches what Start attached. It
// may be called again.
func (r *ReferenceRun) Close() error {
	var errs []error
	if r.prog != nil {
		errs = append(errs, r.prog.Close())
	}
	if r.cmd != nil {
		ended := !r.done && r.cmd.Process.Kill() == nil
		r.in.Close()
		err := r.cmd.Wait()
		if status := (*exec.ExitError)(nil); ended && errors.As(err, &status) && !status.Exited() {
			err = nil // killed by us
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("raw: reference: %w: %s", err, strings.TrimSpace(r.stderr.String())))
		}
		r.cmd = nil
	}
	if r.sock != nil {
		if err := r.sock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			errs = append(errs, fmt.Errorf("raw: reference: %w", err))
		}
		r.sock = nil
	}
	return errors.Join(errs...)
}
