package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// roundTrip sends 1 MiB (TCP) or 20 datagrams (UDP) to an echo server at
// addr, from client, and checks what comes back.
func roundTrip(t *testing.T, l *Lab, network string, addr netip.Addr, client *Namespace) {
	t.Helper()
	server := l.Host
	if client == l.Host {
		server = l.Peer
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	at := netip.AddrPortFrom(addr, 0).String()
	switch network {
	case "tcp":
		ln, err := server.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		go func() {
			conn, err := ln.Accept()
			if err != nil {
				return // the client's side of the test fails
			}
			defer conn.Close()
			// Without the methods of TCPConn: io.Copy would splice through a
			// pipe, which package net keeps.
			io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn})
		}()
		conn, err := client.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testTimeout))
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() {
			conn.Write(sent)
			conn.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("got %d of %d bytes, %v", len(got), len(sent), err)
		}
	case "udp":
		pc, err := server.ListenPacket("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		go func() {
			buf := make([]byte, 1<<16)
			for {
				n, from, err := pc.ReadFrom(buf)
				if err != nil {
					return
				}
				pc.WriteTo(buf[:n], from)
			}
		}()
		conn, err := client.Dial(ctx, "udp", pc.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(testTimeout))
		sent, got := make([]byte, 1200), make([]byte, 1<<16)
		for i := range 20 {
			sent[0] = byte(i)
			if _, err := conn.Write(sent); err != nil {
				t.Fatal(err)
			}
			n, err := conn.Read(got)
			if err != nil || !bytes.Equal(got[:n], sent) {
				t.Fatalf("datagram %d: got %d bytes, %v", i, n, err)
			}
		}
	}
}

func TestTraffic(t *testing.T) {
	for _, mtu := range []int{1500, 3000} {
		for _, queues := range []int{1, 2} {
			t.Run(fmt.Sprintf("mtu=%d/queues=%d", mtu, queues), func(t *testing.T) {
				l := New(t, Config{MTU: mtu, Queues: queues})
				before := totals(t, l)
				for _, network := range []string{"tcp", "udp"} {
					roundTrip(t, l, network, l.Peer.V4.Addr(), l.Host)
					roundTrip(t, l, network, l.Peer.V6.Addr(), l.Host)
					roundTrip(t, l, network, l.Host.V4.Addr(), l.Peer)
					roundTrip(t, l, network, l.Host.V6.Addr(), l.Peer)
				}
				after := totals(t, l)
				// Of before, there may be what one end sent while the other was down.
				if after.sent == before.sent || after.lost != before.lost {
					t.Errorf("before %+v, after %+v", before, after)
				}
			})
		}
	}
}

// total is what both ends of a lab sent, and lost.
type total struct{ sent, lost uint64 }

func totals(t *testing.T, l *Lab) (sum total) {
	t.Helper()
	for _, n := range []*Namespace{l.Host, l.Peer} {
		stats, err := n.Stats(n.Device)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := stats["rx_queue_0_xdp_packets"]; !ok {
			t.Errorf("%s: no statistics of the driver in %v", n.Device, stats)
		}
		sum.sent += stats["tx_packets"]
		sum.lost += stats["rx_dropped"] + stats["tx_dropped"] + stats["rx_errors"] + stats["tx_errors"]
	}
	return sum
}

// TestFramesAreComplete taps the AF_XDP side: what arrives is at most MTU
// sized, with a complete TCP checksum, unless offloads are left on.
func TestFramesAreComplete(t *testing.T) {
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprintf("offloads=%v", on), func(t *testing.T) {
			l := New(t, Config{Offloads: on})
			fd := openTap(t, l.Host)
			roundTrip(t, l, "tcp", l.Host.V4.Addr(), l.Peer)

			var segments, large, partial int
			buf := make([]byte, 1<<17)
			for {
				n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
				if err == unix.EAGAIN {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				frame := buf[:n]
				outgoing := from.(*unix.SockaddrLinklayer).Pkttype == unix.PACKET_OUTGOING
				if outgoing || n < 54 || frame[14] != 0x45 || frame[23] != unix.IPPROTO_TCP {
					continue
				}
				segments++
				if n > 14+1500 {
					large++
				}
				if !tcpChecksumOK(frame[14:]) {
					partial++
				}
			}
			t.Logf("%d segments, %d above the MTU, %d with a partial checksum", segments, large, partial)
			if segments == 0 || (large > 0) != on || (partial > 0) != on {
				t.Errorf("%d segments, %d above the MTU, %d with a partial checksum", segments, large, partial)
			}
		})
	}
}

// openTap returns a socket that sees every frame of the namespace's
// interface.
func openTap(t *testing.T, n *Namespace) (fd int) {
	t.Helper()
	ifc, err := n.Interface()
	if err != nil {
		t.Fatal(err)
	}
	const ethPAll = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network byte order on a little-endian machine
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("written for little-endian machines")
	}
	err = n.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: ethPAll & 0xffff, Ifindex: ifc.Index}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// tcpChecksumOK checks an IPv4 packet without options (RFC 9293, section 3.1).
func tcpChecksumOK(packet []byte) bool {
	packet = packet[:binary.BigEndian.Uint16(packet[2:])]
	segment := packet[20:]
	sum := uint32(unix.IPPROTO_TCP) + uint32(len(segment))
	for i := 12; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(packet[i:]))
	}
	for ; len(segment) >= 2; segment = segment[2:] {
		sum += uint32(binary.BigEndian.Uint16(segment))
	}
	if len(segment) == 1 {
		sum += uint32(segment[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}
