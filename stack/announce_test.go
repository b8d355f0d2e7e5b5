package stack

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/afxnet/afxnet/internal/raced"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/netdev"
)

// TestAnnounce tells the link of another Ethernet address: for each of the stack's
// addresses, some times, and in the words of ARP and of neighbour discovery.
func TestAnnounce(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var frames [][]byte
		look := func(_ wire.Dir, f []byte) wire.Verdict {
			mu.Lock()
			defer mu.Unlock()
			frames = append(frames, append([]byte(nil), f...))
			return wire.Pass
		}
		ow := newOverWire(t, overWireOptions{bubble: true, wire: wire.Config{Faults: [2]wire.Faults{{Filter: look}}}})
		s := ow.s[0]
		mac := s.link.LinkAddress()
		said := func() (arps, nas int) {
			t.Helper()
			mu.Lock()
			defer mu.Unlock()
			for _, f := range frames {
				switch eth := header.Ethernet(f); {
				case eth.Type() == header.ARPProtocolNumber && isARPAnnouncement(eth, mac):
					arps++
				case eth.Type() == header.IPv6ProtocolNumber && isUnsolicited(eth, mac):
					nas++
				default:
					t.Errorf("what is this? %x", f)
				}
			}
			frames = nil
			return arps, nas
		}
		s.announcer.follow(s, mac) // nothing new
		time.Sleep(time.Minute)
		if arps, nas := said(); arps != 0 || nas != 0 {
			t.Errorf("%d and %d without news", arps, nas)
		}
		for range 2 { // there and back
			s.announcer.follow(s, s.announcer.told[1:]+"x")
			time.Sleep(announceInterval / 2)
			if arps, nas := said(); arps != 1 || nas != 1 {
				t.Errorf("%d ARP announcements and %d advertisements at once, want one each", arps, nas)
			}
			time.Sleep(time.Minute)
			if arps, nas := said(); arps != announcements-1 || nas != announcements-1 {
				t.Errorf("%d ARP announcements and %d advertisements later, want %d each", arps, nas, announcements-1)
			}
		}
		// The link goes down after the first, and once more when all is said.
		s.announcer.follow(s, mac)
		for _, want := range []int{announcements, 0} {
			time.Sleep(announceInterval / 2)
			s.dev.SetLink(fmt.Errorf("test: %w: %w", netdev.ErrNoCarrier, syscall.ENETDOWN))
			said()
			time.Sleep(time.Minute)
			s.dev.SetLink(nil)
			time.Sleep(time.Minute)
			if arps, nas := said(); arps != want || nas != want {
				t.Errorf("%d ARP announcements and %d advertisements with the carrier back, want %d each", arps, nas, want)
			}
		}
		s.announcer.follow(s, s.announcer.told[1:]+"x")
		time.Sleep(announceInterval / 2)
		s.announcer.end() // as Close does
		said()
		time.Sleep(time.Minute)
		if arps, nas := said(); arps != 0 || nas != 0 {
			t.Errorf("%d and %d after the end", arps, nas)
		}
	})
}

func isARPAnnouncement(eth header.Ethernet, mac tcpip.LinkAddress) bool {
	h := header.ARP(eth[header.EthernetMinimumSize:])
	ip := tcpip.AddrFrom4Slice(h.ProtocolAddressSender())
	return h.IsValid() && h.Op() == header.ARPRequest && ip.String() == addrA && ip == tcpip.AddrFrom4Slice(h.ProtocolAddressTarget()) &&
		tcpip.LinkAddress(h.HardwareAddressSender()) == mac && eth.DestinationAddress() == header.EthernetBroadcastAddress && eth.SourceAddress() == mac
}

func isUnsolicited(eth header.Ethernet, mac tcpip.LinkAddress) bool {
	ip := header.IPv6(eth[header.EthernetMinimumSize:])
	h := header.ICMPv6(ip.Payload())
	if ip.NextHeader() != uint8(header.ICMPv6ProtocolNumber) || ip.HopLimit() != header.NDPHopLimit || h.Type() != header.ICMPv6NeighborAdvert {
		return false
	}
	na := header.NDPNeighborAdvert(h.MessageBody())
	options, err := na.Options().Iter(true)
	if err != nil {
		return false
	}
	option, done, err := options.Next()
	target, ok := option.(header.NDPTargetLinkLayerAddressOption)
	sum := h.Checksum()
	h.SetChecksum(0)
	right := header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: h, Src: ip.SourceAddress(), Dst: ip.DestinationAddress()})
	return ok && !done && err == nil && target.EthernetAddress() == mac && sum == right &&
		na.TargetAddress() == ip.SourceAddress() && ip.SourceAddress().String() == addrA6 && na.OverrideFlag() && !na.SolicitedFlag() &&
		ip.DestinationAddress().String() == "ff02::1" && eth.DestinationAddress() == "\x33\x33\x00\x00\x00\x01" && eth.SourceAddress() == mac
}
