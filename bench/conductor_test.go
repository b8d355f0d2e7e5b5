package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/bench/internal/peers"
	"github.com/afxnet/afxnet/bench/internal/plan"
)

// TestLeaveOut tells what the machine cannot do, of which another process sends
// the text only, from what went wrong.
func TestLeaveOut(t *testing.T) {
	var log bytes.Buffer
	c := &conductor{log: &log, impossible: make(map[string]bool)}
	if c.leaveOut("raw", errors.New("device is gone")) || c.impossible["raw"] || log.Len() != 0 {
		t.Errorf("left out for any error: %s", &log)
	}
	text := fmt.Errorf("MTU of 9000: %w", errors.ErrUnsupported).Error()
	if !c.leaveOut("raw", errors.New(text)) || !c.impossible["raw"] || !strings.Contains(log.String(), "raw is left out: MTU of 9000") {
		t.Errorf("not left out: %s", &log)
	}
}

// TestTurnWithoutCases starts no process for a peer that has nothing to do.
func TestTurnWithoutCases(t *testing.T) {
	c := &conductor{impossible: map[string]bool{peers.Kernel: true}}
	cases, err := plan.Cases("rr", plan.Options{Quick: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{peers.Raw, peers.Kernel} {
		e, err := peers.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.turn(t.Context(), e, cases, 1); err != nil || len(c.failures) != 0 {
			t.Errorf("%s: %v, %v", name, err, c.failures)
		}
	}
}
