// Package wiring is what the two sides of package vmtest agree on: which network
// devices the virtual machine has, and how the guest tells them apart.
package wiring

import (
	"net"
	"os"
	"strings"
)

// Pair is two devices joined by a wire, one for AF_XDP and one for the kernel's
// own stack.
type Pair string

// The pairs there can be. Both ends are of one model.
const (
	IGB         Pair = "igb"          // two queues by itself
	Virtio      Pair = "virtio"       // one queue
	VirtioPlain Pair = "virtio-plain" // not DMA-capable: as most hypervisors offer it by default
	VirtioMulti Pair = "virtio-multi" // two queues; a tap of the host's is behind it
)

// Models of devices, as QEMU names them.
const (
	IGBPCI    = "igb"
	VirtioPCI = "virtio-net-pci"
)

// Model returns the model of both devices.
func (p Pair) Model() string {
	if p == IGB {
		return IGBPCI
	}
	return VirtioPCI
}

// DMA tells whether a virtio device goes through the platform's DMA interface
// (VIRTIO_F_ACCESS_PLATFORM).
func (p Pair) DMA() bool { return p != VirtioPlain }

// Queues returns how many queue pairs are asked of QEMU for the AF_XDP side.
func (p Pair) Queues() int {
	if p == VirtioMulti {
		return 2
	}
	return 1
}

// FarNode is the NUMA node of devices that are not near the first processor.
const FarNode = 1

// Far tells whether the devices are those of FarNode.
func (p Pair) Far() bool { return p == IGB || p == Virtio }

// Side is one end of a pair.
type Side byte

// The two ends.
const (
	Ours  Side = iota // for AF_XDP
	Peer              // for the kernel
	Sides             // how many
)

// MAC returns the address of a device: pairs are numbered in their order, and
// that is how the guest finds them.
func MAC(pair int, side Side) net.HardwareAddr {
	return net.HardwareAddr{0x52, 0x54, 0x00, 0xaf, byte(pair), byte(side)}
}

// PairsEnv is the variable in the guest's environment that lists the pairs. It is
// set nowhere else.
const PairsEnv = "AFXNET_VM_PAIRS"

// OldKernelEnv is set in the guest on a kernel whose drivers have no zero-copy.
const OldKernelEnv = "AFXNET_VM_OLD_KERNEL"

// NoKASLR is the guest's kernel parameter against addresses that are others each time.
const NoKASLR = "nokaslr"

// MatrixEnv is set in the guest for the table of what works, and nothing else.
const MatrixEnv = "AFXNET_VM_MATRIX"

// matrixMark begins a line for the table.
const matrixMark = "matrix: "

// MatrixLine makes a line of a guest's log about a mode of a device.
func MatrixLine(device, mode, verdict string) string {
	return matrixMark + strings.Join([]string{device, mode, verdict}, " | ")
}

// ParseMatrixLine finds what MatrixLine has made.
func ParseMatrixLine(line string) (device, mode, verdict string, ok bool) {
	_, line, ok = strings.Cut(line, matrixMark)
	f := strings.SplitN(strings.TrimSpace(line), " | ", 3)
	if !ok || len(f) != 3 {
		return "", "", "", false
	}
	return f[0], f[1], f[2], true
}

// Join makes the value of PairsEnv.
func Join(pairs []Pair) string {
	names := make([]string, len(pairs))
	for i, p := range pairs {
		names[i] = string(p)
	}
	return strings.Join(names, ",")
}

// Find returns the number of a pair in this machine; ok is false where there is
// none, and everywhere but in a virtual machine of vmtest.
func Find(want Pair) (number int, ok bool) {
	for i, name := range strings.Split(os.Getenv(PairsEnv), ",") {
		if Pair(name) == want {
			return i, true
		}
	}
	return 0, false
}

// String returns the name.
func (p Pair) String() string { return string(p) }
