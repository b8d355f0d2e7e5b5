package stack

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ControlFlags say what a UDPConn tells of each datagram besides its data and its
// source, as out-of-band data of ReadMsgUDP and ReadBatch. See SetControlMessage.
type ControlFlags uint32

const (
	// ControlTTL is the TTL or hop limit that the datagram came with: IP_TTL
	// or IPV6_HOPLIMIT.
	ControlTTL ControlFlags = 1 << iota

	// ControlTOS is its TOS or traffic class, with the ECN bits: IP_TOS or
	// IPV6_TCLASS.
	ControlTOS

	// ControlPacketInfo is the address that it was sent to, and the index of
	// the interface: IP_PKTINFO or IPV6_PKTINFO. Packet information that is
	// sent chooses the source address.
	ControlPacketInfo

	controlAll = 1<<iota - 1
)

// Control messages have the form of Linux on 64-bit machines (cmsg(3), ip(7),
// ipv6(7)) wherever this runs, so that the parsers of golang.org/x/net/ipv4 and
// ipv6, and those of programs that have their own, read them there: a header of
// 16 bytes (its own and the data's length in 8, level, type), data, and padding
// to 8 bytes.
const (
	controlHeader = 16
	controlAlign  = 8

	levelSocket = 1 // SOL_SOCKET
	levelIP     = 0
	levelIPv6   = 41

	typeTOS      = 1 // IP_TOS
	typeTTL      = 2 // IP_TTL
	typeInfo     = 8 // IP_PKTINFO
	typeInfo6    = 50
	typeHopLimit = 52
	typeClass    = 67 // IPV6_TCLASS

	sizeInfo  = 12 // interface, local address, header's destination
	sizeInfo6 = 20 // destination, interface
)

// Message flags, with the values of Linux.
const (
	flagControlCut = 0x8  // MSG_CTRUNC
	flagCut        = 0x20 // MSG_TRUNC
)

// controlSpace is how many bytes a message takes whose data takes n.
func controlSpace(n int) int {
	return controlHeader + (n+controlAlign-1)&^(controlAlign-1)
}

// A controlWriter appends messages to a buffer that does not grow.
type controlWriter struct {
	b   []byte
	n   int
	cut bool // something did not fit
}

// add returns where the data of the next message goes, or nil if there is no room
// for it.
func (w *controlWriter) add(level, kind, size int) []byte {
	space := controlSpace(size)
	if len(w.b)-w.n < space {
		w.cut = true
		return nil
	}
	m := w.b[w.n : w.n+space]
	clear(m)
	binary.NativeEndian.PutUint64(m, uint64(controlHeader+size))
	binary.NativeEndian.PutUint32(m[8:], uint32(level))
	binary.NativeEndian.PutUint32(m[12:], uint32(kind))
	w.n += space
	return m[controlHeader:][:size]
}

func (w *controlWriter) addInt(level, kind int, v uint8) {
	if m := w.add(level, kind, 4); m != nil {
		binary.NativeEndian.PutUint32(m, uint32(v))
	}
}

// writeControl writes what flags ask for about a packet to oob. It returns the
// bytes written, and flagControlCut if that is not all.
func (s *Stack) writeControl(oob []byte, flags ControlFlags, pkt *gstack.PacketBuffer) (n, msgFlags int) {
	w := controlWriter{b: oob}
	ip, index := pkt.NetworkHeader().Slice(), s.interfaceIndex(pkt.NICID)
	if pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		h := header.IPv4(ip)
		if flags&ControlPacketInfo != 0 {
			if m := w.add(levelIP, typeInfo, sizeInfo); m != nil {
				to := h.DestinationAddress()
				local := to
				if header.IsV4MulticastAddress(to) || pkt.NetworkPacketInfo.LocalAddressBroadcast {
					local = tcpipAddr(s.own4) // to answer from
					if pkt.NICID == loopbackID {
						local = tcpipAddr(loopback4.Addr())
					}
				}
				binary.NativeEndian.PutUint32(m, uint32(index))
				spec, dst := local.As4(), to.As4()
				copy(m[4:], spec[:])
				copy(m[8:], dst[:])
			}
		}
		if flags&ControlTTL != 0 {
			w.addInt(levelIP, typeTTL, h.TTL())
		}
		if flags&ControlTOS != 0 {
			if m := w.add(levelIP, typeTOS, 1); m != nil {
				m[0], _ = h.TOS()
			}
		}
	} else {
		h := header.IPv6(ip)
		if flags&ControlPacketInfo != 0 {
			if m := w.add(levelIPv6, typeInfo6, sizeInfo6); m != nil {
				to := h.DestinationAddress().As16()
				copy(m, to[:])
				binary.NativeEndian.PutUint32(m[16:], uint32(index))
			}
		}
		if flags&ControlTTL != 0 {
			w.addInt(levelIPv6, typeHopLimit, h.HopLimit())
		}
		if flags&ControlTOS != 0 {
			tos, _ := h.TOS()
			w.addInt(levelIPv6, typeClass, tos)
		}
	}
	if w.cut {
		msgFlags = flagControlCut
	}
	return w.n, msgFlags
}

// A sendControl is what the control messages of one datagram ask for.
type sendControl struct {
	ttl, tos int // below 0: what the socket has
	source   netip.Addr
}

// parseControl reads the control messages of a datagram to be sent. Those that
// it does not know are refused, as Linux does.
func (s *Stack) parseControl(oob []byte) (c sendControl, err error) {
	c.ttl, c.tos = -1, -1
	for len(oob) >= controlHeader { // Linux does not look at less
		size := binary.NativeEndian.Uint64(oob)
		if size < controlHeader || size > uint64(len(oob)) {
			return c, badControl()
		}
		level, kind := binary.NativeEndian.Uint32(oob[8:]), binary.NativeEndian.Uint32(oob[12:])
		if err := s.parseMessage(&c, level, kind, oob[controlHeader:size]); err != nil {
			return c, err
		}
		oob = oob[min(controlSpace(int(size)-controlHeader), len(oob)):]
	}
	return c, nil
}

func badControl() error { return sysErrno("sendmsg", syscall.EINVAL) }

func (s *Stack) parseMessage(c *sendControl, level, kind uint32, m []byte) error {
	var index uint32
	switch {
	case level == levelIP && kind == typeInfo && len(m) >= sizeInfo:
		index = binary.NativeEndian.Uint32(m)
		c.source = netip.AddrFrom4([4]byte(m[4:]))
	case level == levelIPv6 && kind == typeInfo6 && len(m) >= sizeInfo6:
		index = binary.NativeEndian.Uint32(m[16:])
		c.source = netip.AddrFrom16([16]byte(m)).Unmap()
	case level == levelIP && kind == typeTTL, level == levelIPv6 && kind == typeHopLimit:
		v, ok := controlInt(m)
		if !ok || v == 0 {
			return badControl()
		}
		c.ttl = int(v)
	case level == levelIP && kind == typeTOS, level == levelIPv6 && kind == typeClass:
		v, ok := controlInt(m)
		if !ok {
			return badControl()
		}
		c.tos = int(v)
	default:
		return badControl()
	}
	if c.source.IsUnspecified() {
		c.source = netip.Addr{}
	}
	if index != 0 && int(index) != s.interfaceIndex(nicID) && int(index) != s.interfaceIndex(loopbackID) {
		return sysError("sendmsg", &tcpip.ErrUnknownDevice{})
	}
	return nil
}

// controlInt reads a number from 0 to 255, of 4 bytes or of one.
func controlInt(m []byte) (v uint32, ok bool) {
	switch {
	case len(m) >= 4:
		v = binary.NativeEndian.Uint32(m)
	case len(m) == 1:
		v = uint32(m[0])
	default:
		return 0, false
	}
	return v, v <= 255
}

// Indices where the stack's interface is none of the host's. Linux gives 1 to
// "lo" in every network namespace.
const (
	loopbackIndex = 1
	linkIndex     = 2
)

// findIndex looks up the index of the interface. Call it in the namespace of
// that.
func findIndex(name string) int {
	if ifi, err := net.InterfaceByName(name); name != "" && err == nil {
		return ifi.Index
	}
	return linkIndex
}

// interfaceIndex returns the index that stands for an interface in control
// messages: for the link's that of the host's interface.
func (s *Stack) interfaceIndex(nic tcpip.NICID) int {
	if nic == loopbackID {
		return loopbackIndex
	}
	return s.index
}
