//go:build linux && (amd64 || arm64)

package deviceplugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// podEnv is the path of the plugin's socket, in the environment of the process that
// runs TestPodChild.
const podEnv = "AFXNET_DEVICEPLUGIN_TEST_POD"

// redirect attaches a program like the plugin's: what arrives on a queue with a
// socket goes there, the rest to the kernel.
func redirect(t *testing.T, l *lab.Lab, m *xsk.Map) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "plugin", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 16, asm.Word), // rx_queue_index of struct xdp_md
			asm.LoadMapPtr(asm.R1, m.FD()),
			asm.Mov.Imm(asm.R3, 2), // XDP_PASS
			asm.FnRedirectMap.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	host, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	err = l.Host.Do(func() error {
		lnk, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: host.Index, Flags: link.XDPDriverMode})
		if err == nil {
			t.Cleanup(func() { lnk.Close() })
		}
		return err
	})
	if err == nil {
		err = l.Peer.SetNeighbor(l.StackV4.Addr(), host.MAC)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPod has a process with CAP_NET_RAW and nothing else get the map of a program,
// and busy polling, from the plugin, and exchange datagrams with the peer's kernel.
func TestPod(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	m, err := xsk.NewMap("xsks_map", 64)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	redirect(t, l, m)
	p := plugin{path: filepath.Join(t.TempDir(), "afxdp.sock"), pod: "pod-0", devices: map[string]int{lab.HostDevice: m.FD()}}
	done := p.start(t)

	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPodChild$", "-test.v")
	cmd.Env = append(os.Environ(), podEnv+"="+p.path)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.Host.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := <-done; err != nil { // the process has what it needs
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := l.Peer.Dial(ctx, "udp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience)) //nolint:errcheck // Read would hang
	back := make([]byte, 2048)
	for i := range echoes {
		question := bytes.Repeat([]byte{byte(i)}, 1+i*10)
		if _, err := c.Write(question); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(back); err != nil || !bytes.Equal(back[:n], question) {
			t.Fatalf("datagram %d: %d bytes came back, %v", i, n, err)
		}
	}
	err = <-ended
	if t.Logf("%s", out.Bytes()); err != nil || !strings.Contains(out.String(), "--- PASS: TestPodChild") {
		t.Errorf("the pod: %v", err)
	}
}

// echoes is the number of datagrams.
const echoes = 100

// TestPodChild is the pod.
func TestPodChild(t *testing.T) {
	path := os.Getenv(podEnv)
	if path == "" {
		return // TestPod runs it
	}
	lab.KeepCapabilities(t, unix.CAP_NET_RAW)
	c, err := Dial(Config{Path: path, Pod: "pod-0"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := xsk.Config{Interface: lab.HostDevice, Rings: xsk.RingSizes{RX: 64, TX: 64}}
	m, err := c.Map(cfg.Interface)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := cfg.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Region, err = umem.New(memory); err != nil {
		t.Fatal(err)
	}
	busy := xsk.BusyPoll{Time: 20 * time.Microsecond, Prefer: true}
	if _, err := xsk.Prepare(cfg.Interface, cfg.Region, busy); !errors.Is(err, os.ErrPermission) {
		t.Errorf("busy polling without CAP_NET_ADMIN: %v", err)
	}
	if cfg.Prepared, err = xsk.Prepare(cfg.Interface, cfg.Region, xsk.BusyPoll{}); err != nil {
		t.Fatal(err)
	}
	if err := c.BusyPoll(cfg.Prepared.FD, busy); err != nil {
		t.Error(err)
	}
	// veth has no NAPI that a socket could run, so Open is not asked for it; but
	// the options are there.
	for opt, want := range map[int]int{unix.SO_BUSY_POLL: 20, unix.SO_PREFER_BUSY_POLL: 1} {
		if v, err := unix.GetsockoptInt(cfg.Prepared.FD, unix.SOL_SOCKET, opt); v != want || err != nil {
			t.Errorf("option %d is %d, %v", opt, v, err)
		}
	}
	s, err := xsk.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.AddSocket(0, s); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := echo(s); err != nil {
		t.Error(err)
	}
	if err := errors.Join(m.RemoveSocket(0), m.Close(), s.Close(), cfg.Region.Close()); err != nil {
		t.Error(err)
	}
}

// echo answers the datagrams, whose sums stay as they are.
func echo(s *xsk.Socket) error {
	rx, tx, batch := s.RX(), s.TX(), make([]umem.Desc, 16)
	deadline := time.Now().Add(patience)
	for answered := 0; answered < echoes; {
		n := rx.Receive(batch)
		for _, d := range batch[:n] {
			b := s.Region().Bytes(d)
			if len(b) < 42 || b[12] != 8 || b[13] != 0 || b[23] != 17 || !tx.Queue(d.Addr, len(b)) {
				rx.Recycle([]umem.Desc{d})
				continue
			}
			answered++
			for _, f := range [][3]int{{0, 6, 6}, {26, 30, 4}, {34, 36, 2}} { // MAC, IP, ports
				first := append([]byte(nil), b[f[0]:f[0]+f[2]]...)
				copy(b[f[0]:f[0]+f[2]], b[f[1]:f[1]+f[2]])
				copy(b[f[1]:], first)
			}
		}
		tx.Flush()
		tx.Reclaim()
		rx.Refill()
		if n == 0 {
			if err := s.Wait(false, 100*time.Millisecond); err != nil {
				return err
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d datagrams: %w", answered, echoes, os.ErrDeadlineExceeded)
		}
	}
	return nil
}
