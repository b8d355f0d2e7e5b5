package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/examples/internal/rawlab"
	"github.com/afxnet/afxnet/internal/lab"
)

var ends = rawlab.Ends{
	ToMAC: make(net.HardwareAddr, 6), FromMAC: make(net.HardwareAddr, 6),
	To: netip.MustParseAddrPort("192.0.2.20:9"), From: netip.MustParseAddrPort("192.0.2.10:9"),
}

// TestFlags has numbers refused that cannot be.
func TestFlags(t *testing.T) {
	for _, size := range []int{-1, 41, 4097} {
		err := run(t.Context(), "nonesuch0", 1, 1, size, ends)
		if err == nil || !strings.Contains(err.Error(), "-size") {
			t.Errorf("%d: %v", size, err)
		}
	}
	err := run(t.Context(), "nonesuch0", 1, 1, 60, rawlab.Ends{To: ends.To, From: ends.From})
	if err == nil || !strings.Contains(err.Error(), "-mac") {
		t.Error(err)
	}
}

// TestInterrupted has no rate of what was not sent.
func TestInterrupted(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stdout := os.Stdout
	os.Stdout = w
	err = l.Host.Do(func() error { return run(ctx, lab.HostDevice, 1, 1000, 60, ends) })
	os.Stdout = stdout
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text, readErr := io.ReadAll(r)
	if !errors.Is(err, context.Canceled) || readErr != nil || len(text) != 0 {
		t.Errorf("got %v, and says %q, %v", err, text, readErr)
	}
}

// TestQueueFails has the other queues end when one cannot go on.
func TestQueueFails(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // or it would go on for days
	defer cancel()
	err := l.Host.Do(func() error { return run(ctx, lab.HostDevice, 2, 1<<40, 60, ends) })
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "queue 1") {
		t.Error(err)
	}
}
