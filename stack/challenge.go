package stack

import (
	"encoding/binary"
	"math/bits"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// sending notes a TCP segment that netstack hands to its IP layer. It must come
// before the segment can leave, and with it before any acknowledgement.
func (g *guard) sending(r *gstack.Route, pkt *gstack.PacketBuffer) {
	h := header.TCP(pkt.TransportHeader().Slice())
	if g == nil || len(h) < header.TCPMinimumSize {
		return
	}
	t := g.ledger.tableFor(h)
	if t == nil {
		return
	}
	if hash, ok := t.hashOfSent(r.LocalAddress(), r.RemoteAddress(), h); ok {
		g.ledger.outgoing(t, hash, h, pkt.Data().Size())
	}
}

// hashOfSent returns the hash of the flow of a segment of the stack's.
func (t *ledgerTable) hashOfSent(local, remote tcpip.Address, h []byte) (hash uint64, ok bool) {
	ports := binary.BigEndian.Uint32(h)
	switch {
	case local.Len() == header.IPv4AddressSize && remote.Len() == header.IPv4AddressSize:
		return t.hash4(local.As4(), remote.As4(), ports), true
	case local.Len() == header.IPv6AddressSize && remote.Len() == header.IPv6AddressSize:
		return t.hash6(local.As16(), remote.As16(), ports), true
	}
	return 0, false
}

// flowOf returns the table, and the hash in it of an endpoint's flow. It allocates
// nothing.
func (g *guard) flowOf(ep tcpip.Endpoint) (t *ledgerTable, hash uint64, ok bool) {
	t = g.ledger.table.Load()
	e, ok := ep.(*tcp.Endpoint)
	if t == nil || !ok {
		return nil, 0, false
	}
	e.LockUser() // Endpoint.Info would copy to the heap
	id := e.TransportEndpointInfo.ID
	e.UnlockUser()
	var ports [4]byte
	binary.BigEndian.PutUint16(ports[0:], id.LocalPort)
	binary.BigEndian.PutUint16(ports[2:], id.RemotePort)
	hash, ok = t.hashOfSent(id.LocalAddress, id.RemoteAddress, ports[:])
	return t, hash, ok
}

// underWay tells whether the TCP header that an ICMP error quotes is of a segment
// that the stack has sent and nobody has acknowledged. Whoever knows addresses and
// ports of a connection could end a dial, or shrink its segments, with errors about
// any other (RFC 5927, 4; as Linux does, tcp_v4_err in net/ipv4/tcp_ipv4.c). Of
// flows that are not judged, each is.
func (g *guard) underWay(local, remote tcpip.Address, pkt *gstack.PacketBuffer) bool {
	h, ok := pkt.Data().PullUp(quotedTCP)
	if !ok {
		return false
	}
	t := g.ledger.table.Load()
	if t == nil {
		return true
	}
	hash, ok := t.hashOfSent(local, remote, h)
	return !ok || t.underWay(hash, binary.BigEndian.Uint32(h[header.TCPSeqNumOffset:]))
}

// quotedTCP is how much of a TCP header each ICMP error has (RFC 792): ports and
// sequence number.
const quotedTCP = 8

// hashOfReceived returns the hash of the flow of a segment behind an IP header.
func (t *ledgerTable) hashOfReceived(p tcpip.NetworkProtocolNumber, ip []byte, h header.TCP) (hash uint64, ok bool) {
	ports := bits.RotateLeft32(binary.BigEndian.Uint32(h), 16)
	switch {
	case p == header.IPv4ProtocolNumber && len(ip) >= header.IPv4MinimumSize:
		return t.hash4([4]byte(ip[16:]), [4]byte(ip[12:]), ports), true
	case p == header.IPv6ProtocolNumber && len(ip) >= header.IPv6MinimumSize:
		return t.hash6([16]byte(ip[24:]), [16]byte(ip[8:]), ports), true
	}
	return 0, false
}

// screen looks at a TCP segment that has come. One with an acknowledgement that
// the peer cannot have sent it makes into one that netstack answers with an
// acknowledgement, no more often than is good, and takes nothing from. One with an
// acknowledgement that netstack would pass over it makes into one that counts, and so
// it does with the answer to a SYN cookie that netstack would misread. Of one that
// comes again it has the timestamp noted. Netstack parses the header before and
// refuses segments without.
//
// to is who gets the segment, or nil if that has not been looked up.
func (g *guard) screen(pkt *gstack.PacketBuffer, h header.TCP, to gstack.TransportEndpoint) {
	if !complete(h) {
		return
	}
	t := g.ledger.tableFor(h)
	if t == nil {
		return
	}
	hash, ok := t.hashOfReceived(pkt.NetworkProtocolNumber, pkt.NetworkHeader().Slice(), h)
	if !ok {
		return
	}
	if opens(h) && t.repeated(hash, h) && g.shaking(pkt, to) && sound(h, pkt) {
		strip(h)
		pkt.RXChecksumValidated = true // it was right before
	}
	seq, v := t.incoming(hash, h, pkt.Data().Size())
	if v == taken || v == astray && !g.shaking(pkt, to) || !sound(h, pkt) {
		return
	}
	if v == again {
		g.refresh(pkt, h, to)
		return
	}
	pkt.RXChecksumValidated = true // it was right before
	switch v {
	case narrow:
		h.SetWindowSize(uint16(seq))
		return
	case late:
		h.SetAckNumber(seq)
		return
	}
	h.SetSequenceNumber(seq)
	switch v {
	case early:
		return
	case astray:
		h.SetFlags(uint8(header.TCPFlagAck))
		pkt.Data().CapLength(0) // the peer sends it again
		return
	}
	g.forged.Add(1)
	// A number that was acknowledged already, and nothing more: like a keepalive
	// probe. No data is left, no FIN, and no timestamp or window to believe.
	h.SetFlags(uint8(header.TCPFlagAck))
	clear(h[header.TCPMinimumSize:])
	pkt.Data().CapLength(0)
}

// shaking tells whether a TCP packet is for a listener, or a handshake of one.
func (g *guard) shaking(pkt *gstack.PacketBuffer, to gstack.TransportEndpoint) bool {
	ep, ok := g.recipient(pkt, to)
	if !ok {
		return false
	}
	state := ep.EndpointState()
	return state == tcp.StateListen || state == tcp.StateSynRecv
}

// recipient returns the endpoint that gets a TCP packet: to, or if that is nil who is
// found. It reports false if there is none, or one of another shape.
func (g *guard) recipient(pkt *gstack.PacketBuffer, to gstack.TransportEndpoint) (*tcp.Endpoint, bool) {
	if to == nil {
		to = g.ns.FindTransportEndpoint(pkt.NetworkProtocolNumber, tcp.ProtocolNumber, idOf(pkt), nicID)
	}
	ep, ok := to.(*tcp.Endpoint)
	return ep, ok
}

// strip takes from a SYN what the answer to a cookie does not tell: that the peer
// scales windows and takes SACK. Netstack may answer one copy of a SYN with a cookie,
// and the next by itself. It lets the peer take either answer, but believes that it
// took the last (handshake.synRcvdState in pkg/tcpip/transport/tcp/connect.go). So both
// have to say the same: a peer that does not scale windows would be told of none that
// has room for a segment.
func strip(h header.TCP) {
	o := h.Options()
	for len(o) > 0 {
		n := 1
		if kind := o[0]; kind == header.TCPOptionEOL {
			return
		} else if kind != header.TCPOptionNOP {
			if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
				return
			}
			if n = int(o[1]); kind == header.TCPOptionWS || kind == header.TCPOptionSACKPermitted {
				for i := range n {
					o[i] = header.TCPOptionNOP
				}
			}
		}
		o = o[n:]
	}
}

// complete tells whether a TCP header is as long as it says; netstack drops others, but
// later. They come in packets that the link has not checked, as those in fragments and
// behind destination options.
func complete(h header.TCP) bool {
	return len(h) >= header.TCPMinimumSize && int(h.DataOffset()) == len(h)
}

// sound tells whether the checksum is right, of a packet whose header is complete. Few
// have not been checked yet: see complete.
func sound(h header.TCP, pkt *gstack.PacketBuffer) bool {
	if pkt.RXChecksumValidated {
		return true
	}
	var src, dst tcpip.Address
	if ip := pkt.NetworkHeader().Slice(); pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		src, dst = header.IPv4(ip).SourceAddress(), header.IPv4(ip).DestinationAddress()
	} else {
		src, dst = header.IPv6(ip).SourceAddress(), header.IPv6(ip).DestinationAddress()
	}
	return h.IsChecksumValid(src, dst, pkt.Data().Checksum(), uint16(pkt.Data().Size()))
}
