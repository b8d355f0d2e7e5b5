//go:build !(linux && (amd64 || arm64))

package xsk

// Map is an XSKMAP. There is none on this system: NewMap and OpenMap return an
// error that wraps errors.ErrUnsupported.
type Map struct{}

// NewMap is for Linux on amd64 and arm64.
func NewMap(string, int) (*Map, error) { return nil, noBPF("make map") }

// OpenMap is for Linux on amd64 and arm64.
func OpenMap(string) (*Map, error) { return nil, noBPF("open pinned map") }

func noBPF(op string) error { return bpfError(op, NoQueue, &UnsupportedError{Feature: "XDP"}) }

func (*Map) Pin(string) error                { return noBPF("pin map") }
func (*Map) FD() int                         { return -1 }
func (*Map) AddSocket(uint32, *Socket) error { return noBPF("add socket to map") }
func (*Map) RemoveSocket(uint32) error       { return noBPF("remove socket from map") }
func (*Map) Close() error                    { return nil }
