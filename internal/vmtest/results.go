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
