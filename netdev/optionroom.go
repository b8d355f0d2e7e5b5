package netdev

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// OptionRoom is for how many bytes of TCP options there is room in a frame with
// as much data as the MSS of its packet says. netstack leaves room for the most
// that there may ever be. Where somebody has taught it better, the packets of the
// connection have an OptionRoom for their owner ([tcpip.Endpoint.SetOwner]), and
// those with more options are cut to shorter frames.
type OptionRoom uint8

var _ tcpip.PacketOwner = OptionRoom(0)

// KUID and KGID implement tcpip.PacketOwner: packet filters see root.
func (OptionRoom) KUID() uint32 { return 0 }

// KGID is the group; see KUID.
func (OptionRoom) KGID() uint32 { return 0 }

// frameData returns the most bytes of data that a frame of pkt, whose TCP header
// has tcp bytes, may have on a link with this MTU; 0 if it is one frame. A
// connection keeps the MSS that it began with, though the MTU may be smaller by
// now: longer frames would be lost, and so would those that are sent again.
func frameData(pkt *gstack.PacketBuffer, tcp, mtu int) int {
	mss := int(pkt.GSOOptions.MSS)
	if pkt.GSOOptions.Type == gstack.GSONone || mss == 0 {
		return 0
	}
	if room, ok := pkt.Owner.(OptionRoom); ok {
		mss = max(1, mss-max(0, tcp-header.TCPMinimumSize-int(room)))
	}
	return min(mss, mtu-int(pkt.GSOOptions.L3HdrLen)-tcp)
}

// GSOSize returns the largest IP packet, in bytes, that netstack should hand over
// on a connection that sends mss bytes of data in a frame, at least one. It is
// such that the segments of a long write are whole frames: each that is not ends
// with a short frame, which costs the kernel as much as a full one.
func GSOSize(mss int) int {
	const most = maxGSO - gsoReserve
	if mss > most {
		return maxGSO
	}
	return most/mss*mss + gsoReserve
}

// maxGSO is the largest IP packet that can name its own length.
const maxGSO = 65535

// gsoReserve is how many bytes netstack's TCP leaves for headers, whatever they
// need (sender.sendData in pkg/tcpip/transport/tcp/snd.go).
const gsoReserve = header.TCPTotalHeaderMaximumSize + 1
