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

// TestFillRings names the queues whose fill ring is too short for the device's, and not
// those of sockets in copy mode.
func TestFillRings(t *testing.T) {
	var sockets []*Socket
	for queue, zerocopy := range []bool{true, false, true, true} {
		s, k := newSim(t, []uint32{8, 8, 16, 8}[queue], 64)
		s.queue, k.zerocopy = uint32(queue), zerocopy
		sockets = append(sockets, s)
	}
	for rx, want := range map[int]string{8: "", 16: "queues 0 and 3: ", 32: "queues 0, 2 and 3: "} {
		got := checkFills("eth0", hostif.Rings{RX: rx}, sockets)
		if want == "" && len(got) != 0 || want != "" && (len(got) != 1 || !strings.HasPrefix(got[0].Text, want+"the device's receive ring has ")) {
			t.Errorf("ring of %d: %v, want %q", rx, got, want)
		}
	}
}
