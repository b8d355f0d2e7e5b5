package stack

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	// fallbackDelay is the lead of the first family: RFC 6555 section 6 says 150
	// to 250 ms, and package net 300.
	fallbackDelay = 300 * time.Millisecond

	// leastShare is what an address gets of the time that is left, if there is as
	// much, even at the cost of those after it: a SYN that was lost is sent again
	// after one second.
	leastShare = 2 * time.Second
)

// A race connects to one of several addresses.
type race struct {
	delay time.Duration // lead of the first family; 0: fallbackDelay

	one  func(context.Context, netip.AddrPort) (net.Conn, error)
	fail func(netip.AddrPort, error) error // makes the error of an address whole
}

// both tries the addresses of the first one's family in turn, and after a while,
// or when they have failed, those of the other family as well. The first
// connection wins; without one the error is that of the first address. It
// returns when both are over.
func (r *race) both(ctx context.Context, all []netip.AddrPort) (net.Conn, error) {
	first, second := partition(all)
	if len(second) == 0 {
		return r.inTurn(ctx, first)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn  net.Conn
		err   error
		first bool
	}
	results := make(chan result, 2)
	start := func(addrs []netip.AddrPort, isFirst bool) {
		go func() {
			c, err := r.inTurn(ctx, addrs)
			results <- result{c, err, isFirst}
		}()
	}
	delay := r.delay
	if delay == 0 {
		delay = fallbackDelay
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	due := timer.C // nil once the second family is on its way

	start(first, true)
	running := 1
	var err error
	for running > 0 {
		var res result
		select {
		case <-due:
		case res = <-results:
			running--
		}
		if res.conn != nil {
			cancel()
			for ; running > 0; running-- {
				if late := <-results; late.conn != nil {
					late.conn.Close()
				}
			}
			return res.conn, nil
		}
		if res.first {
			err = res.err
		}
		// Either the delay is over, or the first family has failed.
		if due != nil {
			due = nil
			start(second, false)
			running++
		}
	}
	return nil, err
}

// inTurn tries addresses one after the other. Each gets its share of the time
// that is left.
func (r *race) inTurn(ctx context.Context, all []netip.AddrPort) (net.Conn, error) {
	var first error
	for i, to := range all {
		if err := ctx.Err(); err != nil {
			// As package net has it: this one, whatever happened before.
			return nil, r.fail(to, contextError(err))
		}
		c, err := r.share(ctx, to, len(all)-i)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = r.fail(to, err)
		}
	}
	return nil, first
}

// share connects to an address in the time of one of n.
func (r *race) share(ctx context.Context, to netip.AddrPort, n int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok && n > 1 {
		left := time.Until(deadline)
		if share := max(left/time.Duration(n), leastShare); share < left {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, share)
			defer cancel()
		}
	}
	return r.one(ctx, to)
}
