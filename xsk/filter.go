package xsk

import "fmt"

// Action is what an XDP program has the kernel do with a packet (enum xdp_action in
// include/uapi/linux/bpf.h). The kernel takes a number that is none of these for
// ActionAborted.
type Action uint32

const (
	ActionAborted  Action = iota // dropped, as a fault of the program
	ActionDrop                   // dropped
	ActionPass                   // to the kernel's network stack
	ActionTX                     // out of the interface again
	ActionRedirect               // to an AF_XDP socket, another interface or a CPU
)

// String returns the action's name in small letters.
func (a Action) String() string {
	names := [...]string{"aborted", "drop", "pass", "tx", "redirect"}
	if int(a) < len(names) {
		return names[a]
	}
	return fmt.Sprintf("action %d", uint32(a))
}

// Arrival is where a frame comes in that a [Filter] is tried with. The zero value is
// queue 0 of the loopback interface.
type Arrival struct {
	Device string // an interface of the caller's network namespace
	Queue  uint32 // a receive queue that it has
}
