package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afxnet/afxnet/internal/soak/traffic"
)

const (
	echoPort = 7
	bulkPort = 9 // connections that are taken by the bulk workers

	// bulkBytes go each way before a new connection is made.
	bulkBytes = 64 << 20

	// churnPause keeps the number of connections in TIME-WAIT, which last a
	// minute, below 12000 for each worker that makes them, also in the warm-up.
	churnPause = 5 * time.Millisecond

	// patience is for one exchange, under a load that fills both processors.
	patience = 30 * time.Second

	// lost is how long a datagram may be away before it counts as lost.
	lost = 2 * time.Second
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

// worker is one part of the load; run returns when ctx ends, or an error.
type worker struct {
	name   string
	churns bool // makes and closes connections
	pace   pace
	run    func(ctx context.Context, p *pace) error
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

func (w *load) newWorkers() []*worker {
	all := []*worker{
		{name: "upload", run: func(ctx context.Context, p *pace) error { return w.bulk(ctx, p, true) }},
		{name: "download", run: func(ctx context.Context, p *pace) error { return w.bulk(ctx, p, false) }},
	}
	for i := range 4 {
		fromPeer, v6 := i%2 == 0, i/2 == 0
		side := map[bool]string{true: "peer to stack", false: "stack to peer"}[fromPeer]
		if v6 {
			side += ", IPv6"
		}
		all = append(all,
			&worker{name: "requests, " + side, run: func(ctx context.Context, p *pace) error { return w.request(ctx, p, fromPeer, v6) }},
			&worker{name: "connections, " + side, churns: true, run: func(ctx context.Context, p *pace) error { return w.churn(ctx, p, fromPeer, v6) }},
			&worker{name: "datagrams, " + side, run: func(ctx context.Context, p *pace) error { return w.datagram(ctx, p, fromPeer, v6) }},
		)
	}
	return all
}

// bulk sends over one connection after the other.
func (w *load) bulk(ctx context.Context, p *pace, up bool) error {
	for n := uint64(0); ctx.Err() == nil; n++ {
		if err := w.bulkOnce(ctx, p, up, n); err != nil {
			return err
		}
	}
	return nil
}

func (w *load) bulkOnce(ctx context.Context, p *pace, up bool, n uint64) error {
	at := w.ground.v4
	if n%2 == 1 {
		at = w.ground.v6
	}
	ln, err := w.ground.stack.Listen("tcp", hostPort(at, bulkPort+int(n%2)+2*map[bool]int{true: 1}[up]))
	if err != nil {
		return err
	}
	defer ln.Close()
	// Or a connection that does not arrive would be waited for after the end.
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	theirs, err := w.ground.peer.dial(ctx, "tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	defer theirs.Close()
	ours, err := ln.Accept()
	if err != nil {
		return err
	}
	defer ours.Close()
	// The end of the run cuts it off.
	defer context.AfterFunc(ctx, func() { theirs.Close(); ours.Close() })()
	from, to, count := theirs, ours, &w.up
	if !up {
		from, to, count = ours, theirs, &w.down
	}
	return traffic.Transfer(&paced{from, ctx, p}, &counted{to, count}, rand.Uint64(), bulkBytes)
}

// counted counts what is read from a connection.
type counted struct {
	net.Conn
	n *atomic.Uint64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.n.Add(uint64(n))
	return n, err
}

// request sends one message at a time and waits for it to come back.
func (w *load) request(ctx context.Context, p *pace, fromPeer, v6 bool) error {
	c, err := w.dial(ctx, fromPeer, v6)
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		if err := traffic.Exchange(c, message(4096), patience); err != nil {
			return err
		}
		w.exchanges.Add(1)
		p.did(ctx, 1)
	}
	return nil
}

// churn makes connections that live for one exchange.
func (w *load) churn(ctx context.Context, p *pace, fromPeer, v6 bool) error {
	pause := time.NewTicker(churnPause)
	defer pause.Stop()
	for ctx.Err() == nil {
		c, err := w.dial(ctx, fromPeer, v6)
		if err == nil {
			err = traffic.Exchange(c, message(2000), patience)
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			return err
		}
		w.churned.Add(1)
		p.did(ctx, 1)
		<-pause.C
	}
	return nil
}

// datagram sends datagrams, some of them in fragments, and waits for each to
// come back; some get lost, but none comes back changed.
func (w *load) datagram(ctx context.Context, p *pace, fromPeer, v6 bool) error {
	for ctx.Err() == nil {
		c, err := w.dialNetwork(ctx, "udp", fromPeer, v6)
		if err != nil {
			return err
		}
		err = w.datagramsOn(ctx, p, c)
		c.Close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// Its answer may still come: the next one needs a new socket.
			w.datagramsLost.Add(1)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (w *load) datagramsOn(ctx context.Context, p *pace, c net.Conn) error {
	buf := make([]byte, 64<<10)
	for n := uint64(0); ctx.Err() == nil; n++ {
		if err := c.SetDeadline(time.Now().Add(lost)); err != nil {
			return err
		}
		if _, err := c.Write(datagram(n)); err != nil {
			return err
		}
		for back := n + 1; back != n; {
			got, err := c.Read(buf)
			if err != nil {
				return err
			}
			// Or the network has repeated an earlier one.
			if got >= 8 {
				back = binary.BigEndian.Uint64(buf)
			}
			if back > n || !bytes.Equal(buf[:got], datagram(back)) {
				return fmt.Errorf("udp: a datagram of %d bytes that was not sent, after %d", got, n)
			}
		}
		w.datagrams.Add(1)
		p.did(ctx, 1)
	}
	return nil
}

// datagram returns the nth datagram of a socket: its number and up to 8000
// further bytes.
func datagram(n uint64) []byte {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], n)
	random := rand.NewChaCha8(key)
	b := make([]byte, 8+random.Uint64()%8000)
	random.Read(b) //nolint:errcheck // never fails
	binary.BigEndian.PutUint64(b, n)
	return b
}

// message returns 1 to most random bytes.
func message(most int) []byte {
	b := make([]byte, 1+rand.IntN(most))
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }
