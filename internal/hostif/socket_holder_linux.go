package hostif

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// SocketHolder names who has an AF_XDP socket on a queue of a device, as "process 17
// (nginx) of user 33". It is empty if nobody has, or where the kernel does not tell
// (CONFIG_XDP_SOCKETS_DIAG, module xsk_diag). The process is known to who may look at
// its descriptors.
func SocketHolder(index int, queue uint32) string {
	sockets, err := netlink.SocketDiagXDP()
	if err != nil {
		return ""
	}
	for _, s := range sockets {
		if at := s.XDPInfo; at.Ifindex == uint32(index) && at.QueueID == queue {
			return fmt.Sprintf("%s of user %d", processWith(s.XDPDiagMsg.Ino), at.UID)
		}
	}
	return ""
}

// processWith names the process that has a descriptor of a socket, by its inode.
func processWith(socket uint32) string {
	want := fmt.Sprintf("socket:[%d]", socket)
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "a process"
	}
	for _, f := range files {
		if to, err := os.Readlink(f); err == nil && to == want {
			dir := filepath.Dir(filepath.Dir(f))
			name, _ := os.ReadFile(dir + "/comm") // empty if it has just ended
			return fmt.Sprintf("process %s (%s)", filepath.Base(dir), strings.TrimSpace(string(name)))
		}
	}
	return "a process that is not seen from here"
}
