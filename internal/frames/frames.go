// Package frames accounts for every frame that crosses a lab while a stack
// runs in it: it follows them in both directions from one counter to the next,
// and what a counter is short of is missing. Each frame that the peer sent must
// have been received by the interface; each one since the program was there be
// in one of its verdicts; each one redirected have been received by a socket or
// dropped by name; each one received delivered or dropped by name; and back.
package frames

import (
	"fmt"
	"strings"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/netdev"
)

// A Step is one step of a frame's way: how many went in, and what became of
// them.
type Step struct {
	Name    string
	In, Out uint64
}

func (s Step) String() string { return fmt.Sprintf("%s: %d, %d", s.Name, s.In, s.Out) }

// Account is the frames of a lab at one time.
type Account struct {
	Steps   []Step
	Missing uint64            // the sum of what In and Out differ by, and of the frames not given back
	Drops   map[string]uint64 // frames and packets dropped, by reason
}

func (a Account) String() string {
	var b strings.Builder
	for _, s := range a.Steps {
		fmt.Fprintln(&b, s)
	}
	fmt.Fprintf(&b, "missing: %d, dropped: %v", a.Missing, a.Drops)
	return b.String()
}

// Before returns how many frames the AF_XDP side had received before the
// program was attached: veth counts those that a program saw by themselves.
// Call it once after stack.Open.
func Before(l *lab.Lab) (uint64, error) {
	return before(func() (map[string]uint64, error) { return l.Host.Stats(lab.HostDevice) }, l.Config.Queues)
}

// before is Before by the interface's statistics. Those of the link are read before
// those of its queues: no frame came between if the next link has as many.
func before(stats func() (map[string]uint64, error), queues int) (uint64, error) {
	a, err := stats()
	for err == nil {
		var b map[string]uint64
		if b, err = stats(); err != nil {
			break
		}
		n := a["rx_packets"]
		if n == b["rx_packets"] {
			for q := range queues {
				n -= a[fmt.Sprintf("rx_queue_%d_xdp_packets", q)]
			}
			return n, nil
		}
		a = b
	}
	return 0, err
}

// Settle reads the account again and again until nothing is missing, for the
// last frames to arrive, but not for longer than patience. The error is one of
// reading; whether frames are missing is the account's to say.
func Settle(l *lab.Lab, d *netdev.Device, before uint64, patience time.Duration) (Account, error) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		a, err := Read(l, d, before)
		if err != nil || a.Missing == 0 || time.Now().After(deadline) {
			return a, err
		}
	}
}

// Read takes the account now. Frames under way are missing from it.
func Read(l *lab.Lab, d *netdev.Device, before uint64) (Account, error) {
	peer, err := l.Peer.Stats(lab.PeerDevice)
	if err != nil {
		return Account{}, err
	}
	host, err := l.Host.Stats(lab.HostDevice)
	if err != nil {
		return Account{}, err
	}
	kernel, err := l.Host.IPSent()
	if err != nil {
		return Account{}, err
	}
	st, err := d.Stats()
	if err != nil {
		return Account{}, err
	}
	a := Account{Steps: steps(peer, host, before, kernel, st), Drops: st.Drops()}
	for _, s := range a.Steps {
		a.Missing += max(s.In, s.Out) - min(s.In, s.Out)
	}
	for _, q := range d.Audit() {
		a.Missing += uint64(q.Held + q.TX)
	}
	return a, nil
}

// Accounted returns how many frames of its RX ring a queue has delivered to the
// stack, or dropped by name: all that it has received.
func Accounted(q netdev.QueueStats) uint64 {
	n := q.RXDelivered
	for name, drops := range q.Drops {
		if strings.HasPrefix(name, "rx ") && !strings.HasPrefix(name, "rx kernel:") {
			n += drops
		}
	}
	return n
}

func steps(peer, host map[string]uint64, before, kernel uint64, st netdev.Stats) []Step {
	var received, lost, accounted, sent, more, done, txLost, seen, unseen uint64
	for _, q := range st.Queues {
		k := q.Socket.Kernel
		received += q.Socket.RXFrames + q.Socket.RXBadDescs + q.Socket.RXContinued
		lost += k.RXDropped + k.RXRingFull // a frame that found the fill ring empty is among the former
		accounted += Accounted(q)
		sent += q.Socket.TXFrames
		more += q.Socket.TXMore
		done += q.Socket.TXCompletions
		txLost += q.Socket.TXDeviceDrops + k.TXInvalidDescs
	}
	for _, n := range st.Steering.All() {
		seen += n
	}
	// The rx_dropped of the whole interface has frames as well that it did not
	// receive: those that the peer sent while it was down.
	for q := 0; ; q++ {
		n, ok := host[fmt.Sprintf("rx_queue_%d_drops", q)]
		if !ok {
			break
		}
		unseen += n
	}
	s := st.Steering
	return []Step{
		// What AF_XDP does not take, veth counts as received and as dropped.
		{"sent by the peer -> received by the interface", peer["tx_packets"], host["rx_packets"]},
		{"received since the start -> seen by the program, dropped before", host["rx_packets"] - before, seen + unseen - lost},
		{"redirected -> received by the sockets, dropped by AF_XDP", s.RedirectIPv4 + s.RedirectIPv6 + s.RedirectARP + s.RedirectND, received + lost},
		{"received -> delivered to the stack, dropped by us", received, accounted},
		{"sent by the stack -> completed", sent + more, done},
		{"completed, sent by the host's kernel -> sent by the interface, dropped", done - more + kernel, host["tx_packets"] + txLost},
		{"sent by the interface -> received by the peer, dropped", host["tx_packets"], peer["rx_packets"] + peer["rx_dropped"]},
	}
}
