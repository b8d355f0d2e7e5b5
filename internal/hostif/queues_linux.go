package hostif

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sysfsNet is where sysfs has the interfaces.
const sysfsNet = "/sys/class/net"

// countQueues fills in the queue counts. AF_XDP admits queue ids below the
// larger of the kernel's real_num_rx_queues and real_num_tx_queues (xp_assign_dev,
// net/xdp/xsk_buff_pool.c), and in copy mode sends on those below the second
// (__xsk_generic_xmit, net/xdp/xsk.c). A program can learn them in three ways:
//
//   - sysfs, which has a directory per real queue, but shows the network
//     namespace it was mounted in rather than the caller's, so that one has to be
//     mounted for this where it matters, with CAP_SYS_ADMIN;
//   - ethtool channels, for drivers that have them, veth since 5.14 among them:
//     exact, but for virtio_net, which counts the queues that it adds for a
//     program, and that are for receiving only, as channels (virtnet_xdp_set,
//     drivers/net/virtio_net.c);
//   - netlink, which has only the number of allocated queues.
func (ifc *Interface) countQueues(tool *ethtool, attrs *netlink.LinkAttrs, sysfs string) error {
	ifc.RXQueues, ifc.TXQueues = attrs.NumRxQueues, attrs.NumTxQueues
	ch, err := tool.channels(ifc.Name)
	switch {
	case err == nil && (ch.RX+ch.Combined > 0 || ch.TX+ch.Combined > 0):
		ifc.RXQueues = ch.RX + ch.Combined
		ifc.TXQueues = ch.TX + ch.Combined
		ifc.Combined = ch.Combined
	case err != nil && !errors.Is(err, unix.EOPNOTSUPP):
		return err
	}
	rx, tx := ifc.sysfsQueues(sysfs)
	if inexact := err != nil || ifc.Driver == "virtio_net"; rx == 0 && tx == 0 && inexact {
		rx, tx = ifc.mountedQueues()
	}
	if rx > 0 { // not so in kernels without CONFIG_RPS
		ifc.RXQueues = rx
	}
	if tx > 0 {
		ifc.TXQueues = tx
	}
	return nil
}

// sysfsQueues counts the queue directories below root. They are none if
// root has no interface of this name, or another one: index and address
// have to agree, or it shows another namespace.
func (ifc *Interface) sysfsQueues(root string) (rx, tx int) {
	dir := root + "/" + ifc.Name
	if sysfsValue(dir+"/ifindex") != strconv.Itoa(ifc.Index) {
		return 0, 0
	}
	if len(ifc.MAC) > 0 && sysfsValue(dir+"/address") != ifc.MAC.String() {
		return 0, 0
	}
	entries, err := os.ReadDir(dir + "/queues")
	if err != nil {
		return 0, 0
	}
	for _, entry := range entries {
		switch {
		case strings.HasPrefix(entry.Name(), "rx-"):
			rx++
		case strings.HasPrefix(entry.Name(), "tx-"):
			tx++
		}
	}
	return rx, tx
}

// mountedQueues is sysfsQueues below a sysfs of the caller's network namespace, where it
// can be mounted.
func (ifc *Interface) mountedQueues() (rx, tx int) {
	fd, err := mountSysfs()
	if err != nil {
		return 0, 0
	}
	defer unix.Close(fd)
	return ifc.sysfsQueues(netBelow(fd))
}

// sysfsValue returns "" for what cannot be read: it is compared only.
func sysfsValue(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
