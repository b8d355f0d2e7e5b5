package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/examples/internal/rawlab"
)

// TestFlags has numbers refused that cannot be.
func TestFlags(t *testing.T) {
	e := rawlab.Ends{
		ToMAC: make(net.HardwareAddr, 6), FromMAC: make(net.HardwareAddr, 6),
		To: netip.MustParseAddrPort("192.0.2.20:9"), From: netip.MustParseAddrPort("192.0.2.10:9"),
	}
	for _, tc := range []struct{ queues, n, size int }{
		{-1, 1, 60}, {0, 1, 60}, {1, -1, 60}, {1, 0, 60}, {1, 1, -1}, {1, 1, 41}, {1, 1, 4097},
	} {
		err := run(t.Context(), "nonesuch0", tc.queues, tc.n, tc.size, e)
		if err == nil || !strings.Contains(err.Error(), "-size") {
			t.Errorf("%+v: %v", tc, err)
		}
	}
}
