// Package kernelpeer is the kernel's own TCP and UDP as a peer: package net on
// addresses that are put on the device.
package kernelpeer

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/hostif"
)

// Peer is package net. It has no state but the addresses on the device.
type Peer struct {
	listen net.ListenConfig
	dialer net.Dialer
	undo   []func() error
}

// Open puts the addresses of cfg on its device.
func Open(cfg peer.Config) (peer.Peer, error) {
	p := &Peer{}
	for _, a := range []netip.Prefix{cfg.V4, cfg.V6} {
		if !a.IsValid() {
			continue
		}
		undo, err := hostif.AddAddress(cfg.Interface, a)
		if err != nil {
			return nil, errors.Join(err, p.Close())
		}
		p.undo = append(p.undo, undo)
	}
	return p, nil
}

// Listen is net.Listen.
func (p *Peer) Listen(network, address string) (net.Listener, error) {
	return p.listen.Listen(context.Background(), network, address)
}

// ListenPacket is net.ListenPacket.
func (p *Peer) ListenPacket(network, address string) (net.PacketConn, error) {
	return p.listen.ListenPacket(context.Background(), network, address)
}

// DialContext is net.Dialer's.
func (p *Peer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return p.dialer.DialContext(ctx, network, address)
}

// Counters returns nil: the kernel's counters are those of the device.
func (p *Peer) Counters() map[string]uint64 { return nil }

// Info says that there is no XDP program.
func (p *Peer) Info() map[string]string { return map[string]string{"bind": "none", "attach": "none"} }

// Close takes the addresses off the device. It must be called in the namespace
// of the device.
func (p *Peer) Close() error {
	var errs []error
	for _, u := range slices.Backward(p.undo) {
		errs = append(errs, u())
	}
	return errors.Join(errs...)
}
