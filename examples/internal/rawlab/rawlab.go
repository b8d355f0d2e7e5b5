// Package rawlab is the far end of the raw examples in a private network: it sends
// datagrams to the example's address and checks those that come back. It is itself
// a user of package xsk, on the lab's other end.
package rawlab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// window is how many datagrams are under way at most, so that no ring overflows.
const window = 64

// Lab is a private network and the sockets of its far end.
type Lab struct {
	*lab.Lab
	Address netip.Addr // the example's
	set     *xsk.Set
	header  []byte
}

// Open makes a network in which the example's device has so many queues.
func Open(queues int) (_ *Lab, err error) {
	l := &Lab{}
	if l.Lab, err = lab.Open(lab.Config{Queues: queues}); err != nil {
		return nil, err
	}
	l.Address = l.StackV4.Addr()
	err = l.Peer.Do(func() error {
		// What comes back has the example's address as its destination still.
		l.set, err = xsk.OpenAll(xsk.SetConfig{Socket: xsk.Config{Interface: lab.PeerDevice}, Share: true})
		if err == nil {
			err = l.set.Program().AddAddress(l.Address)
		}
		return err
	})
	if err == nil {
		l.header, err = l.datagram()
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Close ends all of it.
func (l *Lab) Close() error {
	var err error
	if l.set != nil {
		err = l.set.Close()
	}
	return errors.Join(err, l.Lab.Close())
}

// Run opens a network, in which start makes the example ready, in its device's
// namespace. It is served while far works at the other end, and no longer.
func Run(ctx context.Context, queues int, start func(l *Lab) (serve func(context.Context) error, err error), far func(ctx context.Context, l *Lab) error) (err error) {
	l, err := Open(queues)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var serve func(context.Context) error
	if err := l.Host.Do(func() (err error) { serve, err = start(l); return err }); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	err = far(ctx, l)
	cancel()
	return errors.Join(err, <-done)
}

// size is the length of the datagrams in bytes, with all headers.
const size = 14 + 20 + 8 + 8

// datagram is what is sent, but for the number in the last 8 bytes.
func (l *Lab) datagram() ([]byte, error) {
	host, err := l.Host.Interface()
	if err != nil {
		return nil, err
	}
	peer, err := l.Peer.Interface()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	return b, Datagram(b, Ends{host.MAC, peer.MAC, netip.AddrPortFrom(l.Address, 9), netip.AddrPortFrom(l.Peer.V4.Addr(), 9)}, nil)
}

// RoundTrips sends n numbered datagrams, by turns on the first queues, and waits
// until all have come back once, unchanged but for the MAC addresses. What is sent
// on a queue arrives on the queue of the same number.
func (l *Lab) RoundTrips(ctx context.Context, n, queues int) error {
	back := make([]bool, n)
	got, batch := 0, make([]umem.Desc, window)
	sockets := l.set.Sockets()
	for sent, turn := 0, 0; got < n; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%d of %d datagrams came back: %w", got, n, err)
		}
		turn++
		s := sockets[turn%queues]
		for range min(n-sent, window-(sent-got), s.TX().Free(window)) {
			a, chunk, _ := s.TX().Frame()
			copy(chunk, l.header)
			binary.BigEndian.PutUint64(chunk[size-8:], uint64(sent))
			s.TX().Queue(a, size)
			sent++
		}
		s.TX().Flush()
		idle := true
		for _, s := range sockets {
			k := s.RX().Receive(batch)
			for _, d := range batch[:k] {
				b := s.Region().Bytes(d)
				if len(b) != size || !bytes.Equal(b[12:size-8], l.header[12:size-8]) {
					continue // of somebody else's
				}
				if i := binary.BigEndian.Uint64(b[size-8:]); i >= uint64(n) || back[i] {
					return fmt.Errorf("datagram %d came back, or came back twice", i)
				} else {
					back[i] = true
					got++
				}
			}
			s.RX().Recycle(batch[:k])
			s.RX().Refill()
			idle = idle && k == 0
		}
		if idle {
			if err := sockets[0].Wait(false, time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}
