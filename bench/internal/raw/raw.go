package raw

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// Batch is how many packets every loop takes at once.
const Batch = 64

// ringSize is the length of each ring in descriptors, here and in C.
const ringSize = 2048

// chunkSize is the size of a chunk in bytes, here and in C.
const chunkSize = 4096

// spare is the number of chunks per queue beside those in rings: what the caches
// of two halves keep.
const spare = 512

// Config says where a Port is opened.
type Config struct {
	// Interface is the device, in the network namespace of the calling thread.
	Interface string

	// Queues is the number of queues to bind, from queue 0 on. Zero means 1.
	Queues int

	// Addr is the address whose packets are redirected to the Port. The zero
	// Addr means none: the Port can then transmit only, and no program is
	// attached.
	Addr netip.Addr
}

// Port is AF_XDP sockets on queues of one interface. One goroutine at a time may
// use a queue.
type Port struct {
	cfg     Config
	dev     hostif.Interface
	region  *umem.Region // of all sockets, so that frames can move between them
	prog    *xsk.Program // nil without Addr
	sockets []*xsk.Socket
	budget  bool // the kernel sends a batch per wakeup
}

// Open binds sockets and, with cfg.Addr, redirects its packets to them. A bad
// field of cfg is named; otherwise errors.As finds the *xsk.OpError that
// [xsk.Open] and [xsk.LoadProgram] document.
func Open(cfg Config) (_ *Port, err error) {
	if cfg.Queues == 0 {
		cfg.Queues = 1
	}
	if cfg.Interface == "" || cfg.Queues < 0 {
		return nil, fmt.Errorf("raw: Config.Interface %q, Config.Queues %d: a device, and 0 or more", cfg.Interface, cfg.Queues)
	}
	p := &Port{cfg: cfg}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if p.dev, err = hostif.Lookup(cfg.Interface); err != nil {
		return nil, fmt.Errorf("raw: %w", err)
	}
	if p.region, err = umem.New(umem.Config{ChunkSize: chunkSize, Chunks: cfg.Queues * (2*ringSize + spare)}); err != nil {
		return nil, err
	}
	if cfg.Addr.IsValid() {
		if p.prog, err = xsk.LoadProgram(xsk.ProgramConfig{Interface: cfg.Interface, Queues: max(p.dev.RXQueues, p.dev.TXQueues, 1)}); err != nil {
			return nil, err
		}
		if err = p.prog.Attach(); err != nil {
			return nil, err
		}
	}
	for i := range uint32(cfg.Queues) {
		if err = p.addSocket(i); err != nil {
			return nil, err
		}
	}
	if p.prog != nil {
		err = p.prog.AddAddress(cfg.Addr)
	}
	return p, err
}

func (p *Port) addSocket(queue uint32) error {
	cfg := xsk.Config{
		Interface: p.cfg.Interface, Queue: queue, Region: p.region, TXBudget: Batch,
		Rings: xsk.RingSizes{RX: ringSize, TX: ringSize},
	}
	s, err := xsk.Open(cfg)
	if p.budget = err == nil; errors.Is(err, errors.ErrUnsupported) {
		cfg.TXBudget = 0
		s, err = xsk.Open(cfg)
	}
	if err != nil {
		return err
	}
	p.sockets = append(p.sockets, s)
	if p.prog == nil {
		return nil
	}
	s.RX().Refill() // before the first packet
	return p.prog.AddSocket(queue, s.FD())
}

// Info returns the modes as read back from the kernel, by name.
func (p *Port) Info() map[string]string {
	info := map[string]string{"bind": "copy", "attach": "none", "tx_budget": "32"}
	if len(p.sockets) != 0 && p.sockets[0].ZeroCopy() {
		info["bind"] = "zero-copy"
	}
	if p.prog != nil {
		info["attach"] = p.prog.Mode().String()
	}
	if p.budget {
		info["tx_budget"] = fmt.Sprint(Batch)
	}
	return info
}

// Close detaches the program, closes the sockets and frees their memory. No
// loop may be running. It may be called again.
func (p *Port) Close() error {
	var errs []error
	if p.prog != nil {
		errs = append(errs, p.prog.Close())
	}
	for _, s := range p.sockets {
		errs = append(errs, s.Close())
	}
	if p.region != nil {
		errs = append(errs, p.region.Close())
	}
	return errors.Join(errs...)
}

// Job says what a loop has to do. It ends when Packets are done, Duration is
// over since the first packet, or its context is done, whichever comes first.
type Job struct {
	Packets  uint64        // 0 is no limit
	Duration time.Duration // 0 is no limit

	// Frame is what Transmit sends, from the Ethernet header on.
	Frame []byte

	// AckEvery is after how many packets one is sent the other way: by
	// ReceiveDrop the frame Ack, by Drain a short datagram. 0 is never.
	AckEvery int
	Ack      []byte
}

// Result is what a loop did.
type Result struct {
	Packets uint64        `json:"packets"`
	Bytes   uint64        `json:"bytes"`   // with the Ethernet header; of kernel sockets, the payload
	Elapsed time.Duration `json:"elapsed"` // nanoseconds, from the first packet to the last
	Calls   uint64        `json:"calls"`   // system calls of the data path: wakeups, and those of kernel sockets
	CPU     time.Duration `json:"cpu"`     // nanoseconds of the loop's thread, user and system, idle polling included
	Lost    uint64        `json:"lost"`    // packets dropped for want of room in a ring
	Acks    uint64        `json:"acks"`    // packets the other way: sent by a receiver, received by a sender
	Mallocs uint64        `json:"mallocs"` // heap objects that the process allocated; of AF_XDP loops in Go
}

// PacketsPerSecond returns the rate, 0 if nothing was measured.
func (r Result) PacketsPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Packets) / r.Elapsed.Seconds()
}

// GbitPerSecond returns the rate of Bytes in 1e9 bits per second.
func (r Result) GbitPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Bytes) * 8 / 1e9 / r.Elapsed.Seconds()
}
