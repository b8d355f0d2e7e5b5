package stack

import (
	"context"
	"errors"
	"fmt"

	"github.com/afxnet/afxnet/netdev"
)

// Open takes the queues of Config.Interface, claims Config.Addresses on it and
// starts a stack there. From then on the kernel does not see packets for these
// addresses, and sees all others as before. Call it in the network namespace of
// the interface; the stack may be used in any.
//
// Unless Config.NoDuplicateCheck is set, it first asks the link whether another
// host has one of the addresses, and refuses with EADDRINUSE if one answers.
// While the link has no carrier nobody can, and the addresses are taken.
//
// It needs CAP_NET_RAW for the sockets, and CAP_BPF and CAP_NET_ADMIN for the
// program; root has them all. With the path of a helper in
// Config.Device.Handover it needs none. Errors name the step
// and the remedy; see [xsk.Open] and [xsk.LoadProgram] for what errors.Is finds
// in them.
func Open(cfg Config) (*Stack, error) { return OpenContext(context.Background(), cfg) }

// OpenContext is Open, but ends its wait when ctx does: for the link to be back, for a
// queue that is busy, for the helper, or for answers of other hosts that have one of the
// addresses. The error wraps ctx's and its cause then, and all that was done is undone.
// With a ctx that has ended it fails. The stack does not end with ctx.
func OpenContext(ctx context.Context, cfg Config) (*Stack, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Interface == "" {
		return nil, errors.New("stack: Config.Interface: empty: the name of an interface is needed")
	}
	dev := cfg.Device
	dev.Interface = cfg.Interface
	d, err := netdev.OpenContext(ctx, dev)
	if err != nil {
		return nil, fmt.Errorf("stack: open %s: %w", cfg.Interface, err)
	}
	return openOn(ctx, cfg, d)
}

// OpenOn starts a stack on a device that is there already: one that netdev.Open
// made, or one over sockets of other origin (netdev.NewOn). The device must not
// have been attached to a stack before. It belongs to the new stack, which closes
// it, also if OpenOn fails. Config.Device is not used, and of Config.Interface
// only the name. See Open for the rest.
func OpenOn(cfg Config, d *netdev.Device) (*Stack, error) {
	return openOn(context.Background(), cfg, d)
}

// openOn is OpenOn, until ctx ends.
func openOn(ctx context.Context, cfg Config, d *netdev.Device) (_ *Stack, err error) {
	if err := cfg.checkMTU(d.Info().Interface, d.MTU()); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	s, err := newBare(cfg, d.LinkEndpoint(), d.QDisc(), true, d)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	s.dev, s.closeLink = d, d.Close
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	d.FollowLink(s.followLink)
	for _, p := range cfg.Addresses {
		if err := d.AddAddress(p.Addr()); err != nil {
			return nil, fmt.Errorf("stack: claim %v: %w", p.Addr(), err)
		}
	}
	// The answers to the check come to the sockets, and nobody answers for the
	// addresses before it is over.
	if !cfg.NoDuplicateCheck {
		if err := s.checkDuplicates(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.configure(); err != nil {
		return nil, err
	}
	return s, nil
}

// linkErr returns why calls end, nil if they do not: a device that lacks nothing but
// a carrier may have it back in a moment. Calls wait for that as the kernel's do, and
// what is lost meanwhile is sent again.
func (s *Stack) linkErr() error {
	if err := s.dev.LinkErr(); !errors.Is(err, netdev.ErrNoCarrier) {
		return err
	}
	return nil
}

// followLink makes the stack's view of the link that of its device.
func (s *Stack) followLink() {
	if s.dev.LinkErr() == nil {
		s.announcer.follow(s, s.link.LinkAddress())
	}
	if err := s.linkErr(); err != nil {
		s.linkDown(err)
	} else {
		s.linkUp()
	}
}

// Device returns the device below the stack: what its binds got, its counters.
func (s *Stack) Device() *netdev.Device { return s.dev }
