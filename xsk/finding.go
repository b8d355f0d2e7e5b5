package xsk

import (
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/afxnet/afxnet/internal/hostif"
)

// Level is how much a Finding matters.
type Level string

// The levels, in ascending order.
const (
	OK      Level = "ok"      // as it should be
	Note    Level = "note"    // works, and could be better
	Warning Level = "warning" // works, but packets or speed are lost
	Problem Level = "problem" // does not work
)

// What a Finding can be about.
const (
	SubjectKernel       = "kernel"
	SubjectCapabilities = "capabilities"
	SubjectMemory       = "memory"
	SubjectLink         = "link"
	SubjectProgram      = "program"
	SubjectZeroCopy     = "zero-copy"
	SubjectMTU          = "mtu"
	SubjectQueues       = "queues"
	SubjectOffloads     = "offloads"
	SubjectMetadata     = "metadata"
	SubjectAddresses    = "addresses"
)

// Finding is one thing that Check found out about a device, in plain words.
type Finding struct {
	Subject string `json:"subject"`
	Level   Level  `json:"level"`
	Text    string `json:"text"`
	Fix     string `json:"fix,omitempty"` // the command, or the change, that mends it
}

func (f Finding) String() string {
	s := fmt.Sprintf("%-8s %s: %s", f.Level, f.Subject, f.Text)
	if f.Fix != "" {
		s += "\n         fix: " + f.Fix
	}
	return s
}

// errNoDevice is a device that is gone.
var errNoDevice error = syscall.ENODEV

// checkQueues finds receive queues that flows can arrive on and nobody reads.
func checkQueues(dev hostif.Interface, bound []uint32) []Finding {
	rss, _ := hostif.RSSQueues(dev.Name) // without a table, any queue may be used
	missed := unreadQueues(dev.RXQueues, rss, bound)
	if len(missed) == 0 {
		return nil
	}
	how := "the device has no RSS table and may use any of its " + strconv.Itoa(dev.RXQueues) + " receive queues"
	if rss != nil {
		how = "its RSS table names them"
	}
	return []Finding{{Subject: SubjectQueues, Level: Warning, Fix: fixQueues(dev, bound),
		Text: fmt.Sprintf("flows can arrive on %s, which nobody reads (%s): the kernel gets them", listQueues(missed), how)}}
}

// receivesOnly tells whether a device has a queue for receiving only. In copy mode,
// the kernel leaves what a socket on it is given to send in the TX ring, and does
// not say so (Linux 6.18 net/xdp/xsk.c, __xsk_generic_xmit).
func receivesOnly(dev hostif.Interface, queue uint32) bool {
	return dev.TXQueues > 0 && int(queue) >= dev.TXQueues
}

// checkSenders looks for queues that are bound to and only receive.
func checkSenders(dev hostif.Interface, bound []uint32) []Finding {
	var mute []int
	for _, q := range bound {
		if receivesOnly(dev, q) {
			mute = append(mute, int(q))
		}
	}
	if len(mute) == 0 {
		return nil
	}
	return []Finding{{Subject: SubjectQueues, Level: Note, Fix: fixSenders(dev),
		Text: fmt.Sprintf("%d transmit queues: in copy mode, what is sent on %s does not leave", dev.TXQueues, listQueues(mute))}}
}

// fixSenders is how to send where a queue only receives.
func fixSenders(dev hostif.Interface) string {
	return fmt.Sprintf("send on queues below %d, which with SetConfig.Share takes what any of the sockets has received; or have as many to send as to receive: ethtool -L %s", dev.TXQueues, dev.Name)
}

// checkRings compares the device's receive ring with a socket's fill ring, which a
// driver in zero-copy mode fills it from.
func checkRings(device string, level Level, rings hostif.Rings, fill int) []Finding {
	if rings.RX <= fill {
		return nil
	}
	enough := 1 << bits.Len(uint(rings.RX-1)) // rings of a socket are powers of two
	return []Finding{{Subject: SubjectQueues, Level: level,
		Text: fmt.Sprintf("the device's receive ring has %d descriptors, more than the socket's fill ring, %d: in zero-copy mode it cannot be filled", rings.RX, fill),
		Fix:  fmt.Sprintf("set Config.Rings.RX and Fill to %d, or ethtool -G %s rx %d", enough, device, fill)}}
}

// checkFills is checkRings for sockets of one device, and names the queues of those that
// are in zero-copy mode and whose fill ring is too short.
func checkFills(device string, rings hostif.Rings, sockets []*Socket) []Finding {
	var queues []int
	var found []Finding
	for _, s := range sockets {
		if !s.ZeroCopy() {
			continue
		}
		if f := checkRings(device, Warning, rings, len(s.kernel.Rings().Fill.Slots)); f != nil {
			queues, found = append(queues, int(s.queue)), f
		}
	}
	for i := range found {
		found[i].Text = listQueues(queues) + ": " + found[i].Text
	}
	return found
}

// unreadQueues returns the queues that flows can arrive on, rss or without it all
// of n, and that are not bound.
func unreadQueues(n int, rss []int, bound []uint32) (missed []int) {
	if rss == nil {
		for q := range n {
			rss = append(rss, q)
		}
	}
	for _, q := range rss {
		if !slices.Contains(bound, uint32(q)) {
			missed = append(missed, q)
		}
	}
	return missed
}

const fixAllQueues = "bind a socket to every queue"

// fixQueues is how to have flows arrive on bound queues only.
func fixQueues(dev hostif.Interface, bound []uint32) string {
	n := len(bound)
	if n == 0 || int(slices.Max(bound)) != n-1 {
		return fixAllQueues
	}
	what := "rx"
	if dev.Combined > 0 {
		what = "combined"
	}
	return fmt.Sprintf("%s, or have fewer of them: ethtool -L %s %s %d; or, if the driver has an RSS table: ethtool -X %s equal %d", fixAllQueues, dev.Name, what, n, dev.Name, n)
}

// listQueues names queues: "queue 1", "queues 1, 2 and 3".
func listQueues(queues []int) string {
	names := make([]string, len(queues))
	for i, q := range queues {
		names[i] = strconv.Itoa(q)
	}
	if len(names) == 1 {
		return "queue " + names[0]
	}
	return "queues " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
