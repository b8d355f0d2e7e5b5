package netdev

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/umem"
)

var (
	timestamp = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	multicast = []byte{1, 0, 0x5e, 0, 0, 1}
	broadcast = []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// TestReceiveKinds sends one frame of each kind and looks at all that netstack
// is told of it.
func TestReceiveKinds(t *testing.T) {
	hop := []byte{packet.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}   // hop-by-hop, padded
	frag6 := []byte{packet.ProtoUDP, 0, 0, 1, 0, 0, 0, 7} // first fragment of more
	dest := []byte{packet.ProtoUDP, 0, 1, 4, 0, 0, 0, 0}  // destination options
	arp := append(append(bytes.Clone(broadcast), 2, 0, 0, 0, 0, 2, 8, 6), make([]byte, 28)...)
	vlan := append(append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0}, 0, 5, 8, 0), make([]byte, 40)...)
	data := pattern(1, 100)
	for _, c := range []struct {
		name     string
		frame    []byte
		head     int // bytes of IP packet in the first view
		pad      int
		verified bool
		pktType  tcpip.PacketType
	}{
		{"tcp4", frame{flags: packet.ACK, payload: data}.bytes(), 140, 0, true, tcpip.PacketHost},
		{"tcp4 timestamp", frame{flags: packet.ACK, opts: timestamp, payload: data}.bytes(), 152, 0, true, tcpip.PacketHost},
		{"tcp4, longest in one view", frame{flags: packet.ACK, payload: pattern(1, oneView-54)}.bytes(), oneView - 14, 0, true, tcpip.PacketHost},
		{"tcp4, longer", frame{flags: packet.ACK, payload: pattern(1, oneView-53)}.bytes(), 40, 0, true, tcpip.PacketHost},
		{"tcp4 no payload, padded", frame{flags: packet.ACK, pad: 6}.bytes(), 40, 6, true, tcpip.PacketHost},
		{"tcp4 options", frame{flags: packet.ACK, ipOpts: []byte{1, 1, 1, 0}, payload: data}.bytes(), 144, 0, true, tcpip.PacketHost},
		{"tcp4 source route", frame{flags: packet.ACK, ipOpts: []byte{131, 3, 4, 0}, payload: data}.bytes(), 24, 0, false, tcpip.PacketHost},
		{"tcp6", frame{v6: true, flags: packet.ACK, opts: timestamp, payload: data}.bytes(), 172, 0, true, tcpip.PacketHost},
		{"udp4", frame{proto: packet.ProtoUDP, payload: data}.bytes(), 28, 0, true, tcpip.PacketHost},
		{"udp4 without checksum", frame{proto: packet.ProtoUDP, payload: data, noSum: true}.bytes(), 28, 0, true, tcpip.PacketHost},
		{"udp4 broadcast", frame{proto: packet.ProtoUDP, payload: data, dst: broadcast}.bytes(), 28, 0, true, tcpip.PacketBroadcast},
		{"udp4 multicast, padded", frame{proto: packet.ProtoUDP, payload: data, dst: multicast, pad: 9}.bytes(), 28, 9, true, tcpip.PacketMulticast},
		{"udp6", frame{v6: true, proto: packet.ProtoUDP, payload: data}.bytes(), 48, 0, true, tcpip.PacketHost},
		{"udp6 hop-by-hop", frame{v6: true, proto: packet.ProtoUDP, payload: data, ext: hop}.bytes(), 56, 0, true, tcpip.PacketHost},
		{"udp6 destination options", frame{v6: true, proto: packet.ProtoUDP, payload: data, ext: dest, extFirst: 60}.bytes(), 40, 0, false, tcpip.PacketHost},
		{"icmp4", frame{proto: 1, payload: data}.bytes(), 20, 0, false, tcpip.PacketHost},
		{"icmp6", frame{v6: true, proto: 58, payload: data}.bytes(), 40, 0, false, tcpip.PacketHost},
		{"fragment4", frame{proto: packet.ProtoUDP, payload: data, frag: 0x2000, bad: true}.bytes(), 20, 0, false, tcpip.PacketHost},
		{"fragment6", frame{v6: true, proto: packet.ProtoUDP, payload: data, ext: frag6, extFirst: 44, bad: true}.bytes(), 40, 0, false, tcpip.PacketHost},
		{"another protocol", frame{proto: 132, payload: data}.bytes(), 20, 0, false, tcpip.PacketHost},
		{"arp", arp, 28, 0, false, tcpip.PacketBroadcast},
		{"vlan", vlan, 44, 0, false, tcpip.PacketHost},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, rigConfig{idle: true})
			got := r.inject(1, c.frame)
			if len(got) != 1 {
				t.Fatalf("%d packets delivered, want 1; %v", len(got), r.stats().Drops)
			}
			p := got[0]
			if want := c.frame[14 : len(c.frame)-c.pad]; !bytes.Equal(p.data, want) {
				t.Errorf("delivered\n%x, want\n%x", p.data, want)
			}
			if !bytes.Equal(p.link, c.frame[:14]) {
				t.Errorf("link header %x, want %x", p.link, c.frame[:14])
			}
			if want := tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(c.frame[12:])); p.proto != want {
				t.Errorf("protocol %#x, want %#x", p.proto, want)
			}
			views := 2
			if c.head == len(p.data) {
				views = 1
			}
			if p.head != c.head || p.views != views {
				t.Errorf("%d views, %d bytes in the first; want %d, %d", p.views, p.head, views, c.head)
			}
			if p.pktType != c.pktType {
				t.Errorf("packet type %v, want %v", p.pktType, c.pktType)
			}
			if p.verified != c.verified || p.verified != (p.hash != 0) {
				t.Errorf("verified %v, hash %#x; want %v", p.verified, p.hash, c.verified)
			}
		})
	}
}

// TestReceiveDrops has one frame for every reason and finds it in its counter
// only.
func TestReceiveDrops(t *testing.T) {
	change := func(f frame, g func(b []byte)) []byte {
		b := f.bytes()
		g(b)
		return b
	}
	tcp, udp := frame{flags: packet.ACK, payload: pattern(1, 50)}, frame{proto: packet.ProtoUDP, payload: pattern(1, 50)}
	udp6 := udp
	udp6.v6, udp6.noSum = true, true
	badTCP, badUDP, badIP := tcp, udp, tcp
	badTCP.bad, badUDP.bad, badIP.badIP = true, true, true
	for name, f := range map[string][]byte{
		"too short":              make([]byte, 13),
		"bad IP version":         change(tcp, func(b []byte) { b[14] = 0x55 }),
		"bad IPv4 header length": change(tcp, func(b []byte) { b[14] = 0x44 }),
		"bad IP total length":    change(tcp, func(b []byte) { b[16] = 0xff }),
		"bad TCP data offset":    change(tcp, func(b []byte) { b[46] = 0x10 }),
		"bad UDP length":         change(udp, func(b []byte) { b[38] = 0xff }),
		"bad IPv4 checksum":      badIP.bytes(),
		"bad TCP checksum":       badTCP.bytes(),
		"bad UDP checksum":       badUDP.bytes(),
		"missing UDP checksum":   udp6.bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigConfig{idle: true})
			if got := r.inject(3, tcp.bytes(), f, udp.bytes()); len(got) != 2 {
				t.Errorf("%d packets delivered, want the 2 good ones", len(got))
			}
			st := r.stats()
			if len(st.Drops) != 1 || st.Drops["rx "+name] != 1 || st.RXDelivered != 2 {
				t.Errorf("drops %v, delivered %d; want 1 %q", st.Drops, st.RXDelivered, name)
			}
		})
	}
	t.Run("not attached", func(t *testing.T) {
		r := newRig(t, rigConfig{idle: true})
		r.d.dispatcher.Store(nil)
		r.inject(1, tcp.bytes())
		if st := r.stats(); st.Drops["rx not attached"] != 1 || st.RXDelivered != 0 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("bad descriptor", func(t *testing.T) {
		r := newRig(t, rigConfig{idle: true})
		r.queue().PushRX(umem.Desc{Addr: 1 << 40, Len: 60})
		r.queue().PushRX(umem.Desc{Addr: 0, Len: 0})
		r.poll()
		if st := r.stats(); st.Drops["rx bad descriptor"] != 2 || len(st.Drops) != 1 {
			t.Errorf("%v", st.Drops)
		}
	})
	t.Run("kernel", func(t *testing.T) {
		r := newRig(t, rigConfig{idle: true, rings: 4})
		for range 6 {
			r.w.Port(0).Inject(tcp.bytes())
		}
		r.poll()
		if st := r.stats(); st.Drops["rx kernel: fill ring empty or frame too long"] != 2 || st.RXDelivered != 4 {
			t.Errorf("%v, delivered %d", st.Drops, st.RXDelivered)
		}
	})
}

// TestReceivePartial accepts what a peer left to its NIC, if asked to.
func TestReceivePartial(t *testing.T) {
	frames := [][]byte{
		frame{flags: packet.ACK, payload: pattern(0, 60), partial: true}.bytes(),
		frame{flags: packet.ACK, seq: 60, id: 1, payload: pattern(60, 60), partial: true}.bytes(),
		frame{proto: packet.ProtoUDP, payload: pattern(0, 60), partial: true}.bytes(),
		frame{v6: true, proto: packet.ProtoUDP, payload: pattern(0, 60), partial: true}.bytes(),
	}
	r := newRig(t, rigConfig{chosen: true, idle: true, cfg: Config{AcceptPartialChecksums: true}})
	got := r.inject(4, frames...)
	if st := r.stats(); len(got) != 3 || st.RXPartial != 4 || len(st.Drops) != 0 {
		t.Errorf("%d delivered, %d partial, drops %v; want 3, 4, none", len(got), st.RXPartial, st.Drops)
	}
	for _, p := range got {
		if !p.verified {
			t.Errorf("not verified: %x", p.data)
		}
	}
	r = newRig(t, rigConfig{idle: true})
	got = r.inject(4, frames...)
	if st := r.stats(); len(got) != 0 || st.RXPartial != 0 || st.Drops["rx "+packet.PartialTCPChecksum.String()] != 2 || st.Drops["rx "+packet.PartialUDPChecksum.String()] != 2 {
		t.Errorf("%d delivered, %+v", len(got), st)
	}
}

// TestReceiveMerge compares merged packets with a naive reference.
func TestReceiveMerge(t *testing.T) {
	for _, noGRO := range []bool{false, true} {
		for _, v6 := range []bool{false, true} {
			for _, n := range []int{1, 2, 7, 44} {
				t.Run(fmt.Sprintf("v6=%v/segments=%d/noGRO=%v", v6, n, noGRO), func(t *testing.T) {
					r := newRig(t, rigConfig{chosen: true, idle: true, cfg: Config{NoGRO: noGRO}})
					var frames [][]byte
					const size = 1401 // odd, so that sums have to be swapped
					for i := range n {
						f := frame{v6: v6, flags: packet.ACK, seq: uint32(i * size), id: uint16(i), opts: timestamp, window: 100, payload: pattern(uint32(i*size), size)}
						if i == n-1 {
							f.flags |= packet.PSH
						}
						frames = append(frames, f.bytes())
					}
					got := r.inject(64, frames...)
					if noGRO {
						if len(got) != n {
							t.Fatalf("%d packets, want %d", len(got), n)
						}
						return
					}
					if len(got) != 1 {
						t.Fatalf("%d packets, want 1", len(got))
					}
					p := got[0]
					info := p.info(t)
					f := p.frame()
					if want := pattern(0, n*size); !bytes.Equal(f[info.Payload:info.End], want) {
						t.Error("payload differs")
					}
					if info.Flags != packet.ACK|packet.PSH || info.Seq != 0 || !p.verified {
						t.Errorf("flags %#x, sequence number %d, verified %v", info.Flags, info.Seq, p.verified)
					}
					addrs := f[26:34]
					if v6 {
						addrs = f[22:54]
					} else if s := naiveSum(f[14:34]); s != 0xffff {
						t.Errorf("IPv4 header sums to %#x", s)
					}
					if s := naiveTransport(addrs, 6, f[info.L4:]); s != 0xffff {
						t.Errorf("TCP sums to %#x", s)
					}
					if p.views != 2 || p.head != int(info.Payload)-14 {
						t.Errorf("%d views, %d bytes in the first", p.views, p.head)
					}
					if st := r.stats(); st.RXDelivered != uint64(n) || st.RXPackets != 1 || st.RXBatches != 1 {
						t.Errorf("%+v", st)
					}
				})
			}
		}
	}
}

// TestReceiveACKs: of pure ACKs in a batch the newest goes up, and the others are
// counted; unless each is to go up.
func TestReceiveACKs(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want []uint32
	}{
		{Config{}, []uint32{300, 300, 400, 500}},
		{Config{NoACKMerge: true}, []uint32{100, 200, 300, 300, 400, 500}},
		{Config{NoGRO: true}, []uint32{100, 200, 300, 300, 400, 500}},
	} {
		for _, v6 := range []bool{false, true} {
			r := newRig(t, rigConfig{chosen: true, idle: true, cfg: c.cfg})
			var frames [][]byte
			for i, n := range []uint32{100, 200, 300, 300, 400, 500} { // 300 is a duplicate
				f := frame{v6: v6, flags: packet.ACK, seq: 7, ack: n, id: uint16(i), opts: timestamp, window: uint16(i)}
				if n == 500 {
					f.payload = pattern(0, 10)
				}
				frames = append(frames, f.bytes())
			}
			got := r.inject(64, frames...)
			var acks []uint32
			for k := range got {
				info, f := got[k].info(t), got[k].frame()
				if packet.Verify(f, &info, 0) != packet.OK || !got[k].verified {
					t.Errorf("ACK of %d is not correct", info.Ack)
				}
				if acks = append(acks, info.Ack); !bytes.Contains(bytes.Join(frames, nil), f) {
					t.Errorf("ACK of %d is not what came", info.Ack)
				}
			}
			if !slices.Equal(acks, c.want) {
				t.Errorf("%+v: acknowledged %d, want %d", c.cfg, acks, c.want)
			}
			if st := r.stats(); int(st.RXACKs) != len(frames)-len(c.want) || int(st.RXPackets) != len(c.want) || int(st.RXDelivered) != len(frames) {
				t.Errorf("%+v: %+v", c.cfg, st)
			}
		}
	}
}

// TestReceiveOrder interleaves flows at random in random batches: every flow's
// bytes come out in the order in which they went in, and none is lost.
func TestReceiveOrder(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		r := newRig(t, rigConfig{chosen: true, idle: true, cfg: Config{NoGRO: seed%4 == 3}})
		const flows = 9
		var seq [flows]uint32
		var count [flows]int // of UDP datagrams
		var frames [][]byte
		want := 0
		for range 500 {
			i := rng.IntN(flows)
			f := frame{v6: i%2 == 1, sport: uint16(i + 1), dport: 80, window: 9, pad: rng.IntN(3)}
			n := []int{1400, 1400, 1400, 1, rng.IntN(1400)}[rng.IntN(5)]
			f.flags = packet.ACK | uint8(rng.IntN(8)/7*packet.PSH)
			f.seq, f.id = seq[i], uint16(seq[i]/1400)
			f.payload = pattern(seq[i], n)
			if i == 0 {
				f.proto = packet.ProtoUDP
				f.payload = binary.BigEndian.AppendUint32(nil, uint32(count[0]))
				count[0]++
			} else if seq[i] += uint32(n); rng.IntN(20) == 0 {
				f.bad = true
				seq[i] -= uint32(n)
			}
			if !f.bad {
				want++
			}
			frames = append(frames, f.bytes())
		}
		got := r.inject(1+rng.IntN(100), frames...)
		var next [flows]uint32
		for k := range got {
			info, f := got[k].info(t), got[k].frame()
			i := int(info.SrcPort) - 1
			data := f[info.Payload:info.End]
			if i == 0 {
				if n := binary.BigEndian.Uint32(data); n != next[0] {
					t.Fatalf("seed %d: datagram %d, want %d", seed, n, next[0])
				}
				next[0]++
				continue
			}
			if info.Seq != next[i] || !bytes.Equal(data, pattern(info.Seq, len(data))) {
				t.Fatalf("seed %d: flow %d: sequence number %d, want %d; or payload differs", seed, i, info.Seq, next[i])
			}
			next[i] += uint32(len(data))
			if packet.Verify(f, &info, 0) != packet.OK {
				t.Fatalf("seed %d: flow %d: checksum is wrong", seed, i)
			}
		}
		for i := 1; i < flows; i++ {
			if next[i] != seq[i] {
				t.Errorf("seed %d: flow %d: %d bytes, want %d", seed, i, next[i], seq[i])
			}
		}
		st := r.stats()
		if int(next[0]) != count[0] || int(st.RXDelivered) != want || int(st.Drops["rx bad TCP checksum"]) != len(frames)-want {
			t.Errorf("seed %d: %d datagrams of %d, %d delivered, want %d; %v", seed, next[0], count[0], st.RXDelivered, want, st.Drops)
		}
		if int(st.RXPackets) != len(got) {
			t.Errorf("seed %d: %d packets counted, %d delivered", seed, st.RXPackets, len(got))
		}
	}
}
