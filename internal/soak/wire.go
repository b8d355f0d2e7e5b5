package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/afxnet/afxnet/internal/frames"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/internal/wired"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/umem"
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
func newWire(o options) (*ground, error) {
	if o.mtu > 1500 {
		return nil, fmt.Errorf("-wire: an MTU of at most 1500, not %d", o.mtu)
	}
	wc := wire.Config{Seed: o.seed, Faults: [2]wire.Faults{faults, faults}}
	for i := range wc.Ports {
		wc.Ports[i].Queues, wc.Ports[i].MTU = o.queues, o.mtu
	}
	addresses := [2][2]netip.Prefix{
		{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")},
		{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")},
	}
	var cfg [2]stack.Config
	for i := range cfg {
		cfg[i] = stack.Config{Addresses: addresses[i][:], Profile: stack.ProfileLAN}
		if err := o.without(&cfg[i]); err != nil {
			return nil, err
		}
	}
	p, err := wired.Open(wc, umem.Config{Chunks: chunks}, cfg)
	if err != nil {
		return nil, err
	}
	fmt.Printf("seed %d, faults each way %+v\n", p.Wire.Seed(), faults)
	other := p.Stacks[1]
	return &ground{
		stack: p.Stacks[0], others: p.Stacks[1:],
		v4: addresses[0][0].Addr(), v6: addresses[0][1].Addr(),
		peer: peer{
			v4: addresses[1][0].Addr(), v6: addresses[1][1].Addr(),
			dial: other.DialContext, listen: other.Listen, listenPacket: other.ListenPacket,
		},
		account: func(patience time.Duration) (fmt.Stringer, error) { return settleWire(p, patience) },
		close:   p.Close,
	}, nil
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
func settleWire(p *wired.Joined, patience time.Duration) (a wireAccount, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if err := p.Wire.WaitIdle(ctx); err != nil {
			return a, fmt.Errorf("frames are on the wire for %v: %w", patience, err)
		}
		if a, err = accountWire(p); err == nil || ctx.Err() != nil {
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
func accountWire(p *wired.Joined) (wireAccount, error) {
	a := wireAccount{wire: p.Wire.Stats()}
	var errs []error
	for i, s := range p.Stacks {
		st, err := s.Device().Stats()
		if err != nil {
			return a, err
		}
		a.drops[i] = st.Drops()
		var sent, received uint64
		for _, q := range st.Queues {
			sent += q.TXFrames
			received += q.Socket.RXFrames
			taken := frames.Accounted(q)
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
