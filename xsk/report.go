package xsk

import (
	"fmt"
	"strconv"
	"strings"
)

// Report is what Check found out about a device: the facts, what Open and
// LoadProgram would choose by themselves, and what is in the way of better. It is
// made for people, and for encoding/json.
type Report struct {
	Interface string `json:"interface"`
	Driver    string `json:"driver,omitempty"` // empty if it does not tell
	Kernel    string `json:"kernel"`           // release, as uname -r
	MTU       int    `json:"mtu"`              // bytes
	RXQueues  int    `json:"rx_queues"`
	TXQueues  int    `json:"tx_queues"`
	NUMANode  int    `json:"numa_node"` // -1: none

	// Declares is what the driver declares to the kernel (6.3): "native",
	// "redirect", "zero-copy", "multi-buffer" and more. It is not proof.
	Declares []string `json:"declares"`

	Choice   Choice    `json:"choice"`
	Findings []Finding `json:"findings"`
}

// Choice is what the zero values of Config and ProgramConfig would get.
type Choice struct {
	Attach      string `json:"attach"` // "native" or "generic"
	Bind        string `json:"bind"`   // "zero-copy" or "copy"
	MultiBuffer bool   `json:"multi_buffer"`
	Sockets     int    `json:"sockets"`      // one for each receive queue: OpenAll
	MemoryBytes int    `json:"memory_bytes"` // packet memory of all sockets
	WhyCopy     string `json:"why_copy,omitempty"`
}

// Worst returns the highest level among the findings.
func (r Report) Worst() Level {
	worst := OK
	for _, f := range r.Findings {
		if f.Level.rank() > worst.rank() {
			worst = f.Level
		}
	}
	return worst
}

// rank orders the levels.
func (l Level) rank() int { return strings.Index("ok note warning problem", string(l)) }

// About returns the findings on a subject.
func (r Report) About(subject string) (found []Finding) {
	for _, f := range r.Findings {
		if f.Subject == subject {
			found = append(found, f)
		}
	}
	return found
}

// String returns the report in plain words, for a terminal.
func (r Report) String() string {
	var b strings.Builder
	driver := r.Driver
	if driver == "" {
		driver = "unknown"
	}
	fmt.Fprintf(&b, "%s: driver %s, Linux %s, MTU %d, %d receive and %d transmit queues\n", r.Interface, driver, r.Kernel, r.MTU, r.RXQueues, r.TXQueues)
	if len(r.Declares) > 0 {
		fmt.Fprintf(&b, "the driver declares: %s\n", strings.Join(r.Declares, ", "))
	}
	c := r.Choice
	fmt.Fprintf(&b, "would be chosen: program %s, sockets %s, %d of them with %d MiB", c.Attach, c.Bind, c.Sockets, c.MemoryBytes>>20)
	if c.MultiBuffer {
		b.WriteString(", packets over several chunks")
	}
	b.WriteByte('\n')
	for _, f := range r.Findings {
		b.WriteString(f.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// What mends what is missing, in the words of errors and of Check alike.

func fixUp(device string) string { return "ip link set " + device + " up" }

func fixMTU(device string, mtu int) string {
	return "ip link set " + device + " mtu " + strconv.Itoa(mtu)
}

const (
	fixNetRaw   = "run as root, or with CAP_NET_RAW: setcap cap_net_raw,cap_bpf,cap_net_admin,cap_ipc_lock+ep PROGRAM; or have a helper make the sockets: docs/privileges.md"
	fixBPF      = "needs CAP_BPF and CAP_NET_ADMIN (before Linux 5.8 CAP_SYS_ADMIN), and CAP_NET_RAW for the sockets; before Linux 5.11 also RLIMIT_MEMLOCK for the maps"
	fixMemlock  = "raise it (ulimit -l unlimited; systemd: LimitMEMLOCK=infinity), add CAP_IPC_LOCK, or use fewer chunks"
	fixNoAFXDP  = "use a kernel with CONFIG_XDP_SOCKETS=y"
	fixBond     = "use AttachGeneric, or a member of the bond instead of the bond"
	fixNoNative = "the driver has no native mode, or not at this MTU; AttachGeneric works everywhere"
)

// fixPresent is what to do about a program that is on a device already.
func fixPresent(device, name string) string {
	if name == dispatcherName {
		return "it is libxdp's dispatcher, which holds the programs of others: see them with 'xdp-loader status " + device +
			"' and remove them with 'xdp-loader unload " + device + " --all', or keep them and have the steering program run among them: " + fixComponent(device)
	}
	if name == steerName {
		return "it is not replaced: stop the process that attached it, or use AttachJoin if it is there for that"
	}
	return "it is not replaced: stop what attached it, or remove it with 'ip link set dev " + device + " xdp off' or 'bpftool link detach'"
}

// fixComponent is how to have the steering program run beside others. A dispatcher
// that was made for programs without frags support takes it, too.
func fixComponent(device string) string {
	return "write it to a file with 'go run github.com/afxnet/afxnet/examples/doctor -object steer.o', add it with 'xdp-loader load -n " + steerName + " " + device + " steer.o', and use AttachJoin"
}

// steerName is the name of the steering program in bpf/steer.c.
const steerName = "afxnet_steer"

// dispatcherName is the name of the program by which libxdp runs several on one
// device (xdp-tools lib/libxdp/xdp-dispatcher.c.in).
const dispatcherName = "xdp_dispatcher"
