//go:build !purego

package packet

import "testing"

// TestPortable runs the checksum tests without vector code.
func TestPortable(t *testing.T) {
	if !hasVector {
		t.Skip("the other tests already do: no AVX2 here")
	}
	hasVector = false
	t.Cleanup(func() { hasVector = true })
	t.Run("lengths", TestSumEveryLength)
	t.Run("chains", TestSumOddChains)
	t.Run("cutter", TestCutter)
}
