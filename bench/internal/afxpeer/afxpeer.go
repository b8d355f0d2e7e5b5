// Package afxpeer is this project's stack as a peer.
package afxpeer

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	_ "github.com/afxnet/afxnet/stack/inline" // unless it is switched off
)

// Peer is a stack. Its sockets are those of the embedded Stack.
type Peer struct {
	*stack.Stack
}

var _ peer.Peer = (*Peer)(nil)

// modes are the polling modes by name.
var modes = map[string]netdev.PollMode{
	"":         netdev.PollAdaptive,
	"adaptive": netdev.PollAdaptive,
	"block":    netdev.PollBlock,
	"spin":     netdev.PollSpin,
}

// Names of what Config.Off can switch off.
const (
	GRO      = "gro" // and with it ACKMerge
	ACKMerge = "ackmerge"
	ACKHold  = "ackhold"
	FastIP   = "fastip" // and with it Inline
	Inline   = "inline" // and with it Gather
	Gather   = "gather"
	LateArm  = "latearm"
)

var mechanisms = map[string]func(*stack.Config){
	GRO:      func(c *stack.Config) { c.Device.NoGRO = true },
	ACKMerge: func(c *stack.Config) { c.Device.NoACKMerge = true },
	ACKHold:  func(c *stack.Config) { c.Device.NoACKHold = true },
	Gather:   func(c *stack.Config) { c.Device.NoGather = true },
	FastIP:   func(c *stack.Config) { c.NoFastIP = true },
	Inline:   func(c *stack.Config) { c.NoInline = true },
	LateArm:  func(c *stack.Config) { c.Device.NoLateArm = true },
}

// Mechanisms returns the names that peer.Config.Off may hold, sorted.
func Mechanisms() []string {
	var names []string
	for name := range mechanisms {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Open starts a stack on the device of cfg. It takes the network for local
// (stack.ProfileLAN) and does not look for other hosts with its addresses.
func Open(cfg peer.Config) (peer.Peer, error) {
	mode, ok := modes[cfg.Polling]
	if !ok {
		return nil, fmt.Errorf("afxpeer: no polling mode %q", cfg.Polling)
	}
	sc := stack.Config{
		Interface:        cfg.Interface,
		Profile:          stack.ProfileLAN,
		NoDuplicateCheck: true,
		Device:           netdev.Config{Poll: mode},
	}
	for _, a := range []netip.Prefix{cfg.V4, cfg.V6} {
		if a.IsValid() {
			sc.Addresses = append(sc.Addresses, a)
		}
	}
	for i := range uint32(max(cfg.Queues, 1)) {
		sc.Device.Queues = append(sc.Device.Queues, i)
	}
	for _, name := range cfg.Off {
		set, ok := mechanisms[name]
		if !ok {
			return nil, fmt.Errorf("afxpeer: no mechanism %q to switch off; there are %v", name, Mechanisms())
		}
		set(&sc)
	}
	s, err := stack.Open(sc)
	if err != nil {
		return nil, err
	}
	// A figure must not be of something else than its name says.
	if err := s.Info().InlineErr; err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &Peer{s}, nil
}

// Counters returns what the device counted, summed over its queues. Counters
// that cannot be read are left out.
func (p *Peer) Counters() map[string]uint64 {
	st, _ := p.Device().Stats() // what could not be read is zero
	c := make(map[string]uint64)
	for _, q := range st.Queues {
		c["rx batches"] += q.RXBatches
		c["rx frames"] += q.RXDelivered
		c["rx packets"] += q.RXPackets
		c["rx acks merged"] += q.RXACKs
		c["poller sleeps"] += q.Sleeps
		c["tx packets"] += q.TXPackets
		c["tx frames"] += q.TXFrames
		c["tx wakeups"] += q.Socket.TXWakeups
		c["tx acks spared"] += q.TXACKsSpared
		c["tx acks late"] += q.TXACKsLate
	}
	for name, n := range st.Drops() {
		c["dropped: "+name] += n
	}
	return c
}

// Info returns how the device was bound and the program attached, and what the
// stack uses.
func (p *Peer) Info() map[string]string {
	i, up := p.Device().Info(), p.Stack.Info()
	bind := "copy"
	if i.ZeroCopy {
		bind = "zero-copy"
	}
	return map[string]string{
		"bind": bind, "attach": i.Attach.String(), "driver": i.Driver, "mtu": strconv.Itoa(i.MTU), "queues": strconv.Itoa(len(i.Queues)), "multi-buffer": strconv.FormatBool(i.MultiBuffer),
		"fastip": strconv.FormatBool(up.FastIP), "inline": strconv.FormatBool(up.Inline),
	}
}
