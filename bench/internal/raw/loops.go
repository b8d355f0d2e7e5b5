package raw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// queue returns the socket of a queue.
func (p *Port) queue(i int) (*xsk.Socket, error) {
	if i < 0 || i >= len(p.sockets) {
		return nil, fmt.Errorf("raw: queue %d of %s: %d are bound", i, p.cfg.Interface, len(p.sockets))
	}
	return p.sockets[i], nil
}

// counted runs a loop and adds what the sockets counted meanwhile.
func counted(loop func() (Result, error), sockets ...*xsk.Socket) (Result, error) {
	var calls, lost uint64
	read := func() error {
		calls, lost = 0, 0
		for _, s := range sockets {
			st, err := s.Statistics()
			if err != nil {
				return err
			}
			calls += st.TXWakeups + st.RXWakeups
			lost += st.Kernel.RXRingFull + st.Kernel.RXDropped + st.TXDeviceDrops
		}
		return nil
	}
	if err := read(); err != nil {
		return Result{}, err
	}
	calls0, lost0, mallocs := calls, lost, allocated()
	res, err := loop()
	res.Mallocs = allocated() - mallocs
	err = errors.Join(err, read())
	res.Calls += calls - calls0
	res.Lost += lost - lost0
	return res, err
}

// allocated returns how many heap objects the process has allocated so far.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// ReceiveDrop takes packets from a queue and drops them.
func (p *Port) ReceiveDrop(ctx context.Context, queue int, job Job) (Result, error) {
	s, err := p.queue(queue)
	if err != nil {
		return Result{}, err
	}
	if job.AckEvery > 0 {
		if err := p.checkFrame("Job.Ack", job.Ack); err != nil {
			return Result{}, err
		}
	}
	return counted(func() (Result, error) { return receiveDrop(ctx, s, job) }, s)
}

func receiveDrop(ctx context.Context, s *xsk.Socket, job Job) (Result, error) {
	r := newRun(ctx, job)
	rx, tx := s.RX(), s.TX()
	var descs [Batch]umem.Desc
	unacked := 0
	for room := r.room(); room != 0; room = r.room() {
		got := rx.Receive(batch(descs[:], s, room))
		n, bytes := got, 0
		for i := range got {
			bytes += int(descs[i].Len)
			if descs[i].Continues() {
				n--
			}
		}
		if got != 0 {
			r.begin()
			rx.Recycle(descs[:got])
			if job.AckEvery > 0 {
				unacked += n
				acks := unacked / job.AckEvery
				unacked %= job.AckEvery
				r.res.Acks += uint64(transmit(tx, job.Ack, acks))
			}
		} else if err := rx.Err(); err != nil {
			return r.finish(), err
		}
		rx.Refill()
		r.done(n, bytes)
	}
	return r.finish(), nil
}

// batch returns room for so many packets, or for as many as there are where one
// may take several descriptors.
func batch(descs []umem.Desc, s *xsk.Socket, room int) []umem.Desc {
	if s.MultiBuffer() {
		return descs
	}
	return descs[:room]
}

// transmit queues up to n copies of a frame, publishes them and returns how many.
func transmit(tx *xsk.TX, frame []byte, n int) int {
	if len(frame) > chunkSize {
		n = transmitParts(tx, frame, min(n, Batch*chunkSize/len(frame)))
	} else {
		n = min(n, tx.Free(n))
		for i := range n {
			a, chunk, ok := tx.Frame()
			if !ok || !tx.Queue(a, copy(chunk, frame)) {
				n = i
				break
			}
		}
	}
	tx.Flush()
	// At once, so that few frames go round, which stay in the CPU's cache: with
	// all of the ring a packet costs 100 ns more.
	tx.Reclaim()
	return n
}

// transmitParts queues up to n copies of a frame that takes several chunks.
func transmitParts(tx *xsk.TX, frame []byte, n int) int {
	var parts [(packet.MaxFrame + chunkSize - 1) / chunkSize]umem.Desc
	k := (len(frame) + chunkSize - 1) / chunkSize
	for i := range n {
		if tx.Free(k) < k {
			return i
		}
		rest := frame
		for p := range k {
			a, chunk, _ := tx.Frame()
			c := copy(chunk, rest)
			parts[p], rest = umem.Desc{Addr: a, Len: uint32(c)}, rest[c:]
		}
		if !tx.QueueParts(parts[:k]) {
			for _, d := range parts[:k] {
				tx.Cancel(d.Addr)
			}
			return i
		}
	}
	return n
}

// Transmit sends job.Frame again and again. Packets that arrive meanwhile are
// dropped and counted as Acks.
func (p *Port) Transmit(ctx context.Context, queue int, job Job) (Result, error) {
	s, err := p.queue(queue)
	if err != nil {
		return Result{}, err
	}
	if err := p.checkFrame("Job.Frame", job.Frame); err != nil {
		return Result{}, err
	}
	return counted(func() (Result, error) { return transmitOnly(ctx, s, job, p.prog != nil) }, s)
}

func transmitOnly(ctx context.Context, s *xsk.Socket, job Job, receives bool) (Result, error) {
	r := newRun(ctx, job)
	rx, tx := s.RX(), s.TX()
	var descs [Batch]umem.Desc
	r.begin()
	for room := r.room(); room != 0; room = r.room() {
		n := transmit(tx, job.Frame, room)
		r.done(n, n*len(job.Frame))
		if err := tx.Err(); err != nil {
			return r.finish(), err
		}
		if receives {
			n := rx.Receive(descs[:])
			for _, d := range descs[:n] {
				if !d.Continues() {
					r.res.Acks++
				}
			}
			rx.Recycle(descs[:n])
			rx.Refill()
		}
	}
	for tx.Flush() != 0 && !r.stop.Load() {
		if err := tx.Err(); err != nil {
			return r.finish(), err
		}
		r.done(0, 0)
	}
	tx.Reclaim()
	return r.finish(), nil
}

// Forward sends what arrives on queue in back to where it came from, on queue
// out: the frame itself, with the Ethernet addresses exchanged.
func (p *Port) Forward(ctx context.Context, in, out int, job Job) (Result, error) {
	from, err := p.queue(in)
	if err != nil {
		return Result{}, err
	}
	to, err := p.queue(out)
	if err != nil {
		return Result{}, err
	}
	if p.prog == nil {
		return Result{}, fmt.Errorf("raw: forward on %s: Config.Addr is empty, so nothing arrives", p.cfg.Interface)
	}
	sockets := []*xsk.Socket{from, to}
	if in == out {
		sockets = sockets[:1]
	}
	return counted(func() (Result, error) { return p.forward(ctx, from.RX(), to.TX(), job) }, sockets...)
}

func (p *Port) forward(ctx context.Context, rx *xsk.RX, tx *xsk.TX, job Job) (Result, error) {
	r := newRun(ctx, job)
	var descs [Batch]umem.Desc
	for room := r.room(); room != 0; room = r.room() {
		n := rx.Receive(batch(descs[:], p.sockets[0], room))
		sent, bytes := 0, 0
		if n != 0 {
			r.begin()
			tx.Reclaim()
		} else if err := errors.Join(rx.Err(), tx.Err()); err != nil {
			return r.finish(), err
		}
		for parts := range umem.Packets(descs[:n]) {
			turnRound(p.region.Bytes(parts[0]))
			ok := false
			if len(parts) == 1 {
				ok = tx.Queue(parts[0].Addr, int(parts[0].Len))
			} else {
				ok = tx.QueueParts(parts)
			}
			if !ok {
				rx.Recycle(parts)
				r.res.Lost++
				continue
			}
			sent++
			for _, d := range parts {
				bytes += int(d.Len)
			}
		}
		if sent != 0 || tx.Pending() != 0 {
			tx.Flush()
		}
		tx.Reclaim()
		rx.Refill()
		r.done(sent, bytes)
	}
	return r.finish(), nil
}

// turnRound exchanges the Ethernet addresses of a frame.
func turnRound(frame []byte) {
	if len(frame) < ethernetLen {
		return
	}
	addrs := [12]byte(frame)
	copy(frame, addrs[6:])
	copy(frame[6:], addrs[:6])
}

// checkFrame wants a frame that the link can carry.
func (p *Port) checkFrame(field string, frame []byte) error {
	if most := p.dev.MTU + ethernetLen; len(frame) < ethernetLen || len(frame) > most {
		return fmt.Errorf("raw: %s has %d bytes: from %d to %d on %s", field, len(frame), ethernetLen, most, p.cfg.Interface)
	}
	return nil
}

// MAC returns the interface's Ethernet address.
func (p *Port) MAC() net.HardwareAddr { return p.dev.MAC }
