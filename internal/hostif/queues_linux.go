package hostif

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// countQueues fills in the queue counts. AF_XDP admits queue ids below the
// larger of the kernel's real_num_rx_queues and real_num_tx_queues (xp_assign_dev,
// net/xdp/xsk_buff_pool.c), which a program can learn in three ways:
//
//   - ethtool channels: exact for drivers that have them, veth since 5.14
//     among them;
//   - sysfs, which has a directory per real queue, but shows the network
//     namespace it was mounted in rather than the caller's;
//   - netlink, which has only the number of allocated queues.
func (ifc *Interface) countQueues(tool *ethtool, attrs *netlink.LinkAttrs) error {
	ch, err := tool.channels(ifc.Name)
	switch {
	case err == nil && (ch.RX+ch.Combined > 0 || ch.TX+ch.Combined > 0):
		ifc.RXQueues = ch.RX + ch.Combined
		ifc.TXQueues = ch.TX + ch.Combined
		ifc.Combined = ch.Combined
		return nil
	case err != nil && !errors.Is(err, unix.EOPNOTSUPP):
		return err
	}
	if rx, tx, ok := ifc.sysfsQueues("/sys/class/net"); ok {
		ifc.RXQueues, ifc.TXQueues = rx, tx
		return nil
	}
	ifc.RXQueues, ifc.TXQueues = attrs.NumRxQueues, attrs.NumTxQueues
	return nil
}

// sysfsQueues counts the queue directories below root. It reports false if
// root has no interface of this name, or another one: index and address
// have to agree, or it shows another namespace.
func (ifc *Interface) sysfsQueues(root string) (rx, tx int, ok bool) {
	dir := root + "/" + ifc.Name
	if sysfsValue(dir+"/ifindex") != strconv.Itoa(ifc.Index) {
		return 0, 0, false
	}
	if len(ifc.MAC) > 0 && sysfsValue(dir+"/address") != ifc.MAC.String() {
		return 0, 0, false
	}
	entries, err := os.ReadDir(dir + "/queues")
	if err != nil {
		return 0, 0, false
	}
	for _, entry := range entries {
		switch {
		case strings.HasPrefix(entry.Name(), "rx-"):
			rx++
		case strings.HasPrefix(entry.Name(), "tx-"):
			tx++
		}
	}
	return rx, tx, rx > 0 || tx > 0
}

// sysfsValue returns "" for what cannot be read: it is compared only.
func sysfsValue(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
