package peers

import "strings"

// Full is the peer with every mechanism: the one that peers which lack one are
// compared with.
const Full = "inline"

// lacks names what usual peers have not and Full has. In block mode nobody polls:
// the poller sleeps when a queue is empty in both modes.
var lacks = map[string]string{"afxnet": "inline", "inline-block": "callers poll"}

// lackPrefix starts the names of peers that are there for the ablation only.
const lackPrefix = "no-"

// Lacks returns the one mechanism that a peer has not and Full has; "" for peers
// that differ in more, or in none.
func Lacks(name string) string {
	if mechanism, ok := strings.CutPrefix(name, lackPrefix); ok {
		return mechanism
	}
	return lacks[name]
}
