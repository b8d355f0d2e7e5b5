package xsk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/umem"
)

const testMarker = 0x1122334455667788

// putMetadata writes metadata that ends at b's end, as bpf/metadata.h lays it out.
func putMetadata(b []byte, valid uint32, marker uint64) {
	b = b[len(b)-metadataSize:]
	order := binary.NativeEndian
	order.PutUint64(b, 1_700_000_000_000_000_001)
	order.PutUint32(b[8:], 0xcafef00d)
	order.PutUint32(b[12:], uint32(RXHashIPv4|RXHashL4|RXHashTCP))
	copy(b[16:], []byte{0x81, 0x00})
	order.PutUint16(b[18:], 5<<13|1234)
	order.PutUint32(b[20:], valid)
	order.PutUint64(b[24:], marker)
}

var fullMetadata = RXMetadata{
	Valid: rxMetadataAll, Hash: 0xcafef00d, HashType: RXHashIPv4 | RXHashL4 | RXHashTCP,
	Timestamp: 1_700_000_000_000_000_001, VLANProto: 0x8100, VLANTCI: 5<<13 | 1234,
}

// newMetadataSim is a socket over a simulated kernel, which knows testMarker, and
// whose fill ring is in the kernel's hands.
func newMetadataSim(tb testing.TB, cfg umem.Config, parts int) (*RX, *simKernel) {
	tb.Helper()
	cfg.Chunks, cfg.OnHeap = 32, true
	region, err := umem.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	s, k := newSimParts(tb, region, 16, 0, parts)
	s.RX().marker = testMarker
	s.RX().Refill()
	k.takeFill(16)
	return s.RX(), k
}

func TestReceiveMetadata(t *testing.T) {
	for _, cfg := range []umem.Config{{ChunkSize: 2048}, {ChunkSize: 4096, Headroom: 100}, {ChunkSize: 3008, Unaligned: true}} {
		rx, k := newMetadataSim(t, cfg, 1)
		memory := rx.region.Memory()
		put := func(i, off int, valid uint32, marker uint64) umem.Desc {
			d := umem.Desc{Addr: k.frames[i] + umem.Addr(off), Len: 60}
			if d.Addr >= metadataSize {
				putMetadata(memory[:d.Addr], valid, marker)
			}
			return d
		}
		unmarked := umem.Desc{Addr: k.frames[9] + 256, Len: 60, Options: optionMetadata} // a kernel that plays tricks
		descs := []umem.Desc{
			put(0, 256, 7, testMarker),
			put(1, 256, uint32(RXHash), testMarker),
			put(2, 256, uint32(RXTimestamp), testMarker),
			put(3, 256, uint32(RXVLANTag), testMarker),
			put(4, 256, 0xfffffff8, testMarker), // none that is known
			put(5, metadataSize, 7, testMarker), // the very beginning of the chunk
			put(6, metadataSize-1, 7, testMarker),
			put(7, 0, 7, testMarker), // in the chunk before
			put(8, 256, 7, testMarker+1),
			unmarked,
			put(10, 300, 7, testMarker), // wherever the packet begins
		}
		if cfg.Unaligned { // the kernel gives the chunk, and in the upper bits how far behind it
			for i := range descs {
				descs[i].Addr = k.frames[i] | (descs[i].Addr-k.frames[i])<<48
			}
		}
		k.deliver(descs...)
		dst := make([]umem.Desc, 16)
		if n := rx.Receive(dst); n != len(descs) {
			t.Fatalf("Receive = %d", n)
		}
		only := func(f func(m *RXMetadata)) RXMetadata {
			var m RXMetadata
			f(&m)
			return m
		}
		for i, want := range []struct {
			m  RXMetadata
			ok bool
		}{
			{fullMetadata, true},
			{only(func(m *RXMetadata) {
				m.Valid, m.Hash, m.HashType = RXHash, fullMetadata.Hash, fullMetadata.HashType
			}), true},
			{only(func(m *RXMetadata) { m.Valid, m.Timestamp = RXTimestamp, fullMetadata.Timestamp }), true},
			{only(func(m *RXMetadata) {
				m.Valid, m.VLANProto, m.VLANTCI = RXVLANTag, fullMetadata.VLANProto, fullMetadata.VLANTCI
			}), true},
			{RXMetadata{}, true},
			{fullMetadata, true},
			{}, {}, {}, {},
			{fullMetadata, true},
		} {
			for range 2 { // it can be read again
				if m, ok := rx.Metadata(dst[i]); m != want.m || ok != want.ok {
					t.Errorf("%+v: packet %d: %+v, %v, want %+v", cfg, i, m, ok, want)
				}
			}
		}
		for _, d := range []umem.Desc{{Addr: 1 << 40, Len: 1, Options: optionMetadata}, {Addr: math.MaxUint64, Len: 1, Options: optionMetadata}, {Addr: 31, Len: 1, Options: optionMetadata}} {
			if m, ok := rx.Metadata(d); ok {
				t.Errorf("outside: %+v", m)
			}
		}
		if bytes.Contains(memory[k.frames[10]:k.frames[10]+300], binary.NativeEndian.AppendUint64(nil, testMarker)) {
			t.Error("the marker is still there")
		}
	}
}

// TestReceiveMetadataOnce delivers in the same frames again, of which the first
// time left metadata.
func TestReceiveMetadataOnce(t *testing.T) {
	rx, k := newMetadataSim(t, umem.Config{}, 1)
	dst := make([]umem.Desc, 16)
	for round := range 2 {
		for _, a := range k.frames {
			if round == 0 {
				putMetadata(rx.region.Memory()[:a+256], 7, testMarker)
			}
			k.deliver(umem.Desc{Addr: a + 256, Len: 60})
		}
		for _, d := range dst[:rx.Receive(dst)] {
			if _, ok := rx.Metadata(d); ok != (round == 0) {
				t.Errorf("round %d: %v", round, ok)
			}
		}
		rx.Recycle(dst)
		rx.Refill()
		k.frames = k.frames[:0]
		k.takeFill(16)
	}
}

// TestReceiveMetadataParts has metadata before each part of packets over several
// frames, as no kernel does: that of the first counts.
func TestReceiveMetadataParts(t *testing.T) {
	rx, k := newMetadataSim(t, umem.Config{}, 4)
	more := []bool{true, true, false, false, true, false}
	for i, continues := range more {
		d := umem.Desc{Addr: k.frames[i] + 256, Len: 60}
		if continues {
			d.Options = umem.OptionContinues
		}
		putMetadata(rx.region.Memory()[:d.Addr], 7, testMarker)
		k.deliver(d)
	}
	dst := make([]umem.Desc, 16)
	n := rx.Receive(dst)
	packets := 0
	for packet := range umem.Packets(dst[:n]) {
		packets++
		for i, d := range packet {
			if _, ok := rx.Metadata(d); ok != (i == 0) {
				t.Errorf("packet of %d parts: part %d: %v", len(packet), i, ok)
			}
		}
	}
	if n != 6 || packets != 3 {
		t.Errorf("%d descriptors, %d packets", n, packets)
	}
}

func TestReceiveMetadataAllocations(t *testing.T) {
	if debugUMEM() {
		t.Skip("xskdebug keeps a stack per frame")
	}
	rx, k := newMetadataSim(t, umem.Config{}, 1)
	dst := make([]umem.Desc, 16)
	sum := uint64(0)
	if n := testing.AllocsPerRun(100, func() {
		for _, a := range k.frames {
			putMetadata(rx.region.Memory()[:a+256], 7, testMarker)
			k.deliver(umem.Desc{Addr: a + 256, Len: 60})
		}
		n := rx.Receive(dst)
		for _, d := range dst[:n] {
			m, _ := rx.Metadata(d)
			sum += uint64(m.Hash)
		}
		rx.Recycle(dst[:n])
		rx.Refill()
		k.frames = k.frames[:0]
		k.takeFill(16)
	}); n != 0 || sum != 101*16*0xcafef00d {
		t.Errorf("%v allocations, sum %#x", n, sum)
	}
}

// FuzzMetadata wants metadata exactly where the marker says so, in the packet's own
// chunk, whatever descriptor and memory there are.
func FuzzMetadata(f *testing.F) {
	f.Add(uint64(256), uint32(60), uint32(0), uint64(224))
	f.Add(uint64(2048+10), uint32(60), uint32(1<<31), uint64(2048+10-32))
	f.Add(uint64(1<<63), uint32(1), uint32(1<<31), uint64(0))
	f.Fuzz(func(t *testing.T, addr uint64, length, options uint32, at uint64) {
		const size, chunks = 2048, 4
		region, err := umem.New(umem.Config{ChunkSize: size, Chunks: chunks, OnHeap: true})
		if err != nil {
			t.Fatal(err)
		}
		at %= size*chunks - metadataSize + 1
		putMetadata(region.Memory()[:at+metadataSize], 7, testMarker)
		rx := &RX{region: region, marker: testMarker}
		descs := []umem.Desc{{Addr: umem.Addr(addr), Len: length, Options: options}}
		rx.takeMarkers(descs)
		m, ok := rx.Metadata(descs[0])
		want := addr < size*chunks && addr == at+metadataSize && addr%size >= metadataSize
		if ok != want || ok && m != fullMetadata || !ok && m != (RXMetadata{}) {
			t.Errorf("address %d, metadata at %d: %+v, %v", addr, at, m, ok)
		}
	})
}

func TestRXMetadataSet(t *testing.T) {
	for set, want := range map[RXMetadataSet]string{
		0: "nothing", RXHash: "hash", rxMetadataAll: "hash, timestamp, vlan tag", RXVLANTag | 0x90: "vlan tag, unknown 0x90",
	} {
		if got := set.String(); got != want {
			t.Errorf("%d is %q, want %q", set, got, want)
		}
	}
	for _, tc := range []struct {
		cfg         ProgramConfig
		want        AttachMode
		says        string
		unsupported bool
	}{
		{cfg: ProgramConfig{Metadata: rxMetadataAll}, want: AttachNative},
		{cfg: ProgramConfig{Metadata: RXHash, Mode: AttachNative}, want: AttachNative},
		{cfg: ProgramConfig{}, want: AttachAuto},
		{cfg: ProgramConfig{Metadata: 8}, says: "unknown 0x8: no such metadata"},
		{cfg: ProgramConfig{Metadata: RXHash | RXTimestamp, Mode: AttachGeneric}, says: "hash, timestamp, but", unsupported: true},
		{cfg: ProgramConfig{Metadata: RXHash, Mode: AttachOffload}, says: "not in offload mode", unsupported: true},
		{cfg: ProgramConfig{Metadata: RXHash, Mode: AttachJoin}, says: "not in join mode", unsupported: true},
	} {
		tc.cfg.Interface = "x"
		cfg, err := tc.cfg.withDefaults()
		switch {
		case tc.says == "":
			if err != nil || cfg.Mode != tc.want || cfg.Metadata != tc.cfg.Metadata {
				t.Errorf("%+v: %+v, %v", tc.cfg, cfg, err)
			}
		case err == nil || !strings.Contains(err.Error(), tc.says) || errors.Is(err, errors.ErrUnsupported) != tc.unsupported:
			t.Errorf("%+v: %v, want %q", tc.cfg, err, tc.says)
		}
	}
}
