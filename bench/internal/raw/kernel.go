package raw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/net/ipv4"
)

// ackPayload makes a datagram as long as a TCP segment without data: 20 bytes of
// IP and 20 of transport header.
const ackPayload = 12

// maxDatagram is what one datagram, or one buffer to be cut into datagrams, may
// hold, in bytes.
const maxDatagram = 65507

// until ends what blocks on conn when ctx is done. The result puts that back.
func until(ctx context.Context, conn *net.UDPConn) (release func()) {
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// Drain reads and drops datagrams with a kernel socket, a batch per system call,
// and sends a short one back for every job.AckEvery of them. Bytes of the Result
// are payload. Job.Duration is seen when a datagram arrives; ctx ends it at any
// time.
func Drain(ctx context.Context, conn *net.UDPConn, job Job) (Result, error) {
	defer until(ctx, conn)()
	r := newRun(ctx, job)
	pc := ipv4.NewPacketConn(conn)
	in, acks := make([]ipv4.Message, Batch), make([]ipv4.Message, Batch)
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, maxDatagram)}
		acks[i].Buffers = [][]byte{make([]byte, ackPayload)}
	}
	unacked := 0
	for room := r.room(); room != 0; room = r.room() {
		n, err := pc.ReadBatch(in[:room], 0)
		r.res.Calls++
		if err != nil {
			return ended(ctx, r, "drain", err)
		}
		r.begin()
		bytes := 0
		for i := range n {
			bytes += in[i].N
		}
		r.done(n, bytes)
		if job.AckEvery <= 0 || n == 0 {
			continue
		}
		unacked += n
		due := min(unacked/job.AckEvery, Batch)
		unacked %= job.AckEvery
		for i := range due {
			acks[i].Addr = in[n-1].Addr
		}
		for due > 0 {
			sent, err := pc.WriteBatch(acks[:due], 0)
			r.res.Calls++
			if err != nil {
				return ended(ctx, r, "drain", err)
			}
			r.res.Acks += uint64(sent)
			due -= sent
		}
	}
	return r.finish(), nil
}

// Send writes datagrams with a connected kernel socket. job.Frame is the
// payload of one. As many as the kernel takes go out in one system call, cut by
// the kernel as it cuts a TCP stream (UDP_SEGMENT, 4.18), or one at a time where
// it cannot. Bytes of the Result are payload.
func Send(ctx context.Context, conn *net.UDPConn, job Job) (Result, error) {
	size := len(job.Frame)
	if size == 0 || size > maxDatagram {
		return Result{}, fmt.Errorf("raw: Job.Frame has %d bytes: from 1 to %d", size, maxDatagram)
	}
	defer until(ctx, conn)()
	most := min(Batch, maxDatagram/size)
	if setSegment(conn, size) != nil {
		most = 1
	}
	buf := make([]byte, 0, most*size)
	for range most {
		buf = append(buf, job.Frame...)
	}
	r := newRun(ctx, job)
	r.begin()
	for room := r.room(); room != 0; room = r.room() {
		n := min(room, most)
		_, err := conn.Write(buf[:n*size])
		r.res.Calls++
		if err != nil && most > 1 && r.res.Packets == 0 && setSegment(conn, 0) == nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			most = 1 // before 6.11 only devices with checksum offload
			continue
		}
		if err != nil {
			return ended(ctx, r, "send", err)
		}
		r.done(n, n*size)
	}
	return r.finish(), nil
}

// ended tells the end of a context from an error.
func ended(ctx context.Context, r *run, op string, err error) (Result, error) {
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	} else {
		err = fmt.Errorf("raw: %s: %w", op, err)
	}
	return r.finish(), err
}
