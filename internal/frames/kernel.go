package frames

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/afxnet/afxnet/internal/lab"
)

// kernelSent returns how many frames a namespace's kernel has given to its
// interface: the IP packets that it made, without those that no interface took.
//
// The kernel counts a packet as sent before it looks whether the interface can
// have it. While the link comes up or goes down it may not: mostly a multicast
// report of IPv6, which the kernel sends from a work queue of its own, a moment
// after an address or the link has come. Such a packet is counted as discarded
// too.
//
// The discarded ones are read first. One that is discarded between the two
// readings is then in the answer and missing from the account, as is a frame
// under way, until the account is read again.
func kernelSent(n *lab.Namespace) (uint64, error) {
	discarded, err := kernelDiscarded(n)
	if err != nil {
		return 0, err
	}
	sent, err := n.IPSent()
	if err != nil {
		return 0, err
	}
	return sent - discarded, nil
}

// kernelDiscarded returns how many IP packets a namespace's kernel has made and
// dropped before an interface took them.
func kernelDiscarded(n *lab.Namespace) (packets uint64, err error) {
	err = n.Do(func() error {
		for _, c := range []struct{ file, name string }{
			{"/proc/thread-self/net/snmp", "Ip:"},
			{"/proc/thread-self/net/snmp6", "Ip6OutDiscards"},
		} {
			text, err := os.ReadFile(c.file)
			if err != nil {
				return fmt.Errorf("frames: packets discarded by the kernel: %w", err)
			}
			k, err := outDiscards(string(text), c.name)
			if err != nil {
				return fmt.Errorf("frames: packets discarded by the kernel: %s: %w", c.file, err)
			}
			packets += k
		}
		return nil
	})
	return packets, err
}

// outDiscards finds the packets discarded on their way out in the kernel's
// table: in the column OutDiscards of the lines that begin with name, of which
// the first has the names of the columns, or next to name.
func outDiscards(table, name string) (uint64, error) {
	column := 1
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) <= column || f[0] != name {
			continue
		}
		if i := slices.Index(f, "OutDiscards"); i > 0 {
			column = i
			continue
		}
		return strconv.ParseUint(f[column], 10, 64)
	}
	return 0, fmt.Errorf("no OutDiscards of %s", name)
}
