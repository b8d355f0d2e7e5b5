// Package peers lists the implementations under test by name.
package peers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/afxnet/afxnet/bench/internal/afxpeer"
	"github.com/afxnet/afxnet/bench/internal/floor"
	"github.com/afxnet/afxnet/bench/internal/gvisorpeer"
	"github.com/afxnet/afxnet/bench/internal/kernelpeer"
	"github.com/afxnet/afxnet/bench/internal/offload"
	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/without"
)

// Kernel is the peer that all others are compared with.
const Kernel = "kernel"

// Floor is the peer without a stack: no server can be faster with the same
// client.
const Floor = "floor"

// Raw is the peer that bulk is compared with: AF_XDP without a stack, with the
// same work for the client.
const Raw = "raw"

// An Entry is one implementation. Exactly one of Open and Respond is set.
type Entry struct {
	Name  string
	About string // one line for the help text

	// Offloads is what both ends of the link run with.
	Offloads offload.Profile

	// Ablation says that the peer is one of ours with one mechanism less, or
	// with one that needs a NIC: it is left out unless it is asked for.
	Ablation bool

	Open    func(peer.Config) (peer.Peer, error)
	Respond func(peer.Config) (peer.Responder, error)
}

// All lists the entries in the order in which tables show them.
var All = []Entry{
	{Name: Kernel, About: "package net, the device's offloads as they are",
		Open: kernelpeer.Open},
	{Name: "kernel-nooffload", About: "package net, TSO, GSO and GRO off at both ends",
		Offloads: offload.Plain, Open: kernelpeer.Open},
	{Name: "gvisor-xdp", About: "gVisor's own AF_XDP link and gonet",
		Offloads: offload.Complete, Open: gvisor("xdp")},
	{Name: "gvisor-packet", About: "gVisor over AF_PACKET (link/fdbased) and gonet",
		Offloads: offload.Complete, Open: gvisor("packet")},
	{Name: Floor, About: "a canned responder on AF_XDP: what the kernel client allows",
		Offloads: offload.Complete, Respond: floor.Open},
	{Name: Raw, About: "the same for bulk: what AF_XDP and the kernel client allow",
		Offloads: offload.Complete, Respond: floor.Open},
	{Name: "afxnet", About: "this project, adaptive polling",
		Offloads: offload.Complete, Open: ours("adaptive", without.Inline)},
	{Name: "afxnet-block", About: "this project, never polls",
		Offloads: offload.Complete, Open: ours("block", without.Inline)},
	{Name: "afxnet-spin", About: "this project, polls always",
		Offloads: offload.Complete, Open: ours("spin", without.Inline)},
	{Name: "inline", About: "adaptive, with package stack/inline",
		Offloads: offload.Complete, Open: ours("adaptive")},
	{Name: "inline-block", About: "the same, never polls",
		Offloads: offload.Complete, Open: ours("block")},
	{Name: "inline-spin", About: "the same, polls always",
		Offloads: offload.Complete, Open: ours("spin")},
	{Name: "inline-busypoll", About: "inline, and polling runs the NAPI of a NIC", Ablation: true,
		Offloads: offload.Complete, Open: busyPolling},
	lacking(without.FastIP), lacking(without.GRO), lacking(without.ACKMerge),
	lacking(without.ACKHold), lacking(without.Gather), lacking(without.LateArm),
	lacking(afxpeer.TXBudget),
}

// ours opens the stack in a polling mode, without some mechanisms.
func ours(mode string, off ...string) func(peer.Config) (peer.Peer, error) {
	return func(cfg peer.Config) (peer.Peer, error) {
		cfg.Polling, cfg.Off = mode, off
		return afxpeer.Open(cfg)
	}
}

// busyPolling opens the peer inline with preferred busy polling.
func busyPolling(cfg peer.Config) (peer.Peer, error) {
	cfg.BusyPoll = true
	return ours("adaptive")(cfg)
}

// lacking is the peer inline less one mechanism.
func lacking(mechanism string) Entry {
	return Entry{Name: lackPrefix + mechanism, About: "inline, without " + mechanism, Ablation: true,
		Offloads: offload.Complete, Open: ours("adaptive", mechanism)}
}

// gvisor opens gVisor's stack on one of its own links.
func gvisor(kind string) func(peer.Config) (peer.Peer, error) {
	return func(cfg peer.Config) (peer.Peer, error) { return gvisorpeer.Open(kind, cfg) }
}

// Names returns the names of all peers.
func Names() []string { return names(func(Entry) bool { return true }) }

// Usual returns the names of the peers that run if none is named.
func Usual() []string { return names(func(e Entry) bool { return !e.Ablation }) }

// Ablation returns the peers that tell what each mechanism is worth.
func Ablation() []string {
	return append([]string{Kernel, Full}, names(func(e Entry) bool { return Lacks(e.Name) != "" })...)
}

func names(want func(Entry) bool) (names []string) {
	for _, e := range All {
		if want(e) {
			names = append(names, e.Name)
		}
	}
	return names
}

// Lookup returns the peer with this name.
func Lookup(name string) (Entry, error) {
	i := slices.IndexFunc(All, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, fmt.Errorf("no peer %q; there are %s", name, strings.Join(Names(), ", "))
	}
	return All[i], nil
}
