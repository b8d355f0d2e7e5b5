package frames

import "testing"

// TestBefore has a frame come after the link's statistics were read and before those
// of its queues.
func TestBefore(t *testing.T) {
	reads := []map[string]uint64{
		{"rx_packets": 9, "rx_queue_0_xdp_packets": 3, "rx_queue_1_xdp_packets": 2},
		{"rx_packets": 10, "rx_queue_0_xdp_packets": 4, "rx_queue_1_xdp_packets": 2},
		{"rx_packets": 10, "rx_queue_0_xdp_packets": 5, "rx_queue_1_xdp_packets": 2}, // the eleventh
		{"rx_packets": 11, "rx_queue_0_xdp_packets": 5, "rx_queue_1_xdp_packets": 2},
	}
	for first := range reads[:2] {
		next := first
		n, err := before(func() (map[string]uint64, error) {
			next++
			return reads[next-1], nil
		}, 2)
		if n != 4 || err != nil {
			t.Errorf("from read %d on: %d frames, %v, want 4", first, n, err)
		}
	}
}
