// Package role has the processes of the bench: a server that has one peer open
// at a time, a client with kernel sockets, and a backend behind the proxy. All
// are the bench's own binary with a hidden first argument, driven over package
// control.
package role

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/afxnet/afxnet/bench/internal/control"
)

// The roles. As the first argument of the binary they make it that process.
const (
	Server  = "role:server"
	Client  = "role:client"
	Backend = "role:backend"
	Wire    = "role:wire" // two stacks joined in memory
	Raw     = "role:raw"  // AF_XDP without a stack
)

// Main runs the process that the first argument asks for, and tells whether it
// asked for one. Call it first of all; when it is true the program is over.
func Main() bool {
	if len(os.Args) < 2 {
		return false
	}
	run, ok := map[string]func(context.Context, io.Reader, io.Writer) error{
		Server: serveServer, Client: serveClient, Backend: serveBackend, Wire: serveWire, Raw: serveRaw,
	}[os.Args[1]]
	if !ok {
		return false
	}
	// What the terminal or timeout(1) sends reaches all processes: the conductor
	// tells this one what to do then, or its input ends with the conductor. It has
	// settings to undo.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if err := run(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	return true
}

// Options are how a process runs.
type Options struct {
	// Inside runs a function in the network namespace of the process; nil is
	// the caller's own. lab.Namespace.Do is one.
	Inside func(func() error) error

	GOMAXPROCS int       // of the process; 0 leaves it to the runtime
	CPUs       []int     // that it may run on; nil means all
	Deadline   time.Time // when it is killed if it has not ended; zero is never
}

// Process is a running one.
type Process struct {
	*control.Conn
	PID    int
	cmd    *exec.Cmd
	killed atomic.Bool // by us
}

// Start starts the binary that is running as another process.
func Start(role string, o Options) (*Process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("role: %w", err)
	}
	cmd := exec.Command(exe, role)
	cmd.Stderr = os.Stderr
	cmd.Env = os.Environ()
	if o.GOMAXPROCS > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("GOMAXPROCS=%d", o.GOMAXPROCS))
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("role: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("role: %w", err), in.Close())
	}
	start := func() error { return onCPUs(o.CPUs, cmd.Start) }
	if o.Inside == nil {
		err = start()
	} else {
		err = o.Inside(start)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("role: start %s: %w", role, err), in.Close(), out.Close())
	}
	p := &Process{PID: cmd.Process.Pid, cmd: cmd}
	kill := func() error {
		p.killed.Store(true)
		return cmd.Process.Kill()
	}
	if !o.Deadline.IsZero() {
		time.AfterFunc(time.Until(o.Deadline), func() { kill() }) //nolint:errcheck // it has ended
	}
	p.Conn = control.NewConn(pipes{out, in, stopTimeout, kill}, role)
	return p, nil
}

// CallWithin is Call for what a process does in this time, or it hangs: its input is
// closed, and it is killed if it does not end.
func (p *Process) CallWithin(ctx context.Context, limit time.Duration, method string, arg, value any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	return p.Call(ctx, method, arg, value)
}

// stopTimeout is how long a process may take to close what it has open.
const stopTimeout = 10 * time.Second

// Stop ends the process and waits for it. One that does not end is killed, which
// is an error.
func (p *Process) Stop() error {
	_ = p.Conn.Close() // it may have been closed by a context
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() && p.killed.Load() {
		return fmt.Errorf("role: the process did not end in time and was killed: %w", err)
	}
	return err
}

// pipes are both ends of a conversation with a child. Closing ends the child's
// input, upon which it ends, and with it the caller's reading. A child that takes
// longer than patience, since it hangs in what it was asked for, is killed.
type pipes struct {
	io.Reader
	io.WriteCloser
	patience time.Duration
	kill     func() error
}

func (p pipes) Close() error {
	time.AfterFunc(p.patience, func() { p.kill() }) //nolint:errcheck // it has ended
	return p.WriteCloser.Close()
}
