package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"time"
)

// bulkBuffer is what bulk workloads hand to Write and Read, in bytes.
const bulkBuffer = 128 << 10

// stream sends for as long as it is told to, something in any case, and ends when the
// other side says that it has read everything.
func stream(ctx context.Context, spec Spec) (Result, error) {
	c, err := dial(ctx, spec)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	b := make([]byte, bulkBuffer)
	var sent int64
	start := time.Now()
	for end := start.Add(spec.Duration); sent == 0 || time.Now().Before(end); {
		if err := c.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
			return Result{}, err
		}
		n, err := c.Write(b)
		sent += int64(n)
		if err != nil {
			return Result{}, err
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return Result{}, err
	}
	var total [8]byte
	if err := c.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return Result{}, err
	}
	if _, err := io.ReadFull(c, total[:]); err != nil {
		return Result{}, fmt.Errorf("load: wait for the count: %w", err)
	}
	elapsed := time.Since(start)
	if got := binary.BigEndian.Uint64(total[:]); got != uint64(sent) {
		return Result{}, fmt.Errorf("load: sent %d bytes, %d arrived", sent, got)
	}
	return bulk(sent, elapsed), nil
}

// source receives for as long as it is told to, something in any case, then drops the
// connection.
func source(ctx context.Context, spec Spec) (Result, error) {
	c, err := dial(ctx, spec)
	if err != nil {
		return Result{}, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	start := time.Now()
	if _, err := c.Write(binary.BigEndian.AppendUint64(nil, math.MaxInt64)); err != nil {
		return Result{}, err
	}
	b := make([]byte, bulkBuffer)
	var got int64
	end := start.Add(spec.Duration)
	for got == 0 || time.Now().Before(end) {
		if err := c.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
			return Result{}, err
		}
		n, err := c.Read(b)
		got += int64(n)
		if errors.Is(err, io.EOF) {
			return Result{}, fmt.Errorf("load: the source ended after %d bytes", got)
		}
		if err != nil {
			return Result{}, err
		}
	}
	elapsed := time.Since(start)
	// Unread data makes the close a reset, which ends the sender at once.
	return bulk(got, elapsed), c.(*net.TCPConn).SetLinger(0)
}

func bulk(bytes int64, elapsed time.Duration) Result {
	return Result{Ops: max(bytes/MiB, 1), Bytes: bytes, Elapsed: elapsed}
}
