// Package mechanism lets a test run do without some of the mechanisms that make
// afxnet fast and that change nothing else: with the flag
//
//	-afxnet.off=fastip,inline,gro,ackmerge,ackhold,gather,latearm
//
// the fixtures of packages netdev and stack switch off those that are named,
// wherever a test does not choose for itself. Only tests import it.
package mechanism

import (
	"flag"
	"fmt"
	"slices"
	"strings"
)

// Names of the flag.
const (
	FastIP   = "fastip"   // stack.Config.NoFastIP, which takes Inline along
	Inline   = "inline"   // stack.Config.NoInline
	GRO      = "gro"      // netdev.Config.NoGRO
	ACKMerge = "ackmerge" // netdev.Config.NoACKMerge
	ACKHold  = "ackhold"  // netdev.Config.NoACKHold
	Gather   = "gather"   // netdev.Config.NoGather
	LateArm  = "latearm"  // netdev.Config.NoLateArm
)

var all = []string{FastIP, Inline, GRO, ACKMerge, ACKHold, Gather, LateArm}

// off is what the flag names. It is written while flags are parsed, before the
// first test.
var off []string

func init() {
	flag.Func("afxnet.off", "mechanisms that tests do without: any of "+strings.Join(all, ","), func(s string) (err error) {
		off, err = parse(s)
		return err
	})
}

// parse splits a list of names.
func parse(s string) (names []string, err error) {
	if s == "" {
		return nil, nil
	}
	for name := range strings.SplitSeq(s, ",") {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("mechanism %q: not one of %s", name, strings.Join(all, ", "))
		}
		names = append(names, name)
	}
	return names, nil
}

// Off tells whether the flag names a mechanism.
func Off(name string) bool { return slices.Contains(off, name) }

// Argument returns the flag as a test has to give it to a child process that
// runs the same binary.
func Argument() string { return "-afxnet.off=" + strings.Join(off, ",") }
