package wire

import (
	"fmt"
	"math/rand/v2"
	"net"
	"time"
)

// Config describes a wire. The zero value is a perfect one between two ports
// of one queue.
type Config struct {
	Ports [2]PortConfig

	// Faults are what happens to frames on their way, by the sending port.
	// The zero value is nothing.
	Faults [2]Faults

	// Seed makes the faults' random choices repeatable. Zero takes a random
	// one; Wire.Seed tells it, and a test should log it.
	Seed uint64

	// TXBudget is how many descriptors one wakeup takes. Zero means 32, which
	// is the kernel's (TX_BATCH_SIZE in Linux net/xdp/xsk.c).
	TXBudget int
}

// PortConfig describes one end of the wire.
type PortConfig struct {
	// Name is the interface's name. Empty means wire0 or wire1.
	Name string

	// MAC is the Ethernet address, 6 bytes. Nil means 02:00:00:00:00:01 for
	// port 0 and 02:00:00:00:00:02 for port 1.
	MAC net.HardwareAddr

	// MTU is the longest IP packet in bytes, from 68 to 65535. The port drops
	// received frames that are longer than MTU + 18, as a veth does. Zero
	// means 1500.
	MTU int

	// Queues is the number of receive and transmit queues, 1 to 256. Zero
	// means 1.
	Queues int

	// MultiBuffer makes the port's sockets take and send packets over several
	// frames, as bound with XDP_USE_SG.
	MultiBuffer bool

	// RSS chooses the queue of a received frame. A number that is no queue's
	// counts as one without a socket. Nil means [Hash] over the queues.
	RSS func(frame []byte) int
}

const (
	defaultTXBudget = 32
	defaultMTU      = 1500
	minMTU          = 68 // RFC 791
	maxMTU          = 65535
	maxQueues       = 256

	// ethernetOverhead is the Ethernet header and one VLAN tag in bytes: what
	// is_skb_forwardable (Linux net/core/dev.c) grants beyond the MTU.
	ethernetOverhead = 14 + 4
)

func (c Config) withDefaults() (Config, error) {
	if c.TXBudget == 0 {
		c.TXBudget = defaultTXBudget
	}
	if c.TXBudget < 0 {
		return c, fmt.Errorf("wire: Config.TXBudget: %d descriptors: 1 or more", c.TXBudget)
	}
	for c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	for i := range c.Ports {
		p := &c.Ports[i]
		if p.Name == "" {
			p.Name = fmt.Sprintf("wire%d", i)
		}
		if p.MAC == nil {
			p.MAC = net.HardwareAddr{2, 0, 0, 0, 0, byte(i + 1)}
		}
		if len(p.MAC) != 6 || p.MAC[0]&1 != 0 {
			return c, fmt.Errorf("wire: Config.Ports[%d].MAC: %v: a unicast address of 6 bytes", i, p.MAC)
		}
		if p.MTU == 0 {
			p.MTU = defaultMTU
		}
		if p.MTU < minMTU || p.MTU > maxMTU {
			return c, fmt.Errorf("wire: Config.Ports[%d].MTU: %d bytes: from %d to %d", i, p.MTU, minMTU, maxMTU)
		}
		if p.Queues == 0 {
			p.Queues = 1
		}
		if p.Queues < 0 || p.Queues > maxQueues {
			return c, fmt.Errorf("wire: Config.Ports[%d].Queues: %d: from 1 to %d", i, p.Queues, maxQueues)
		}
		if err := c.Faults[i].check(); err != nil {
			return c, fmt.Errorf("wire: Config.Faults[%d].%w", i, err)
		}
	}
	return c, nil
}

// New makes a wire with both ports up. Errors name the field and the rule.
func New(cfg Config) (*Wire, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Wire{seed: cfg.Seed}
	epoch := time.Now()
	for i, pc := range cfg.Ports {
		w.ports[i] = newPort(w, i, pc, cfg.TXBudget)
	}
	for i := range w.links {
		w.links[i] = &link{
			dir: Dir(i), from: w.ports[i], to: w.ports[1-i],
			taps: &w.taps, epoch: epoch, armed: unarmed,
			rng: rand.New(rand.NewPCG(cfg.Seed, uint64(i))),
		}
		w.links[i].setFaults(cfg.Faults[i])
		w.ports[i].out, w.ports[1-i].in = w.links[i], w.links[i]
	}
	return w, nil
}
