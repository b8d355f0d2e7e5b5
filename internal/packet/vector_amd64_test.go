//go:build !purego

package packet

import (
	"testing"

	"github.com/afxnet/afxnet/internal/raced"
)

// TestPortable runs the checksum tests without vector code.
func TestPortable(t *testing.T) {
	if !hasVector {
		t.Skip("the other tests already do: no AVX2 here")
	}
	if raced.Enabled {
		t.Skip("a goroutine that computes by itself races with none")
	}
	hasVector = false
	t.Cleanup(func() { hasVector = true })
	t.Run("lengths", TestSumEveryLength)
	t.Run("chains", TestSumOddChains)
	t.Run("cutter", TestCutter)
}
