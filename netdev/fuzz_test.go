package netdev

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
)

// FuzzReceive gives a device batches of arbitrary frames: each is delivered or
// dropped for a reason, and every UMEM frame comes back. The input is frames
// behind two bytes of length each.
func FuzzReceive(f *testing.F) {
	var seed []byte
	for _, b := range batch(3)[:9] {
		seed = append(binary.BigEndian.AppendUint16(seed, uint16(len(b))), b...)
	}
	f.Add(seed, byte(0))
	f.Add(append([]byte{0, 100}, frame{v6: true, proto: packet.ProtoUDP, payload: pattern(0, 38)}.bytes()...), byte(1))
	f.Add(append([]byte{0, 60}, frame{proto: 1, payload: pattern(0, 26)}.bytes()...), byte(2))
	f.Fuzz(func(t *testing.T, data []byte, options byte) {
		r := newRig(t, rigConfig{chosen: true, idle: true, rings: 16, cfg: Config{NoGRO: options&1 != 0, AcceptPartialChecksums: options&2 != 0}})
		injected := uint64(0)
		for i := 0; len(data) > 2; i++ {
			n := min(int(binary.BigEndian.Uint16(data)), len(data)-2, 1518)
			if n > 0 {
				if r.w.Port(0).Inject(data[2 : 2+n]) {
					injected++
				}
			}
			if data = data[2+n:]; i%13 == 12 {
				r.poll()
			}
		}
		r.poll()
		st := r.stats()
		sum := st.RXDelivered
		for _, n := range st.Drops {
			sum += n
		}
		if sum != injected {
			t.Errorf("%d delivered and %v dropped of %d", st.RXDelivered, st.Drops, injected)
		}
		for _, p := range r.rec.take() {
			if p.verified {
				// All that the mark promises, by another way.
				info, fr := p.info(t), p.frame()
				if bad := packet.Verify(fr, &info, packet.AcceptPartial); bad != packet.OK {
					t.Errorf("verified, but %v: %x", bad, fr)
				}
				if !info.Kind.IsTCP() && !info.Kind.IsUDP() {
					t.Errorf("%v is verified", info.Kind)
				}
			}
		}
	})
}

// FuzzTransmit writes arbitrary packets: correct frames come out, or it is
// counted why not, and no reference is kept.
func FuzzTransmit(f *testing.F) {
	f.Add([]byte(nil), uint16(3000), uint16(1448), uint16(20), byte(0))
	f.Add(timestamp, uint16(65000), uint16(0), uint16(40), byte(3))
	f.Add([]byte{1, 1, 1, 1}, uint16(0), uint16(1), uint16(0), byte(4))
	f.Fuzz(func(t *testing.T, opts []byte, size, mss, l3 uint16, options byte) {
		if len(opts) > 40 || len(opts)%4 != 0 || mss != 0 && size/mss > 500 {
			return // the last for time
		}
		r := newRig(t, rigConfig{idle: true, rings: 128})
		var released atomic.Int32
		good := segment{
			v6: options&1 != 0, hash: uint32(size), ack: uint32(mss), seq: uint32(l3), flags: options | packet.ACK,
			opts: opts, payload: pattern(0, int(size)), mss: int(mss), released: &released,
		}
		r.write(good.packet(), good.packet())
		want := 2
		for _, b := range r.out() {
			if info := checkFrame(t, b, 2048); !info.Kind.IsTCP() {
				t.Errorf("%v out of a TCP segment", info.Kind)
			}
		}

		// And one that lies about its headers.
		bad := gstack.NewPacketBuffer(gstack.PacketBufferOptions{
			ReserveHeaderBytes: len(opts) + 64, Payload: buffer.MakeWithData(good.payload[:size/2]), OnRelease: func() { released.Add(1) },
		})
		copy(bad.TransportHeader().Push(len(opts)), opts)
		bad.LinkHeader().Push(int(options) % 64)
		bad.TransportProtocolNumber = 6
		bad.Hash = uint32(size)
		bad.GSOOptions = gstack.GSO{NeedsCsum: options&2 != 0, L3HdrLen: l3, MSS: mss, Type: gstack.GSOTCPv4}
		if bad.Size() > 0 {
			want++
			r.write(bad)
		} else {
			bad.DecRef()
			want++
		}
		q := &r.d.queues[0].tx
		for i := 0; i < 100 && q.stuck() != waitNothing; i++ {
			q.resume()
		}
		q.acks.fire()
		q.acks.fire()
		if int(released.Load()) != want {
			t.Errorf("%d packets released.Load(), want %d; %+v", released.Load(), want, r.stats())
		}
	})
}
