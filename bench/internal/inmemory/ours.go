package inmemory

import (
	"context"
	"errors"
	"net"
	"strings"

	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/internal/wired"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	_ "github.com/afxnet/afxnet/stack/inline" // for the kinds with that name
	"github.com/afxnet/afxnet/umem"
)

// ours is two stacks, each complete down to the rings of one queue, joined by
// a wire.
type ours struct{ *wired.Joined }

var polls = map[string]netdev.PollMode{
	"afxnet":       netdev.PollAdaptive,
	"afxnet-block": netdev.PollBlock,
	"afxnet-spin":  netdev.PollSpin,
	"inline":       netdev.PollAdaptive,
	"inline-block": netdev.PollBlock,
	"inline-spin":  netdev.PollSpin,
}

func newOurs(kind string) (*ours, error) {
	inline := strings.HasPrefix(kind, "inline")
	var cfg [2]stack.Config
	for i := range cfg {
		cfg[i] = stack.Config{Addresses: addresses[i : i+1], NoInline: !inline, Device: netdev.Config{Poll: polls[kind]}}
	}
	p, err := wired.Open(wire.Config{}, umem.Config{}, cfg)
	if err != nil {
		return nil, err
	}
	for _, s := range p.Stacks {
		if i := s.Info(); i.Inline != inline {
			return nil, errors.Join(errors.New("inmemory: stack/inline is not in use"), i.InlineErr, p.Close())
		}
	}
	return &ours{p}, nil
}

func (o *ours) Frames() uint64 {
	var n uint64
	for _, dir := range o.Wire.Stats() {
		n += dir.Sent
	}
	return n
}

func (o *ours) Pair(ctx context.Context) (client, server conn, err error) {
	return pairOf(ctx,
		func(address string) (net.Listener, error) { return o.Stacks[1].Listen("tcp4", address) },
		func(address string) (net.Conn, error) { return o.Stacks[0].DialContext(ctx, "tcp4", address) })
}
