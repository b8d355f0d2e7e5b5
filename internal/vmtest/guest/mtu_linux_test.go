package guest

import (
	"testing"

	"github.com/afxnet/afxnet/internal/vmtest/wiring"
	"github.com/afxnet/afxnet/xsk"
)

// TestMTU sends and receives at the largest MTU that a chunk of 4096 bytes holds
// in zero-copy mode. igb has buffers of whole KiB.
func TestMTU(t *testing.T) {
	for pair, mtu := range map[wiring.Pair]int{wiring.IGB: 3046, wiring.Virtio: 3822} {
		t.Run(pair.String(), func(t *testing.T) {
			g := openMTU(t, pair, 0, mtu)
			openRaw(t, g, xsk.Config{Bind: xsk.BindZeroCopy}).exchange(t, 128, mtu)
		})
	}
}
