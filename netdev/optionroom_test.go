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
