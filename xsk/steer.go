package xsk

import "iter"

//go:generate go tool bpf2go -target bpfel -tags linux -type verdict steer bpf/steer.c -- -mcpu=v3 -Wall -Wextra -Werror
//go:generate go tool bpf2go -target bpfel -tags linux steerMetadata bpf/steer_metadata.c -- -mcpu=v3 -Wall -Wextra -Werror

// Verdict is what the steering program decides about one frame. Redirected
// frames go to the socket of the queue they arrived on, passed frames to the
// kernel.
type Verdict uint32

// The list is that of enum verdict in bpf/steer.c.
const (
	// RedirectIPv4 and RedirectIPv6 are packets to an address of the
	// Program, of any protocol, with any options or extension headers, and
	// fragments, also those that are not first; and UDP to a multicast group
	// of the Program. Of such the fragments are among it with IPv4 only.
	RedirectIPv4 Verdict = iota
	RedirectIPv6
	// RedirectARP is ARP whose target protocol address is the Program's:
	// requests, replies and probes. Without a target address, as the answer to
	// a probe has none, it is ARP whose sender has an address of the Program.
	RedirectARP
	// RedirectND is a neighbour solicitation or advertisement, sent to a
	// multicast group, whose target is an address of the Program. One sent to
	// the address itself is RedirectIPv6.
	RedirectND
	// PassNoSocket would have been redirected, but no socket is there for the
	// queue it arrived on: the device spreads flows over more queues than are
	// bound.
	PassNoSocket
	// PassNoAddress is IPv4, IPv6, ARP, or multicast neighbour discovery that
	// concerns no address of the Program.
	PassNoAddress
	// PassForeignMAC came to the unicast MAC address of another station: the
	// interface is promiscuous.
	PassForeignMAC
	// PassMulticast is broadcast and multicast, ARP and neighbour discovery
	// excepted. Router advertisements are among it, and IGMP and MLD of a
	// group of the Program.
	PassMulticast
	// PassVLAN has an 802.1Q or 802.1ad tag.
	PassVLAN
	// PassEtherType is neither IPv4, IPv6, ARP nor VLAN.
	PassEtherType
	// PassMalformed is too short for its headers, or its headers contradict
	// themselves.
	PassMalformed

	numVerdicts
)

var verdictNames = [numVerdicts]string{
	RedirectIPv4:   "redirect_ipv4",
	RedirectIPv6:   "redirect_ipv6",
	RedirectARP:    "redirect_arp",
	RedirectND:     "redirect_nd",
	PassNoSocket:   "pass_no_socket",
	PassNoAddress:  "pass_no_address",
	PassForeignMAC: "pass_foreign_mac",
	PassMulticast:  "pass_multicast",
	PassVLAN:       "pass_vlan",
	PassEtherType:  "pass_ethertype",
	PassMalformed:  "pass_malformed",
}

// String returns the verdict as a metric label, "redirect_ipv4".
func (v Verdict) String() string {
	if v < numVerdicts {
		return verdictNames[v]
	}
	return "unknown"
}

// Redirected reports whether frames with this verdict leave the kernel.
func (v Verdict) Redirected() bool { return v <= RedirectND }

// Counters has the frames the steering program saw since it was loaded. Each
// frame is in exactly one field; see the Verdict of the same name.
type Counters struct {
	RedirectIPv4   uint64
	RedirectIPv6   uint64
	RedirectARP    uint64
	RedirectND     uint64
	PassNoSocket   uint64 // above 0: bind a socket to every queue, or restrict RSS
	PassNoAddress  uint64
	PassForeignMAC uint64
	PassMulticast  uint64
	PassVLAN       uint64
	PassEtherType  uint64
	PassMalformed  uint64
}

// All yields every counter under its verdict, in the order of the constants.
func (c Counters) All() iter.Seq2[Verdict, uint64] {
	return func(yield func(Verdict, uint64) bool) {
		for v := range numVerdicts {
			if !yield(v, *c.at(v)) {
				return
			}
		}
	}
}

// at returns the field of a verdict below numVerdicts.
func (c *Counters) at(v Verdict) *uint64 {
	return [numVerdicts]*uint64{
		&c.RedirectIPv4, &c.RedirectIPv6, &c.RedirectARP, &c.RedirectND,
		&c.PassNoSocket, &c.PassNoAddress, &c.PassForeignMAC, &c.PassMulticast,
		&c.PassVLAN, &c.PassEtherType, &c.PassMalformed,
	}[v]
}
