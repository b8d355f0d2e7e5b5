//go:build linux && (amd64 || arm64)

package xsk

import (
	"encoding/binary"
	"testing"
)

// attr is a netlink attribute with its padding.
func attr(typ uint16, value ...byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func attr32(typ uint16, value uint32) []byte {
	return attr(typ, binary.NativeEndian.AppendUint32(nil, value)...)
}

func TestParseXDPState(t *testing.T) {
	const attached, progID = iflaXDPAttached, iflaXDPProgID
	for _, tc := range []struct {
		name string
		attr []byte
		want xdpState
	}{
		{"none", attr(attached, 0), xdpState{}},
		{"native", joinBytes(attr(attached, 1), attr32(iflaXDPNativeProgID, 7), attr32(progID, 7)), xdpState{native: 7}},
		{"generic", joinBytes(attr(attached, 2), attr32(progID, 8)), xdpState{generic: 8}},
		{"offload", joinBytes(attr32(progID, 9), attr(attached, 3)), xdpState{offload: 9}},
		{"native and offload", joinBytes(attr(attached, 4), attr32(iflaXDPNativeProgID, 7), attr32(iflaXDPOffloadProgID, 9)),
			xdpState{native: 7, offload: 9}},
		{"unknown attribute first", joinBytes(attr32(99, 1), attr(attached, 1), attr32(progID, 7)), xdpState{native: 7}},
		{"flagged as nested", joinBytes(attr(attached|0x8000, 1), attr32(progID, 7)), xdpState{native: 7}},
		{"empty", nil, xdpState{}},
		{"length below a header", []byte{3, 0, 4, 0, 1, 2, 3, 4}, xdpState{}},
		{"length past the end", attr32(progID, 7)[:6], xdpState{}},
		{"values too short", joinBytes(attr(attached), attr(iflaXDPNativeProgID, 1)), xdpState{}},
	} {
		if got := parseXDPState(tc.attr); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}
