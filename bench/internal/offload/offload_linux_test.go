package offload

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// sent is what a transfer moves, in bytes, and segments how many frames of an
// MTU of 1500 that takes at least.
const (
	sent     = 4 << 20
	segments = sent / 1500
)

// frames returns how many frames the host's device sends for a bulk transfer
// between the kernels of a lab.
func frames(t *testing.T, l *lab.Lab) uint64 {
	t.Helper()
	ln, err := l.Peer.Listen("tcp", netip.AddrPortFrom(l.Peer.V4.Addr(), 7).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	received := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			defer c.Close()
			_, err = io.CopyN(io.Discard, c, sent)
		}
		received <- err
	}()
	c, err := l.Host.Dial(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	before, err := l.Host.Stats(l.Host.Device)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, sent)); err != nil {
		t.Fatal(err)
	}
	if err := <-received; err != nil {
		t.Fatal(err)
	}
	after, err := l.Host.Stats(l.Host.Device)
	if err != nil {
		t.Fatal(err)
	}
	return after["tx_packets"] - before["tx_packets"]
}

// TestApply looks at what a profile is for: whether a frame is one segment.
func TestApply(t *testing.T) {
	l := lab.New(t, lab.Config{Offloads: true})
	apply := func(p Profile) (undo func() error) {
		t.Helper()
		err := l.Host.Do(func() (err error) {
			undo, err = Apply(l.Host.Device, p)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return undo
	}
	undo := apply(Default)
	if n := frames(t, l); n > segments/2 {
		t.Errorf("with segmentation offload %d frames, want far below %d", n, segments)
	}
	for _, p := range []Profile{Plain, Complete} {
		undoThis := apply(p)
		if n := frames(t, l); n < segments {
			t.Errorf("%s: %d frames, at least %d segments", p, n, segments)
		}
		for range 2 {
			if err := undoThis(); err != nil {
				t.Error(err)
			}
		}
		if n := frames(t, l); n > segments/2 {
			t.Errorf("after %s: %d frames, want far below %d", p, n, segments)
		}
	}
	if err := undo(); err != nil {
		t.Error(err)
	}
}

// records is where package hostif keeps them.
const records = "/run/afxnet/settings"

// thisNamespace is the number by which records tell the thread's network namespace.
func thisNamespace() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return hostif.NetNSOf(fd)
}

// TestApplyRestores has the record of a process that was killed. A profile that sets
// nothing undoes what it tells of, too: on a real link nobody else does.
func TestApplyRestores(t *testing.T) {
	const feature = "tx-tcp-segmentation"
	l := lab.New(t, lab.Config{Offloads: true})
	err := l.Host.Do(func() error {
		namespace, err := thisNamespace()
		if err != nil {
			return err
		}
		ifc, err := hostif.Lookup(l.Host.Device)
		if err != nil {
			return err
		}
		boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return err
		}
		undo, err := hostif.SetOffload(l.Host.Device, feature, false)
		if err != nil {
			return err
		}
		defer undo() //nolint:errcheck // by then it is as before
		text := fmt.Sprintf(`{"Boot":%q,"Namespace":%d,"Index":%d,"Feature":%q,"Wanted":true,"Active":true,"Set":false}`,
			strings.TrimSpace(string(boot)), namespace, ifc.Index, feature)
		name := fmt.Sprintf("%s/offload-%d-%d-%s", records, namespace, ifc.Index, feature)
		// Whole at once: half a record would be removed by any process that opens a socket.
		half := fmt.Sprintf("%s/half%d", records, namespace)
		if err := errors.Join(os.MkdirAll(records, 0o700), os.WriteFile(half, []byte(text), 0o600), os.Rename(half, name)); err != nil {
			return err
		}
		_, err = Apply(l.Host.Device, Default)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := frames(t, l); n > segments/2 {
		t.Errorf("%d frames, want far below %d", n, segments)
	}
}

// TestApplyOnRecord wants what a killed bench leaves behind to be known to the next
// start.
func TestApplyOnRecord(t *testing.T) {
	l := lab.New(t, lab.Config{Offloads: true})
	wantRecords := func(want int) {
		t.Helper()
		err := l.Host.Do(func() error {
			namespace, err := thisNamespace()
			if err != nil {
				return err
			}
			got, err := filepath.Glob(fmt.Sprintf("%s/offload-%d-*", records, namespace))
			if len(got) != want {
				t.Errorf("%d records, want %d: %v", len(got), want, got)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	var undo func() error
	err := l.Host.Do(func() (err error) {
		undo, err = Apply(l.Host.Device, Complete)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(len(off[Complete]))
	if err := undo(); err != nil {
		t.Error(err)
	}
	wantRecords(0)
}

func TestApplyErrors(t *testing.T) {
	if _, err := Apply("lo", "fast"); err == nil {
		t.Error("a profile that is not there is no error")
	}
	if _, err := Apply("afx9", Plain); !errors.Is(err, unix.ENODEV) {
		t.Errorf("got %v, want ENODEV", err)
	}
}
