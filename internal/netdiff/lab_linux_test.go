package netdiff

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
)

// inLab returns three grounds on one veth pair: the kernel with itself, our stack
// with the kernel, and the kernel with our stack.
func inLab(t *testing.T) (kernels, ourStack, kernelNear *ground) {
	t.Helper()
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	for _, n := range []*lab.Namespace{l.Host, l.Peer} {
		if err := n.Do(tellAllRefusals); err != nil {
			t.Fatal(err)
		}
		if err := n.RouteGroups(); err != nil { // who joins one names no interface
			t.Fatal(err)
		}
	}
	// An address that frames can be sent to, and where nobody takes them.
	nobody := net.HardwareAddr{2, 0, 0, 0, 0, 99}
	var hole [2]netip.AddrPort
	var neighbors []stack.Neighbor
	for i, p := range []netip.Prefix{l.StackV4, l.StackV6} {
		b := p.Addr().AsSlice()
		b[len(b)-1] = 99
		a, _ := netip.AddrFromSlice(b)
		hole[i] = netip.AddrPortFrom(a, holePort)
		neighbors = append(neighbors, stack.Neighbor{Addr: a, HardwareAddr: nobody})
		for _, n := range []*lab.Namespace{l.Host, l.Peer} {
			if err := n.SetNeighbor(a, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Addresses of the link: the stack's, and those of the two kernels.
	var links [3]linkHost
	for i := range links {
		links[i] = linkHost{netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(1 + i)}), lab.HostDevice, 0}
	}
	links[2].name = lab.PeerDevice
	for i, n := range []*lab.Namespace{l.Host, l.Host, l.Peer} {
		h := &links[i]
		ifc, err := n.Interface()
		if err != nil {
			t.Fatal(err)
		}
		h.index = int(ifc.Index)
		if i == 0 {
			continue
		}
		if err := n.AddAddress(netip.PrefixFrom(h.addr, 64)); err != nil {
			t.Fatal(err)
		}
	}
	var s *stack.Stack
	err := l.Host.Do(func() (err error) {
		s, err = stack.Open(withFlag(stack.Config{
			Interface: lab.HostDevice, Addresses: []netip.Prefix{l.StackV4, l.StackV6, netip.PrefixFrom(links[0].addr, 64)},
			Neighbors: neighbors, NoDuplicateCheck: true, // no kernel has them
		}))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stack: %v", err)
		}
	})
	ourHost := [2]netip.Addr{l.StackV4.Addr(), l.StackV6.Addr()}
	host := [2]netip.Addr{l.Host.V4.Addr(), l.Host.V6.Addr()}
	peer := [2]netip.Addr{l.Peer.V4.Addr(), l.Peer.V6.Addr()}
	atHost, atPeer := kernel{l.Host.Do}, kernel{l.Peer.Do}
	for _, k := range []kernel{atHost, atPeer} {
		for _, a := range append(host[:], peer[:]...) {
			// Link events may come late, and take routes away for a moment.
			lab.Eventually(t, patience, "a route to "+a.String(), func() bool {
				c, err := k.DialUDP("udp", nil, &net.UDPAddr{IP: a.AsSlice(), Port: discardPort})
				if err == nil {
					c.Close()
				}
				return err == nil
			})
		}
	}
	kernels = &ground{near: atHost, far: atPeer, nearHost: host, farHost: peer, nearLink: links[1], farLink: links[2]}
	ourStack = &ground{near: ours{s}, far: atPeer, nearHost: ourHost, farHost: peer, nearLink: links[0], farLink: links[2]}
	kernelNear = &ground{near: atPeer, far: ours{s}, nearHost: peer, farHost: ourHost, nearLink: links[2], farLink: links[0]}
	for _, g := range []*ground{kernels, ourStack, kernelNear} {
		g.hole, g.patience, g.frames = hole, patience, ofKernel{}
	}
	return kernels, ourStack, kernelNear
}

// tellAllRefusals has the kernel of the namespace answer every datagram for which
// there is nobody: of itself it says so to a host once a second.
func tellAllRefusals() error {
	for _, path := range []string{"/proc/sys/net/ipv4/icmp_ratelimit", "/proc/sys/net/ipv6/icmp/ratelimit"} {
		if err := os.WriteFile(path, []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

// TestInLab compares our stack with the kernel over a veth pair, in both
// directions: as the end that is looked at, and as its peer.
func TestInLab(t *testing.T) {
	kernels, ourStack, kernelNear := inLab(t)
	all := chosen(t, func(b *behaviour) bool { return !b.inside })
	want := runAll(kernels, all)
	compare(t, "stack and kernel", all, want, runAll(ourStack, all), isKnown)
	compare(t, "kernel and stack", all, want, runAll(kernelNear, all), isKnownFar)
	// What TestOverWire takes for the kernel's behaviour is the same on a link.
	var there [][]string
	var everywhere []job
	for i, j := range all {
		if anywhere(j.b) {
			everywhere = append(everywhere, j)
			there = append(there, want[i])
		}
	}
	nothing := func(string) bool { return false }
	compare(t, "the kernel by itself", everywhere, runAll(loopback(t), everywhere), there, nothing)
}
