package stack_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
)

// TestLabSurface does with a kernel at the other end what the rest is tested with
// over the wire: ping, batches, control messages and copies.
func TestLabSurface(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{})
	for _, f := range families(s.lab) {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if d, err := s.Ping(ctx, f.peer); err != nil || d <= 0 {
			t.Errorf("Ping(%v) = %v, %v", f.peer, d, err)
		}
		cancel()

		// A batch to the kernel's UDP echo comes back, with what was asked for.
		var kernel net.PacketConn
		if err := s.lab.Peer.Do(func() (err error) {
			kernel, err = net.ListenPacket("udp", hostPort(f.peer, 0))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		go func() {
			b := make([]byte, 2000)
			for {
				n, from, err := kernel.ReadFrom(b)
				if err != nil {
					return
				}
				kernel.WriteTo(b[:n], from) //nolint:errcheck // the other end tells
			}
		}()
		u, err := s.ListenUDP("udp", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := u.SetControlMessage(stack.ControlTTL|stack.ControlPacketInfo, true); err != nil {
			t.Fatal(err)
		}
		ms := make([]stack.Message, 10)
		for i := range ms {
			ms[i] = stack.Message{Buffers: [][]byte{bytes.Repeat([]byte{byte(i)}, 100)}, Addr: kernel.LocalAddr()}
		}
		if n, err := u.WriteBatch(ms, 0); n != len(ms) || err != nil {
			t.Errorf("WriteBatch = %d, %v", n, err)
		}
		u.SetReadDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // open
		for i := range ms {
			ms[i].OOB = make([]byte, 200)
		}
		for got := 0; got < len(ms); {
			n, err := u.ReadBatch(ms[got:], 0)
			if err != nil {
				t.Fatalf("after %d: %v", got, err)
			}
			for _, m := range ms[got : got+n] {
				if m.N != 100 || m.NN == 0 || m.Flags != 0 || m.Addr.String() != kernel.LocalAddr().String() {
					t.Errorf("%d bytes, %d of control messages, flags %#x, from %v", m.N, m.NN, m.Flags, m.Addr)
				}
			}
			got += n
		}
		kernel.Close()

		u.Close()

		// A copy between a kernel's connection and ours, on the host.
		near, ours := s.mustPair(t, f, true)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		host, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		proxied, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		go io.Copy(proxied, ours) //nolint:errcheck // the ends tell
		go io.Copy(ours, proxied) //nolint:errcheck // the ends tell
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		for _, way := range [][2]net.Conn{{near, host}, {host, near}} {
			go way[0].Write(data) //nolint:errcheck // the other end tells
			got := make([]byte, len(data))
			way[1].SetReadDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // open
			if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("copy: %v, equal %v", err, bytes.Equal(got, data))
			}
		}
		for _, c := range []net.Conn{near, ours, host, proxied} {
			c.Close()
		}
	}
}
