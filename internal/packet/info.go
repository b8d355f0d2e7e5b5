package packet

// Header lengths in bytes.
const (
	EthernetLen = 14
	IPv4Len     = 20 // without options
	IPv6Len     = 40 // without extension headers
	TCPLen      = 20 // without options
	UDPLen      = 8
)

// MaxFrame is the longest frame that Parse takes, in bytes: what the offsets of
// Info can name.
const MaxFrame = 1<<16 - 1

// EtherTypes and IP protocol numbers that are looked at.
const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	ProtoTCP = 6
	ProtoUDP = 17

	protoHopByHop = 0
	protoICMP4    = 1
	protoRouting  = 43
	protoFragment = 44
	protoICMP6    = 58
)

// Kind says what a frame carries, and with it which fields of Info are set.
type Kind uint8

const (
	// Other is not plain ARP or IP in an untagged Ethernet II frame; VLAN tags
	// are Other. Only End is set.
	Other Kind = iota
	ARP        // only L3 and End are set

	// IP is a protocol or a form that is not understood here, or whose checksum
	// depends on more than the plain header: source routes, destination
	// options, jumbograms.
	IP
	Fragment // of IPv4 or IPv6, the first and atomic ones included
	ICMP4
	ICMP6
	UDP4
	UDP6
	TCP4
	TCP6

	Kinds // the number of kinds, for arrays of counters
)

var kindNames = [Kinds]string{
	Other: "other", ARP: "arp", IP: "ip", Fragment: "fragment", ICMP4: "icmp4", ICMP6: "icmp6",
	UDP4: "udp4", UDP6: "udp6", TCP4: "tcp4", TCP6: "tcp6",
}

// String returns the kind's name in lower case.
func (k Kind) String() string {
	if k < Kinds {
		return kindNames[k]
	}
	return "unknown kind"
}

// IsTCP reports whether k is TCP4 or TCP6.
func (k Kind) IsTCP() bool { return k >= TCP4 && k <= TCP6 }

// IsUDP reports whether k is UDP4 or UDP6.
func (k Kind) IsUDP() bool { return k >= UDP4 && k <= UDP6 }

// TCP flags as they are in the header.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Mark is a set of facts about a packet.
type Mark uint8

const (
	// Extended marks IPv4 options or IPv6 extension headers.
	Extended Mark = 1 << iota
	// DontFragment marks IPv4's DF bit, and all IPv6: no router fragments it.
	DontFragment
	// Summed means that Verify has summed the packet and PayloadSum is set.
	Summed
	// Partial means that Verify found the sum of the pseudo-header where the
	// checksum belongs, and AcceptPartial let it pass.
	Partial
	// Unsummed marks a UDP datagram over IPv4 that carries no checksum.
	Unsummed
)

// Info is what one look at a frame found. Offsets count bytes from the start of
// the frame; integers are in host byte order.
type Info struct {
	// Hash identifies the flow, keyed with a secret of this process; TCP and
	// UDP only.
	Hash uint32

	Seq, Ack  uint32 // TCP
	FlowLabel uint32 // IPv6, 20 bits

	SrcPort, DstPort uint16 // TCP and UDP
	Window           uint16 // TCP, not scaled
	ID               uint16 // IPv4

	// PayloadSum is the folded sum of the TCP payload, if Marks has Summed.
	PayloadSum uint16

	// L3 is where the IP (or ARP) header starts. L4 is where the transport
	// header starts, or for IP and Fragment the end of the IPv4 or fixed IPv6
	// header. Payload is where the data of TCP and UDP starts, and L4 for the
	// other IP kinds. End is the end of the IP packet: what lies behind is
	// Ethernet padding.
	L3, L4, Payload, End uint16

	Kind  Kind
	Marks Mark
	Flags uint8 // TCP
	Proto uint8 // IPv4 protocol, or the last IPv6 next header that was read
	TOS   uint8 // or IPv6 traffic class: DSCP and ECN
	TTL   uint8 // or IPv6 hop limit
}

// PayloadLen returns the bytes of TCP data, or of whatever else starts at
// Payload.
func (info *Info) PayloadLen() int { return int(info.End) - int(info.Payload) }
