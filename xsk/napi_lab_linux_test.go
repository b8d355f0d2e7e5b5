//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

var askedNAPI = NAPI{DeferHardIRQs: 3, GROFlushTimeout: 200 * time.Microsecond, IRQSuspendTimeout: 20 * time.Millisecond}

// requireNAPI skips on kernels that have no settings per NAPI.
func requireNAPI(t *testing.T) {
	t.Helper()
	lab.Require(t, lab.NetNS, lab.XDP)
	if !releaseAtLeast(kernelRelease(), 6, 13) {
		t.Skip("settings per NAPI need Linux 6.13")
	}
}

// napiNow reads the settings and changes nothing.
func napiNow(t *testing.T, l *lab.Lab) (s NAPIState) {
	t.Helper()
	err := l.Host.Do(func() error {
		ifc, err := l.Host.Interface()
		if err != nil {
			return err
		}
		id, values, err := hostif.ReadNAPI(ifc.Index, 0)
		s = napiOf(id, false, values)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// recordOf tells whether a NAPI has a record for the next start.
func recordOf(id uint32) bool {
	_, err := os.Stat(filepath.Join("/run/afxnet/settings", "napi-"+strconv.FormatUint(uint64(id), 10)))
	return err == nil
}

// TestNAPI sets what is asked for and restores it, by Close of the socket and of a
// set, and when a later step of opening fails.
func TestNAPI(t *testing.T) {
	requireNAPI(t)
	l := lab.New(t, lab.Config{})
	p := attachInLab(t, l, AttachAuto)
	before := napiNow(t, l)

	s := mustOpen(t, l, small(Config{NAPI: askedNAPI}))
	want := before
	want.DeferHardIRQs, want.GROFlushTimeout, want.IRQSuspendTimeout = askedNAPI.DeferHardIRQs, askedNAPI.GROFlushTimeout, askedNAPI.IRQSuspendTimeout
	if got := s.NAPI(); got != want || got.ID == 0 {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !recordOf(want.ID) {
		t.Error("no record of the former settings")
	}
	s.RX().Refill()
	if err := p.AddSocket(0, s.FD()); err != nil {
		t.Fatal(err)
	}
	testVeth(t, l, s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := napiNow(t, l); got != before || recordOf(before.ID) {
		t.Errorf("after Close: %+v, want %+v; record: %v", got, before, recordOf(before.ID))
	}

	s = mustOpen(t, l, small(Config{}))
	if got := s.NAPI(); got != (NAPIState{}) {
		t.Errorf("not asked for: %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	set, err := openSet(l, SetConfig{Socket: Config{NAPI: askedNAPI}})
	if err != nil {
		t.Fatal(err)
	}
	id := set.Sockets()[0].NAPI().ID
	if err := set.Close(); err != nil {
		t.Error(err)
	}
	if id == 0 || recordOf(id) {
		t.Errorf("a set's NAPI %d, record %v", id, recordOf(id))
	}
}

// TestNAPIErrors lacks a NAPI, the capability, or is second.
func TestNAPIErrors(t *testing.T) {
	requireNAPI(t)
	l := lab.New(t, lab.Config{})
	expect := func(err, is error, says ...string) {
		t.Helper()
		var op *OpError
		if !errors.Is(err, is) || !errors.As(err, &op) || op.Op != "set NAPI" || op.Device != lab.HostDevice {
			t.Errorf("%v, want %v", err, is)
			return
		}
		for _, want := range says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	}
	open := func() error {
		s, err := Open(small(Config{NAPI: askedNAPI}))
		if err == nil {
			err = s.Close()
		}
		return err
	}
	expect(l.Host.Do(open), errors.ErrUnsupported, "no NAPI", "leave Config.NAPI unset")

	attachInLab(t, l, AttachAuto)
	fds := descriptors.Open(t)
	before := napiNow(t, l)
	expect(withCapabilities(l.Host, 1<<unix.CAP_NET_RAW|1<<unix.CAP_IPC_LOCK, open), os.ErrPermission)
	if got := napiNow(t, l); got != before {
		t.Errorf("%+v, want %+v", got, before)
	}
	region, err := umem.New(umem.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	sh := NewShared(region)
	s, err := openIn(l, small(Config{NAPI: askedNAPI, Shared: sh}))
	if err != nil {
		t.Fatal(err)
	}
	_, err = openIn(l, small(Config{NAPI: askedNAPI, Shared: sh}))
	expect(err, unix.EBUSY, "napi-", "leave Config.NAPI unset in the others")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left := fds.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
}

const napiChildEnv = "AFXNET_TEST_NAPI_CHILD"

// TestNAPIChild is the process that TestNAPIAfterKill kills.
func TestNAPIChild(t *testing.T) {
	device := os.Getenv(napiChildEnv)
	if device == "" {
		return
	}
	s, err := Open(Config{Interface: device, NAPI: askedNAPI})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("attached")
	os.Stdin.Read(make([]byte, 1)) // until the parent is gone too
	runtime.KeepAlive(s)
}

// TestNAPIAfterKill kills the process whose settings they are. GRO keeps the veth's
// NAPI, as a NIC's driver keeps its own. The next socket restores them, although it
// asks for none.
func TestNAPIAfterKill(t *testing.T) {
	requireNAPI(t)
	l := lab.New(t, lab.Config{})
	if err := l.Host.Do(func() error { _, err := hostif.SetOffload(lab.HostDevice, "rx-gro", true); return err }); err != nil {
		t.Fatal(err)
	}
	before := napiNow(t, l)
	kill := startAttached(t, l, "TestNAPIChild", napiChildEnv)
	if !recordOf(before.ID) {
		t.Error("no record while the child runs")
	}
	kill()
	if got := napiNow(t, l); got.NAPI == before.NAPI || !recordOf(before.ID) {
		t.Errorf("after the kill %+v, record %v", got, recordOf(before.ID))
	}
	mustOpen(t, l, small(Config{}))
	if recordOf(before.ID) {
		t.Error("the next socket has left the record")
	}
	if got := napiNow(t, l); got != before {
		t.Errorf("after the next socket %+v, want %+v", got, before)
	}
}
