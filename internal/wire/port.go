package wire

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// Port is one end of the wire. With sockets on its queues it is an interface;
// with OnReceive it is a raw end, for a test that plays a peer by hand.
type Port struct {
	wire    *Wire
	name    string
	mac     net.HardwareAddr
	mtu     int
	rss     func([]byte) int // nil: Hash
	budget  int
	parts   int   // that a packet of a socket may lie in
	out, in *link // out carries what this port sends
	queues  []atomic.Pointer[Queue]
	raw     atomic.Pointer[func([]byte)]

	flags    atomic.Uint32 // isDown, isGone; written with Wire.state held
	watchers []*watcher    // Wire.state
}

func newPort(w *Wire, i int, c PortConfig, budget int) *Port {
	parts := 1
	if c.MultiBuffer {
		parts = maxParts
	}
	return &Port{
		parts: parts,
		wire:  w, name: c.Name, mac: slices.Clone(c.MAC), mtu: c.MTU, rss: c.RSS, budget: budget,
		queues: make([]atomic.Pointer[Queue], c.Queues),
	}
}

// Name returns the interface's name.
func (p *Port) Name() string { return p.name }

// MAC returns a copy of the Ethernet address.
func (p *Port) MAC() net.HardwareAddr { return slices.Clone(p.mac) }

// MTU returns the longest IP packet in bytes.
func (p *Port) MTU() int { return p.mtu }

// Queues returns the number of queues.
func (p *Port) Queues() int { return len(p.queues) }

// Open makes a socket on one queue, with rings as xsk.Config.Rings says. Unlike
// there, an RX ring may be shorter than the fill ring, so that it can be full,
// and the MTU need not fit into a chunk. The region should be on the heap
// (umem.Config.OnHeap); it must stay open until the socket is closed.
//
// An error is an *xsk.OpError. errors.Is tells the cause: syscall.EINVAL no
// such queue; syscall.EBUSY the queue has a socket; syscall.ENETDOWN the port
// is down; syscall.ENODEV it is gone.
func (p *Port) Open(queue int, region *umem.Region, rings xsk.RingSizes) (*xsk.Socket, error) {
	fail := func(op string, err error) (*xsk.Socket, error) {
		return nil, &xsk.OpError{Op: op, Device: p.name, Queue: uint32(queue), Err: err}
	}
	switch {
	case queue < 0 || queue >= len(p.queues):
		return fail("bind", fmt.Errorf("queue %d of %d: %w", queue, len(p.queues), syscall.EINVAL))
	case region == nil:
		return fail("register umem", errors.New("no region"))
	case p.flags.Load()&isGone != 0:
		return fail("bind", syscall.ENODEV)
	case p.flags.Load()&isDown != 0:
		return fail("bind", syscall.ENETDOWN)
	}
	q, err := newQueue(p, queue, region, rings)
	if err != nil {
		return fail("map rings", err)
	}
	if !p.queues[queue].CompareAndSwap(nil, q) {
		return fail("bind", syscall.EBUSY)
	}
	return xsk.NewOn(q, region, p.name, uint32(queue)), nil
}

// Queue returns the kernel's side of the socket on a queue, nil without one.
func (p *Port) Queue(queue int) *Queue { return p.queues[queue].Load() }

// Send sends a frame as a socket of this port would, past its rings: faults
// and all. The frame must not change until Send returns.
func (p *Port) Send(frame []byte) {
	if len(frame) != 0 {
		p.out.send(frame)
	}
}

// Inject has the port receive a frame at once, as if it came from the other
// side, which may be down: no fault applies, and frames in flight are passed.
// It tells whether the frame was delivered; the counters say what else. An
// empty frame is none.
func (p *Port) Inject(frame []byte) bool {
	if len(frame) == 0 {
		return false
	}
	p.in.count.injected.Add(1)
	return p.in.deliver(frame, false)
}

// OnReceive gives every frame the port receives to f instead of its queues;
// nil ends that. The frame is only valid during the call and must not be
// changed. f runs in the goroutine that delivers, in several at once if
// several send; see the package's lock rules for what it may call.
func (p *Port) OnReceive(f func(frame []byte)) {
	if f == nil {
		p.raw.Store(nil)
		return
	}
	p.raw.Store(&f)
}

// pick returns the socket's queue that receives frame, or nil.
func (p *Port) pick(frame []byte) *Queue {
	i := 0
	if p.rss != nil {
		if i = p.rss(frame); i < 0 || i >= len(p.queues) {
			return nil
		}
	} else if n := uint32(len(p.queues)); n > 1 {
		if h, ok := Hash(frame); ok {
			i = int(h % n)
		}
	}
	return p.queues[i].Load()
}
