package frames

import (
	"net/netip"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
)

// patience is for what the kernel does in its own time: reports come within a
// second, and events of the link may be put off by one.
const patience = 20 * time.Second

// TestKernelSent has the kernel report a multicast group while nobody is at the
// other end. It counts the packet as sent, and the interface does not.
func TestKernelSent(t *testing.T) {
	lab.Require(t, lab.NetNS)
	l := lab.New(t, lab.Config{})
	if err := l.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	before := discarded(t, l)
	// The address has a group of its own, which is reported.
	if err := l.Host.AddAddress(netip.MustParsePrefix("fd00:1::77:1/64")); err != nil {
		t.Fatal(err)
	}
	lab.Eventually(t, patience, "a report is discarded", func() bool { return discarded(t, l) > before })
	if err := l.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	// No frame here is anybody else's, and none is ARP.
	lab.Eventually(t, patience, "the interface has sent what the kernel has", func() bool {
		st, err := l.Host.Stats(lab.HostDevice)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := kernelSent(l.Host)
		if err != nil {
			t.Fatal(err)
		}
		return sent == st["tx_packets"] && sent > 0
	})
}

func discarded(t *testing.T, l *lab.Lab) uint64 {
	t.Helper()
	n, err := kernelDiscarded(l.Host)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
