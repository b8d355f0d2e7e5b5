// Package afxpeer is this project's stack as a peer.
package afxpeer

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/sys"
	"github.com/afxnet/afxnet/internal/without"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	_ "github.com/afxnet/afxnet/stack/inline" // unless it is switched off
	"github.com/afxnet/afxnet/xsk"
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

// busyTime is SO_BUSY_POLL of a peer that busy polls. Any value does the same.
const busyTime = 20 * time.Microsecond

// TXBudget is the mechanism that one wakeup sends more frames than the kernel's own
// number. Config.Off may name it, and what package without names: this is no switch.
const TXBudget = "txbudget"

// Open starts a stack on the device of cfg. It takes the network for local
// (stack.ProfileLAN) and does not look for other hosts with its addresses.
func Open(cfg peer.Config) (peer.Peer, error) {
	sc, err := config(cfg)
	if err != nil {
		return nil, fmt.Errorf("afxpeer: %w", err)
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

// config is what the stack is opened with.
func config(cfg peer.Config) (stack.Config, error) {
	mode, ok := modes[cfg.Polling]
	if !ok {
		return stack.Config{}, fmt.Errorf("no polling mode %q", cfg.Polling)
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
	if cfg.BusyPoll {
		sc.Device.BusyPoll = xsk.BusyPoll{Time: busyTime, Prefer: true}
	}
	for i := range uint32(max(cfg.Queues, 1)) {
		sc.Device.Queues = append(sc.Device.Queues, i)
	}
	for _, mechanism := range cfg.Off {
		if mechanism == TXBudget {
			sc.Device.TXBudget = sys.KernelTXBudget
		} else if err := without.Apply(&sc, mechanism); err != nil {
			return sc, err
		}
	}
	return sc, nil
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
		c["rx busy polls"] += q.Socket.RXBusyPolls
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
		"busy-poll": strconv.FormatBool(i.BusyPoll[0].On()), "tx_budget": strconv.Itoa(i.TXBudgets[0]), "fastip": strconv.FormatBool(up.FastIP), "inline": strconv.FormatBool(up.Inline),
		"profile": "LAN", // of stack.Config, see Open
	}
}
