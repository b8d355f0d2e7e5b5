package hostif_test

import (
	"errors"
	"net"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// TestChannels reads the channels of a veth, which has one pair per queue, and what
// it does not have: an RSS table and rings.
func TestChannels(t *testing.T) {
	l := lab.New(t, lab.Config{Queues: 3})
	err := l.Host.Do(func() error {
		ch, err := hostif.ReadChannels(lab.HostDevice)
		if err != nil {
			return err
		}
		if ch.RX != 3 || ch.TX != 3 || ch.MaxRX < 3 || ch.Combined != 0 {
			t.Errorf("%+v", ch)
		}
		if q, err := hostif.RSSQueues(lab.HostDevice); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("RSSQueues: %v, %v", q, err)
		}
		if r, err := hostif.ReadRings(lab.HostDevice); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("ReadRings: %+v, %v", r, err)
		}
		if _, err := hostif.ReadChannels("nope0"); !errors.Is(err, unix.ENODEV) {
			t.Errorf("no such interface: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRings reads the rings of the devices of this machine that tell of them.
func TestRings(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, ifc := range all {
		r, err := hostif.ReadRings(ifc.Name)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil || r.RX < 1 || r.TX < 1 || r.RX > r.MaxRX || r.TX > r.MaxTX {
			t.Errorf("%s: %+v, %v", ifc.Name, r, err)
		}
		t.Logf("%s: %+v", ifc.Name, r)
	}
}

// TestFeatureOn follows an offload that is switched on and off.
func TestFeatureOn(t *testing.T) {
	l := lab.New(t, lab.Config{})
	const feature = "tx-checksum-ip-generic" // off in a lab
	expect := func(want bool) {
		t.Helper()
		if on, err := hostif.FeatureOn(lab.HostDevice, feature); on != want || err != nil {
			t.Errorf("%s is on: %v, %v", feature, on, err)
		}
	}
	err := l.Host.Do(func() error {
		expect(false)
		undo, err := hostif.SetOffload(lab.HostDevice, feature, true)
		if err != nil {
			return err
		}
		expect(true)
		if on, err := hostif.FeatureOn(lab.HostDevice, "no-such-feature"); on || err != nil {
			t.Errorf("no such feature: %v, %v", on, err)
		}
		return undo()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestXDPFeatures asks what veth declares, and about an interface that is not
// there.
func TestXDPFeatures(t *testing.T) {
	l := lab.New(t, lab.Config{})
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	if n := ifc.NUMANode(); n != -1 {
		t.Errorf("veth is on NUMA node %d", n)
	}
	err = l.Host.Do(func() error {
		f, err := hostif.ReadXDPFeatures(ifc.Index)
		if errors.Is(err, unix.ENOENT) {
			t.Skip("before Linux 6.3: ", err)
		}
		if !f.Native || !f.Redirect || f.ZeroCopy || f.Offload || f.ZeroCopySegments != 1 || f.TXChecksum {
			t.Errorf("veth: %+v, %v", f, err)
		}
		if _, err := hostif.ReadXDPFeatures(1 << 30); !errors.Is(err, unix.ENODEV) {
			t.Errorf("no such interface: %v", err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRSSQueues reads the table of a device of this machine that has one.
func TestRSSQueues(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, ifc := range all {
		q, err := hostif.RSSQueues(ifc.Name)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil || len(q) == 0 || !slices.IsSorted(q) || q[0] < 0 {
			t.Errorf("%s: %v, %v", ifc.Name, q, err)
		}
		t.Log(ifc.Name, q)
	}
}
