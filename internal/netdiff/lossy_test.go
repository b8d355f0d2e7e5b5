package netdiff

import (
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/wire"
)

// badLink loses one frame in a hundred, moves one in twenty behind others, and
// takes 50 ms each way.
var badLink = wire.Faults{
	Loss:    0.01,
	Delay:   50 * time.Millisecond,
	Reorder: 0.05, ReorderBy: 3, ReorderDelay: 20 * time.Millisecond,
}

// TestBadLink compares stacks on such a link with package net on loopback: what
// comes of a call does not depend on the link.
func TestBadLink(t *testing.T) {
	all := chosen(t, func(b *behaviour) bool { return b.lossy && !isKnown(b.name) })
	compare(t, "over a bad link", all, runAll(loopback(t), all), runAll(overWire(t, badLink), all), isKnown)
}
