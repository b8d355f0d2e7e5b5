package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/vmtest/wiring"
)

// result is what became of one test of the guest.
type result struct {
	name   string
	began  bool   // false for what is only a part of others' names
	action string // "pass", "fail", "skip"; empty if it did not end
	took   time.Duration
	log    strings.Builder
	sub    []*result
}

// event is a line of test2json (go doc test2json).
type event struct {
	Action, Test, Output string
	Elapsed              float64 // seconds, when a test ends
}

// parse makes a tree of the guest's tests of what it wrote. The root has no
// name; its log is what was written outside of tests.
func parse(ctx context.Context, output []byte) (*result, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "test2json", "-t") // with times
	cmd.Stdin = bytes.NewReader(output)
	events, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("vmtest: read the guest's results: %w", err)
	}
	return tree(events)
}

// tree makes a tree of events, a line each.
func tree(events []byte) (*result, error) {
	root := &result{}
	for line := range bytes.Lines(events) {
		var ev event
		if err := json.Unmarshal(line, &ev); err != nil {
			return nil, fmt.Errorf("vmtest: read the guest's results: %w: %s", err, line)
		}
		r := root
		if ev.Test != "" {
			r = root.at(strings.Split(ev.Test, "/"))
		}
		switch ev.Action {
		case "run":
			r.began = true
		case "output":
			r.log.WriteString(ev.Output)
		case "pass", "fail", "skip":
			r.action, r.took = ev.Action, time.Duration(ev.Elapsed*float64(time.Second))
		}
	}
	return root, nil
}

// failures returns the paths of the tests below r that failed or did not end, without
// those that only have such a one below them.
func (r *result) failures() (paths []string) {
	for _, s := range r.sub {
		below := s.failures()
		for _, p := range below {
			paths = append(paths, s.name+"/"+p)
		}
		if len(below) == 0 && (s.action == "fail" || s.action == "" && s.began) {
			paths = append(paths, s.name)
		}
	}
	return paths
}

// muteWire tells whether all that failed is traffic of the pair whose wire is a tap, and
// of several tests.
//
// In some machines, from the start to the end, nothing comes through it that concerns
// zero-copy sockets: what they send is completed and does not come out of the tap, and
// their program sees no frame, while those of the guest's kernel do come out (Linux
// 6.18, QEMU of Debian 13's backports). It is so in the first test or not at all, and
// with no other device. What would fit, and is not proven: the header that virtio_net
// puts before each of their packets is a variable of the module (xsk_hdr,
// drivers/net/virtio_net.c), mapped as if it were of the kernel's linear memory, so that
// the device reads whatever is elsewhere; only a tap looks at it. The machines have no
// randomized addresses for that reason.
func (r *result) muteWire() bool {
	failed := r.failures()
	for _, path := range failed {
		if !strings.Contains(path, wiring.VirtioMulti.String()) {
			return false
		}
	}
	return len(failed) > 1
}

// excuse has tests pass that have failed, and those that they are parts of: they did
// in another machine.
func (r *result) excuse(paths []string) {
	for _, path := range paths {
		names := strings.Split(path, "/")
		for i := range len(names) + 1 {
			r.at(names[:i]).action = "pass"
		}
	}
}

// at returns the result with this path below r.
func (r *result) at(path []string) *result {
	if len(path) == 0 {
		return r
	}
	for _, s := range r.sub {
		if s.name == path[0] {
			return s.at(path[1:])
		}
	}
	s := &result{name: path[0]}
	r.sub = append(r.sub, s)
	return s.at(path[1:])
}

// long is how long a test of the guest takes that is worth a look.
const long = time.Second

// report makes the results below r sub-tests of t.
func (r *result) report(t *testing.T) {
	for _, s := range r.sub {
		t.Run(s.name, func(t *testing.T) {
			s.report(t)
			if log := s.messages(); log != "" {
				t.Log("in the guest:\n" + log)
			}
			if s.took >= long {
				t.Logf("%v in the guest", s.took.Round(100*time.Millisecond))
			}
			switch s.action {
			case "skip":
				t.SkipNow()
			case "fail":
				t.Fail()
			case "":
				if s.began {
					t.Error("it did not end")
				}
			}
		})
	}
}

// messages is the log without what only says that a test began or ended.
func (r *result) messages() string {
	var kept strings.Builder
	for line := range strings.Lines(r.log.String()) {
		switch text := strings.TrimSpace(line); {
		case strings.HasPrefix(text, "=== "):
		case strings.HasPrefix(text, "--- PASS"):
		default:
			kept.WriteString(line)
		}
	}
	return strings.TrimRight(kept.String(), "\n")
}
