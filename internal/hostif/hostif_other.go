//go:build !linux

package hostif

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
)

var errUnsupported = fmt.Errorf("hostif: network interfaces on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Lookup needs Linux.
func Lookup(string) (Interface, error) { return Interface{}, errUnsupported }

// Addresses needs Linux.
func Addresses(int) ([]netip.Prefix, error) { return nil, errUnsupported }

// Holder needs Linux.
func Holder(netip.Addr) (string, error) { return "", errUnsupported }

// DriverStats needs Linux.
func DriverStats(string) (map[string]uint64, error) { return nil, errUnsupported }

// ZeroCopySegments needs Linux.
func ZeroCopySegments(int) (int, error) { return 0, errUnsupported }

// ReadXDPFeatures needs Linux.
func ReadXDPFeatures(int) (XDPFeatures, error) { return XDPFeatures{}, errUnsupported }

// RSSQueues needs Linux.
func RSSQueues(string) ([]int, error) { return nil, errUnsupported }

// ReadRings needs Linux.
func ReadRings(string) (Rings, error) { return Rings{}, errUnsupported }

// Watch needs Linux.
func Watch(int, func(Event)) (stop func(), err error) { return nil, errUnsupported }

// QueueCount needs Linux.
type QueueCount struct{}

// OpenQueueCount needs Linux.
func OpenQueueCount(int) (*QueueCount, error) { return nil, errUnsupported }

func (*QueueCount) Read() (int, error) { return 0, errUnsupported }
func (*QueueCount) Close()             {}

// Offload needs Linux.
type Offload struct{}

// OpenOffload needs Linux.
func OpenOffload(int, string) (*Offload, error) { return nil, errUnsupported }

func (*Offload) On() (bool, error) { return false, errUnsupported }
func (*Offload) Close()            {}

// WatchAddresses needs Linux.
func WatchAddresses(func(netip.Prefix, int, bool), func(error)) (stop func(), err error) {
	return nil, errUnsupported
}

// JoinMulticast needs Linux.
func JoinMulticast(int, ...net.HardwareAddr) (io.Closer, error) { return nil, errUnsupported }

// Groups needs Linux.
type Groups struct{}

// OpenGroups needs Linux.
func OpenGroups(int) *Groups { return &Groups{} }

func (*Groups) Member(netip.Addr) (bool, error) { return false, errUnsupported }
func (*Groups) Join(netip.Addr) error           { return errUnsupported }
func (*Groups) Leave(netip.Addr) error          { return errUnsupported }
func (*Groups) Close() error                    { return nil }

// SetOffload needs Linux.
func SetOffload(string, string, bool) (undo func() error, err error) { return nil, errUnsupported }

// HeldOffload needs Linux.
type HeldOffload struct{}

// Restore needs Linux.
func (*HeldOffload) Restore() error { return errUnsupported }

// HoldOffload needs Linux.
func HoldOffload(string, string, bool) (*HeldOffload, error) { return nil, errUnsupported }

// AddAddress needs Linux.
func AddAddress(string, netip.Prefix) (undo func() error, err error) { return nil, errUnsupported }

// SetCombined needs Linux.
func SetCombined(string, int) (undo func() error, err error) { return nil, errUnsupported }

// HeldNAPI needs Linux.
type HeldNAPI struct {
	ID     uint32
	Values NAPIValues
	Device bool
}

// Restore needs Linux.
func (*HeldNAPI) Restore() error { return errUnsupported }

// HeldFlow needs Linux.
type HeldFlow struct{ Location uint32 }

// Remove needs Linux.
func (*HeldFlow) Remove() error { return errUnsupported }

// AddFlow needs Linux.
func AddFlow(int, Flow, uint32) (*HeldFlow, error) { return nil, errUnsupported }

// SetNAPI needs Linux.
func SetNAPI(int, uint32, NAPIValues) (*HeldNAPI, error) { return nil, errUnsupported }

// ReadNAPI needs Linux.
func ReadNAPI(int, uint32) (uint32, NAPIValues, error) { return 0, nil, errUnsupported }

// RestoreSettings needs Linux.
func RestoreSettings() error { return nil }
