//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
)

// TestProgramUnsupported wants what the library says of a kernel without a feature to
// be what LoadProgram promises, and still to be found as what it was.
func TestProgramUnsupported(t *testing.T) {
	err := programError("load program", "eth0", fmt.Errorf("map: %w", ebpf.ErrNotSupported))
	if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, ebpf.ErrNotSupported) {
		t.Errorf("%v is not errors.ErrUnsupported, or the library's error no more", err)
	}
}
