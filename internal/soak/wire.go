package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// faults are what happens in each direction: every kind there is, more often
// than on a link that anybody would keep, and not so often that TCP does nothing
// but wait for its timers.
var faults = wire.Faults{
	Loss: 0.0002, LossBurst: 2,
	Duplicate: 0.001,
	Corrupt:   0.0002,
	Reorder:   0.001, ReorderBy: 2, ReorderDelay: time.Millisecond,
}

// chunks is how many frames each queue of a port has.
const chunks = 8192

// newWire has two stacks talk to each other over a wire with faults.
func newWire(o options) (_ *ground, err error) {
	if o.mtu > 1500 {
		return nil, fmt.Errorf("-wire: an MTU of at most 1500, not %d", o.mtu)
	}
	wc := wire.Config{Seed: o.seed, Faults: [2]wire.Faults{faults, faults}}
	for i := range wc.Ports {
		wc.Ports[i].Queues, wc.Ports[i].MTU = o.queues, o.mtu
	}
	w, err := wire.New(wc)
	if err != nil {
		return nil, err
	}
	fmt.Printf("seed %d, faults each way %+v\n", w.Seed(), faults)
	var stacks []*stack.Stack
	var regions []*umem.Region
	g := &ground{close: func() error {
		var errs []error
		for _, s := range stacks {
			errs = append(errs, s.Close())
		}
		errs = append(errs, w.Close())
		for _, r := range regions {
			errs = append(errs, r.Close())
		}
		return errors.Join(errs...)
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	addresses := [2][]netip.Prefix{
		{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")},
		{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")},
	}
	for i := range addresses {
		s, r, err := openPort(w.Port(i), addresses[i], o)
		regions = append(regions, r...)
		if err != nil {
			return nil, err
		}
		stacks = append(stacks, s)
	}
	g.stack, g.others = stacks[0], stacks[1:]
	g.v4, g.v6 = addresses[0][0].Addr(), addresses[0][1].Addr()
	g.peer = peer{
		v4: addresses[1][0].Addr(), v6: addresses[1][1].Addr(),
		dial: stacks[1].DialContext, listen: stacks[1].Listen, listenPacket: stacks[1].ListenPacket,
	}
	g.account = func(patience time.Duration) (fmt.Stringer, error) { return settleWire(w, stacks, patience) }
	return g, nil
}

// openPort makes a stack on one end of the wire.
func openPort(p *wire.Port, addresses []netip.Prefix, o options) (_ *stack.Stack, regions []*umem.Region, err error) {
	cfg := stack.Config{Interface: p.Name(), Addresses: addresses, NoDuplicateCheck: true, Profile: stack.ProfileLAN}
	if err := o.without(&cfg); err != nil {
		return nil, nil, err
	}
	var sockets []*xsk.Socket
	for q := range p.Queues() {
		r, err := umem.New(umem.Config{Chunks: chunks, OnHeap: true})
		if err != nil {
			return nil, regions, err
		}
		regions = append(regions, r)
		s, err := p.Open(q, r, xsk.RingSizes{})
		if err != nil {
			return nil, regions, err
		}
		sockets = append(sockets, s)
	}
	d, err := netdev.NewOn(sockets, netdev.Link{Name: p.Name(), MAC: p.MAC(), MTU: p.MTU()}, cfg.Device)
	if err != nil {
		return nil, regions, err
	}
	s, err := stack.OpenOn(cfg, d)
	return s, regions, err
}

// A wireAccount is where the frames of a wire are.
type wireAccount struct {
	wire  wire.Stats
	drops [2]map[string]uint64 // of each stack
}

func (a wireAccount) String() string {
	var b strings.Builder
	for dir, s := range a.wire {
		fmt.Fprintf(&b, "from stack %d: %+v\n", dir, s)
	}
	fmt.Fprintf(&b, "dropped by the stacks: %v", a.drops)
	return b.String()
}

// settleWire takes the account again and again until it is right.
func settleWire(w *wire.Wire, stacks []*stack.Stack, patience time.Duration) (a wireAccount, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if err := w.WaitIdle(ctx); err != nil {
			return a, fmt.Errorf("frames are on the wire for %v: %w", patience, err)
		}
		if a, err = accountWire(w, stacks); err == nil || ctx.Err() != nil {
			return a, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// accountWire wants what one stack sent to be what the wire took, what the wire
// delivered to be what the other took or dropped by name, and nobody to hold a
// frame.
func accountWire(w *wire.Wire, stacks []*stack.Stack) (wireAccount, error) {
	a := wireAccount{wire: w.Stats()}
	var errs []error
	for i, s := range stacks {
		st, err := s.Device().Stats()
		if err != nil {
			return a, err
		}
		a.drops[i] = maps.Clone(st.Drops())
		var sent, received uint64
		for _, q := range st.Queues {
			sent += q.TXFrames
			received += q.Socket.RXFrames
			taken := q.RXDelivered
			for name, n := range q.Drops {
				if strings.HasPrefix(name, "rx ") && !strings.HasPrefix(name, "rx kernel:") {
					taken += n
				}
			}
			if taken != q.Socket.RXFrames+q.Socket.RXBadDescs {
				errs = append(errs, fmt.Errorf("stack %d: of %d frames of a queue %d are accounted for", i, q.Socket.RXFrames+q.Socket.RXBadDescs, taken))
			}
		}
		out, in := a.wire[i], a.wire[1-i]
		errs = append(errs, out.Check())
		if sent != out.Sent {
			errs = append(errs, fmt.Errorf("stack %d has sent %d frames, the wire has taken %d", i, sent, out.Sent))
		}
		if want := in.Delivered + in.DeliveredCorrupt; received != want {
			errs = append(errs, fmt.Errorf("stack %d has received %d frames, the wire has delivered %d", i, received, want))
		}
		for q, audit := range s.Device().Audit() {
			if audit.Held != 0 || audit.TX != 0 {
				errs = append(errs, fmt.Errorf("stack %d, queue %d: frames at rest: %+v", i, q, audit))
			}
		}
	}
	return a, errors.Join(errs...)
}
