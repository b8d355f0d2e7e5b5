package stack

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/afxnet/afxnet/internal/mechanism"
)

// partialFrames are a datagram and a segment that opens a connection, to port 53,
// over IPv4 and IPv6, as a peer behind veth sends them that leaves the checksum to
// a network card: in its place is the sum of the pseudo-header.
func partialFrames(ow *overWire) (all [][]byte) {
	for _, ends := range [][2]string{{addrB, addrA}, {addrB6, addrA6}} {
		src, dst := netip.MustParseAddr(ends[0]).AsSlice(), netip.MustParseAddr(ends[1]).AsSlice()
		add := func(proto byte, b []byte, at int) {
			binary.BigEndian.PutUint16(b[0:], 1000)
			binary.BigEndian.PutUint16(b[2:], 53)
			sum := sumOf(slices.Concat(src, dst, []byte{0, proto, 0, byte(len(b))}))
			binary.BigEndian.PutUint16(b[at:], sum)
			all = append(all, ipFrame(ow.w, src, dst, proto, b))
		}
		datagram := append([]byte{4: 0, 5: 12, 7: 0}, "data"...)
		add(17, datagram, 6)
		add(6, []byte{4: 1, 12: 5 << 4, 13: 2, 14: 255, 19: 0}, 16)
	}
	return all
}

// TestPartialChecksums sends frames whose checksums are left to a network card.
// They are taken if that is asked for, and otherwise dropped under names that say
// what they are. Each is counted once.
func TestPartialChecksums(t *testing.T) {
	for _, accept := range []bool{false, true} {
		for _, fast := range []bool{false, true} {
			t.Run(fmt.Sprintf("accept=%t/fastip=%t", accept, fast), func(t *testing.T) {
				if fast && mechanism.Off(mechanism.FastIP) {
					t.Skip("its subject is switched off")
				}
				o := overWireOptions{alone: true}
				o.config[0].NoFastIP = !fast
				o.config[0].Device.AcceptPartialChecksums = accept
				ow := newOverWire(t, o)
				s := ow.s[0]
				u := listenUDP(t, s, "udp", ":53")
				l, err := s.Listen("tcp", ":53")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				const each = 3
				for range each {
					for _, f := range partialFrames(ow) {
						ow.w.Port(1).Send(f)
					}
				}
				if err := poll(func() error {
					if got := received(s); got < 4*each {
						return fmt.Errorf("%d frames of %d", got, 4*each)
					}
					return ow.account()
				}); err != nil {
					t.Fatal(err)
				}
				const tcp, udp = "rx partial TCP checksum, see AcceptPartialChecksums", "rx partial UDP checksum, see AcceptPartialChecksums"
				var want map[string]uint64
				partial := uint64(4 * each)
				if !accept {
					want, partial = map[string]uint64{tcp: 2 * each, udp: 2 * each}, 0
				}
				q := deviceStats(s)[0]
				if !maps.Equal(q.Drops, want) || q.RXPartial != partial {
					t.Errorf("drops %v, %d partial; want %v, %d", q.Drops, q.RXPartial, want, partial)
				}
				if accept {
					b := make([]byte, 10)
					for range 2 * each {
						if n, _, err := u.ReadFromUDPAddrPort(b); err != nil || string(b[:n]) != "data" {
							t.Errorf("%q, %v", b[:n], err)
						}
					}
				}
			})
		}
	}
}
