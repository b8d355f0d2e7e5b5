package hostile

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/afxnet/afxnet/internal/packet"
)

func flows() []Flow {
	var all []Flow
	for i, a := range []string{"10.0.0.1", "fd00::1"} {
		b := []string{"10.0.0.2", "fd00::2"}[i]
		for _, tcp := range []bool{true, false} {
			all = append(all, Flow{
				Src: netip.AddrPortFrom(netip.MustParseAddr(b), 1000),
				Dst: netip.AddrPortFrom(netip.MustParseAddr(a), 2000),
				TCP: tcp, Next: 0xffffff00, Window: 1 << 19, SendMax: 77, Offered: 1 << 20, Sacrifice: true,
			})
		}
	}
	return all
}

var link = Link{Target: [6]byte{2, 0, 0, 0, 0, 1}, Peer: [6]byte{2, 0, 0, 0, 0, 2}, MTU: 1500, Listen: 80}

// TestAimed checks the promises: aimed frames are in good form, checksums
// included, for a flow, and are none of those that are left out.
func TestAimed(t *testing.T) {
	g := New(1, link, flows())
	var seen [Classes]int
	resets := 0
	var wrong [3]int // a little too new, a little too old, otherwise
	for range 200_000 {
		f := g.Next()
		seen[f.Class]++
		if len(f.Data) == 0 || len(f.Data) > packet.EthernetLen+65535 {
			t.Fatalf("%v: %d bytes", f.Class, len(f.Data))
		}
		var info packet.Info
		r := packet.Parse(f.Data, &info)
		if r == packet.OK {
			r = packet.Verify(f.Data, &info, 0)
		}
		if f.Class == Checksums && r == packet.OK {
			t.Fatalf("a right checksum: % x", f.Data)
		}
		if f.Class != AimedTCP && f.Class != Forged && f.Class != AimedUDP {
			continue
		}
		if r != packet.OK || len(f.Data) > packet.EthernetLen+link.MTU {
			t.Fatalf("%v of %d bytes: %v", f.Class, len(f.Data), r)
		}
		if info.SrcPort != 1000 || info.DstPort != 2000 || info.Kind.IsTCP() == (f.Class == AimedUDP) {
			t.Fatalf("not for a flow: %+v", info)
		}
		if f.Class == AimedUDP {
			continue
		}
		fl := &g.flows[f.Flow]
		if f.Reset {
			resets++
		}
		if info.Flags&packet.RST != 0 && (info.Seq == fl.Next) != f.Reset {
			t.Fatalf("a reset at %d, next %d, declared %v", info.Seq, fl.Next, f.Reset)
		}
		end := info.Seq + uint32(info.PayloadLen()) + uint32(info.Flags&packet.FIN)
		takes := info.Flags&(packet.ACK|packet.SYN|packet.RST) == packet.ACK && end != info.Seq &&
			int32(end-fl.Next) > 0 && int32(info.Seq-fl.Next-far) < 0
		if takes != (f.Class == Forged) {
			t.Fatalf("%v: data that could be the peer's, %t: %+v, next %d", f.Class, takes, info, fl.Next)
		}
		if f.Class != Forged {
			continue
		}
		ahead, behind := int32(info.Ack-fl.SendMax), int32(fl.SendMax-fl.Offered-info.Ack)
		switch {
		case ahead <= 0 && behind <= 0:
			t.Fatalf("the peer could have acknowledged %d of %d", info.Ack, fl.SendMax)
		case ahead > 0 && ahead <= 1<<16:
			wrong[0]++
		case behind > 0 && behind <= 1<<16:
			wrong[1]++
		default:
			wrong[2]++
		}
	}
	for c, n := range seen {
		if want := 200_000 * weights[c] / 100; n < want*9/10 || n > want*11/10 {
			t.Errorf("%v: %d frames, want some %d", Class(c), n, want)
		}
	}
	if n := seen[Forged]; wrong[0] < n/5 || wrong[1] < n/5 || wrong[2] < n/5 {
		t.Errorf("of %d frames %v are too new, too old and otherwise wrong", n, wrong)
	}
	if resets == 0 {
		t.Error("no flow was ever reset")
	}
}

func TestSeed(t *testing.T) {
	a, b, c := New(5, link, flows()), New(5, link, flows()), New(6, link, flows())
	differ := false
	for range 10_000 {
		f := a.Next()
		if !bytes.Equal(f.Data, b.Next().Data) {
			t.Fatal("the same seed makes other frames")
		}
		differ = differ || !bytes.Equal(f.Data, c.Next().Data)
	}
	if !differ {
		t.Error("another seed makes the same frames")
	}
}

func BenchmarkNext(b *testing.B) {
	g := New(1, link, flows())
	b.ReportAllocs()
	for b.Loop() {
		g.Next()
	}
}
