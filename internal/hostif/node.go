package hostif

import (
	"os"
	"strconv"
	"strings"
)

// NUMANode returns the memory node that the interface's device is attached to,
// -1 if it has none, as virtual devices, and machines with one node, or if sysfs
// shows another network namespace.
func (ifc Interface) NUMANode() int {
	dir := "/sys/class/net/" + ifc.Name
	if !sysfsHas(dir+"/ifindex", strconv.Itoa(ifc.Index)) {
		return -1
	}
	text, err := os.ReadFile(dir + "/device/numa_node")
	if err != nil { // virtio and the like: what they hang on has it
		text, err = os.ReadFile(dir + "/device/../numa_node")
	}
	if err != nil {
		return -1
	}
	node, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return -1
	}
	return node
}

// sysfsHas tells whether a file holds want.
func sysfsHas(path, want string) bool {
	text, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(text)) == want
}
