package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/afxnet/afxnet/bench/internal/report"
	"github.com/afxnet/afxnet/bench/internal/role"
)

// environment describes where the figures come from. Bind and attach mode are
// added when a peer with an XDP program has been open.
func environment(o options, bed *testbed) (report.Environment, error) {
	ifc, err := bed.look()
	if err != nil {
		return report.Environment{}, err
	}
	link := "lab (veth)"
	if o.iface != "" {
		link = "real"
	}
	e := report.Environment{
		Time: o.begun.UTC().Format(time.RFC3339),
		Link: link, Interface: ifc.Name, Driver: ifc.Driver, Bind: "none", Attach: "none",
		MTU: ifc.MTU, Queues: o.queues,
		GOMAXPROCS: bed.clientInfo.GOMAXPROCS, ClientGOMAXPROCS: bed.clientInfo.GOMAXPROCS,
		CPUs: runtime.NumCPU(), CPU: cpuModel(), Kernel: kernelRelease(),
		Go: runtime.Version(), Commit: commit(), Rounds: o.rounds, Quick: o.quick,
		Pin:   []string{},
		Peers: make(map[string]map[string]string),
	}
	for i, p := range o.pin {
		if p == nil || i == 1 && o.iface != "" { // nobody has told the agent
			continue
		}
		e.Pin = append(e.Pin, strings.Trim(fmt.Sprint(p), "[]"))
	}
	return e, nil
}

// noteInfo keeps what a peer read back when it was opened.
func (c *conductor) noteInfo(name string, opened role.OpenReply) {
	c.env.GOMAXPROCS = opened.GOMAXPROCS
	info := opened.Info
	if info == nil {
		return
	}
	c.env.Peers[name] = info
	if b := info["bind"]; b != "" && b != "none" {
		c.env.Bind = b
	}
	if a := info["attach"]; a != "" && a != "none" {
		c.env.Attach = a
	}
	if ifc, err := c.bed.look(); err == nil && ifc.XDP.ID != 0 {
		c.env.Attach = ifc.XDP.Mode.String()
		info["attach"] = ifc.XDP.Mode.String()
	}
}

func kernelRelease() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}

// cpuModel is the name of the first CPU.
func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// commit is the revision that was built: the build's own word for it or, since
// "go run" leaves that out, that of the working directory if it is the module's.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil || !strings.HasPrefix(string(mod), "module "+info.Main.Path+"\n") {
		return "unknown"
	}
	out, err := exec.Command("git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
