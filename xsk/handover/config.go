package handover

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/afxnet/afxnet/xsk"
)

// Config says what a process wants of the helper. Path is required; the zero value
// of the rest works.
type Config struct {
	// Path is that of the helper's Unix socket. It should lie in a directory that
	// only its administrator can write to: who makes a socket of that name is
	// taken for the helper.
	Path string

	// Queues are the hardware queues to have a socket on, at least one. Nil means all
	// that the helper gives.
	Queues []uint32

	// Socket describes each of the sockets, as for [xsk.Open]. Interface may be
	// empty; if it is not, it has to be the helper's. Queue, Region, Shared and
	// Prepared must be zero, and of UMEM Node, OnHeap and File: each socket has a
	// region of its own, which the helper makes, on the NUMA node of the device.
	Socket xsk.Config

	// Timeout bounds the wait for each answer of the helper. Zero means 30 s: to
	// attach a program takes some drivers seconds.
	Timeout time.Duration
}

const defaultTimeout = 30 * time.Second

func (c Config) withDefaults() (Config, error) {
	one := c.Socket
	switch {
	case c.Path == "":
		return c, errors.New("handover: Config.Path: empty")
	case one.Queue != 0 || one.Region != nil || one.Shared != nil || one.Prepared != nil:
		return c, errors.New("handover: Config.Socket: Queue, Region, Shared and Prepared must be zero")
	case one.UMEM.Node != 0 || one.UMEM.OnHeap || one.UMEM.File != nil:
		return c, errors.New("handover: Config.Socket.UMEM: the helper makes the memory: Node, OnHeap and File must be zero")
	case c.Timeout < 0:
		return c, fmt.Errorf("handover: Config.Timeout: %v: negative", c.Timeout)
	case len(c.Queues) > maxQueues:
		return c, fmt.Errorf("handover: Config.Queues: %d of them: at most %d", len(c.Queues), maxQueues)
	case c.Queues != nil && len(c.Queues) == 0:
		return c, errors.New("handover: Config.Queues: empty: nil means all that the helper gives")
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	var err error
	c.Socket.UMEM, err = one.Memory()
	return c, err
}

// ServerConfig says what the helper gives, and to whom. Interface and Users are
// required.
type ServerConfig struct {
	// Interface is the device, in the network namespace of the goroutine that
	// calls Serve.
	Interface string

	// Users are the user ids that may have it, as seen in the helper's user
	// namespace. Others are refused, root included.
	Users []uint32

	// Addresses are what a process may claim: single addresses as prefixes of
	// full length, or networks, without host bits. None means no address. One that
	// the host has is refused whatever this says.
	Addresses []netip.Prefix

	// Groups are the multicast groups that a process may join: single ones as
	// prefixes of full length, or ranges. None means no group. One that the host is
	// in is refused whatever this says.
	Groups []netip.Prefix

	// Queues are the hardware queues to give, at least one. Nil means all receive
	// queues; of more than 256, a process has to name those that it wants.
	Queues []uint32

	// MaxMemory bounds the packet memory of all sockets of one connection, in bytes.
	// Zero means 256 MiB. It is locked, and counts against the helper's memory cgroup.
	// The helper does not learn when a process lets go of it: one that ends its
	// connection, keeps the memory and connects again has more. What bounds that is
	// RLIMIT_MEMLOCK, for a helper without CAP_IPC_LOCK, and the cgroup.
	MaxMemory int64

	// HugePages allows processes to ask for huge pages, of which the machine has so
	// many.
	HugePages bool

	// Attach is where the program runs.
	Attach xsk.AttachMode

	// BusyPoll allows processes to ask for busy polling (xsk.BusyPoll), which can
	// keep the device's interrupts off.
	BusyPoll bool

	// Log is told in a line what happens to whom: it opened, was refused, ended.
	// Nil is told nothing. It is called from one goroutine, which nobody waits for. Of
	// more than 100 lines a minute about one user, or about all those together that may
	// not have the interface, the rest is left out, as is what comes while it does not
	// return: a line that comes later says how many.
	Log func(line string)
}

const (
	defaultMaxMemory = 256 << 20

	// maxQueues bounds the sockets of one process.
	maxQueues = 256
)

func (c ServerConfig) withDefaults() (ServerConfig, error) {
	if c.Interface == "" {
		return c, errors.New("handover: ServerConfig.Interface: empty")
	}
	if len(c.Users) == 0 {
		return c, errors.New("handover: ServerConfig.Users: empty: nobody could have the sockets")
	}
	for i, p := range c.Addresses {
		if !p.IsValid() || p.Addr().Is4In6() {
			return c, fmt.Errorf("handover: ServerConfig.Addresses[%d]: %v: an IPv4 or IPv6 prefix", i, p)
		}
		if one := netip.PrefixFrom(p.Addr(), p.Addr().BitLen()); p != p.Masked() { // an address with the length of its network
			return c, fmt.Errorf("handover: ServerConfig.Addresses[%d]: %v: the address %v, or the network %v", i, p, one, p.Masked())
		}
	}
	for i, p := range c.Groups {
		if !p.IsValid() || !p.Addr().IsMulticast() || p.Addr().Is4In6() {
			return c, fmt.Errorf("handover: ServerConfig.Groups[%d]: %v: a prefix of multicast groups", i, p)
		}
	}
	if len(c.Queues) > maxQueues {
		return c, fmt.Errorf("handover: ServerConfig.Queues: %d of them: at most %d", len(c.Queues), maxQueues)
	}
	if c.Queues != nil && len(c.Queues) == 0 {
		return c, errors.New("handover: ServerConfig.Queues: empty: nil means all receive queues")
	}
	for i, q := range c.Queues {
		if slices.Contains(c.Queues[:i], q) {
			return c, fmt.Errorf("handover: ServerConfig.Queues[%d]: queue %d is named twice", i, q)
		}
	}
	if c.Attach > xsk.AttachJoin {
		return c, fmt.Errorf("handover: ServerConfig.Attach: %v: no such mode", c.Attach)
	}
	if c.MaxMemory < 0 {
		return c, fmt.Errorf("handover: ServerConfig.MaxMemory: %d bytes: negative", c.MaxMemory)
	}
	if c.MaxMemory == 0 {
		c.MaxMemory = defaultMaxMemory
	}
	if c.Log == nil {
		c.Log = func(string) {}
	}
	return c, nil
}

// within tells whether addr is in one of the prefixes.
func within(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
