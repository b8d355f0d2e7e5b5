//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

// metadataLab is a lab with the steering program and a socket, and a way to send
// from the peer.
type metadataLab struct {
	*testing.T
	l    *lab.Lab
	p    *Program
	s    *Socket
	fd   int
	sent uint64
}

// requireMetadata skips where the kernel or its veth does not have metadata,
// which is before Linux 6.8.
func requireMetadata(t *testing.T) {
	t.Helper()
	lab.Require(t, lab.NetNS, lab.XDP)
	if r := kernelRelease(); !releaseAtLeast(r, 6, 8) {
		t.Skip("Linux ", r)
	}
}

// loadMetadata loads a program that asks for metadata on the lab's host side.
func loadMetadata(l *lab.Lab, cfg ProgramConfig) (p *Program, err error) {
	cfg.Interface = l.Host.Device
	err = l.Host.Do(func() error {
		p, err = LoadProgram(cfg)
		return err
	})
	return p, err
}

func newMetadataLab(t *testing.T, labCfg lab.Config, cfg Config, wanted RXMetadataSet) *metadataLab {
	t.Helper()
	requireMetadata(t)
	m := &metadataLab{T: t, l: lab.New(t, labCfg)}
	var err error
	if m.p, err = loadMetadata(m.l, ProgramConfig{Metadata: wanted}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.p.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(m.p.AddAddress(m.l.StackV4.Addr()), m.l.Host.Do(m.p.Attach)); err != nil {
		t.Fatal(err)
	}
	cfg.MetadataMarker = m.p.MetadataMarker()
	m.s = mustOpen(t, m.l, small(cfg))
	if err := m.p.AddSocket(0, m.s.FD()); err != nil {
		t.Fatal(err)
	}
	m.fd = packetSocket(t, m.l)
	return m
}

// frame makes a frame of its own, of this many bytes behind the headers.
func (m *metadataLab) frame(port uint16, size int) []byte {
	m.sent++
	f := udpFrame(m.T, m.l, binary.BigEndian.AppendUint64(make([]byte, 0, size), m.sent)[:max(size, 8)])
	binary.BigEndian.PutUint16(f[34:], port)
	return f
}

// exchange sends a frame from the peer's kernel and returns the metadata that it
// arrives with.
func (m *metadataLab) exchange(port uint16, size int) (RXMetadata, bool) {
	m.Helper()
	f := m.frame(port, size)
	if _, err := unix.Write(m.fd, f); err != nil {
		m.Fatal(err)
	}
	return m.receive(f)
}

// receive waits for a frame and returns its metadata.
func (m *metadataLab) receive(want []byte) (md RXMetadata, ok bool) {
	m.Helper()
	dst := make([]umem.Desc, 64)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		n := m.s.RX().Receive(dst)
		found := false
		for packet := range umem.Packets(dst[:n]) {
			var got []byte
			for i, d := range packet {
				got = append(got, m.s.Region().Bytes(d)...)
				if _, ok := m.s.RX().Metadata(d); ok && i > 0 {
					m.Error("metadata in the middle of a packet")
				}
			}
			if bytes.Equal(got, want) {
				found = true
				md, ok = m.s.RX().Metadata(packet[0])
			}
		}
		m.s.RX().Recycle(dst[:n])
		m.s.RX().Refill()
		if found {
			return md, ok
		}
		if n == 0 && m.s.RX().Empty() {
			if err := m.s.Wait(false, limit); err != nil {
				m.Fatal(err)
			}
		}
	}
	m.Fatal("the packet did not come")
	return md, false
}

// TestMetadataHashTypes compares the bits with the kernel's own.
func TestMetadataHashTypes(t *testing.T) {
	requireMetadata(t)
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.TypeByName("xdp_rss_hash_type", &enum); err != nil {
		t.Fatal(err)
	}
	want := map[string]RXHashType{
		"XDP_RSS_L3_IPV4": RXHashIPv4, "XDP_RSS_L3_IPV6": RXHashIPv6, "XDP_RSS_L3_DYNHDR": RXHashOptions, "XDP_RSS_L4": RXHashL4,
		"XDP_RSS_L4_TCP": RXHashTCP, "XDP_RSS_L4_UDP": RXHashUDP, "XDP_RSS_L4_SCTP": RXHashSCTP, "XDP_RSS_L4_IPSEC": RXHashIPSec, "XDP_RSS_L4_ICMP": RXHashICMP,
	}
	for _, v := range enum.Values {
		if bit, ok := want[v.Name]; ok && bit != RXHashType(v.Value) {
			t.Errorf("%s is %#x, want %#x", v.Name, v.Value, bit)
		}
		delete(want, v.Name)
	}
	if len(want) != 0 {
		t.Errorf("the kernel does not know %v", want)
	}
}

// TestMetadataVeth reads what veth tells of a packet of the peer's kernel: the hash
// of its flow, no timestamp, and its VLAN tag if it has one. All chunks of the
// socket are used many times.
func TestMetadataVeth(t *testing.T) {
	for _, umemCfg := range []umem.Config{
		{ChunkSize: 2048}, {ChunkSize: 4096, Headroom: 64}, {ChunkSize: 2048, Headroom: 1}, {ChunkSize: 3072, Headroom: 128, Unaligned: true},
	} {
		t.Run(fmt.Sprintf("chunk=%d/headroom=%d", umemCfg.ChunkSize, umemCfg.Headroom), func(t *testing.T) {
			m := newMetadataLab(t, lab.Config{}, Config{UMEM: umemCfg}, rxMetadataAll)
			if mode, cfg := m.p.Mode(), m.p.Config(); mode != AttachNative || cfg.Mode != AttachNative || cfg.Metadata != rxMetadataAll {
				t.Errorf("attached in %v mode, %+v", mode, cfg)
			}
			hashes := map[uint32]bool{}
			ofFlow := map[uint16]uint32{}
			for i := range 200 {
				port := 1000 + uint16(i%8)
				md, ok := m.exchange(port, 8+i)
				if !ok || md.Valid != RXHash || md.Hash == 0 || md.HashType&RXHashL4 == 0 {
					t.Fatalf("packet %d: %+v, %v", i, md, ok)
				}
				if h, again := ofFlow[port]; again && h != md.Hash {
					t.Fatalf("two hashes of one flow: %#x and %#x", h, md.Hash)
				}
				ofFlow[port], hashes[md.Hash] = md.Hash, true
			}
			if len(hashes) < 2 {
				t.Errorf("8 flows have the hashes %v", hashes)
			}
			untag := tagAtPeer(t, m.l, 0x8100, 3<<13|77)
			if md, ok := m.exchange(1000, 8); !ok || md.Valid != RXHash|RXVLANTag || md.VLANProto != 0x8100 || md.VLANTCI != 3<<13|77 {
				t.Errorf("tagged: %+v, %v", md, ok)
			}
			untag()
			tagAtPeer(t, m.l, 0x88a8, 4094)
			if md, ok := m.exchange(1000, 8); !ok || md.Valid != RXHash|RXVLANTag || md.VLANProto != 0x88a8 || md.VLANTCI != 4094 {
				t.Errorf("tagged by a provider: %+v, %v", md, ok)
			}
		})
	}
}

// tagAtPeer has every packet that the peer's kernel sends get a VLAN tag, beside
// the packet, as that of a VLAN device would, until untag is called.
func tagAtPeer(t *testing.T, l *lab.Lab, proto, tci uint16) (untag func()) {
	t.Helper()
	wire := int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, proto)))
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "tag", Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, wire),
			asm.Mov.Imm(asm.R3, int32(tci)),
			asm.FnSkbVlanPush.Call(),
			asm.Mov.Imm(asm.R0, 0), // TCX_PASS
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	var lnk link.Link
	err = l.Peer.Do(func() error {
		ifc, err := l.Peer.Interface()
		if err != nil {
			return err
		}
		lnk, err = link.AttachTCX(link.TCXOptions{Program: prog, Interface: ifc.Index, Attach: ebpf.AttachTCXEgress})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lnk.Close() })
	return func() { lnk.Close() }
}

// TestMetadataOfNothing has a frame come from another XDP program, so that veth
// has no socket buffer for it and knows nothing; and one from the kernel after it,
// in a program that asks for less than veth has.
func TestMetadataOfNothing(t *testing.T) {
	m := newMetadataLab(t, lab.Config{}, Config{}, RXTimestamp|RXVLANTag)
	redirect, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "over", Type: ebpf.XDP, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R1, asm.R1, 12, asm.Word), // ingress_ifindex
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer redirect.Close()
	for range 100 {
		f := m.frame(1, 8)
		err := m.l.Peer.Do(func() error {
			ifc, err := m.l.Peer.Interface()
			if err != nil {
				return err
			}
			_, err = redirect.Run(&ebpf.RunOptions{Data: f, Repeat: 1, BatchSize: 1, Flags: unix.BPF_F_TEST_XDP_LIVE_FRAMES,
				Context: &struct{ Data, DataEnd, DataMeta, Ingress, Queue, Egress uint32 }{DataEnd: uint32(len(f)), Ingress: uint32(ifc.Index)}})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if md, ok := m.receive(f); !ok || md != (RXMetadata{}) {
			t.Fatalf("%+v, %v", md, ok)
		}
	}
	if md, ok := m.exchange(1000, 8); !ok || md != (RXMetadata{}) {
		t.Errorf("only timestamp and VLAN tag were asked for: %+v, %v", md, ok)
	}
	tagAtPeer(t, m.l, 0x8100, 5)
	if md, ok := m.exchange(1000, 8); !ok || md != (RXMetadata{Valid: RXVLANTag, VLANProto: 0x8100, VLANTCI: 5}) {
		t.Errorf("tagged: %+v, %v", md, ok)
	}
}

// TestMetadataJumbo has packets over several frames: the first one has metadata.
func TestMetadataJumbo(t *testing.T) {
	m := newMetadataLab(t, lab.Config{MTU: 9000}, Config{UMEM: umem.Config{ChunkSize: 2048, Headroom: 64}}, RXHash)
	for i := range 200 {
		if md, ok := m.exchange(1000, 1+i*997%(9000-28)); !ok || md.Valid != RXHash {
			t.Fatalf("packet %d: %+v, %v", i, md, ok)
		}
	}
	if st := statistics(t, m.s); st.RXBadDescs+st.RXContinued != 0 {
		t.Errorf("%+v", st)
	}
}

// TestMetadataUnmarked sends to a socket that does not know the marker, or none.
func TestMetadataUnmarked(t *testing.T) {
	m := newMetadataLab(t, lab.Config{}, Config{}, RXHash)
	other, err := loadMetadata(m.l, ProgramConfig{Metadata: RXHash})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if a, b := m.p.MetadataMarker(), other.MetadataMarker(); a == 0 || b == 0 || a == b {
		t.Errorf("markers %#x and %#x", a, b)
	}
	for range 10 {
		if _, ok := m.exchange(1, 8); !ok {
			t.Fatal("no metadata")
		}
	}
	for _, marker := range []uint64{other.MetadataMarker(), 0} {
		m.s.RX().marker = marker
		if md, ok := m.exchange(1, 8); ok {
			t.Errorf("marker %#x: %+v", marker, md)
		}
	}
}

// TestMetadataGone takes the program away and puts one in its place that adds none:
// what the frames still have of the first one's counts for nothing.
func TestMetadataGone(t *testing.T) {
	m := newMetadataLab(t, lab.Config{}, Config{UMEM: umem.Config{Chunks: 256}}, RXHash)
	for i := range 600 { // every chunk
		if _, ok := m.exchange(1, 8); !ok {
			t.Fatalf("packet %d has no metadata", i)
		}
	}
	if err := m.p.Close(); err != nil {
		t.Fatal(err)
	}
	p := attachInLab(t, m.l, AttachNative)
	if p.MetadataMarker() != 0 {
		t.Error("a marker without metadata")
	}
	if err := p.AddSocket(0, m.s.FD()); err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		if md, ok := m.exchange(1, 8); ok {
			t.Fatalf("packet %d: %+v", i, md)
		}
	}
}

// TestMetadataSet gives the marker to all sockets of a set.
func TestMetadataSet(t *testing.T) {
	requireMetadata(t)
	m := &metadataLab{T: t, l: lab.New(t, lab.Config{})}
	set, err := openSet(m.l, SetConfig{Program: ProgramConfig{Metadata: RXHash}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := set.Program().AddAddress(m.l.StackV4.Addr()); err != nil {
		t.Fatal(err)
	}
	m.s, m.fd = set.Sockets()[0], packetSocket(t, m.l)
	if md, ok := m.exchange(1000, 8); !ok || md.Valid != RXHash {
		t.Errorf("%+v, %v", md, ok)
	}
}
