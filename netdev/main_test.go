package netdev

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/refs"
)

// TestMain checks that no PacketBuffer is forgotten by the whole run, and no
// goroutine of this package left behind. Benchmarks do without the first: it
// costs a lock per packet.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		refs.SetLeakMode(refs.LeaksPanic)
	}
	code := m.Run()
	if code == 0 {
		if s := goroutinesLeft(); s != "" {
			fmt.Printf("goroutines are left:\n%s\n", s)
			code = 1
		}
		refs.DoLeakCheck()
	}
	os.Exit(code)
}

// goroutinesLeft returns the stacks of goroutines that are in a poller, once
// those that are on their way out have had their time.
func goroutinesLeft() (left string) {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		left = ""
		for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "netdev.(*queue)") || strings.Contains(g, "netdev.(*txQueue)") {
				left += g + "\n\n"
			}
		}
		if left == "" {
			return ""
		}
	}
	return left
}
