package guest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// TestTXOffload asks for checksums and timestamps. These drivers declare neither
// for zero-copy, and would send the packets as they are: that is refused, and
// without asking for zero-copy there is copy mode, in which the kernel does both.
func TestTXOffload(t *testing.T) {
	eachNIC(t, func(t *testing.T, g *ground) {
		cfg := xsk.Config{Interface: lab.HostDevice, TXOffload: xsk.TXChecksum | xsk.TXTimestamp, Bind: xsk.BindZeroCopy}
		err := g.Host.Do(func() error {
			s, err := xsk.Open(cfg)
			if err == nil {
				s.Close()
			}
			return err
		})
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(fmt.Sprint(err), "does not declare tx timestamp, tx checksum") || !strings.Contains(fmt.Sprint(err), "BindCopy") {
			t.Errorf("zero-copy: %v", err)
		}
		g.running(t)
		cfg.Bind = xsk.BindAuto
		r := openRaw(t, g, cfg)
		for _, s := range r.sockets {
			if s.ZeroCopy() || !errors.Is(s.ZeroCopyErr(), errors.ErrUnsupported) {
				t.Errorf("zero-copy %v, %v", s.ZeroCopy(), s.ZeroCopyErr())
			}
			sendDatagrams(t, g, s)
		}
	})
}

// sendDatagrams sends datagrams without a checksum of their own to a socket of the
// peer, which has them come over a wire.
func sendDatagrams(t *testing.T, g *ground, s *xsk.Socket) {
	t.Helper()
	c, err := g.Peer.ListenPacket("udp", hostPort(g.Peer.V4.Addr(), 0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	host, err := g.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	peer, err := g.Peer.Interface()
	if err != nil {
		t.Fatal(err)
	}
	const count, header = 50, 14 + 20 + 8
	payload, back := make([]byte, 1000), make([]byte, 1500)
	tx, be := s.TX(), binary.BigEndian
	for i := range uint64(count) {
		for j := range payload {
			payload[j] = byte(int(i) * j)
		}
		lab.Eventually(t, patience, "room to send", func() bool { return tx.Free(1) > 0 })
		a, f, _ := tx.Frame()
		f = append(append(append(f[:0], peer.MAC...), host.MAC...), 8, 0, 0x45, 0)
		f = append(be.AppendUint16(f, uint16(header-14+len(payload))), 0, 0, 0, 0, 64, 17, 0, 0)
		f = append(append(f, g.StackV4.Addr().AsSlice()...), g.Peer.V4.Addr().AsSlice()...)
		be.PutUint16(f[24:], ^sum16(f[14:34], 0))
		f = be.AppendUint16(be.AppendUint16(f, 1111), uint16(c.LocalAddr().(*net.UDPAddr).Port))
		f = be.AppendUint16(f, uint16(8+len(payload)))
		f = append(be.AppendUint16(f, sum16(f[26:34], uint32(17+8+len(payload)))), payload...)
		r := xsk.TXRequest{Do: xsk.TXChecksum | xsk.TXTimestamp, ChecksumStart: 34, ChecksumOffset: 6, ID: i}
		if d := (umem.Desc{Addr: a, Len: uint32(len(f))}); !tx.QueueRequest(r, d) {
			t.Fatal(tx.CheckRequest(r, d))
		}
		if left := tx.Flush(); left != 0 {
			t.Fatalf("Flush left %d, Err %v", left, tx.Err())
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := c.ReadFrom(back); err != nil || !bytes.Equal(back[:n], payload) {
			t.Fatalf("datagram %d: the peer got %d bytes of %d, or others, %v", i, n, len(payload), err)
		}
	}
	lab.Eventually(t, patience, "the frames in flight", func() bool { tx.Reclaim(); return tx.Lent() == 0 })
	var got [2 * count]xsk.TXTime
	n := tx.Timestamps(got[:])
	for _, x := range got[:n] {
		if x.Time == 0 {
			t.Errorf("datagram %d has no time", x.ID)
		}
	}
	if n != count {
		t.Errorf("%d timestamps of %d datagrams", n, count)
	}
}

// sum16 adds up big-endian words and what is known already, and folds.
func sum16(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}
