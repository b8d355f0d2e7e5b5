//go:build linux && (amd64 || arm64)

package xsk

import (
	"encoding/binary"
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// xdpState has the ids of the XDP programs on an interface, 0 for none. Native
// and generic exclude each other, offload may be beside either.
type xdpState struct {
	native, generic, offload uint32
}

// Attributes nested in IFLA_XDP, Linux include/uapi/linux/if_link.h (4.15).
const (
	iflaXDPAttached      = 2
	iflaXDPProgID        = 4
	iflaXDPNativeProgID  = 5
	iflaXDPGenericProgID = 6
	iflaXDPOffloadProgID = 7

	xdpAttachedNative  = 1
	xdpAttachedGeneric = 2
	xdpAttachedOffload = 3

	attrTypeMask = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
)

// readXDPState asks rtnetlink: there is no bpf(2) query for XDP. It needs no
// privilege.
func readXDPState(ifindex int) (xdpState, error) {
	var rib []byte
	var err error
	for {
		rib, err = syscall.NetlinkRIB(syscall.RTM_GETLINK, syscall.AF_UNSPEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return xdpState{}, os.NewSyscallError("netlink", err)
	}
	msgs, err := syscall.ParseNetlinkMessage(rib)
	if err != nil {
		return xdpState{}, os.NewSyscallError("netlink", err)
	}
	for i := range msgs {
		// struct ifinfomsg has the index at byte 4.
		data := msgs[i].Data
		if msgs[i].Header.Type != syscall.RTM_NEWLINK || len(data) < syscall.SizeofIfInfomsg ||
			int(int32(binary.NativeEndian.Uint32(data[4:]))) != ifindex {
			continue
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&msgs[i])
		if err != nil {
			return xdpState{}, os.NewSyscallError("netlink", err)
		}
		for _, a := range attrs {
			if a.Attr.Type&attrTypeMask == unix.IFLA_XDP {
				return parseXDPState(a.Value), nil
			}
		}
		return xdpState{}, nil
	}
	return xdpState{}, os.NewSyscallError("netlink", unix.ENODEV)
}

// parseXDPState reads the contents of IFLA_XDP. With one program the kernel
// gives its id and where it is; with several, an id for each place.
func parseXDPState(b []byte) xdpState {
	var s xdpState
	var attached byte
	var id uint32
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			break
		}
		value := b[4:n]
		switch typ := binary.NativeEndian.Uint16(b[2:]) & attrTypeMask; {
		case typ == iflaXDPAttached && len(value) >= 1:
			attached = value[0]
		case len(value) < 4:
		case typ == iflaXDPProgID:
			id = binary.NativeEndian.Uint32(value)
		case typ == iflaXDPNativeProgID:
			s.native = binary.NativeEndian.Uint32(value)
		case typ == iflaXDPGenericProgID:
			s.generic = binary.NativeEndian.Uint32(value)
		case typ == iflaXDPOffloadProgID:
			s.offload = binary.NativeEndian.Uint32(value)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	switch attached {
	case xdpAttachedNative:
		s.native = id
	case xdpAttachedGeneric:
		s.generic = id
	case xdpAttachedOffload:
		s.offload = id
	}
	return s
}
