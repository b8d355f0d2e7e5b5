package main

import (
	"net/netip"
	"strings"
	"testing"
)

// TestNoAddress has the flag that is missing named before the device is looked at.
func TestNoAddress(t *testing.T) {
	if err := run(t.Context(), "nonesuch0", 0, netip.Addr{}); err == nil || !strings.Contains(err.Error(), "-addr") {
		t.Error(err)
	}
}
