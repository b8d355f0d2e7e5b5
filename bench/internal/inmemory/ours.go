package inmemory

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	_ "github.com/afxnet/afxnet/stack/inline" // for the kinds with that name
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// ours is two stacks, each complete down to the rings of one queue, joined by
// a wire.
type ours struct {
	wire    *wire.Wire
	regions []*umem.Region
	stacks  []*stack.Stack
}

var polls = map[string]netdev.PollMode{
	"afxnet":       netdev.PollAdaptive,
	"afxnet-block": netdev.PollBlock,
	"afxnet-spin":  netdev.PollSpin,
	"inline":       netdev.PollAdaptive,
	"inline-block": netdev.PollBlock,
	"inline-spin":  netdev.PollSpin,
}

func newOurs(kind string) (_ *ours, err error) {
	w, err := wire.New(wire.Config{})
	if err != nil {
		return nil, err
	}
	o := &ours{wire: w}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Close())
		}
	}()
	for i := range addresses {
		if err := o.open(w.Port(i), addresses[i], polls[kind], strings.HasPrefix(kind, "inline")); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// open makes a stack on one end of the wire, with the defaults of a device.
func (o *ours) open(p *wire.Port, address netip.Prefix, poll netdev.PollMode, inline bool) error {
	r, err := umem.New(umem.Config{OnHeap: true})
	if err != nil {
		return err
	}
	o.regions = append(o.regions, r)
	sock, err := p.Open(0, r, xsk.RingSizes{})
	if err != nil {
		return err
	}
	d, err := netdev.NewOn([]*xsk.Socket{sock}, netdev.Link{Name: p.Name(), MAC: p.MAC(), MTU: p.MTU()}, netdev.Config{Poll: poll})
	if err != nil {
		return errors.Join(err, sock.Close())
	}
	cfg := stack.Config{
		Interface: p.Name(), Addresses: []netip.Prefix{address}, NoDuplicateCheck: true,
		NoInline: !inline,
	}
	s, err := stack.OpenOn(cfg, d)
	if err != nil {
		return err
	}
	o.stacks = append(o.stacks, s)
	if i := s.Info(); i.Inline != inline {
		return errors.Join(errors.New("inmemory: stack/inline is not in use"), i.InlineErr)
	}
	return nil
}

func (o *ours) Frames() uint64 {
	var n uint64
	for _, dir := range o.wire.Stats() {
		n += dir.Sent
	}
	return n
}

func (o *ours) Pair(ctx context.Context) (client, server conn, err error) {
	return pairOf(ctx,
		func(address string) (net.Listener, error) { return o.stacks[1].Listen("tcp4", address) },
		func(address string) (net.Conn, error) { return o.stacks[0].DialContext(ctx, "tcp4", address) })
}

func (o *ours) Close() error {
	var errs []error
	for _, s := range o.stacks {
		errs = append(errs, s.Close())
	}
	errs = append(errs, o.wire.Close())
	for _, r := range o.regions {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}
