package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afxnet/afxnet/internal/soak/traffic"
)

const (
	echoPort = 7

	// patience is for one exchange, under a load that fills both processors.
	patience = 30 * time.Second
)

// load is the services and connections of a run, and what they have done.
type load struct {
	ground  *ground
	workers []*worker
	idle    []net.Conn
	closer  []io.Closer

	// endpoints is how many the stacks have for services and idle connections.
	endpoints int

	up, down, exchanges, churned, datagrams, datagramsLost atomic.Uint64
}

func newLoad(g *ground, idle int) (_ *load, err error) {
	w := &load{ground: g}
	w.workers = w.newWorkers()
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	for _, listen := range []struct {
		tcp func(network, address string) (net.Listener, error)
		udp func(network, address string) (net.PacketConn, error)
		at  []netip.Addr
	}{
		{g.stack.Listen, g.stack.ListenPacket, []netip.Addr{g.v4, g.v6}},
		{g.peer.listen, g.peer.listenPacket, []netip.Addr{g.peer.v4, g.peer.v6}},
	} {
		for _, a := range listen.at {
			ln, err := listen.tcp("tcp", hostPort(a, echoPort))
			if err != nil {
				return nil, err
			}
			p, err := listen.udp("udp", hostPort(a, echoPort))
			if err != nil {
				return nil, errors.Join(err, ln.Close())
			}
			w.closer = append(w.closer, ln, p)
			go traffic.EchoTCP(ln)
			go traffic.EchoUDP(p)
		}
	}
	for i := range idle {
		c, err := w.dial(context.Background(), i%2 == 0, i/2%2 == 0)
		if err != nil {
			return nil, err
		}
		w.idle = append(w.idle, c)
		w.closer = append(w.closer, c)
		if err := traffic.Exchange(c, []byte("hello"), patience); err != nil {
			return nil, err
		}
	}
	w.endpoints = g.endpoints()
	return w, nil
}

// errTimeOver ends a run that went well.
var errTimeOver = errors.New("the time is over")

// run keeps all workers going for d, or until one of them fails, and prints
// lines meanwhile.
func (w *load) run(ctx context.Context, d time.Duration) error {
	work, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	// Not a deadline: what is dialed under one fails a moment before it is over.
	end := time.AfterFunc(d, func() { fail(errTimeOver) })
	defer end.Stop()
	var wg sync.WaitGroup
	for _, worker := range w.workers {
		wg.Go(func() {
			if err := worker.run(work, &worker.pace); err != nil && work.Err() == nil {
				fail(fmt.Errorf("%s: %w", worker.name, err))
			}
		})
	}
	if err := w.watch(work); err != nil {
		fail(err)
	}
	wg.Wait()
	if cause := context.Cause(work); cause != errTimeOver {
		return cause
	}
	return nil
}

// steady is the share of their pace in the warm-up at which connections come and
// go afterwards. The stack's tables are Go maps, which are never made smaller. They
// grow with the most connections that were ever in TIME-WAIT, and also while new
// ones only take the place of old ones, for hours and to almost twice the size: a
// map has places that nobody can use until it grows (Go 1.26,
// internal/runtime/maps, pruneTombstones). With this share or less of what it once
// held there are always enough of the others: see TestTables.
const steady = 0.3

// slow has every worker go at a share of the pace it had in a run of d, or as fast
// as it can if that is 1.
func (w *load) slow(share float64, d time.Duration) {
	for _, worker := range w.workers {
		switch {
		case worker.churns:
			worker.pace.slow(min(share, steady), d)
		case share < 1:
			worker.pace.slow(share, d)
		}
	}
}

// close ends services and idle connections.
func (w *load) close() error {
	var errs []error
	for _, c := range w.closer {
		errs = append(errs, c.Close())
	}
	w.closer = nil
	return errors.Join(errs...)
}

// checkIdle asks the connections that did nothing whether they still work.
func (w *load) checkIdle() error {
	for i, c := range w.idle {
		if err := traffic.Exchange(c, []byte("still there?"), patience); err != nil {
			return fmt.Errorf("idle connection %d of %d: %w", i, len(w.idle), err)
		}
	}
	return nil
}

// dial connects to the other side's echo service: from the peer to the stack or
// the other way.
func (w *load) dial(ctx context.Context, fromPeer, v6 bool) (net.Conn, error) {
	return w.dialNetwork(ctx, "tcp", fromPeer, v6)
}

func (w *load) dialNetwork(ctx context.Context, network string, fromPeer, v6 bool) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g := w.ground
	to := map[bool]netip.Addr{false: g.peer.v4, true: g.peer.v6}[v6]
	if fromPeer {
		to = map[bool]netip.Addr{false: g.v4, true: g.v6}[v6]
		return g.peer.dial(ctx, network, hostPort(to, echoPort))
	}
	return g.stack.DialContext(ctx, network, hostPort(to, echoPort))
}

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }
