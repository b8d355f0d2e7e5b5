package netdev_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/xsk"
)

// tagsTaken tells whether the NIC takes VLAN tags off.
func tagsTaken(t *testing.T, l *lab.Lab) (on bool) {
	t.Helper()
	err := l.Host.Do(func() (err error) {
		on, err = hostif.FeatureOn(lab.HostDevice, "rx-vlan-hw-parse")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return on
}

// TestKeepTags wants VLAN tags left in their frames while a device is open, and
// the setting back after it, also where Open fails.
func TestKeepTags(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	taken := func() bool { t.Helper(); return tagsTaken(t, l) }
	if !taken() {
		t.Fatal("the offload is off by itself")
	}
	open := func(cfg netdev.Config) (d *netdev.Device, err error) {
		cfg.Interface = lab.HostDevice
		err = l.Host.Do(func() error {
			d, err = netdev.Open(cfg)
			return err
		})
		return d, err
	}
	d, err := open(netdev.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if taken() {
		t.Error("tags are taken off while a device is open")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if !taken() {
		t.Error("the offload is off after Close")
	}
	if _, err := open(netdev.Config{Queues: []uint32{7}}); err == nil {
		t.Error("queue 7 of 1 was opened")
	}
	if !taken() {
		t.Error("the offload is off after an Open that failed")
	}
}

const tagsChildEnv = "AFXNET_TEST_TAGS_CHILD"

// TestTagsChild is the process that TestTagsAfterKill kills.
func TestTagsChild(t *testing.T) {
	if os.Getenv(tagsChildEnv) == "" {
		return
	}
	d, err := netdev.Open(netdev.Config{Interface: lab.HostDevice})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("open")
	os.Stdin.Read(make([]byte, 1)) // until the parent is gone too
	runtime.KeepAlive(d)
}

// TestTagsAfterKill kills the process that has the NIC leave VLAN tags. The next one
// that opens a socket restores the setting, but not while its owner lives; and so does
// the next one that opens a device, when it closes it.
func TestTagsAfterKill(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	in := func(f func() error) {
		t.Helper()
		if err := l.Host.Do(f); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(step string, want bool) {
		t.Helper()
		if tagsTaken(t, l) != want {
			t.Errorf("%s: tags taken off: %v, want %v", step, !want, want)
		}
	}
	for range 2 {
		kill := startTagsChild(t, l)
		expect("with a child", false)
		in(hostif.RestoreSettings)
		expect("looked for while the child lives", false)
		kill()
		expect("after the kill", false)
		in(func() error {
			s, err := xsk.Open(xsk.Config{Interface: lab.HostDevice, Queue: 1})
			if err != nil {
				return err
			}
			return s.Close()
		})
		expect("after the next socket", true)
	}

	startTagsChild(t, l)()
	expect("after the kill", false)
	in(func() error {
		d, err := netdev.Open(netdev.Config{Interface: lab.HostDevice})
		if err != nil {
			return err
		}
		expect("with the next device", false)
		return d.Close()
	})
	expect("after the next device", true)
}

// startTagsChild returns when the child has a device.
func startTagsChild(t *testing.T, l *lab.Lab) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestTagsChild$")
	cmd.Env = append(os.Environ(), tagsChildEnv+"=1")
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = l.Host.Do(cmd.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	kill = func() {
		t.Helper()
		cmd.Process.Kill() //nolint:errcheck // SIGKILL; Wait tells
		cmd.Wait()         //nolint:errcheck // "signal: killed"
		lab.Eventually(t, 20*time.Second, "the end of the program", func() bool {
			ifc, err := l.Host.Interface()
			return err == nil && ifc.XDP == (hostif.XDP{})
		})
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		kill()
		t.Fatalf("the child says %q, %v", line, err)
	}
	return kill
}
