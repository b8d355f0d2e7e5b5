package hostif

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Channels are the numbers of channels (interrupts) of an interface: in use, and
// the most that its driver can have.
type Channels struct {
	RX, TX, Combined          int
	MaxRX, MaxTX, MaxCombined int
}

// ReadChannels reads them. errors.Is(err, errors.ErrUnsupported) holds for a
// driver that does not tell.
func ReadChannels(name string) (ch Channels, err error) {
	err = ask(name, "channels", func(tool *ethtool) error {
		ch, err = tool.channels(name)
		return err
	})
	return ch, err
}

// ReadRings reads them. errors.Is(err, errors.ErrUnsupported) holds for a driver
// that has none, or does not tell.
func ReadRings(name string) (Rings, error) {
	// struct ethtool_ringparam: cmd, four maxima (rx, mini, jumbo, tx), then
	// what is set.
	req := make([]byte, 9*4)
	native.PutUint32(req, unix.ETHTOOL_GRINGPARAM)
	if err := ask(name, "rings", func(tool *ethtool) error { return tool.ioctl(name, req) }); err != nil {
		return Rings{}, err
	}
	n := func(i int) int { return int(native.Uint32(req[i*4:])) }
	return Rings{MaxRX: n(1), MaxTX: n(4), RX: n(5), TX: n(8)}, nil
}

// maxIndirection bounds what is allocated for an indirection table: more entries
// than any NIC has.
const maxIndirection = 1 << 16

// RSSQueues returns the receive queues that the interface's RSS indirection table
// names, ascending: flows without a rule of their own arrive on these.
// errors.Is(err, errors.ErrUnsupported) holds for a driver without a table, which
// may use any queue.
func RSSQueues(name string) ([]int, error) {
	// struct ethtool_rxfh_indir: cmd, size, entries. Size 0 asks for the size.
	size := make([]byte, 8)
	native.PutUint32(size, unix.ETHTOOL_GRXFHINDIR)
	if err := ask(name, "RSS table", func(tool *ethtool) error { return tool.ioctl(name, size) }); err != nil {
		return nil, err
	}
	n := int(native.Uint32(size[4:]))
	if n == 0 || n > maxIndirection {
		return nil, fmt.Errorf("hostif: RSS table of %s has %d entries: %w", name, n, errors.ErrUnsupported)
	}
	req := make([]byte, 8+4*n)
	native.PutUint32(req, unix.ETHTOOL_GRXFHINDIR)
	native.PutUint32(req[4:], uint32(n))
	if err := ask(name, "RSS table", func(tool *ethtool) error { return tool.ioctl(name, req) }); err != nil {
		return nil, err
	}
	queues := make([]int, n)
	for i := range queues {
		queues[i] = int(native.Uint32(req[8+4*i:]))
	}
	slices.Sort(queues)
	return slices.Compact(queues), nil
}

// FeatureOn tells whether an offload is on, by the name that ethtool -k gives to
// it; false for a name the interface does not have.
func FeatureOn(name, feature string) (bool, error) {
	tool, err := openEthtool()
	if err != nil {
		return false, fmt.Errorf("hostif: offloads of %s: %w", name, err)
	}
	defer tool.close()
	features, err := tool.strings(name, stringSetFeatures)
	if err != nil {
		return false, fmt.Errorf("hostif: offloads of %s: %w", name, err)
	}
	bit := slices.Index(features, feature)
	if bit < 0 {
		return false, nil
	}
	return tool.featureActive(name, (len(features)+31)/32, bit)
}

// ask has f ask ethtool about what.
func ask(name, what string, f func(*ethtool) error) error {
	tool, err := openEthtool()
	if err == nil {
		defer tool.close()
		err = f(tool)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("hostif: %s of %s: %w: %w", what, name, errors.ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("hostif: %s of %s: %w", what, name, err)
	}
	return nil
}

// SetCombined sets how many combined channels (pairs of an RX and a TX queue) an
// interface uses, as ethtool -L does. Many drivers take the link down for it, for
// up to a second. A number that the driver does not have is an error for which
// errors.Is(err, unix.EINVAL) holds.
//
// undo restores the former number, in the namespace SetCombined was called in,
// whatever the interface is called then; it does nothing if that was the same, or
// the interface is gone. It is idempotent and holds a file descriptor until it is
// called.
func SetCombined(name string, n int) (undo func() error, err error) {
	tool, err := openEthtool()
	if err != nil {
		return nil, channelsError(name, n, err)
	}
	index, err := tool.index(name)
	var before int
	if err == nil {
		before, err = tool.setCombined(name, n)
	}
	if err != nil || before == n {
		tool.close()
		return func() error { return nil }, channelsError(name, n, err)
	}
	return sync.OnceValue(func() error {
		defer tool.close()
		name, err := tool.name(index)
		if err == nil {
			_, err = tool.setCombined(name, before)
		}
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		return channelsError(name, before, err)
	}), nil
}

func channelsError(name string, n int, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("hostif: set %d combined channels of %s: %w (needs CAP_NET_ADMIN)", n, name, err)
	}
	return fmt.Errorf("hostif: set %d combined channels of %s: %w", n, name, err)
}

// setCombined returns the number before. The driver's other counts stay.
func (e *ethtool) setCombined(name string, n int) (before int, err error) {
	req, err := e.readChannels(name)
	if err != nil {
		return 0, err
	}
	combined := req[combinedOffset:]
	if before = int(native.Uint32(combined)); before == n {
		return before, nil
	}
	native.PutUint32(req, unix.ETHTOOL_SCHANNELS)
	native.PutUint32(combined, uint32(n))
	return before, e.ioctl(name, req)
}

// SetSingle sets how many channels of an RX and of a TX queue alone an interface
// uses, for drivers that have no combined ones, as veth.
func SetSingle(name string, rx, tx int) error {
	return ask(name, "channels", func(tool *ethtool) error {
		req, err := tool.readChannels(name)
		if err != nil {
			return err
		}
		// struct ethtool_channels: cmd, four maxima, then rx, tx, other, combined.
		native.PutUint32(req, unix.ETHTOOL_SCHANNELS)
		native.PutUint32(req[5*4:], uint32(rx))
		native.PutUint32(req[6*4:], uint32(tx))
		return tool.ioctl(name, req)
	})
}

// QueueCount tells how many receive queues an interface uses, of the network
// namespace that it was opened in, whichever the caller's thread is in by then.
type QueueCount struct {
	index int
	tool  *ethtool
}

// OpenQueueCount opens it for the interface with this index.
func OpenQueueCount(index int) (*QueueCount, error) {
	tool, err := openEthtool()
	if err != nil {
		return nil, indexError("count queues", index, err)
	}
	return &QueueCount{index, tool}, nil
}

// Read returns the number. The driver may not tell: unix.EOPNOTSUPP.
func (q *QueueCount) Read() (int, error) {
	name, err := q.tool.name(q.index)
	var ch Channels
	if err == nil {
		ch, err = q.tool.channels(name)
	}
	if err != nil {
		return 0, indexError("count queues", q.index, err)
	}
	return ch.RX + ch.Combined, nil
}

// Close closes it.
func (q *QueueCount) Close() { q.tool.close() }
