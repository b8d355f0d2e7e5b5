//go:build !linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
)

var errUnsupported = fmt.Errorf("lab: network namespaces on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func (l *Lab) open() error { return errUnsupported }

func (n *Namespace) enter(func() error) error { return errUnsupported }

func (n *Namespace) close() error { return nil }

// SetDown needs Linux.
func (l *Lab) SetDown() error { return errUnsupported }

// SetUp needs Linux.
func (l *Lab) SetUp() error { return errUnsupported }

// SetCarrier needs Linux.
func (l *Lab) SetCarrier(bool) error { return errUnsupported }

// SetMAC needs Linux.
func (l *Lab) SetMAC(net.HardwareAddr) error { return errUnsupported }

// SetMTU needs Linux.
func (l *Lab) SetMTU(int) error { return errUnsupported }

// Move needs Linux.
func (l *Lab) Move() error { return errUnsupported }

// Delete needs Linux.
func (l *Lab) Delete() error { return errUnsupported }

// DetachProgram needs Linux.
func (l *Lab) DetachProgram() error { return errUnsupported }

// SetQueues needs Linux.
func (n *Namespace) SetQueues(int) error { return errUnsupported }

// RemoveAddress needs Linux.
func (n *Namespace) RemoveAddress(netip.Prefix) error { return errUnsupported }

// Stats needs Linux.
func (n *Namespace) Stats(string) (map[string]uint64, error) { return nil, errUnsupported }

// IPSent needs Linux.
func (n *Namespace) IPSent() (uint64, error) { return 0, errUnsupported }

// SetNeighbor needs Linux.
func (n *Namespace) SetNeighbor(netip.Addr, net.HardwareAddr) error { return errUnsupported }

// Neighbor needs Linux.
func (n *Namespace) Neighbor(netip.Addr) (net.HardwareAddr, error) { return nil, errUnsupported }

// RouteGroups needs Linux.
func (n *Namespace) RouteGroups() error { return errUnsupported }

// AddAddress needs Linux.
func (n *Namespace) AddAddress(netip.Prefix) error { return errUnsupported }

func probeRoot() error  { return errUnsupported }
func probeNetNS() error { return errUnsupported }
func probeBPF() error   { return errUnsupported }
func probeXDP() error   { return errUnsupported }

// ExecUnprivileged needs Linux.
func ExecUnprivileged(args, env []string) error { return errUnsupported }
