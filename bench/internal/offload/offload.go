// Package offload sets the offloads of a device to what a peer runs with, so
// that each is measured as it would be used: the kernel with all of them, and
// an XDP program without those that it cannot see through.
package offload

import (
	"errors"
	"fmt"
	"slices"

	"github.com/afxnet/afxnet/internal/hostif"
)

// A Profile is what both ends of the link are set to while a peer is open.
type Profile string

// The profiles.
const (
	// Default leaves the device as it is.
	Default Profile = ""
	// Plain is without segmentation and merging: TSO, GSO and GRO off. What the
	// kernel does when each packet is one frame. Checksum offload stays.
	Plain Profile = "plain"
	// Complete is without transmit checksum and segmentation offloads: frames
	// are complete when they leave. A veth hands unfinished packets over
	// otherwise, and an AF_XDP socket would see them.
	Complete Profile = "complete"
)

// off lists the features that a profile switches off. A device that lacks one
// has it off.
var off = map[Profile][]string{
	Default: nil,
	Plain: {
		"tx-tcp-segmentation",
		"tx-tcp-ecn-segmentation",
		"tx-tcp-mangleid-segmentation",
		"tx-tcp6-segmentation",
		"tx-udp-segmentation",
		"tx-generic-segmentation",
		"rx-gro",
	},
	Complete: {
		"tx-tcp-segmentation",
		"tx-tcp-ecn-segmentation",
		"tx-tcp-mangleid-segmentation",
		"tx-tcp6-segmentation",
		"tx-udp-segmentation",
		"tx-checksum-ip-generic",
	},
}

// Apply sets a device of this network namespace to a profile. undo restores
// what was before; it may be called from any namespace, and more than once. If the
// process ends without it, the next start of an afxnet program does it, and the next
// Apply, whatever its profile.
func Apply(device string, p Profile) (undo func() error, err error) {
	features, ok := off[p]
	if !ok {
		return nil, fmt.Errorf("offload: no profile %q", p)
	}
	if err := hostif.RestoreSettings(); err != nil {
		return nil, fmt.Errorf("offload: what a process has left that was killed: %w", err)
	}
	var undos []func() error
	undo = func() error {
		var errs []error
		for _, u := range slices.Backward(undos) {
			errs = append(errs, u())
		}
		return errors.Join(errs...)
	}
	for _, f := range features {
		held, err := hostif.HoldOffload(device, f, false)
		if errors.Is(err, errors.ErrUnsupported) {
			continue // a device without it, or one that has it fixed
		}
		if err != nil {
			return nil, errors.Join(err, undo())
		}
		undos = append(undos, held.Restore)
	}
	return undo, nil
}
