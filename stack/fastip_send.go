package stack

import (
	"encoding/binary"
	"math"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// sends tells whether an outgoing packet may take the short way: it goes to the
// link only, in one piece (large TCP segments are cut below), and its header has
// no options.
func (f *fastIP) sends(nic gstack.NetworkInterface, r *gstack.Route, params *gstack.NetworkHeaderParams, size int, pkt *gstack.PacketBuffer) bool {
	if f.off.Load() || params.ExperimentOptionValue != 0 || r.Loop() != gstack.PacketOut || size > math.MaxUint16 {
		return false
	}
	if params.Protocol != header.TCPProtocolNumber && params.Protocol != header.UDPProtocolNumber {
		return false
	}
	return pkt.GSOOptions.Type != gstack.GSONone || size <= int(nic.MTU())
}

// write4 sends a packet over IPv4. If it returns false, it has done nothing.
//
// A packet that may be fragmented on its way needs an ID, which is netstack's to
// give; TCP and UDP forbid it by default, and then the ID is 0 (RFC 6864, 4.1).
func (f *fastIP) write4(nic gstack.NetworkInterface, r *gstack.Route, params *gstack.NetworkHeaderParams, pkt *gstack.PacketBuffer) (bool, tcpip.Error) {
	size := header.IPv4MinimumSize + pkt.Size()
	if !params.DF || !f.sends(nic, r, params, size, pkt) {
		return false, nil
	}
	src, dst := r.LocalAddress().As4(), r.RemoteAddress().As4()
	h := (*[header.IPv4MinimumSize]byte)(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
	binary.BigEndian.PutUint32(h[0:], 0x45<<24|uint32(params.TOS)<<16|uint32(size))
	binary.BigEndian.PutUint32(h[4:], 0x4000) // ID 0, do not fragment
	binary.BigEndian.PutUint32(h[8:], uint32(params.TTL)<<24|uint32(params.Protocol)<<16)
	copy(h[12:], src[:])
	copy(h[16:], dst[:])
	binary.BigEndian.PutUint16(h[10:], headerChecksum(h))
	pkt.NetworkProtocolNumber = ipv4.ProtocolNumber
	return true, f.write(nic, r, pkt)
}

// write6 sends a packet over IPv6. If it returns false, it has done nothing.
func (f *fastIP) write6(nic gstack.NetworkInterface, r *gstack.Route, params *gstack.NetworkHeaderParams, pkt *gstack.PacketBuffer) (bool, tcpip.Error) {
	payload := pkt.Size()
	if payload > math.MaxUint16 || !f.sends(nic, r, params, header.IPv6MinimumSize+payload, pkt) {
		return false, nil
	}
	src, dst := r.LocalAddress().As16(), r.RemoteAddress().As16()
	h := (*[header.IPv6MinimumSize]byte)(pkt.NetworkHeader().Push(header.IPv6MinimumSize))
	binary.BigEndian.PutUint32(h[0:], 6<<28|uint32(params.TOS)<<20) // no flow label
	binary.BigEndian.PutUint32(h[4:], uint32(payload)<<16|uint32(params.Protocol)<<8|uint32(params.TTL))
	copy(h[8:], src[:])
	copy(h[24:], dst[:])
	pkt.NetworkProtocolNumber = ipv6.ProtocolNumber
	return true, f.write(nic, r, pkt)
}

func (f *fastIP) write(nic gstack.NetworkInterface, r *gstack.Route, pkt *gstack.PacketBuffer) tcpip.Error {
	if err := nic.WritePacket(r, pkt); err != nil {
		f.ns.Stats().IP.OutgoingPacketErrors.Increment()
		if ip := f.interfaceStats(pkt.NetworkProtocolNumber); ip != nil {
			ip.OutgoingPacketErrors.Increment()
		}
		return err
	}
	f.counts(pkt.NetworkProtocolNumber).sent.Add(1)
	return nil
}

// headerChecksum sums an IPv4 header whose checksum field is 0 (RFC 1071).
func headerChecksum(h *[header.IPv4MinimumSize]byte) uint16 {
	sum := uint64(binary.BigEndian.Uint32(h[0:])) + uint64(binary.BigEndian.Uint32(h[4:])) +
		uint64(binary.BigEndian.Uint32(h[8:])) + uint64(binary.BigEndian.Uint32(h[12:])) + uint64(binary.BigEndian.Uint32(h[16:]))
	sum = sum>>32 + sum&math.MaxUint32
	sum = sum>>32 + sum&math.MaxUint32
	sum = sum>>16 + sum&math.MaxUint16
	sum = sum>>16 + sum&math.MaxUint16
	return ^uint16(sum)
}
