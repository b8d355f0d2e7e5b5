package lab

import (
	"net/netip"
	"testing"
	"time"
)

func TestSNMPColumn(t *testing.T) {
	const snmp = "Ip: Forwarding OutRequests OutDiscards OutNoRoutes\nIp: 2 100 7 1\nIcmp: InMsgs OutDiscards\nIcmp: 5 6\n"
	const snmp6 = "Ip6OutRequests                  \t5\nIp6OutDiscards                  \t3\n"
	for _, c := range []struct {
		table, line, column string
		want                uint64
		fails               bool
	}{
		{snmp, "Ip:", "OutDiscards", 7, false},
		{snmp, "Ip:", "OutRequests", 100, false},
		{snmp, "Icmp:", "OutDiscards", 6, false},
		{snmp6, "Ip6OutDiscards", "", 3, false},
		{snmp6, "Ip:", "OutDiscards", 0, true},
		{"Ip: OutRequests OutDiscards\nIp: 1\n", "Ip:", "OutDiscards", 0, true},
		{"Ip6OutDiscards many\n", "Ip6OutDiscards", "", 0, true},
		{"", "Ip:", "OutDiscards", 0, true},
	} {
		got, err := snmpColumn(c.table, c.line, c.column)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%q, %s %s: %d, %v, want %d", c.table, c.line, c.column, got, err, c.want)
		}
	}
}

// TestIPSent has the kernel report a multicast group while nobody is at the
// other end. It counts the packet as sent, and the interface does not.
func TestIPSent(t *testing.T) {
	// What the kernel does in its own time: reports come within a second, and
	// events of the link may be put off by one.
	const patience = 20 * time.Second
	l := New(t, Config{})
	if err := l.SetCarrier(false); err != nil {
		t.Fatal(err)
	}
	before := discarded(t, l)
	// The address has a group of its own, which is reported.
	if err := l.Host.AddAddress(netip.MustParsePrefix("fd00:1::77:1/64")); err != nil {
		t.Fatal(err)
	}
	Eventually(t, patience, "a report is discarded", func() bool { return discarded(t, l) > before })
	if err := l.SetCarrier(true); err != nil {
		t.Fatal(err)
	}
	// No frame here is anybody else's, and none is ARP.
	Eventually(t, patience, "the interface has sent what the kernel has", func() bool {
		st, err := l.Host.Stats(HostDevice)
		if err != nil {
			t.Fatal(err)
		}
		sent, err := l.Host.IPSent()
		if err != nil {
			t.Fatal(err)
		}
		return sent == st["tx_packets"] && sent > 0
	})
}

func discarded(t *testing.T, l *Lab) (n uint64) {
	t.Helper()
	if err := l.Host.Do(func() (err error) { n, err = ipCounter("OutDiscards"); return err }); err != nil {
		t.Fatal(err)
	}
	return n
}
