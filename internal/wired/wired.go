// Package wired makes two whole stacks, down to the rings, that talk to each other
// over a wire in memory.
package wired

import (
	"errors"

	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// Joined is two stacks on a wire: stack i is on port i.
type Joined struct {
	Wire    *wire.Wire
	Stacks  [2]*stack.Stack
	regions []*umem.Region
}

// Open joins two stacks: each queue's packet memory as memory says, but on the heap,
// and each stack as its configuration says, but for the interface.
func Open(w wire.Config, memory umem.Config, cfg [2]stack.Config) (_ *Joined, err error) {
	p := new(Joined)
	if p.Wire, err = wire.New(w); err != nil {
		return nil, err
	}
	memory.OnHeap = true
	for i := range p.Stacks {
		if err := p.open(i, memory, cfg[i]); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

// open makes stack i.
func (p *Joined) open(i int, memory umem.Config, cfg stack.Config) error {
	port := p.Wire.Port(i)
	cfg.Interface, cfg.NoDuplicateCheck = port.Name(), true // nobody else is there
	var sockets []*xsk.Socket
	fail := func(err error) error {
		for _, s := range sockets {
			err = errors.Join(err, s.Close())
		}
		return err
	}
	for q := range port.Queues() {
		r, err := umem.New(memory)
		if err != nil {
			return fail(err)
		}
		p.regions = append(p.regions, r)
		s, err := port.Open(q, r, xsk.RingSizes{})
		if err != nil {
			return fail(err)
		}
		sockets = append(sockets, s)
	}
	d, err := netdev.NewOn(sockets, netdev.Link{Name: port.Name(), MAC: port.MAC(), MTU: port.MTU()}, cfg.Device)
	if err != nil {
		return fail(err)
	}
	p.Stacks[i], err = stack.OpenOn(cfg, d)
	return err
}

// Close ends both stacks and the wire.
func (p *Joined) Close() error {
	var errs []error
	for _, s := range p.Stacks {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	errs = append(errs, p.Wire.Close())
	for _, r := range p.regions {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}
