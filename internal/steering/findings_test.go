package steering

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// unattached is an Interface with no program and no watch, for what it finds.
func unattached() *Interface {
	return &Interface{dev: hostif.Interface{Name: "eth0"}, findings: NewMailbox()}
}

// finds wants one finding, or none if text is empty.
func finds(t *testing.T, i *Interface, subject, text, fix string) {
	t.Helper()
	select {
	case f := <-i.Findings():
		if text == "" || f.Subject != subject || f.Level != xsk.Warning || !strings.Contains(f.Text, text) || !strings.Contains(f.Fix, fix) {
			t.Errorf("%v, want %s, %q, %q", f, subject, text, fix)
		}
	default:
		if text != "" {
			t.Errorf("no finding, want %s, %q", subject, text)
		}
	}
}

// TestAddressesEnd has the watch on the host's addresses fail.
func TestAddressesEnd(t *testing.T) {
	i := unattached()
	i.endAddresses(errors.New("out of luck"))
	finds(t, i, xsk.SubjectAddresses, "has on eth0: out of luck", "open again")
}

// TestFollowMTU changes the MTU under the addresses of a stack: it is found when IPv6
// has too little, once each time, and with no address of IPv6 never.
func TestFollowMTU(t *testing.T) {
	i := unattached()
	i.dev.MTU = 1500
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, step := range []struct {
		claimed netip.Addr
		mtu     int
		text    string
	}{
		{four, 1000, ""},
		{six, 1500, ""},
		{six, 1280, ""},
		{six, 1279, "eth0 has an MTU of 1279 now"},
		{six, 1000, ""},
		{six, 9000, ""},
		{six, 600, "eth0 has an MTU of 600 now"},
	} {
		i.claimed = map[netip.Addr]bool{step.claimed: true}
		i.follow(hostif.Event{Change: hostif.ChangeMTU, State: hostif.State{Present: true, MTU: step.mtu}})
		finds(t, i, xsk.SubjectMTU, step.text, "ip link set eth0 mtu 1500")
	}
}

// TestFollowFails has the program not take an address, and the watch end: it is found
// at once, and not by Detach alone.
func TestFollowFails(t *testing.T) {
	i := unattached()
	i.prog = new(xsk.Program)
	i.follow(hostif.Event{Change: hostif.ChangeMAC, State: hostif.State{Present: true, MAC: "\x01\x00\x5e\x00\x00\x01"}})
	finds(t, i, xsk.SubjectLink, "Ethernet address of eth0", "open again")
	why := errors.New("out of luck")
	i.follow(hostif.Event{Change: hostif.ChangeEnded, Err: why})
	finds(t, i, xsk.SubjectLink, why.Error(), "open again")
	if !errors.Is(i.lost, why) {
		t.Errorf("Detach says %v", i.lost)
	}
}
