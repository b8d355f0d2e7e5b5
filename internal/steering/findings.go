package steering

import (
	"fmt"
	"net/netip"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// Findings tells of what somebody does to the host under the program, and that keeps
// packets from who should have them while all else works. It is to be called for each,
// by one goroutine: see [Mailbox.Ready].
func (i *Interface) Findings() <-chan xsk.Finding { return i.findings.Ready() }

func (i *Interface) find(f xsk.Finding) { i.findings.Put(f) }

// followAddress tells that the host has been given an address of the stack, once
// until it loses it: AddAddress refuses it before. With mu it comes before or after
// an AddAddress as a whole, so that one of the two sees the other.
func (i *Interface) followAddress(p netip.Prefix, index int, there bool) {
	addr := p.Addr().Unmap()
	i.mu.Lock()
	defer i.mu.Unlock()
	if !there {
		delete(i.shared, addr)
		return
	}
	if i.detached || i.shared[addr] || !i.claimed[addr] {
		return
	}
	i.shared[addr] = true
	device, fix := fmt.Sprintf("its interface %d", index), "take it from the host, or give the stack another address"
	if index == i.dev.Index {
		device, fix = i.dev.Name, fmt.Sprintf("ip addr del %v dev %s, or give the stack another address", p, i.dev.Name)
	}
	i.find(xsk.Finding{Subject: xsk.SubjectAddresses, Level: xsk.Warning,
		Text: fmt.Sprintf("the host was given %v on %s, which is the stack's: what arrives for it on %s goes to the stack, and the host's own connections from it get no answer", addr, device, i.dev.Name),
		Fix:  fix})
}

// minIPv6MTU is what IPv6 needs of a link, in bytes (RFC 8200, 5). On one with less
// netstack has no MTU for it (calculateNetworkMTU in pkg/tcpip/network/ipv6/ipv6.go).
const minIPv6MTU = 1280

// followMTULocked tells that the interface's MTU is too small for addresses of the
// stack, once until it does.
func (i *Interface) followMTULocked(mtu int) {
	i.mtu = mtu
	if mtu >= minIPv6MTU {
		i.narrow = false
		return
	}
	for addr := range i.claimed {
		if addr.Is6() && !i.narrow {
			i.narrow = true
			i.find(xsk.Finding{Subject: xsk.SubjectMTU, Level: xsk.Warning,
				Text: fmt.Sprintf("%s has an MTU of %d now, and IPv6 needs %d: the stack cannot send any", i.dev.Name, mtu, minIPv6MTU),
				Fix:  fmt.Sprintf("ip link set %s mtu %d", i.dev.Name, max(i.dev.MTU, minIPv6MTU))})
		}
	}
}

// endAddresses tells that followAddress is not called any more.
func (i *Interface) endAddresses(err error) {
	i.find(xsk.Finding{Subject: xsk.SubjectAddresses, Level: xsk.Warning,
		Text: fmt.Sprintf("it is not noticed any more if the host is given an address that the stack has on %s: %v", i.dev.Name, err),
		Fix:  "open again"})
}

// quietFor is for how many looks no packet has to miss the sockets until the next one
// that does is told of again.
const quietFor = 60

// queues watches for packets that miss the sockets.
type queues struct {
	count *hostif.QueueCount // nil if the driver does not tell
	first int                // receive queues under the program at first
	last  int

	passed uint64 // the program's counter of packets that found no socket
	quiet  int    // looks since it grew; quietFor at first
}

func (i *Interface) openQueues() *queues {
	q := &queues{quiet: quietFor}
	if c, err := i.prog.Counters(); err == nil { // a joined program has counted before
		q.passed = c.PassNoSocket
	}
	count, err := hostif.OpenQueueCount(i.dev.Index)
	if err != nil {
		return q
	}
	if q.first, err = count.Read(); err != nil {
		count.Close()
		return q
	}
	q.count, q.last = count, q.first
	return q
}

func (q *queues) close() {
	if q.count != nil {
		q.count.Close()
	}
}

// grown tells how many receive queues there are if they have become more than there
// were at first.
func (q *queues) grown() (n int, say bool) {
	if q.count == nil {
		return 0, false
	}
	n, err := q.count.Read()
	if err != nil {
		return 0, false
	}
	say = n > q.first && n != q.last
	q.last = n
	return n, say
}

// missed tells whether to say that packets miss the sockets, and how many have since
// the last look.
func (q *queues) missed(c xsk.Counters) (n uint64, say bool) {
	n, q.passed = c.PassNoSocket-q.passed, c.PassNoSocket
	if n == 0 {
		q.quiet = min(q.quiet+1, quietFor)
		return 0, false
	}
	say = q.quiet == quietFor
	q.quiet = 0
	return n, say
}

// findMissed tells that flows may arrive, or do, on queues without a socket: an
// administrator has given the device more queues, or a larger RSS table, or flow
// rules. The program counts what arrives there, if it runs on these queues at all: on
// those that veth adds it does not (seen on Linux 6.18).
func (i *Interface) findMissed(q *queues) {
	const fix = "open again, with a socket on every queue"
	if n, say := q.grown(); say {
		what := "rx"
		if i.dev.Combined > 0 {
			what = "combined"
		}
		i.find(xsk.Finding{Subject: xsk.SubjectQueues, Level: xsk.Warning,
			Text: fmt.Sprintf("%s has %d receive queues now, and had %d when it was taken: the kernel gets what arrives on the others", i.dev.Name, n, q.first),
			Fix:  fmt.Sprintf("%s; or ethtool -L %s %s %d", fix, i.dev.Name, what, q.first)})
	}
	c, err := i.prog.Counters()
	if err != nil {
		return // Stats says so
	}
	if n, say := q.missed(c); say {
		i.find(xsk.Finding{Subject: xsk.SubjectQueues, Level: xsk.Warning,
			Text: fmt.Sprintf("%d packets for the stack have just arrived on queues of %s without a socket: the kernel got them", n, i.dev.Name),
			Fix:  fix + "; or have flows arrive on those that have one: ethtool -L, or -X and -N"})
	}
}
