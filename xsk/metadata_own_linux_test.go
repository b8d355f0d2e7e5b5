//go:build linux && (amd64 || arm64)

package xsk

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

// attachOwn attaches a program that is not of this package, and leaves metadata as
// this package reads it: the time by the kernel's monotonic clock.
func attachOwn(t *testing.T, l *lab.Lab, m *Map, marker int64, flags link.XDPAttachFlags) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "own_metadata", Type: ebpf.XDP, License: "GPL", Flags: unix.BPF_F_XDP_HAS_FRAGS,
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.FnKtimeGetNs.Call(),
			asm.Mov.Reg(asm.R7, asm.R0),
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Imm(asm.R2, -metadataSize),
			asm.FnXdpAdjustMeta.Call(),
			asm.JNE.Imm(asm.R0, 0, "redirect"),
			asm.LoadMem(asm.R3, asm.R6, 0, asm.Word), // data
			asm.LoadMem(asm.R2, asm.R6, 8, asm.Word), // data_meta
			asm.Mov.Reg(asm.R4, asm.R2),
			asm.Add.Imm(asm.R4, metadataSize),
			asm.JGT.Reg(asm.R4, asm.R3, "redirect"),
			asm.StoreMem(asm.R2, 0, asm.R7, asm.DWord),
			asm.Mov.Imm(asm.R1, 0),
			asm.StoreMem(asm.R2, 8, asm.R1, asm.DWord),
			asm.StoreMem(asm.R2, 16, asm.R1, asm.Word),
			asm.Mov.Imm(asm.R1, int32(RXTimestamp)),
			asm.StoreMem(asm.R2, 20, asm.R1, asm.Word),
			asm.LoadImm(asm.R1, marker, asm.DWord),
			asm.StoreMem(asm.R2, 24, asm.R1, asm.DWord),
			asm.LoadMapPtr(asm.R1, m.FD()).WithSymbol("redirect"),
			asm.Mov.Imm(asm.R2, 1),
			asm.Mov.Imm(asm.R3, 2), // XDP_PASS
			asm.FnRedirectMap.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { prog.Close() })
	err = l.Host.Do(func() error {
		ifc, err := l.Host.Interface()
		if err != nil {
			return err
		}
		lnk, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifc.Index, Flags: flags})
		if err == nil {
			t.Cleanup(func() { lnk.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// monotonic is the clock of bpf_ktime_get_ns.
func monotonic(t *testing.T) uint64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return uint64(ts.Nano())
}

// TestMetadataOfOwnProgram reads what a program of the user's own leaves in the
// frames: the kernel copies it in native and in generic mode, into every geometry
// of chunks, before the first frame of a packet.
func TestMetadataOfOwnProgram(t *testing.T) {
	const marker = 0x5eed5eed5eed5eed
	for _, mode := range []link.XDPAttachFlags{link.XDPDriverMode, link.XDPGenericMode} {
		name := map[link.XDPAttachFlags]string{link.XDPDriverMode: "native", link.XDPGenericMode: "generic"}[mode]
		t.Run(name, func(t *testing.T) {
			requireMetadata(t)
			m := &metadataLab{T: t, l: lab.New(t, lab.Config{MTU: 9000})}
			maps, err := NewMap("own", 2)
			if err != nil {
				t.Fatal(err)
			}
			defer maps.Close()
			attachOwn(t, m.l, maps, marker, mode)
			m.s = mustOpen(t, m.l, small(Config{MetadataMarker: marker, UMEM: umem.Config{ChunkSize: 3072, Unaligned: true, Headroom: 40}}))
			if err := maps.AddSocket(1, m.s); err != nil {
				t.Fatal(err)
			}
			m.fd = packetSocket(t, m.l)
			last := uint64(0)
			for i := range 200 {
				before := monotonic(t)
				md, ok := m.exchange(1000, 1+i*997%(9000-28))
				after := monotonic(t)
				if !ok || md.Valid != RXTimestamp || md.Hash != 0 || md.Timestamp < before || md.Timestamp > after || md.Timestamp <= last {
					t.Fatalf("packet %d: %+v, %v, sent at %d and received at %d", i, md, ok, before, after)
				}
				last = md.Timestamp
			}
		})
	}
}
