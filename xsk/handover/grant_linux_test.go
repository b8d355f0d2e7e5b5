package handover

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// TestManyQueues is a device that receives on more queues than a process may have:
// without the rest of them, a part of its packets would be missing.
func TestManyQueues(t *testing.T) {
	named := []uint32{0, 299}
	for _, tc := range []struct {
		name    string
		give    []uint32
		asked   []uint32
		receive int
		want    int // 0 is an error
	}{
		{"as many", nil, nil, maxQueues, maxQueues},
		{"one more", nil, nil, maxQueues + 1, 0},
		{"the helper names some", named, nil, 300, 2},
		{"the process names some", nil, named, 300, 2},
	} {
		s := newServer(ServerConfig{Queues: tc.give})
		got, err := s.choose(tc.asked, hostif.Interface{Name: "eth0", RXQueues: tc.receive})
		if tc.want == 0 {
			var op *xsk.OpError
			if !errors.Is(err, unix.EINVAL) || !errors.As(err, &op) || !strings.Contains(op.Remedy, "ethtool -L eth0 combined 256") {
				t.Errorf("%s: %v, %v, want what to do", tc.name, got, err)
			}
			continue
		}
		if err != nil || len(got) != tc.want || tc.want == len(named) && !slices.Equal(got, named) {
			t.Errorf("%s: %v, %v, want %d queues", tc.name, got, err, tc.want)
		}
	}
}
