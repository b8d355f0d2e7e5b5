// Package peer says what an implementation under test looks like to the bench.
package peer

import (
	"context"
	"net"
	"net/netip"
)

// A Peer is an implementation of TCP and UDP, opened on the host side of the
// link under test.
type Peer interface {
	// Listen announces on a local TCP address. network is "tcp4" or "tcp6".
	Listen(network, address string) (net.Listener, error)
	// ListenPacket announces on a local UDP address. network is "udp4" or "udp6".
	ListenPacket(network, address string) (net.PacketConn, error)
	// DialContext connects to an address on the other side of the link.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Counters returns counters that only grow, by name: frames, wakeups,
	// drops. It may be nil.
	Counters() map[string]uint64
	// Info returns what was read back from the kernel, by name: bind mode,
	// attach mode. It may be nil.
	Info() map[string]string
	// Close releases the device and everything Open changed on it.
	Close() error
}

// A Responder is a peer that answers by itself, without sockets: it speaks
// just enough TCP and UDP for the request workloads.
type Responder interface {
	// Serve answers until ctx is done, and then returns nil.
	Serve(ctx context.Context) error
	// Counters returns counters that only grow, by name. It may be nil.
	Counters() map[string]uint64
	// Info returns what was read back from the kernel, by name. It may be nil.
	Info() map[string]string
	// Close releases the device and everything Open changed on it.
	Close() error
}

// Config says on which device and with which addresses a peer is opened.
type Config struct {
	// Interface is the device, in the network namespace of the process.
	Interface string
	// V4 and V6 are the addresses the peer serves at, with the prefix of the
	// link. A kernel peer puts them on the device and Close takes them off.
	V4, V6 netip.Prefix
	// MTU is the device's MTU in bytes; 0 means 1500.
	MTU int
	// Queues is the number of receive queues to use; 0 means 1.
	Queues int
	// Polling is "block", "adaptive" or "spin"; "" means "adaptive". The
	// floor takes "block" and spins otherwise; peers not of ours ignore it.
	Polling string
	// BusyPoll has the queues' NAPI run by whoever polls. Only the afxnet peers
	// read it.
	BusyPoll bool
	// Off names mechanisms that are switched off, for the ablation. Only the
	// afxnet peers read it.
	Off []string
}

// The ports every server serves.
const (
	EchoPort   = 7000 // TCP and UDP: what arrives is sent back
	SinkPort   = 7001 // TCP: reads to the end, then sends the count, 8 bytes big endian
	SourcePort = 7002 // TCP: reads a count, 8 bytes big endian, sends that many bytes and closes
	ProxyPort  = 7003 // TCP: joined to an echo server behind the server

	ProxySinkPort = 7004 // TCP: joined to a sink behind the server
)
