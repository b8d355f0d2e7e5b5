//go:build linux && (amd64 || arm64)

package xsk

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
)

// MetadataMarker returns what marks the frames before which the program puts
// metadata, for Config.MetadataMarker: a random number, other for each Program,
// that is nobody's to know but the sockets'. It is 0 without
// ProgramConfig.Metadata.
func (p *Program) MetadataMarker() uint64 { return p.marker }

// prepareMetadata binds the program that asks for metadata to the device, after a
// look at what that declares: the functions of a driver that has none fail for
// every packet, which is found out too late.
func (p *Program) prepareMetadata(spec *ebpf.CollectionSpec) error {
	if err := p.checkDeclared(); err != nil {
		return err
	}
	var b [8]byte
	for p.marker == 0 {
		rand.Read(b[:]) // never fails
		p.marker = binary.NativeEndian.Uint64(b[:])
	}
	prog := spec.Programs[steerMetadataProgAfxnetSteer]
	prog.Flags |= unix.BPF_F_XDP_DEV_BOUND_ONLY
	prog.Ifindex = uint32(p.ifindex)
	err := errors.Join(
		spec.Variables[steerMetadataVarMetadataWanted].Set(uint32(p.cfg.Metadata)),
		spec.Variables[steerMetadataVarMetadataMarker].Set(p.marker))
	if err != nil {
		return p.opError("load program", err)
	}
	return nil
}

// declaredRXMetadata returns what a driver declares that programs can ask for.
func declaredRXMetadata(f hostif.XDPFeatures) (m RXMetadataSet) {
	for _, d := range []struct {
		has bool
		bit RXMetadataSet
	}{{f.RXHash, RXHash}, {f.RXTimestamp, RXTimestamp}, {f.RXVLANTag, RXVLANTag}} {
		if d.has {
			m |= d.bit
		}
	}
	return m
}

// checkDeclared refuses metadata that the driver of the device does not declare.
func (p *Program) checkDeclared() error {
	dev, err := hostif.Lookup(p.cfg.Interface)
	if err != nil {
		return p.opError("find interface", err)
	}
	f, err := hostif.ReadXDPFeatures(dev.Index)
	if errors.Is(err, unix.ENOENT) {
		return p.opError("load program", &UnsupportedError{Feature: "ProgramConfig.Metadata", MinKernel: "6.3"})
	}
	if err != nil {
		return p.opError("read what the driver declares", err)
	}
	declared := declaredRXMetadata(f)
	if missing := p.cfg.Metadata &^ declared; missing != 0 {
		driver := dev.Driver
		if driver == "" {
			driver = "without a name"
		}
		return &OpError{
			Op: "load program", Device: p.cfg.Interface, Queue: NoQueue,
			Err:    fmt.Errorf("ProgramConfig.Metadata: %v: not declared by the driver %s, which declares %v: %w", missing, driver, declared, errors.ErrUnsupported),
			Remedy: "ask for no more than Check says the device declares",
		}
	}
	return nil
}

// metadataError explains why the program with metadata did not load, where that is
// not the reason of any other: its functions are found by the kernel's BTF.
func (p *Program) metadataError(err error) error {
	if p.cfg.Metadata == 0 {
		return err
	}
	if _, btfErr := btf.LoadKernelSpec(); errors.Is(btfErr, ebpf.ErrNotSupported) {
		return &UnsupportedError{Feature: "ProgramConfig.Metadata, on a kernel that does not tell its types (CONFIG_DEBUG_INFO_BTF),"}
	}
	return err
}
