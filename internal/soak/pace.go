package main

import (
	"context"
	"net"
	"time"
)

// A pace is how fast a worker goes. One goroutine at a time uses it.
type pace struct {
	rate float64 // of whatever it does per second; 0: as fast as it can
	due  time.Time
	done int
}

// catchUp is how far behind its pace a worker may be and still make up for it.
const catchUp = time.Second

// did notes that n more are done, and waits until the next one is due.
func (p *pace) did(ctx context.Context, n int) {
	p.done += n
	if p.rate == 0 {
		return
	}
	now := time.Now()
	if p.due.Before(now.Add(-catchUp)) {
		p.due = now
	}
	p.due = p.due.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	// Shorter waits are not worth a timer: they add up.
	if wait := p.due.Sub(now); wait > time.Millisecond {
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// slow sets the rate to a share of what was done in d. Nobody is using it.
func (p *pace) slow(share float64, d time.Duration) {
	p.rate, p.done = share*float64(p.done)/d.Seconds(), 0
}

// paced is a connection whose writes keep a pace, in bytes.
type paced struct {
	net.Conn
	ctx context.Context
	p   *pace
}

func (c *paced) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.p.did(c.ctx, n)
	return n, err
}
