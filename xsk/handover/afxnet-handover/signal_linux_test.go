package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// commandEnv has this program be the command, on the Unix socket of that path.
const commandEnv = "AFXNET_HANDOVER_TEST_COMMAND"

func TestMain(m *testing.M) {
	if path := os.Getenv(commandEnv); path != "" {
		os.Args = []string{os.Args[0], "-i", "nonesuch0", "-socket", path, "-uid", strconv.Itoa(os.Getuid())}
		main()
		return
	}
	os.Exit(m.Run())
}

const patience = 20 * time.Second

// TestSecondSignal has the command wait, as it ends, for somebody to read its log: a
// second signal ends it at once.
func TestSecondSignal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fill(t, w)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), commandEnv+"="+path)
	cmd.Stderr = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() }) //nolint:errcheck // it has ended
	var c *seqpacket.Conn
	eventually(t, "the command listens", func() bool {
		c, err = seqpacket.Dial(path, patience)
		return err == nil
	})
	defer c.Close()
	if err := c.Send([]byte(`{"op":"counters"}`), patience); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Receive(patience); err != nil { // refused, and logged
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the command has had the first signal", func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist)
	})
	for {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		select {
		case err := <-ended:
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
				t.Errorf("the command has ended by itself: %v", err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// fill writes to a pipe until it takes no more.
func fill(t *testing.T, w *os.File) {
	t.Helper()
	fd := int(w.Fd())
	err := unix.SetNonblock(fd, true)
	for err == nil {
		_, err = unix.Write(fd, make([]byte, 1))
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
