package stack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// numbered returns a received packet whose data is a number and then n bytes,
// in several views.
func numbered(number uint32, n int) *gstack.PacketBuffer {
	b := buffer.MakeWithData([]byte("headers!"))
	first := buffer.MakeWithData(binary.BigEndian.AppendUint32(nil, number))
	b.Merge(&first)
	second := buffer.MakeWithData(bytes.Repeat([]byte{byte(number)}, n))
	b.Merge(&second)
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: b})
	pkt.TransportHeader().Consume(8)
	return pkt
}

// TestDatagramQueue compares a queue with a list.
func TestDatagramQueue(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		q := datagramQueue{limit: 200 << 10}
		var model []uint32
		var held []*gstack.PacketBuffer
		var offered, dropped uint64
		bytesHeld := 0
		bias := 1 + rng.IntN(9)
		for i := range uint32(3000) {
			if rng.IntN(10) < bias {
				pkt := numbered(i, rng.IntN(100))
				first, ok := q.push(pkt, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(i)))
				if want := bytesHeld < q.limit; ok != want || first != (ok && len(model) == 0) {
					t.Fatalf("push with %d bytes of %d in %d: first %t, %t", bytesHeld, q.limit, len(model), first, ok)
				}
				offered++
				if ok {
					model = append(model, i)
					held = append(held, pkt)
					bytesHeld += memoryOf(pkt)
				} else {
					dropped++
				}
				pkt.DecRef()
				continue
			}
			d, ok := q.pop()
			if ok != (len(model) != 0) {
				t.Fatalf("pop of %d: %t", len(model), ok)
			}
			if !ok {
				continue
			}
			bytesHeld -= d.size
			b := make([]byte, 3+rng.IntN(100))
			want := binary.BigEndian.AppendUint32(nil, model[0])
			want = append(want, bytes.Repeat([]byte{byte(model[0])}, d.pkt.Data().Size()-4)...)
			n := d.copyTo(b)
			if !bytes.Equal(b[:n], want[:min(len(b), len(want))]) || d.from.Port() != uint16(model[0]) {
				t.Fatalf("%x from %v, want %x", b[:n], d.from, want)
			}
			d.pkt.DecRef()
			model, held = model[1:], held[1:]
		}
		if q.bytes != bytesHeld || q.n != len(model) {
			t.Fatalf("%d bytes in %d, want %d in %d", q.bytes, q.n, bytesHeld, len(model))
		}
		if o, d := q.counts(); o != offered || d != dropped {
			t.Fatalf("%d of %d dropped, want %d of %d", d, o, dropped, offered)
		}
		if !q.close() || q.close() {
			t.Fatal("close is not the first once")
		}
		for _, pkt := range held {
			if n := pkt.ReadRefs(); n != 0 {
				t.Fatalf("a packet has %d references after close", n)
			}
		}
		pkt := numbered(0, 0)
		if _, ok := q.push(pkt, netip.AddrPort{}); ok || pkt.ReadRefs() != 1 {
			t.Fatal("a closed queue takes a datagram")
		}
		pkt.DecRef()
	}
}

// TestSendBuffer charges and frees in random order.
func TestSendBuffer(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var w parker
	w.init(nil, new(sync.Pool))
	o := sendBuffer{writer: &w, limit: 10_000}
	var out []*charge
	used := 0
	for range 100_000 {
		if rng.IntN(2) == 0 {
			n := 1 + rng.IntN(300)
			c := o.take(n)
			if (c != nil) != (used < o.limit) {
				t.Fatalf("%d of %d in use: taken %t", used, o.limit, c != nil)
			}
			if c == nil {
				w.take() // forget what was before
				continue
			}
			used += n
			out = append(out, c)
		} else if len(out) != 0 {
			i := rng.IntN(len(out))
			c := out[i]
			out[i] = out[len(out)-1]
			out = out[:len(out)-1]
			waits := o.full
			used -= c.bytes
			c.release()
			if waits && used < o.limit && !w.Woken() {
				t.Fatal("room, and nobody is woken")
			}
		}
		if o.bytes != used {
			t.Fatalf("%d bytes, want %d", o.bytes, used)
		}
	}
	spare := 0
	for c := o.spare; c != nil; c = c.next {
		spare++
	}
	if spare != o.kept || spare > spareCharges {
		t.Errorf("%d spare charges, counted %d", spare, o.kept)
	}
}

// TestDatagramsOfTinyFragments has datagrams come that take some twenty times the
// memory that their data does: they are charged for it.
func TestDatagramsOfTinyFragments(t *testing.T) {
	p := guardedPair(t)
	u, next := listenUDP(t, p.a, "udp", ":53"), listenUDP(t, p.a, "udp", ":8")
	if err := u.SetReadBuffer(128 << 10); err != nil { // 256 KiB
		t.Fatal(err)
	}
	payload := make([]byte, 8000)
	var cuts []int
	for i := 8; i < len(payload)+8; i += 8 {
		cuts = append(cuts, i)
	}
	for id := range uint16(20) {
		for _, f := range datagram4(id+1, payload, false, cuts...) {
			p.wa.inject(ipv4.ProtocolNumber, f)
		}
		p.wa.inject(ipv4.ProtocolNumber, udpPacket(addrB, addrA, 8, "next"))
		if _, _, err := next.ReadFrom(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	if n := u.udp.in.n; n != 2 { // of more than 128 KiB each
		t.Errorf("%d datagrams wait", n)
	}
	for range u.udp.in.n {
		if n, _, err := u.ReadFrom(make([]byte, 9000)); n != len(payload) || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	}
	if u.udp.in.bytes != 0 {
		t.Errorf("%d bytes are charged for nothing", u.udp.in.bytes)
	}
}
