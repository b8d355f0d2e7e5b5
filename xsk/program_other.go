//go:build !(linux && (amd64 || arm64))

package xsk

import (
	"net"
	"net/netip"
)

// Program is the steering program of one interface. There is none on this
// system: LoadProgram returns an error that wraps errors.ErrUnsupported.
type Program struct{}

// LoadProgram is for Linux on amd64 and arm64.
func LoadProgram(cfg ProgramConfig) (*Program, error) {
	return nil, noProgram("load program", cfg.Interface)
}

// ProgramObject is for Linux on amd64 and arm64.
func ProgramObject() []byte { return nil }

func noProgram(op, device string) error {
	return &OpError{Op: op, Device: device, Queue: NoQueue, Err: &UnsupportedError{Feature: "XDP"}}
}

func (*Program) Config() ProgramConfig          { return ProgramConfig{} }
func (*Program) ID() uint32                     { return 0 }
func (*Program) Mode() AttachMode               { return AttachAuto }
func (*Program) MetadataMarker() uint64         { return 0 }
func (*Program) NativeErr() error               { return nil }
func (*Program) Lost() error                    { return nil }
func (*Program) Addresses() []netip.Addr        { return nil }
func (*Program) Groups() []netip.Addr           { return nil }
func (*Program) Close() error                   { return nil }
func (*Program) Attach() error                  { return noProgram("attach program", "") }
func (*Program) SetMAC(net.HardwareAddr) error  { return noProgram("set MAC address", "") }
func (*Program) AddSocket(uint32, int) error    { return noProgram("add socket to program", "") }
func (*Program) RemoveSocket(uint32) error      { return noProgram("remove socket from program", "") }
func (*Program) AddAddress(netip.Addr) error    { return noProgram("add address to program", "") }
func (*Program) RemoveAddress(netip.Addr) error { return noProgram("remove address from program", "") }
func (*Program) AddGroup(netip.Addr) error      { return noProgram("add group to program", "") }
func (*Program) RemoveGroup(netip.Addr) error   { return noProgram("remove group from program", "") }

func (*Program) Counters() (Counters, error) {
	return Counters{}, noProgram("read program counters", "")
}

func (*Program) Test([]byte) (Verdict, error) { return 0, noProgram("test program", "") }
