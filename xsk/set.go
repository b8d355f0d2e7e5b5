package xsk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/afxnet/afxnet/internal/hostif"
)

// SetConfig describes sockets on the queues of one device. Socket.Interface is
// required; the zero value of the rest works.
type SetConfig struct {
	// Socket describes each of the sockets; its Queue, Shared and Prepared must be
	// zero, and UMEM.File too unless Share is set.
	Socket Config

	// Queues are the hardware queues to bind to, at least one, and each once. Nil means all
	// receive queues that there are once the program is attached; a device may
	// have fewer to send on: see [Set.Check].
	Queues []uint32

	// Share gives all sockets one region (XDP_SHARED_UMEM), so that a packet
	// received on one queue can be sent on any other without a copy; see
	// [Shared]. The set makes the region, with chunks for each of its sockets
	// as Socket.UMEM says. Otherwise each socket has a region to itself.
	Share bool

	// Program describes the steering program; its Interface must be empty and
	// zero Queues means as many as the device has, and 256 at least. With Metadata,
	// its marker is that of the sockets.
	Program ProgramConfig
}

// Set is one socket for each of a device's queues, and the program that directs
// packets to them. The halves of each socket are for one goroutine each, as ever;
// the methods of Set may be called from any.
type Set struct {
	dev     hostif.Interface
	sockets []*Socket
	prog    *Program
	shared  *Shared // or nil

	once sync.Once
	err  error
}

// OpenAll attaches a steering program to a device and binds a socket to each of
// its queues, in the order that loses nothing: program, sockets, their fill
// rings, their places in the program's map. Packets come once an address is
// claimed: Program().AddAddress. Call it in the device's network namespace.
//
// Errors are those of [LoadProgram], [Program.Attach] and [Open]; nothing stays
// open then. See Check for queues that nobody reads.
func OpenAll(cfg SetConfig) (_ *Set, err error) {
	name := cfg.Socket.Interface
	switch {
	case cfg.Socket.Queue != 0 || cfg.Socket.Shared != nil || cfg.Socket.Prepared != nil:
		return nil, errors.New("xsk: SetConfig.Socket: Queue, Shared and Prepared must be zero")
	case cfg.Socket.UMEM.File != nil && !cfg.Share && cfg.Socket.Region == nil:
		return nil, errors.New("xsk: SetConfig.Socket.UMEM.File: each socket would take all of that memory for its own: set Share")
	case cfg.Queues != nil && len(cfg.Queues) == 0:
		return nil, errors.New("xsk: SetConfig.Queues: empty: nil means all receive queues")
	case twice(cfg.Queues) >= 0:
		i := twice(cfg.Queues)
		return nil, fmt.Errorf("xsk: SetConfig.Queues[%d]: queue %d is named twice", i, cfg.Queues[i])
	case cfg.Program.Interface != "":
		return nil, errors.New("xsk: SetConfig.Program.Interface: must be empty")
	case cfg.Share && cfg.Socket.Region != nil:
		return nil, errors.New("xsk: SetConfig.Share makes the region: Socket.Region must be nil")
	}
	s := &Set{}
	defer func() {
		if err != nil {
			err = joinClose(err, s.Close())
		}
	}()
	if s.dev, err = hostif.Lookup(name); err != nil {
		return nil, &OpError{Op: "look up interface", Device: name, Queue: NoQueue, Err: err}
	}
	cfg.Program.Interface = name
	if cfg.Program.Queues == 0 {
		cfg.Program.Queues = max(s.dev.RXQueues, s.dev.TXQueues, defaultProgramQueues)
	}
	if s.prog, err = LoadProgram(cfg.Program); err != nil {
		return nil, err
	}
	if err := s.prog.Attach(); err != nil {
		return nil, err
	}
	// Some drivers add queues for the program.
	if s.dev, err = hostif.Lookup(name); err != nil {
		return nil, &OpError{Op: "look up interface", Device: name, Queue: NoQueue, Err: err}
	}
	if cfg.Queues == nil {
		for i := range max(s.dev.RXQueues, 1) {
			cfg.Queues = append(cfg.Queues, uint32(i))
		}
	}
	if err := s.openSockets(cfg); err != nil {
		return nil, err
	}
	for _, sock := range s.sockets {
		sock.RX().Refill() // before the first packet
		if err := s.prog.AddSocket(sock.Queue(), sock.FD()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// twice returns the index of the first queue that has been named before, or -1.
func twice(queues []uint32) int {
	for i, q := range queues {
		if slices.Contains(queues[:i], q) {
			return i
		}
	}
	return -1
}

func (s *Set) openSockets(cfg SetConfig) error {
	one := cfg.Socket
	if marker := s.prog.MetadataMarker(); marker != 0 {
		one.MetadataMarker = marker
	}
	if cfg.Share {
		resolved, err := one.withDefaults()
		if err != nil {
			return err
		}
		resolved.UMEM.Chunks *= len(cfg.Queues)
		region, err := newRegion(resolved.UMEM, s.dev)
		if err != nil {
			return &OpError{Op: "map umem", Device: one.Interface, Queue: NoQueue, Err: err}
		}
		s.shared = NewShared(region)
		one.Shared = s.shared
	}
	for _, queue := range cfg.Queues {
		one.Queue = queue
		sock, err := Open(one)
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, sock)
	}
	return nil
}

// Sockets returns the sockets, in the order of SetConfig.Queues.
func (s *Set) Sockets() []*Socket { return slices.Clone(s.sockets) }

// Program returns the steering program, to claim addresses with. The set closes
// it.
func (s *Set) Program() *Program { return s.prog }

// Check looks for ways in which packets miss the sockets: receive queues that
// flows can arrive on and that have no socket, by the device's RSS table as it is
// now or, without one, its number of queues, and packets that did so already; for a
// program that somebody has taken off ([Program.Lost]); and for fill rings that a
// zero-copy device could not fill its own from. It notes sockets that can only
// receive: see [TX.Err]. It returns nothing if all is well. Call it in the device's
// network namespace.
func (s *Set) Check() ([]Finding, error) {
	dev, err := hostif.Lookup(s.dev.Name)
	if err != nil {
		return nil, &OpError{Op: "look up interface", Device: s.dev.Name, Queue: NoQueue, Err: err}
	}
	var bound, copying []uint32
	for _, sock := range s.sockets {
		bound = append(bound, sock.Queue())
		if !sock.ZeroCopy() {
			copying = append(copying, sock.Queue())
		}
	}
	findings := checkQueues(dev, bound)
	findings = append(findings, checkSenders(dev, copying)...)
	if len(copying) != len(s.sockets) {
		if r, err := hostif.ReadRings(dev.Name); err == nil { // some drivers do not tell
			findings = append(findings, checkFills(dev.Name, r, s.sockets)...)
		}
	}
	if lost := (*OpError)(nil); errors.As(s.prog.Lost(), &lost) {
		findings = append(findings, Finding{Subject: SubjectProgram, Level: Problem, Text: lost.Err.Error(), Fix: lost.Remedy})
	}
	c, err := s.prog.Counters()
	if err != nil {
		return nil, err
	}
	if c.PassNoSocket != 0 {
		findings = append(findings, Finding{Subject: SubjectQueues, Level: Warning,
			Text: fmt.Sprintf("%d packets for the claimed addresses arrived on queues without a socket: the kernel got them", c.PassNoSocket),
			Fix:  fixQueues(dev, bound)})
	}
	return findings, nil
}

// WaitLink waits until the device is ready to carry frames: attaching a program
// and binding make some drivers reset the link, for up to some seconds. The error
// wraps ctx's if that ends first, and unix.ENODEV if the device goes away. Call it in
// the device's network namespace.
func (s *Set) WaitLink(ctx context.Context) error {
	err := hostif.Await(ctx, s.dev.Index, func(e hostif.Event) (bool, error) {
		switch {
		case e.Err != nil:
			return true, e.Err
		case !e.State.Running && !e.State.Present:
			return true, errNoDevice
		}
		return e.State.Running, nil
	})
	if err != nil {
		return &OpError{Op: "wait for link", Device: s.dev.Name, Queue: NoQueue, Err: err}
	}
	return nil
}

// Close takes the program off the device, then closes the sockets, and the region
// if they share one. The goroutines that use the halves must have stopped, or be
// in Wait. Idempotent; it joins the errors of every step.
func (s *Set) Close() error {
	s.once.Do(func() {
		var errs []error
		for _, sock := range s.sockets {
			sock.restoreNAPI() //nolint:errcheck // Socket.Close tells; some NAPIs go with the program
		}
		if s.prog != nil {
			errs = append(errs, s.prog.Close())
		}
		for _, sock := range s.sockets {
			errs = append(errs, sock.Close())
		}
		if s.shared != nil {
			errs = append(errs, s.shared.region.Close())
		}
		s.err = errors.Join(errs...)
	})
	return s.err
}
