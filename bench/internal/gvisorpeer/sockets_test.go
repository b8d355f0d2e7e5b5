package gvisorpeer

import (
	"net"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
)

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		network, address string
		want             string // of the address; "any", or "" for an error
		port             uint16
	}{
		{"tcp4", "10.0.0.1:7000", "10.0.0.1", 7000},
		{"tcp6", "[fd00::1]:80", "fd00::1", 80},
		{"tcp4", ":7001", "any", 7001},
		{"tcp4", "0.0.0.0:1", "any", 1},
		{"tcp6", "[::]:1", "any", 1},
		{"tcp", "10.0.0.1:1", "", 0},
		{"udp4", "10.0.0.1:1", "", 0},
		{"tcp4", "[fd00::1]:1", "", 0},
		{"tcp6", "10.0.0.1:1", "", 0},
		{"tcp4", "10.0.0.1", "", 0},
		{"tcp4", "10.0.0.1:65536", "", 0},
		{"tcp4", "name.invalid:1", "", 0},
	} {
		got, proto, err := resolve("tcp", tc.network, tc.address)
		if tc.want == "" {
			if err == nil {
				t.Errorf("resolve(%s, %s) = %+v, want an error", tc.network, tc.address, got)
			}
			continue
		}
		var want tcpip.Address
		if ip := net.ParseIP(tc.want); ip.To4() != nil {
			want = tcpip.AddrFromSlice(ip.To4())
		} else if ip != nil {
			want = tcpip.AddrFromSlice(ip)
		}
		if err != nil || got.Addr != want || got.Port != tc.port || (proto == 0x0800) != (tc.network == "tcp4") {
			t.Errorf("resolve(%s, %s) = %+v, %#x, %v", tc.network, tc.address, got, proto, err)
		}
	}
}
