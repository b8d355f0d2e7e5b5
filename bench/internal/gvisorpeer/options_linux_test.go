package gvisorpeer

import (
	"fmt"
	"io"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/soak/traffic"
)

// BenchmarkOptions compares the choices for the packet kind, and the xdp kind
// with them: the reason for the value of fastest. Client and server are in one
// process.
func BenchmarkOptions(b *testing.B) {
	b.Run("xdp", func(b *testing.B) {
		requireFor(b, "xdp")
		loads(b, kind("xdp"))
	})
	for _, dispatch := range []fdbased.PacketDispatchMode{fdbased.RecvMMsg, fdbased.PacketMMap} {
		for _, processors := range []int{1, 2} {
			for _, gso := range []int{0, 65536} {
				for _, joins := range []bool{false, true} {
					o := packetOptions{dispatch: dispatch, processors: processors, gro: joins, trust: joins, gsoMax: gso}
					b.Run(fmt.Sprintf("packet/%v/processors=%d/gso=%d/gro=%v", dispatch, processors, gso, joins), func(b *testing.B) {
						loads(b, func(cfg peer.Config) (peer.Peer, error) { return open(cfg, openPacketWith(o)) })
					})
				}
			}
		}
	}
}

// loads runs exchanges of 64 bytes, and bulk data to and from the peer.
func loads(b *testing.B, open func(peer.Config) (peer.Peer, error)) {
	l := lab.New(b, lab.Config{})
	p := openIn(b, l, open)
	b.Cleanup(func() { p.Close() })
	f := families(l)[0]
	b.Run("rr", func(b *testing.B) {
		ln, err := p.Listen("tcp4", hostPort(f.stack, peer.EchoPort))
		if err != nil {
			b.Fatal(err)
		}
		defer ln.Close()
		go traffic.EchoTCP(ln)
		c, err := l.Peer.Dial(within(b), "tcp4", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, 64)
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, toPeer := range []bool{true, false} {
		b.Run(map[bool]string{true: "stream", false: "source"}[toPeer], func(b *testing.B) {
			ours, kernel := pair(b, l, p, f, false)
			defer ours.Close()
			defer kernel.Close()
			from, to := ours, kernel
			if toPeer {
				from, to = kernel, ours
			}
			buf := make([]byte, 64<<10)
			b.SetBytes(int64(len(buf)))
			go func() {
				for {
					if _, err := from.Write(buf); err != nil {
						return
					}
				}
			}()
			in := make([]byte, 64<<10)
			for b.Loop() {
				if _, err := io.ReadFull(to, in); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
