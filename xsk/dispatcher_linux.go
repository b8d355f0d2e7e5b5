//go:build linux && (amd64 || arm64)

package xsk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// libxdp runs several programs on one interface by a dispatcher, a program with up
// to ten places, each a function that a program of type EXT replaces. What is known
// of it here is its protocol's version 2 (xdp-tools lib/libxdp/protocol.org).
//
// This package joins a dispatcher by a program that the administrator adds to it,
// and does not add one itself. Adding means a new dispatcher with one place more,
// to which every program is attached again, and all of that pinned in the BPF file
// system: a process that is killed would leave its program on the interface, which
// nothing in this module does, and one killed half way would leave that of others
// in two places.

// component is a program of a dispatcher.
type component struct {
	id    uint32
	name  string
	place uint32 // BTF id of the function it replaces: ascending, the order they run in
	prio  int    // run priority, or -1
}

// components returns the programs of a dispatcher in the order they run in. It
// needs CAP_SYS_ADMIN.
func components(dispatcher uint32) ([]component, error) {
	var parts []component
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil || info.Type != link.TracingType || info.Tracing() == nil || info.Tracing().TargetObjectId != dispatcher {
			continue
		}
		parts = append(parts, component{id: uint32(info.Program), name: programName(uint32(info.Program)), place: uint32(info.Tracing().TargetBtfId), prio: -1})
	}
	slices.SortFunc(parts, func(a, b component) int { return int(a.place) - int(b.place) })
	prios := dispatcherPriorities(dispatcher)
	for i := range parts {
		if len(prios) == len(parts) {
			parts[i].prio = prios[i]
		}
	}
	// A link that somebody is about to make has a number already and no
	// descriptor yet.
	if err := it.Err(); err != nil && !errors.Is(err, unix.EAGAIN) {
		return nil, err
	}
	return parts, nil
}

// The dispatcher's configuration, in its read-only data: magic, version, number of
// programs and a flag of a byte each, then ten actions, priorities and flags of 4
// bytes each.
const (
	dispatcherMagic   = 236
	dispatcherPlaces  = 10
	dispatcherConfig  = 4 + 3*4*dispatcherPlaces
	dispatcherPrios   = 4 + 4*dispatcherPlaces
	dispatcherVersion = 2
)

// dispatcherPriorities returns the run priorities of a dispatcher's programs, nil if
// they cannot be read.
func dispatcherPriorities(dispatcher uint32) []int {
	prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(dispatcher))
	if err != nil {
		return nil
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return nil
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue
		}
		config, err := m.LookupBytes(uint32(0))
		m.Close()
		if err == nil && len(config) >= dispatcherConfig {
			return parsePriorities(config)
		}
	}
	return nil
}

func parsePriorities(config []byte) []int {
	if len(config) < dispatcherConfig || config[0] != dispatcherMagic || config[1] != dispatcherVersion || config[2] > dispatcherPlaces {
		return nil
	}
	prios := make([]int, config[2])
	for i := range prios {
		prios[i] = int(binary.NativeEndian.Uint32(config[dispatcherPrios+4*i:]))
	}
	return prios
}

// describeComponents names them: `1 "filter" at priority 10, 2 "count"`.
func describeComponents(parts []component) string {
	if len(parts) == 0 {
		return "no programs that can be seen"
	}
	var all []string
	for _, c := range parts {
		s := fmt.Sprintf("%d %q", c.id, c.name)
		if c.prio >= 0 {
			s += fmt.Sprintf(" at priority %d", c.prio)
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}

// findSteer returns the id of the steering program that is the program on an
// interface, hook, or that hook runs. The error wraps os.ErrNotExist if there is
// none.
func findSteer(hook uint32) (uint32, error) {
	if hook == 0 {
		return 0, fmt.Errorf("no program is there: %w", os.ErrNotExist)
	}
	name := programName(hook)
	switch name {
	case steerName:
		return hook, nil
	case dispatcherName:
	case "":
		return 0, fmt.Errorf("the name of program %d cannot be read: %w", hook, os.ErrPermission)
	default:
		return 0, fmt.Errorf("program %d %q is there, neither %s nor libxdp's dispatcher: %w", hook, name, steerName, os.ErrNotExist)
	}
	parts, err := components(hook)
	if err != nil {
		return 0, err
	}
	for _, c := range parts {
		if c.name == steerName {
			return c.id, nil
		}
	}
	return 0, fmt.Errorf("libxdp's dispatcher runs %s, and not %s: %w", describeComponents(parts), steerName, os.ErrNotExist)
}
