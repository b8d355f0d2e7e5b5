package hostile

import (
	"math/rand/v2"
	"net/netip"
)

// Flow is an established flow from the peer's side: frames go from Src to Dst.
type Flow struct {
	Src, Dst netip.AddrPort // of one family
	TCP      bool           // or UDP

	Next    uint32 // TCP: the sequence number that Dst expects next
	Window  uint32 // bytes from Next on that Dst has offered to take; 64 at least
	SendMax uint32 // TCP: the next sequence number that Dst will send; Src has acknowledged all before
	Offered uint32 // TCP: bytes that Src has ever offered to take, at most; less than 64 KiB counts as that

	Sacrifice bool // may be reset
}

// Class is what is wrong with a frame.
type Class uint8

const (
	AimedTCP  Class = iota // well-formed segments for an established flow
	Forged                 // data and FINs in the window, with an acknowledgement that cannot be
	AimedUDP               // well-formed datagrams for an established flow
	Noise                  // random bytes, some with a true Ethernet header
	Truncated              // cut at any length
	Lengths                // lengths that contradict each other
	Checksums              // wrong ones
	Options                // IPv4 options, IPv6 extension headers
	Fragments              // tiny, overlapping, never completed, past the end
	Errors                 // ICMP errors that quote a flow
	ICMP                   // other ICMP messages
	Neighbors              // ARP, neighbour and router discovery
	Strangers              // SYNs, closed ports, odd protocols, impossible sources
	Classes                // the number of classes
)

var classNames = [Classes]string{
	"aimed TCP", "forged", "aimed UDP", "noise", "truncated", "lengths", "checksums", "options", "fragments",
	"errors", "ICMP", "neighbors", "strangers",
}

func (c Class) String() string {
	if c < Classes {
		return classNames[c]
	}
	return "unknown class"
}

// weights are the parts of 100 of each class.
var weights = [Classes]int{50, 12, 5, 2, 3, 4, 3, 4, 4, 5, 2, 3, 3}

// Frame is one frame.
type Frame struct {
	Data  []byte // valid until the next call of Next
	Class Class
	Flow  int  // index of the flow it is about; -1: none
	Reset bool // a reset that ends a flow rightly
}

// Link is what the generator has to know of the link.
type Link struct {
	Target, Peer [6]byte // MAC addresses
	MTU          int     // bytes; 1280 at least
	Listen       uint16  // TCP port on which the target listens
}

// Generator makes frames. It is not safe for concurrent use.
type Generator struct {
	link  Link
	flows []Flow
	rng   *rand.Rand
	buf   []byte
	body  []byte
	tcp   []int // indices of TCP flows
	udp   []int
}

// New returns a generator. Flows may be changed between calls of Next by
// SetFlows; there must be one of TCP and one of UDP at least.
func New(seed uint64, link Link, flows []Flow) *Generator {
	g := &Generator{
		link: link, rng: rand.New(rand.NewPCG(seed, 0x686f7374696c65)),
		buf: make([]byte, 0, 1<<16), body: make([]byte, 1<<16),
	}
	g.SetFlows(flows)
	return g
}

// SetFlows replaces the flows.
func (g *Generator) SetFlows(flows []Flow) {
	g.flows, g.tcp, g.udp = flows, g.tcp[:0], g.udp[:0]
	for i, f := range flows {
		if f.TCP {
			g.tcp = append(g.tcp, i)
		} else {
			g.udp = append(g.udp, i)
		}
	}
}

// Next makes a frame.
func (g *Generator) Next() (f Frame) {
	f.Class = g.class()
	f.Flow = -1
	g.buf = g.buf[:0]
	switch f.Class {
	case AimedTCP:
		f.Flow = g.pick(g.tcp)
		f.Reset = g.segment(&g.flows[f.Flow])
	case Forged:
		f.Flow = g.pick(g.tcp)
		g.forged(&g.flows[f.Flow])
	case AimedUDP:
		f.Flow = g.pick(g.udp)
		g.datagram(&g.flows[f.Flow])
	case Noise:
		g.noise()
	case Truncated, Lengths, Checksums:
		f.Flow = g.rng.IntN(len(g.flows))
		g.spoil(&g.flows[f.Flow], f.Class)
	case Options:
		f.Flow = g.rng.IntN(len(g.flows))
		g.options(&g.flows[f.Flow])
	case Fragments:
		f.Flow = g.rng.IntN(len(g.flows))
		g.fragment(&g.flows[f.Flow])
	case Errors:
		f.Flow = g.rng.IntN(len(g.flows))
		g.icmpError(&g.flows[f.Flow])
	case ICMP:
		g.icmpOther(&g.flows[g.rng.IntN(len(g.flows))])
	case Neighbors:
		g.neighbor(&g.flows[g.rng.IntN(len(g.flows))])
	case Strangers:
		g.stranger(&g.flows[g.rng.IntN(len(g.flows))])
	}
	if len(g.buf) == 0 {
		g.buf = append(g.buf, 0)
	}
	f.Data = g.buf
	return f
}

func (g *Generator) class() Class {
	n := g.rng.IntN(100)
	for c, w := range weights {
		if n -= w; n < 0 {
			return Class(c)
		}
	}
	return Noise
}

func (g *Generator) pick(among []int) int { return among[g.rng.IntN(len(among))] }

// below is rng.IntN with 0 for nothing to choose from.
func (g *Generator) below(n int) int {
	if n <= 0 {
		return 0
	}
	return g.rng.IntN(n)
}

// one returns true once in n times.
func (g *Generator) one(n int) bool { return g.rng.IntN(n) == 0 }

// bytes returns n random bytes, valid until the next call.
func (g *Generator) bytes(n int) []byte {
	b := g.body[:n]
	for i := 0; i < n; i += 8 {
		x := g.rng.Uint64()
		for k := i; k < min(i+8, n); k++ {
			b[k] = byte(x)
			x >>= 8
		}
	}
	return b
}
