// Package without switches mechanisms off by name, for programs that measure
// what each is worth or run without it. Tests have a flag for the same names:
// see internal/mechanism.
package without

import (
	"fmt"
	"maps"
	"slices"

	"github.com/afxnet/afxnet/stack"
)

// Names of mechanisms.
const (
	GRO      = "gro" // and with it ACKMerge
	ACKMerge = "ackmerge"
	ACKHold  = "ackhold"
	FastIP   = "fastip" // and with it Inline
	Inline   = "inline" // and with it Gather
	Gather   = "gather"
	LateArm  = "latearm"
)

var switches = map[string]func(*stack.Config){
	GRO:      func(c *stack.Config) { c.Device.NoGRO = true },
	ACKMerge: func(c *stack.Config) { c.Device.NoACKMerge = true },
	ACKHold:  func(c *stack.Config) { c.Device.NoACKHold = true },
	Gather:   func(c *stack.Config) { c.Device.NoGather = true },
	FastIP:   func(c *stack.Config) { c.NoFastIP = true },
	Inline:   func(c *stack.Config) { c.NoInline = true },
	LateArm:  func(c *stack.Config) { c.Device.NoLateArm = true },
}

// Names returns all of them, sorted.
func Names() []string { return slices.Sorted(maps.Keys(switches)) }

// Apply switches off those that are named.
func Apply(cfg *stack.Config, names ...string) error {
	for _, name := range names {
		set, ok := switches[name]
		if !ok {
			return fmt.Errorf("no mechanism %q to switch off; there are %v", name, Names())
		}
		set(cfg)
	}
	return nil
}
