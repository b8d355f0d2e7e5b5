//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/umem"
)

// checker collects a report.
type checker struct {
	Report
	dev         hostif.Interface
	features    hostif.XDPFeatures
	featuresErr error
	channels    hostif.Channels // zero where the driver does not tell
	caps        uint64          // effective
}

// Check looks at a device, the kernel and the process, and says what AF_XDP can do
// there, what Open and LoadProgram would choose, why not zero-copy, and what mends
// each thing. It changes nothing and needs no privilege. Call it in the device's
// network namespace.
//
// What it says of zero-copy is what the driver declares and what is known of it;
// only a bind proves it: see Socket.ZeroCopy.
//
// The error wraps unix.ENODEV if there is no such device.
func Check(device string) (Report, error) {
	dev, err := hostif.Lookup(device)
	if err != nil {
		return Report{}, &OpError{Op: "look up interface", Device: device, Queue: NoQueue, Err: err}
	}
	c := &checker{dev: dev, Report: Report{
		Interface: dev.Name, Driver: dev.Driver, MTU: dev.MTU, NUMANode: dev.NUMANode(),
		RXQueues: dev.RXQueues, TXQueues: dev.TXQueues, Kernel: kernelRelease(), Declares: []string{},
	}}
	c.features, c.featuresErr = hostif.ReadXDPFeatures(dev.Index)
	c.channels, _ = hostif.ReadChannels(dev.Name)
	c.caps = effectiveCapabilities()
	c.Choice.Sockets = max(dev.RXQueues, 1)
	c.declared()
	c.kernel()
	c.capabilities()
	c.memory()
	c.link()
	c.program()
	c.mtu()
	c.zeroCopy()
	c.queues()
	c.offloads()
	c.metadata()
	c.rxMetadata()
	c.txOffload()
	return c.Report, nil
}

func (c *checker) add(subject string, level Level, fix, text string, args ...any) {
	c.Findings = append(c.Findings, Finding{Subject: subject, Level: level, Text: fmt.Sprintf(text, args...), Fix: fix})
}

func (c *checker) declared() {
	f := c.features
	for _, d := range []struct {
		name string
		has  bool
	}{
		{"native", f.Native}, {"redirect", f.Redirect}, {"transmit", f.Transmit}, {"zero-copy", f.ZeroCopy},
		{"multi-buffer", f.MultiBuffer}, {"offload", f.Offload},
		{fmt.Sprintf("zero-copy over %d buffers", f.ZeroCopySegments), f.ZeroCopySegments > 1},
		{"rx timestamp", f.RXTimestamp}, {"rx hash", f.RXHash}, {"rx vlan tag", f.RXVLANTag},
		{"tx timestamp", f.TXTimestamp}, {"tx checksum", f.TXChecksum}, {"tx launch time", f.TXLaunchTime},
	} {
		if d.has {
			c.Declares = append(c.Declares, d.name)
		}
	}
}

// kernel looks at the kernel's version, and whether it has AF_XDP at all.
func (c *checker) kernel() {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	} else if errors.Is(err, unix.EAFNOSUPPORT) {
		c.add(SubjectKernel, Problem, fixNoAFXDP, "the kernel has no AF_XDP sockets")
		return
	}
	var missing []string
	for _, m := range []struct {
		major, minor int
		what         string
	}{
		{5, 15, "this module's minimum"}, {6, 3, "receive metadata"}, {6, 6, "packets over several chunks"}, {6, 8, "transmit metadata"},
		{6, 13, "settings per NAPI"}, {6, 17, "more than 32 packets per system call in copy mode"},
	} {
		if !releaseAtLeast(c.Kernel, m.major, m.minor) {
			missing = append(missing, fmt.Sprintf("%s (%d.%d)", m.what, m.major, m.minor))
		}
	}
	switch {
	case len(missing) == 0:
		c.add(SubjectKernel, OK, "", "Linux %s has all that is made use of", c.Kernel)
	case !releaseAtLeast(c.Kernel, 5, 15):
		c.add(SubjectKernel, Problem, "use Linux 5.15 or later", "Linux %s is too old; it lacks %s", c.Kernel, strings.Join(missing, ", "))
	default:
		c.add(SubjectKernel, Note, "use a newer kernel", "Linux %s lacks %s", c.Kernel, strings.Join(missing, ", "))
	}
}

func (c *checker) has(capability uint) bool { return c.caps>>capability&1 != 0 }

func (c *checker) capabilities() {
	n := len(c.Findings)
	if !c.has(unix.CAP_NET_RAW) {
		c.add(SubjectCapabilities, Problem, fixNetRaw, "without CAP_NET_RAW no AF_XDP socket can be made")
	}
	if !c.has(unix.CAP_SYS_ADMIN) && (!c.has(unix.CAP_BPF) || !c.has(unix.CAP_NET_ADMIN)) {
		c.add(SubjectCapabilities, Problem, fixBPF, "without CAP_BPF and CAP_NET_ADMIN no program can be loaded and attached")
	}
	if n == len(c.Findings) {
		c.add(SubjectCapabilities, OK, "", "the process may make AF_XDP sockets, and load and attach programs")
	}
}

// memory compares the packet memory that all sockets need with what the process
// may lock.
func (c *checker) memory() {
	cfg, err := Config{}.withDefaults()
	if err != nil {
		c.add(SubjectMemory, Problem, "", "%v", err)
		return
	}
	const chunkSize = 4096 // umem.Config's default
	c.Choice.MemoryBytes = cfg.UMEM.Chunks * chunkSize * c.Choice.Sockets
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		c.add(SubjectMemory, Warning, "", "RLIMIT_MEMLOCK could not be read: %v", err)
		return
	}
	switch {
	case c.has(unix.CAP_IPC_LOCK):
		c.add(SubjectMemory, OK, "", "CAP_IPC_LOCK: packet memory has no limit")
	case uint64(c.Choice.MemoryBytes) > limit.Cur:
		c.add(SubjectMemory, Problem, fixMemlock, "%d sockets with default sizes lock %d KiB, RLIMIT_MEMLOCK is %d KiB, and CAP_IPC_LOCK is missing",
			c.Choice.Sockets, c.Choice.MemoryBytes>>10, limit.Cur>>10)
	default:
		c.add(SubjectMemory, OK, "", "RLIMIT_MEMLOCK admits the %d KiB of all sockets", c.Choice.MemoryBytes>>10)
	}
	if c.NUMANode >= 0 {
		c.add(SubjectMemory, OK, "", "packet memory goes to the device's NUMA node, %d", c.NUMANode)
	}
}

func (c *checker) link() {
	switch {
	case !c.dev.Up:
		c.add(SubjectLink, Problem, fixUp(c.dev.Name), "the interface is down: nothing can be bound to it")
	case !c.dev.Running:
		c.add(SubjectLink, Warning, "", "the interface has no carrier")
	default:
		c.add(SubjectLink, OK, "", "the interface is up and running")
	}
}

// program predicts the attach mode.
func (c *checker) program() {
	c.Choice.Attach = AttachNative.String()
	if state, err := readXDPState(c.dev.Index); err == nil {
		if present, name := state.describe(); present != "" {
			c.add(SubjectProgram, Problem, fixPresent(c.dev.Name, name), "%s is there", present)
		}
	}
	if c.dev.Driver == "bonding" {
		c.Choice.Attach = AttachGeneric.String()
		c.add(SubjectProgram, Warning, fixBond, "sockets on a bond receive nothing in native mode: the program runs in generic mode, which is slow")
		return
	}
	if c.featuresErr == nil && (!c.features.Native || !c.features.Redirect) {
		c.Choice.Attach = AttachGeneric.String()
		c.add(SubjectProgram, Warning, "use a NIC and driver with native XDP", "the driver has no native mode: the program runs after the kernel has built a socket buffer, which is slow")
		return
	}
	if why, fix := nativeBar(c.dev, c.channels); why != "" {
		c.add(SubjectProgram, Problem, fix, "%s", why)
		return
	}
	c.add(SubjectProgram, OK, "", "the program runs in the driver, before the kernel builds a socket buffer")
}

// A chunk of umem.Config's default size has room for a packet of chunkRoom bytes,
// and so for an MTU of chunkMTU.
const (
	chunkRoom = 4096 - umem.KernelHeadroom
	chunkMTU  = chunkRoom - ethernetOverhead
)

func (c *checker) mtu() {
	c.Choice.MultiBuffer = MultiBufferAuto.wanted(c.MTU, chunkMTU)
	most := maxTXParts*4096 - ethernetOverhead
	switch {
	case !c.Choice.MultiBuffer:
		c.add(SubjectMTU, OK, "", "an MTU of %d fits one chunk of 4096 bytes, which holds %d", c.MTU, chunkMTU)
	case c.MTU > most:
		c.add(SubjectMTU, Problem, fixMTU(c.dev.Name, most), "an MTU of %d is more than the %d that packets over several chunks hold", c.MTU, most)
	case !releaseAtLeast(c.Kernel, 6, 6):
		c.add(SubjectMTU, Problem, fixMTU(c.dev.Name, chunkMTU), "an MTU of %d needs packets over several chunks, and Linux 6.6", c.MTU)
	case c.features.ZeroCopy && c.features.ZeroCopySegments < 2:
		c.add(SubjectMTU, Warning, fixMTU(c.dev.Name, zeroCopyMTU(c.dev.Driver, chunkRoom)),
			"an MTU of %d needs packets over several chunks, which the driver does not have in zero-copy mode", c.MTU)
	default:
		c.add(SubjectMTU, OK, "", "an MTU of %d is met with packets over several chunks of 4096 bytes; one holds %d", c.MTU, chunkMTU)
	}
}

// zeroCopy predicts the bind mode, by what Open goes by.
func (c *checker) zeroCopy() {
	if bar := c.bar(); bar != nil {
		c.Choice.Bind, c.Choice.WhyCopy = BindCopy.String(), bar.why
		c.add(SubjectZeroCopy, Note, bar.fix, "%s", bar.why)
		return
	}
	if c.featuresErr == nil && c.features.ZeroCopy && (!c.Choice.MultiBuffer || c.features.ZeroCopySegments > 1) {
		c.Choice.Bind = BindZeroCopy.String()
		if c.dev.Driver == "virtio_net" {
			why, fix := whyCopyOf(c.dev, c.features, nil, false, zeroCopyMTU(c.dev.Driver, chunkRoom))
			c.add(SubjectZeroCopy, Note, "if the bind gives copy mode: "+fix, "%s", why)
			return
		}
		c.add(SubjectZeroCopy, OK, "", "the driver declares zero-copy; the first bind tells (Socket.ZeroCopy)")
		if step := receiveSteps[c.dev.Driver]; step != 0 {
			c.add(SubjectZeroCopy, Note, "leave chunks at 4096 bytes", "%s fills zero-copy buffers in steps of %d bytes: smaller chunks hold less than they should", c.dev.Driver, step)
		}
		return
	}
	c.Choice.Bind = BindCopy.String()
	why, fix := whyCopyOf(c.dev, c.features, c.featuresErr, c.Choice.MultiBuffer, zeroCopyMTU(c.dev.Driver, chunkRoom))
	c.Choice.WhyCopy = why
	c.add(SubjectZeroCopy, Note, fix, "%s", why)
}

// bar returns what Open knows against zero-copy with packet memory of the default
// sizes and the program in the predicted mode, on a device that may have it.
func (c *checker) bar() *bar {
	if c.featuresErr != nil || !c.features.ZeroCopy {
		return nil // that comes first
	}
	region, err := umem.New(umem.Config{Chunks: 4, OnHeap: true})
	if err != nil {
		return &bar{why: err.Error()}
	}
	dev := c.dev
	if c.Choice.Attach == AttachGeneric.String() {
		dev.XDP.Mode = hostif.XDPGeneric
	}
	return zeroCopyBarOf(dev, region, c.Choice.MultiBuffer, c.features.ZeroCopySegments)
}
