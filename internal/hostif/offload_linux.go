package hostif

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Positions in one 32-feature block of struct ethtool_gfeatures, in bytes.
const (
	featureBlockLen     = 16
	featureWantedOffset = 4 // after "available"
	featureActiveOffset = 8
)

// featureState is what the kernel says of one feature of a device.
type featureState struct {
	available bool // it can be changed
	wanted    bool // as it was asked for last
	active    bool
}

// offloadTool asks about the features of a device. Package tests have another one.
type offloadTool interface {
	// index and name are of a device that is there now: errors.Is(err,
	// unix.ENODEV) holds if none is.
	index(name string) (int, error)
	name(index int) (string, error)
	readFeature(name, feature string) (featureState, error)
	// wantFeature asks for it, and does not say whether it was done.
	wantFeature(name, feature string, on bool) error
	// namespace is what no other network namespace since boot has or had.
	namespace() (uint64, error)
	close()
}

func openOffloadTool() (offloadTool, error) { return openEthtool() }

// SetOffload switches one offload of an interface on or off. Features are
// named as ethtool does, such as "tx-checksum-ip-generic". It returns when
// the setting is in force; a driver that refuses is an error.
//
// Some features pull others with them: a device without TX checksums loses
// TCP segmentation as well, and gets it back with them.
//
// undo restores the former setting, in the namespace SetOffload was called
// in, whatever the interface is called then; it does nothing if that was the
// same, or the interface is gone.
// It is idempotent, safe for concurrent use, and holds a file descriptor
// until it is called.
//
// If the process ends without it, the setting stays. HoldOffload is for devices that
// outlive the process.
func SetOffload(name, feature string, on bool) (undo func() error, err error) {
	tool, err := openEthtool()
	if err != nil {
		return nil, offloadError(name, feature, err)
	}
	index, err := tool.index(name)
	var before featureState
	if err == nil {
		before, err = setFeature(tool, name, feature, on)
	}
	if err != nil {
		tool.close()
		return nil, offloadError(name, feature, err)
	}
	if before.active == on {
		tool.close()
		return func() error { return nil }, nil
	}
	return sync.OnceValue(func() error {
		defer tool.close()
		name, err := tool.name(index)
		if err == nil {
			err = restoreFeature(tool, name, feature, before.active)
		}
		if err == nil || errors.Is(err, unix.ENODEV) {
			return nil
		}
		return offloadError(name, feature, err)
	}), nil
}

func offloadError(name, feature string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("hostif: set offload %s of %s: %w (needs CAP_NET_ADMIN)", feature, name, err)
	}
	return fmt.Errorf("hostif: set offload %s of %s: %w", feature, name, err)
}

// setFeature switches a feature, and returns what it was before. If it fails, what is
// wanted is as before, too.
func setFeature(tool offloadTool, name, feature string, on bool) (before featureState, err error) {
	if before, err = tool.readFeature(name, feature); err != nil || before.active == on {
		return before, err
	}
	if err := tool.wantFeature(name, feature, on); err != nil {
		return before, err // the kernel has changed nothing
	}
	if err := checkFeature(tool, name, feature, on); err != nil {
		// What is wanted and was not done would be done with some later change
		// of another feature.
		return before, errors.Join(err, tool.wantFeature(name, feature, before.wanted))
	}
	return before, nil
}

// restoreFeature switches a feature back. If the driver does not do it now, it
// remains wanted.
func restoreFeature(tool offloadTool, name, feature string, on bool) error {
	now, err := tool.readFeature(name, feature)
	if err != nil || now.active == on {
		return err
	}
	if err := tool.wantFeature(name, feature, on); err != nil {
		return err
	}
	return checkFeature(tool, name, feature, on)
}

// checkFeature reads back what was asked for: a request that could not be met in full
// succeeds with a positive result.
func checkFeature(tool offloadTool, name, feature string, on bool) error {
	now, err := tool.readFeature(name, feature)
	if err == nil && now.active != on {
		err = leftAt(now)
	}
	return err
}

func leftAt(now featureState) error {
	return fmt.Errorf("the driver leaves it at %v: %w", now.active, errors.ErrUnsupported)
}

func (e *ethtool) namespace() (uint64, error) { return NetNSOf(e.fd) }

func (e *ethtool) readFeature(name, feature string) (featureState, error) {
	bit, blocks, err := e.feature(name, feature)
	if err != nil {
		return featureState{}, err
	}
	block, err := e.featureBlock(name, blocks, bit)
	if err != nil {
		return featureState{}, err
	}
	is := func(offset int) bool { return native.Uint32(block[offset:])>>(bit%32)&1 != 0 }
	return featureState{available: is(0), wanted: is(featureWantedOffset), active: is(featureActiveOffset)}, nil
}

func (e *ethtool) wantFeature(name, feature string, on bool) error {
	bit, blocks, err := e.feature(name, feature)
	if err != nil {
		return err
	}
	// struct ethtool_sfeatures: cmd, blocks, then per block a mask of
	// the bits that count and their values.
	req := make([]byte, 8+blocks*8)
	native.PutUint32(req, unix.ETHTOOL_SFEATURES)
	native.PutUint32(req[4:], uint32(blocks))
	mask := uint32(1) << (bit % 32)
	block := req[8+bit/32*8:]
	native.PutUint32(block, mask)
	if on {
		native.PutUint32(block[4:], mask)
	}
	return e.ioctl(name, req)
}

// feature returns the number of a feature and how many blocks hold all of them.
func (e *ethtool) feature(name, feature string) (bit, blocks int, err error) {
	features, err := e.strings(name, stringSetFeatures)
	if err != nil {
		return 0, 0, err
	}
	bit = slices.Index(features, feature)
	if bit < 0 || feature == "" {
		return 0, 0, fmt.Errorf("no such feature: %w", errors.ErrUnsupported)
	}
	return bit, (len(features) + 31) / 32, nil
}

func (e *ethtool) featureActive(name string, blocks, bit int) (bool, error) {
	block, err := e.featureBlock(name, blocks, bit)
	if err != nil {
		return false, err
	}
	return native.Uint32(block[featureActiveOffset:])>>(bit%32)&1 != 0, nil
}

// featureBlock returns the block that a feature is in.
func (e *ethtool) featureBlock(name string, blocks, bit int) ([]byte, error) {
	req := make([]byte, 8+blocks*featureBlockLen)
	native.PutUint32(req, unix.ETHTOOL_GFEATURES)
	native.PutUint32(req[4:], uint32(blocks))
	if err := e.ioctl(name, req); err != nil {
		return nil, err
	}
	return req[8+bit/32*featureBlockLen:], nil
}
