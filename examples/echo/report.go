package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/netdev"
)

// result is what one protocol's run gave.
type result struct {
	Messages   int     `json:"messages"`
	Mismatches int     `json:"mismatches"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
}

type report struct {
	Info     netdev.Info
	TCP, UDP result
	Missing  uint64            // frames that are in no counter
	Drops    map[string]uint64 // frames and packets dropped, by reason
	Frames   []line            // the account, step by step
}

// line is one step of a frame's way: what went in, and what became of it.
type line struct {
	step    string
	in, out uint64
}

// account follows the frames of both directions from counter to counter. Each
// frame that the peer sent must have been received by the interface, each one
// since the program was there must be in one of its verdicts, each one
// redirected must have been received or dropped by name, each one received
// delivered or dropped by name; and back. It waits for the last ones to arrive.
func (r *report) account(l *lab.Lab, d *netdev.Device, before uint64) error {
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		peer, err := l.Peer.Stats(lab.PeerDevice)
		if err != nil {
			return err
		}
		host, err := l.Host.Stats(lab.HostDevice)
		if err != nil {
			return err
		}
		kernel, err := l.Host.IPSent()
		if err != nil {
			return err
		}
		st, err := d.Stats()
		if err != nil {
			return err
		}
		r.Frames = steps(peer, host, before, kernel, st)
		r.Drops = st.Drops()
		r.Missing = 0
		for _, s := range r.Frames {
			r.Missing += max(s.in, s.out) - min(s.in, s.out)
		}
		for _, a := range d.Audit() {
			r.Missing += uint64(a.Held + a.TX)
		}
		if r.Missing == 0 || time.Now().After(deadline) {
			return nil
		}
	}
}

func steps(peer, host map[string]uint64, before, kernel uint64, st netdev.Stats) []line {
	var received, lost, delivered, drops, sent, done, txLost uint64
	for _, q := range st.Queues {
		k := q.Socket.Kernel
		received += q.Socket.RXFrames + q.Socket.RXBadDescs + q.Socket.RXContinued
		lost += k.RXDropped + k.RXRingFull // a frame that found the fill ring empty is among the former
		delivered += q.RXDelivered
		for name, n := range q.Drops {
			if isFrameDrop(name) {
				drops += n
			}
		}
		sent += q.Socket.TXFrames
		done += q.Socket.TXCompletions
		txLost += q.Socket.TXDeviceDrops + k.TXInvalidDescs
	}
	var seen uint64
	for _, n := range st.Steering.All() {
		seen += n
	}
	s := st.Steering
	return []line{
		// What AF_XDP does not take, veth counts as received and as dropped.
		{"sent by the peer -> received by the interface", peer["tx_packets"], host["rx_packets"]},
		{"received since the start -> seen by the program, dropped before", host["rx_packets"] - before, seen + host["rx_dropped"] - lost},
		{"redirected -> received by the sockets, dropped by AF_XDP", s.RedirectIPv4 + s.RedirectIPv6 + s.RedirectARP + s.RedirectND, received + lost},
		{"received -> delivered to the stack, dropped by us", received, delivered + drops},
		{"sent by the stack -> completed", sent, done},
		{"completed, sent by the host's kernel -> sent by the interface, dropped", done + kernel, host["tx_packets"] + txLost},
		{"sent by the interface -> received by the peer, dropped", host["tx_packets"], peer["rx_packets"] + peer["rx_dropped"]},
	}
}

// beforeProgram returns how many frames the interface received before the
// program was attached: veth counts those that a program saw by themselves.
func beforeProgram(l *lab.Lab) (uint64, error) {
	for {
		a, err := l.Host.Stats(lab.HostDevice)
		if err != nil {
			return 0, err
		}
		b, err := l.Host.Stats(lab.HostDevice)
		if err != nil {
			return 0, err
		}
		if a["rx_packets"] != b["rx_packets"] {
			continue // in the middle of a frame
		}
		n := b["rx_packets"]
		for q := range l.Config.Queues {
			n -= b[fmt.Sprintf("rx_queue_%d_xdp_packets", q)]
		}
		return n, nil
	}
}

// isFrameDrop tells the drops of received frames that reached a socket.
func isFrameDrop(name string) bool {
	return len(name) > 3 && name[:3] == "rx " && !(len(name) > 10 && name[:10] == "rx kernel:")
}

func (r *report) bind() string {
	if r.Info.ZeroCopy {
		return "zero-copy"
	}
	return "copy"
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{
			"bind": r.bind(), "attach": r.Info.Attach.String(), "queues": len(r.Info.Queues),
			"tcp": r.TCP, "udp": r.UDP, "frames_missing": r.Missing, "drops": r.Drops,
		})
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s: %s, bind %s, attach %v, %d queue(s), MTU %d\n", r.Info.Interface, r.Info.Driver, r.bind(), r.Info.Attach, len(r.Info.Queues), r.Info.MTU)
	fmt.Fprintf(t, "\nprotocol\tmessages\tmismatches\tp50 us\tp99 us\n")
	for _, p := range []struct {
		name string
		result
	}{{"tcp", r.TCP}, {"udp", r.UDP}} {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.1f\t%.1f\n", p.name, p.Messages, p.Mismatches, p.P50, p.P99)
	}
	fmt.Fprintf(t, "\nframes\tin\tout\n")
	for _, f := range r.Frames {
		fmt.Fprintf(t, "%s\t%d\t%d\n", f.step, f.in, f.out)
	}
	fmt.Fprintf(t, "missing\t%d\n", r.Missing)
	for _, name := range slices.Sorted(maps.Keys(r.Drops)) {
		fmt.Fprintf(t, "dropped: %s\t%d\n", name, r.Drops[name])
	}
	return t.Flush()
}

// verdict is nil if every message came back intact and every frame is accounted
// for.
func (r *report) verdict() error {
	var errs []error
	if n := r.TCP.Mismatches + r.UDP.Mismatches; n != 0 {
		errs = append(errs, fmt.Errorf("%d messages came back changed", n))
	}
	if r.Missing != 0 {
		errs = append(errs, fmt.Errorf("%d frames are unaccounted for", r.Missing))
	}
	return errors.Join(errs...)
}
