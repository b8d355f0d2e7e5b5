package hostif

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ethtool is a socket for ethtool requests (linux/ethtool.h). It acts in the
// network namespace it was opened in. Integers in requests have the host's
// byte order.
type ethtool struct{ fd int }

// String sets of linux/ethtool.h, enum ethtool_stringset.
const (
	stringSetStats    = 1 // ETH_SS_STATS
	stringSetFeatures = 4 // ETH_SS_FEATURES
)

const (
	stringLen  = 32      // ETH_GSTRING_LEN, bytes of one name
	maxStrings = 1 << 16 // more than any driver has: a bound on what is allocated
)

// room returns how many entries to make room for when a set has n. A set
// can grow between two requests (queues come and go), and kernels before 6.19
// write as many as there are by then, whatever length the request says.
func room(n int) int { return 2*n + 256 }

var native = binary.NativeEndian

func openEthtool() (*ethtool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &ethtool{fd: fd}, nil
}

func (e *ethtool) close() { unix.Close(e.fd) }

// index returns the index of the interface that has a name now. It keeps that, as
// long as it is in the namespace; the name can be changed, and given to another.
func (e *ethtool) index(name string) (int, error) {
	if len(name) >= unix.IFNAMSIZ {
		return 0, os.NewSyscallError("ioctl", unix.ENODEV)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(e.fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, os.NewSyscallError("ioctl", err)
	}
	return int(ifr.Uint32()), nil
}

func (e *ethtool) name(index int) (string, error) {
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return "", err
	}
	ifr.SetUint32(uint32(index))
	if err := unix.IoctlIfreq(e.fd, unix.SIOCGIFNAME, ifr); err != nil {
		return "", os.NewSyscallError("ioctl", err)
	}
	return ifr.Name(), nil
}

// driver returns "" for a driver without ethtool support.
func (e *ethtool) driver(name string) (string, error) {
	info, err := unix.IoctlGetEthtoolDrvinfo(e.fd, name)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return "", nil
	}
	if err != nil {
		return "", os.NewSyscallError("ethtool", err)
	}
	return unix.ByteSliceToString(info.Driver[:]), nil
}

// struct ethtool_channels, in bytes: cmd, four maxima, then the counts of rx, tx,
// other, combined.
const (
	channelsLen    = 9 * 4
	combinedOffset = 8 * 4
)

func (e *ethtool) channels(name string) (Channels, error) {
	req, err := e.readChannels(name)
	if err != nil {
		return Channels{}, err
	}
	n := func(i int) int { return int(native.Uint32(req[i*4:])) }
	return Channels{MaxRX: n(1), MaxTX: n(2), MaxCombined: n(4), RX: n(5), TX: n(6), Combined: n(8)}, nil
}

// readChannels returns a struct ethtool_channels.
func (e *ethtool) readChannels(name string) ([]byte, error) {
	req := make([]byte, channelsLen)
	native.PutUint32(req, unix.ETHTOOL_GCHANNELS)
	return req, e.ioctl(name, req)
}

// strings returns the names in a string set; unused positions are "".
func (e *ethtool) strings(name string, set uint32) ([]string, error) {
	// struct ethtool_sset_info: cmd, reserved, a 64-bit mask of sets, then a
	// length per set in the mask.
	info := make([]byte, 16+4)
	native.PutUint32(info, unix.ETHTOOL_GSSET_INFO)
	native.PutUint64(info[8:], 1<<set)
	if err := e.ioctl(name, info); err != nil {
		return nil, err
	}
	if native.Uint64(info[8:]) == 0 {
		return nil, nil // the driver has no such set
	}
	n := int(native.Uint32(info[16:]))
	if n > maxStrings {
		return nil, fmt.Errorf("string set %d has %d entries", set, n)
	}

	// struct ethtool_gstrings: cmd, set, length, names.
	req := make([]byte, 12+room(n)*stringLen)
	native.PutUint32(req, unix.ETHTOOL_GSTRINGS)
	native.PutUint32(req[4:], set)
	native.PutUint32(req[8:], uint32(n))
	if err := e.ioctl(name, req); err != nil {
		return nil, err
	}
	names := make([]string, n)
	for i := range names {
		text, _, _ := bytes.Cut(req[12+i*stringLen:][:stringLen], []byte{0})
		names[i] = string(text)
	}
	return names, nil
}

// DriverStats returns the counters that the driver of an interface keeps,
// under the driver's own names. They are empty for a driver without any.
func DriverStats(name string) (map[string]uint64, error) {
	e, err := openEthtool()
	if err != nil {
		return nil, fmt.Errorf("hostif: driver statistics of %s: %w", name, err)
	}
	defer e.close()
	stats, err := e.stats(name)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return map[string]uint64{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hostif: driver statistics of %s: %w", name, err)
	}
	return stats, nil
}

func (e *ethtool) stats(name string) (map[string]uint64, error) {
	names, err := e.strings(name, stringSetStats)
	if err != nil {
		return nil, err
	}
	// struct ethtool_stats: cmd, count, 64-bit values.
	req := make([]byte, 8+room(len(names))*8)
	native.PutUint32(req, unix.ETHTOOL_GSTATS)
	native.PutUint32(req[4:], uint32(len(names)))
	if err := e.ioctl(name, req); err != nil {
		return nil, err
	}
	stats := make(map[string]uint64, len(names))
	for i, stat := range names {
		if stat != "" {
			stats[stat] = native.Uint64(req[8+i*8:])
		}
	}
	return stats, nil
}
