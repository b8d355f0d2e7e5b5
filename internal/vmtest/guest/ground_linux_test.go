package guest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
)

// patience is for what takes milliseconds on a NIC. The emulated machine is a
// hundred times slower, and may be one of several.
const patience = 20 * time.Second

// childEnv says what a child process of a test is for, as a key of children.
const childEnv = "AFXNET_VM_CHILD"

// children are what child processes do.
var children = map[string]func() error{"stack": runStack, "unprivileged stack": runUnprivilegedStack, "napi": runNAPI, "device napi": runDeviceNAPI}

// ground is a lab on two of the machine's devices.
type ground struct {
	*lab.Lab
	pair   wiring.Pair
	queues int
}

// open makes a lab on a pair, with the given number of queues on the AF_XDP
// side, or as many as it has for 0.
func open(t *testing.T, pair wiring.Pair, queues int) *ground {
	t.Helper()
	return openMTU(t, pair, queues, 0)
}

func openMTU(t *testing.T, pair wiring.Pair, queues, mtu int) *ground {
	t.Helper()
	names := nics(t, pair)
	if queues != 0 {
		undo, err := hostif.SetCombined(names[wiring.Ours], queues)
		if err != nil && (queues != 1 || !errors.Is(err, errors.ErrUnsupported)) {
			t.Fatal(err)
		}
		if undo != nil {
			t.Cleanup(func() {
				if err := undo(); err != nil {
					t.Error(err)
				}
			})
		}
	}
	g := &ground{Lab: lab.New(t, lab.Config{NICs: names, MTU: mtu}), pair: pair}
	ifc, err := g.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	if g.queues = ifc.RXQueues; queues != 0 && g.queues != queues {
		t.Fatalf("%v has %d queues, want %d", pair, g.queues, queues)
	}
	return g
}

// inMachine skips a test of a machine of one's own, unless it is in one.
func inMachine(t *testing.T) {
	t.Helper()
	if os.Getenv(wiring.PairsEnv) == "" {
		t.Skip("runs in the virtual machines of package vmtest: go test ../ -vm")
	}
}

// nics returns the names of a pair's devices, by their addresses.
func nics(t *testing.T, pair wiring.Pair) (names [2]string) {
	t.Helper()
	inMachine(t)
	number, ok := wiring.Find(pair)
	if !ok {
		t.Skipf("this machine has no pair %q", pair)
	}
	lab.Eventually(t, patience, "devices of "+pair.String(), func() bool {
		all, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for side := range wiring.Sides {
			want := wiring.MAC(number, side)
			if i := slices.IndexFunc(all, func(ifc net.Interface) bool { return slices.Equal(ifc.HardwareAddr, want) }); i >= 0 {
				names[side] = all[i].Name
				found++
			}
		}
		return found == int(wiring.Sides)
	})
	return names
}

// device is a pair with a number of queues on the AF_XDP side.
type device struct {
	pair   wiring.Pair
	queues int
}

func (d device) String() string { return fmt.Sprintf("%v/queues=%d", d.pair, d.queues) }

// zeroCopyDevices are those that all that zero-copy promises is tested on.
var zeroCopyDevices = []device{{wiring.IGB, 1}, {wiring.IGB, 2}, {wiring.Virtio, 1}, {wiring.VirtioMulti, 2}}

// eachDevice runs a test on each.
func eachDevice(t *testing.T, run func(t *testing.T, g *ground)) { onDevices(t, zeroCopyDevices, run) }

// eachNIC runs a test on each once, with all its queues.
func eachNIC(t *testing.T, run func(t *testing.T, g *ground)) {
	onDevices(t, zeroCopyDevices[1:], run)
}

func onDevices(t *testing.T, devices []device, run func(t *testing.T, g *ground)) {
	for _, d := range devices {
		t.Run(d.String(), func(t *testing.T) { run(t, open(t, d.pair, d.queues)) })
	}
}

// zeroCopy is the configuration of a device that must be a zero-copy one.
func zeroCopy() netdev.Config {
	return netdev.Config{Bind: xsk.BindZeroCopy, Attach: xsk.AttachNative}
}

// stack starts a stack with the lab's addresses, with zero-copy bind and native
// attachment read back.
func (g *ground) stack(t *testing.T, cfg netdev.Config) *stack.Stack {
	t.Helper()
	s, err := g.tryStack(cfg)
	if err != nil {
		t.Fatal(err)
	}
	closeLater(t, s)
	info := s.Device().Info()
	t.Logf("%+v", info)
	if cfg.Bind == xsk.BindZeroCopy && !info.ZeroCopy || cfg.Attach == xsk.AttachNative && info.Attach != xsk.AttachNative || len(info.Queues) != g.queues {
		t.Fatalf("got %+v, want zero-copy on %d queues, attached natively", info, g.queues)
	}
	return s
}

func (g *ground) tryStack(cfg netdev.Config) (s *stack.Stack, err error) {
	err = g.Host.Do(func() error {
		s, err = stack.Open(g.stackConfig(cfg))
		return err
	})
	return s, err
}

func (g *ground) stackConfig(cfg netdev.Config) stack.Config {
	return stack.Config{Interface: lab.HostDevice, Addresses: []netip.Prefix{g.StackV4, g.StackV6}, Device: cfg}
}

// running waits until both ends carry frames: drivers reset the link.
func (g *ground) running(t *testing.T) {
	t.Helper()
	lab.Eventually(t, patience, "a running link", func() bool {
		for _, n := range []*lab.Namespace{g.Host, g.Peer} {
			ifc, err := n.Interface()
			if err != nil {
				t.Fatal(err)
			}
			if !ifc.Running {
				return false
			}
		}
		return true
	})
}

// family is one of the two kinds of addresses.
type family struct {
	name              string
	stack, peer, host netip.Addr
}

func (g *ground) families() []family {
	return []family{
		{"IPv4", g.StackV4.Addr(), g.Peer.V4.Addr(), g.Host.V4.Addr()},
		{"IPv6", g.StackV6.Addr(), g.Peer.V6.Addr(), g.Host.V6.Addr()},
	}
}

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

// child is this program once more, for what children has under the name. It is to
// be started in the lab's host namespace.
func (g *ground) child(name string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}
