package xsk

import (
	"strings"
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
)

// TestRingSizes compares a device's ring with the fill ring of a socket.
func TestRingSizes(t *testing.T) {
	for _, tc := range []struct {
		rx, fill int
		fix      string
	}{
		{rx: 256, fill: 2048},
		{rx: 2048, fill: 2048},
		{rx: 4096, fill: 2048, fix: "Fill to 4096, or ethtool -G eth0 rx 2048"},
		{rx: 4078, fill: 2048, fix: "Fill to 4096,"},
		{rx: 65, fill: 64, fix: "Fill to 128, or ethtool -G eth0 rx 64"},
	} {
		got := checkRings("eth0", Warning, hostif.Rings{RX: tc.rx}, tc.fill)
		if tc.fix == "" && len(got) != 0 || tc.fix != "" && (len(got) != 1 || !strings.Contains(got[0].Fix, tc.fix) || got[0].Level != Warning) {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}
