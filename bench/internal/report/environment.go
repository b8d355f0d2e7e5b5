// Package report writes results: a table for people, JSON lines for programs, and
// a page with plots.
package report

import (
	"fmt"
	"strings"
)

// Environment is what figures depend on. It is the first line of the JSON form.
type Environment struct {
	Time             string   `json:"time"`
	Kernel           string   `json:"kernel"`
	Link             string   `json:"link"` // the bench's own lab, or real
	Interface        string   `json:"interface"`
	Driver           string   `json:"driver"`
	Bind             string   `json:"bind"`   // of the XDP peers, as read back: copy, zero-copy; none without
	Attach           string   `json:"attach"` // likewise: native, generic
	MTU              int      `json:"mtu"`    // bytes
	Queues           int      `json:"queues"`
	GOMAXPROCS       int      `json:"gomaxprocs"` // of the server
	ClientGOMAXPROCS int      `json:"client_gomaxprocs"`
	CPU              string   `json:"cpu"`
	CPUs             int      `json:"cpus"`
	Pin              []string `json:"pin"` // CPUs of server and client, of an agent not; empty for all
	Go               string   `json:"go"`
	Commit           string   `json:"commit"`
	Rounds           int      `json:"rounds"`
	Duration         string   `json:"duration"` // of a case in a round
	Quick            bool     `json:"quick"`    // figures are not for quoting

	Peers map[string]map[string]string `json:"peers"` // what each said about itself
}

// String is the environment in a few lines.
func (e Environment) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "kernel %s, %d x %s, %s, commit %s\n", e.Kernel, e.CPUs, e.CPU, e.Go, e.Commit)
	fmt.Fprintf(&b, "%s: %s (%s), MTU %d, %d queue(s), bind %s, attach %s; GOMAXPROCS %d, client %d",
		e.Link, e.Interface, e.Driver, e.MTU, e.Queues, e.Bind, e.Attach, e.GOMAXPROCS, e.ClientGOMAXPROCS)
	for i, p := range e.Pin {
		fmt.Fprintf(&b, ", %s on CPU %s", [...]string{"server", "client"}[i], p)
	}
	fmt.Fprintf(&b, "\n%d rounds of %s", e.Rounds, e.Duration)
	if e.Quick {
		b.WriteString(" (quick: not for quoting)")
	}
	return b.String()
}
