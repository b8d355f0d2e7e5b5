package inline

import "testing"

// TestSending wants the fields that fill changes where they are looked for.
func TestSending(t *testing.T) {
	if shapeErr != nil {
		t.Error("tcp.Endpoint has other fields than those known: ", shapeErr)
	}
}

// TestSACKLen compares with what netstack leaves room for: 40 bytes of options
// with timestamps, 36 without.
func TestSACKLen(t *testing.T) {
	for _, c := range []struct {
		permitted    bool
		others, want int
	}{{true, timestampLen, 28}, {true, 0, 36}, {false, timestampLen, 0}, {false, 0, 0}} {
		if got := sackLen(c.permitted, c.others); got != c.want {
			t.Errorf("permitted %v, other options %d bytes: %d, want %d", c.permitted, c.others, got, c.want)
		}
	}
}
