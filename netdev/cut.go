package netdev

import (
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/xsk"
)

// maxParts is how many slices a packet's payload may come in: netstack's
// largest segment is 64 KB, and its send queue merges small writes.
const maxParts = 64

// maxHeaders is the longest Ethernet, IP and TCP header together, in bytes:
// IPv6 has no options on TCP segments made here, IPv4 at most 40 bytes.
const maxHeaders = ethernetLen + 60 + 60

// job is the packet that is being written to frames. Its state lives on when the
// ring is full in the middle of it.
type job struct {
	pkt   *gstack.PacketBuffer
	cut   bool // through the cutter: TCP with its checksum left to us
	plain int  // bytes of the one frame, if not cut

	cutter packet.Cutter
	header [maxHeaders]byte
	parts  [maxParts][]byte
	all    [][]byte
}

// begin makes pkt the current packet. Precondition: there is none.
func (t *txQueue) begin(pkt *gstack.PacketBuffer) {
	j := &t.current
	j.pkt, j.cut = pkt, pkt.GSOOptions.NeedsCsum
	headers := 0
	if j.cut {
		headers = pkt.HeaderSize()
	}
	r := packet.OK
	if headers > maxHeaders {
		r = packet.BadHeader
	} else {
		j.gather(headers)
		if j.cut {
			l4 := ethernetLen + int(pkt.GSOOptions.L3HdrLen)
			r = j.cutter.Init(j.header[:headers], ethernetLen, l4, j.all, frameData(pkt, headers-l4, t.d.MTU()))
		}
	}
	if r == packet.OK && j.size() > t.tx.MaxPacket() {
		r = packet.TooLong
	}
	if r != packet.OK {
		t.st.reasons[r].Add(1)
		t.finish()
	}
}

// gather copies the first n bytes of the packet into the job's header and
// collects the rest as slices of netstack's views, which are not written to
// while the packet is referenced.
func (j *job) gather(n int) {
	views, skip := j.pkt.AsViewList()
	j.all = j.parts[:0]
	j.plain = 0
	filled := 0
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		b, skip = b[skip:], 0
		if filled < n {
			k := copy(j.header[filled:n], b)
			filled += k
			b = b[k:]
		}
		if len(b) > 0 {
			j.all = append(j.all, b)
			j.plain += len(b)
		}
	}
}

// work writes the current packet to frames as long as there is room, and tells
// whether it is done, or there was none. Every burst goes out at once: what one
// wakeup sends, or what a driver can work on while the next one is cut.
func (t *txQueue) work() bool {
	j := &t.current
	for j.pkt != nil {
		n := t.chunks()
		if t.tx.Free(n) < n {
			return false
		}
		if t.burst+n > t.most {
			t.flush()
		}
		ok := false
		if n == 1 {
			ok = t.put()
		} else {
			ok = t.putParts(n)
		}
		if !ok {
			// begin has checked that it fits: the packet changed under us.
			t.st.reasons[packet.TooLong].Add(1)
			t.finish()
			continue
		}
		t.cut++
		if t.burst += n; t.burst >= t.most {
			t.flush()
		}
		if j.cut && j.cutter.Segments() > 0 {
			continue
		}
		if j.cut {
			t.acks.sent(j)
		} else {
			t.acks.opened(j.pkt)
		}
		t.finish()
	}
	return true
}

// put writes the next frame of the current packet to one chunk, and tells
// whether that is in the TX ring. There is room.
func (t *txQueue) put() bool {
	a, chunk, ok := t.tx.Frame()
	if ok && !t.tx.Queue(a, t.current.next(chunk)) {
		t.tx.Cancel(a)
		ok = false
	}
	return ok
}

// flush publishes what is in the TX ring, wakes the kernel, and takes back the
// frames that it is done with; it returns how many packets it has not taken.
func (t *txQueue) flush() int {
	// Not for each frame: an atomic addition waits until what was written to the
	// frame before is in the cache, which takes as long as to cut it.
	if t.cut != 0 {
		t.st.frames.Add(uint64(t.cut))
	}
	if t.done != 0 {
		t.st.packets.Add(uint64(t.done))
	}
	t.burst, t.cut, t.done = 0, 0, 0
	left := t.tx.Flush()
	// Now, and not when Free finds no other frame: in copy mode those of this
	// burst are free already, and the next is written to them while they are in
	// the CPU's cache. Otherwise all frames of the region would take turns.
	t.tx.Reclaim()
	if err := t.tx.Err(); err != nil {
		t.distrust(err)
	}
	return left
}

// distrust notes an error of the TX half. An errno passes with the link's state.
// All else is a ring that cannot be trusted: the poller takes the device down.
func (t *txQueue) distrust(err error) {
	cause := err
	if op, ok := err.(*xsk.OpError); ok { // as TX.Err has it
		cause = op.Err
	}
	if _, passes := cause.(syscall.Errno); !passes && t.broken.CompareAndSwap(nil, &err) {
		t.q.interrupt()
	}
}

// next writes the next frame to dst, and what does not fit to more, and returns
// its bytes, 0 if that is too short.
func (j *job) next(dst []byte, more ...[]byte) int {
	if j.cut {
		return j.cutter.Next(dst, more...)
	}
	return packet.Copy(dst, j.all, more...)
}

// size returns the bytes of the next frame.
func (j *job) size() int {
	if j.cut {
		return j.cutter.FrameLen()
	}
	return j.plain
}

// finish releases the current packet. A flush follows before the transmit lock is
// given back.
func (t *txQueue) finish() {
	j := &t.current
	clear(j.all)
	j.all = nil
	j.pkt.DecRef()
	j.pkt = nil
	t.done++
}

// tcpHeader returns the TCP header of an outgoing segment, nil if it is none.
func tcpHeader(pkt *gstack.PacketBuffer) header.TCP {
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber {
		return nil
	}
	h := header.TCP(pkt.TransportHeader().Slice())
	if len(h) < header.TCPMinimumSize {
		return nil
	}
	return h
}
