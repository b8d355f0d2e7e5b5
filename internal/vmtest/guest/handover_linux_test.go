package guest

import (
	"bufio"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/handover"
)

// handoverEnv is the path of the helper's socket, in the environment of its process.
const handoverEnv = "AFXNET_VM_HANDOVER"

// runUnprivilegedStack is a child process: it gives up every privilege, and is a stack
// on what the helper gives.
func runUnprivilegedStack() error {
	if os.Getuid() == 0 {
		return lab.ExecUnprivileged(os.Args, os.Environ())
	}
	cfg := zeroCopy()
	cfg.Handover = os.Getenv(handoverEnv)
	cfg.UMEM = unaligned
	return echoOn(cfg)
}

// TestHandover has a process that can do nothing by privilege run a stack on zero-copy
// sockets of a helper, in unaligned chunks on huge pages of the helper's. When it is
// killed, the helper takes back what it had.
func TestHandover(t *testing.T) {
	reserveHugePages(t)
	g := open(t, wiring.IGB, 0)
	dir, err := os.MkdirTemp("", "handover")
	if err == nil {
		err = os.Chmod(dir, 0o755) // for nobody to look into
	}
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "sock")
	l, err := handover.Listen(path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- g.Host.Do(func() error {
			return handover.Serve(ctx, l, handover.ServerConfig{
				Interface: lab.HostDevice, Users: []uint32{lab.Nobody}, Attach: xsk.AttachNative, HugePages: true,
				Addresses: []netip.Prefix{g.StackV4.Masked(), g.StackV6.Masked()},
			})
		})
	}()
	cmd := g.child("unprivileged stack")
	cmd.Env = append(cmd.Env, handoverEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = g.Host.Do(cmd.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Errorf("the child says %q: %v", line, err)
	}
	if n := freeHugePages(t); n >= hugePages {
		t.Error("no huge page is in use")
	}
	for _, f := range g.families() {
		if err := bulkEcho(t.Context(), g.Peer.Dial, hostPort(f.stack, echoPort), 200_000); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	err = cmd.Process.Kill()
	cmd.Wait() //nolint:errcheck // it was killed
	lab.Eventually(t, patience, "the end of the program", func() bool {
		ifc, err := g.Host.Interface()
		return err == nil && ifc.XDP == hostif.XDP{}
	})
	cancel()
	if err := errors.Join(err, <-served); err != nil {
		t.Error(err)
	}
}
