//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
)

// xdpFunc is the type of a function that takes a packet, as EXT programs and the
// functions that they replace are checked by.
func xdpFunc(name string, linkage btf.FuncLinkage) *btf.Func {
	number := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	packet := &btf.Struct{Name: "xdp_md", Size: 4, Members: []btf.Member{{Name: "data", Type: number}}}
	return &btf.Func{Name: name, Linkage: linkage, Type: &btf.FuncProto{
		Return: number, Params: []btf.FuncParam{{Name: "ctx", Type: &btf.Pointer{Target: packet}}},
	}}
}

func inFunc(ins asm.Instruction, name string, linkage btf.FuncLinkage) asm.Instruction {
	return btf.WithFuncMetadata(ins.WithSymbol(name), xdpFunc(name, linkage))
}

// dispatcher is a program as libxdp's: two places, the second of which a packet
// comes to if the first passes it.
func dispatcher(t *testing.T) *ebpf.Program {
	t.Helper()
	config := make([]byte, dispatcherConfig)
	config[0], config[1], config[2] = dispatcherMagic, dispatcherVersion, 2
	config[dispatcherPrios], config[dispatcherPrios+4] = 10, 50
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "conf", Type: ebpf.Array, KeySize: 4, ValueSize: dispatcherConfig, MaxEntries: 1,
		Contents: []ebpf.MapKV{{Key: uint32(0), Value: config}}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	main := asm.Instructions{
		inFunc(asm.Mov.Reg(asm.R6, asm.R1), dispatcherName, btf.GlobalFunc),
		asm.LoadMapValue(asm.R7, m.FD(), 0),
		asm.Call.Label("prog0"),
		asm.JNE.Imm32(asm.R0, 2, "out"), // XDP_PASS goes on
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Call.Label("prog1"),
		asm.Return().WithSymbol("out"),
	}
	for i := range 2 {
		main = append(main, inFunc(asm.Mov.Imm(asm.R0, 2), fmt.Sprintf("prog%d", i), btf.GlobalFunc), asm.Return())
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: dispatcherName, Type: ebpf.XDP, Instructions: main, License: "GPL"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestDispatcherJoin is a component of a dispatcher, after another one: it is named
// to who wants the interface for himself, and serves who joins it.
func TestDispatcherJoin(t *testing.T) {
	l := lab.New(t, lab.Config{})
	lab.Require(t, lab.XDP)
	disp := dispatcher(t)
	replace := func(place string, p *ebpf.Program, err error) {
		t.Helper()
		if errors.Is(err, unix.EPERM) {
			t.Skip("this kernel refuses programs that replace functions of others, as it does xdp-loader's: ", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		lnk, err := link.AttachFreplace(disp, place, p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lnk.Close() })
	}
	filter, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "filter", Type: ebpf.Extension, AttachTarget: disp, AttachTo: "prog0", License: "GPL",
		Instructions: asm.Instructions{inFunc(asm.Mov.Imm(asm.R0, 2), "filter", btf.GlobalFunc), asm.Return()}})
	replace("prog0", filter, err)
	t.Cleanup(func() { filter.Close() })
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(ProgramObject()))
	if err != nil {
		t.Fatal(err)
	}
	delete(spec.Programs, "afxnet_verdict")
	steer := spec.Programs[steerName]
	steer.Type, steer.AttachType, steer.AttachTarget, steer.AttachTo = ebpf.Extension, ebpf.AttachNone, disp, "prog1"
	steer.Flags &^= unix.BPF_F_XDP_HAS_FRAGS
	c, err := ebpf.NewCollection(spec)
	if err == nil {
		t.Cleanup(c.Close)
		replace("prog1", c.Programs[steerName], nil)
	} else {
		replace("prog1", nil, err)
	}
	attachProgram(t, l, disp, link.XDPDriverMode)

	alone, err := loadInLab(l, AttachAuto)
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	err = l.Host.Do(alone.Attach)
	for _, want := range []string{`"filter" at priority 10, `, ` "afxnet_steer" at priority 50`, "use AttachJoin"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}

	p := attachInLab(t, l, AttachJoin)
	if before := labState(t, l); p.Mode() != AttachNative || p.ID() == before.native {
		t.Errorf("program %d in mode %v of %+v", p.ID(), p.Mode(), before)
	}
	s := mustOpen(t, l, small(Config{}))
	s.RX().Refill()
	if err := p.AddSocket(0, s.FD()); err != nil {
		t.Fatal(err)
	}
	testVeth(t, l, s)
}
