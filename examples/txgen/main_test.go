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

	"github.com/afxnet/afxnet/examples/internal/rawlab"
	"github.com/afxnet/afxnet/internal/lab"
)

var ends = rawlab.Ends{
	ToMAC: make(net.HardwareAddr, 6), FromMAC: make(net.HardwareAddr, 6),
	To: netip.MustParseAddrPort("192.0.2.20:9"), From: netip.MustParseAddrPort("192.0.2.10:9"),
}

// TestFlags has numbers refused that cannot be.
func TestFlags(t *testing.T) {
	for _, tc := range []struct{ queues, n, size int }{
		{-1, 1, 60}, {0, 1, 60}, {1, -1, 60}, {1, 0, 60}, {1, 1, -1}, {1, 1, 41}, {1, 1, 4097},
	} {
		err := run(t.Context(), "nonesuch0", tc.queues, tc.n, tc.size, ends)
		if err == nil || !strings.Contains(err.Error(), "-size") {
			t.Errorf("%+v: %v", tc, err)
		}
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
