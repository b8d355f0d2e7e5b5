package netdev

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/afxnet/afxnet/internal/packet"
)

// TestOptionRoom sends segments whose MSS leaves room for a timestamp only: with
// more options the frames have less data, and none is too long.
func TestOptionRoom(t *testing.T) {
	const mtu, mss = 1500, 1500 - 20 - 20 - 12
	for _, c := range []struct {
		opts int // bytes
		room int // -1: nobody says
		want int // bytes of data in a full frame
	}{{12, -1, mss}, {12, 12, mss}, {24, 12, mss - 12}, {40, 12, mss - 28}, {0, 12, mss}, {12, 40, mss}} {
		t.Run(fmt.Sprintf("options=%d/room=%d", c.opts, c.room), func(t *testing.T) {
			r := newRig(t, rigConfig{mtu: mtu, idle: true})
			data := pattern(3, 20000)
			pkt := segment{hash: 1, flags: packet.ACK, opts: bytes.Repeat([]byte{1}, c.opts), payload: data, mss: mss}.packet()
			if c.room >= 0 {
				pkt.Owner = OptionRoom(c.room)
			}
			r.write(pkt)
			var got []byte
			frames := r.out()
			for i, f := range frames {
				info := checkFrame(t, f, mtu)
				if n := info.PayloadLen(); n != c.want && i < len(frames)-1 {
					t.Errorf("frame %d has %d bytes of data, want %d", i, n, c.want)
				}
				got = append(got, f[info.Payload:]...)
			}
			if !bytes.Equal(got, data) {
				t.Error("payload differs")
			}
		})
	}
}

// TestMTUShrinks writes segments of a connection that began when the MTU was 1500:
// their frames are within what it is now.
func TestMTUShrinks(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, room := range []bool{false, true} {
			t.Run(fmt.Sprintf("v6=%t/room=%t", v6, room), func(t *testing.T) {
				r := newRig(t, rigConfig{mtu: 1500, idle: true})
				mss := 1500 - 20 - 20 - len(timestamp)
				if v6 {
					mss -= 20
				}
				for _, now := range []int{1500, 1499, 1280, 576, 1500} {
					r.d.setMTU(now)
					for _, size := range []int{0, 1, mss - 1, mss, mss + 1, 20000} {
						data := pattern(uint32(now), size)
						pkt := segment{v6: v6, hash: 1, seq: 1 << 31, flags: packet.ACK | packet.PSH, opts: timestamp, payload: data, mss: mss}.packet()
						if room {
							pkt.Owner = OptionRoom(len(timestamp))
						}
						r.write(pkt)
						var got []byte
						for _, f := range r.out() {
							info := checkFrame(t, f, now)
							if info.Seq != 1<<31+uint32(len(got)) {
								t.Errorf("MTU %d: byte %d has the sequence number %d", now, len(got), info.Seq)
							}
							got = append(got, f[info.Payload:]...)
						}
						if !bytes.Equal(got, data) {
							t.Errorf("MTU %d: %d bytes of %d, or others", now, len(got), size)
						}
					}
				}
			})
		}
	}
}

func TestGSOSize(t *testing.T) {
	for _, mss := range []int{496, 1220, 1420, 1448, 8920, 8948, 32000} {
		size := GSOSize(mss)
		if cut := size - gsoReserve; cut%mss != 0 || size > 65535 || cut <= 65535-gsoReserve-mss {
			t.Errorf("MSS %d: %d bytes, %d of data", mss, size, cut)
		}
	}
	if size := GSOSize(65500); size != 65535 {
		t.Errorf("MSS 65500: %d bytes", size)
	}
}
