package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/afxnet/afxnet/internal/soak/traffic"
)

const (
	bulkPort = 9 // connections that are taken by the bulk workers

	// bulkBytes go each way before a new connection is made.
	bulkBytes = 64 << 20

	// churnPause keeps the number of connections in TIME-WAIT, which last a
	// minute, below 12000 for each worker that makes them, also in the warm-up.
	churnPause = 5 * time.Millisecond

	// lost is how long a datagram may be away before it counts as lost.
	lost = 2 * time.Second
)

// worker is one part of the load; run returns when ctx ends, or an error.
type worker struct {
	name   string
	churns bool // makes and closes connections
	pace   pace
	run    func(ctx context.Context, p *pace) error
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
