package netdev

import (
	"testing"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/umem"
)

// TestReuse sends many times what the TX ring holds, in bursts that the kernel is
// done with at once, and counts the frames that were ever written: those of a
// burst, which are written again and again, and not all there are.
func TestReuse(t *testing.T) {
	for _, mtu := range []int{1500, 9000} {
		r := newRig(t, rigConfig{mtu: mtu, idle: true})
		if r.sock.Region().Bytes(umem.Desc{Len: 1})[0] != 0 {
			t.Skip("xskdebug writes to all frames")
		}
		const size = 60000
		for i := range 100 {
			r.write(segment{
				hash: 1, seq: uint32(i * size), flags: packet.ACK, payload: pattern(uint32(i), size), mss: mtu - 40,
			}.packet())
		}
		if n := len(r.out()); n < 100*size/mtu {
			t.Fatalf("MTU %d: %d frames are out", mtu, n)
		}
		region, burst := r.sock.Region(), r.sock.TX().Burst()
		if all := region.Chunks(); all < 4*burst {
			t.Fatalf("MTU %d: a burst is %d of %d frames", mtu, burst, all)
		}
		written := 0
		for i := range region.Chunks() {
			for _, b := range region.Bytes(umem.Desc{Addr: umem.Addr(i * region.ChunkSize()), Len: ethernetLen}) {
				if b != 0 {
					written++
					break
				}
			}
		}
		if written > burst {
			t.Errorf("MTU %d: %d frames were written for bursts of %d", mtu, written, burst)
		}
	}
}
