package stack_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/netdev"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/handover"
)

// TestLabFindings gives the interface more queues under a stack, and the host the
// stack's addresses: the stack says so, by itself or with a helper, and goes on.
func TestLabFindings(t *testing.T) {
	for _, helper := range []bool{false, true} {
		t.Run(fmt.Sprintf("helper=%t", helper), func(t *testing.T) {
			lab.Require(t, lab.NetNS, lab.XDP)
			l := lab.New(t, lab.Config{Queues: 2})
			if err := errors.Join(l.Peer.SetQueues(1), l.Host.SetQueues(1)); err != nil {
				t.Fatal(err)
			}
			var cfg stack.Config
			if helper {
				cfg.Device.Handover = serveHelper(t, l)
			}
			s, found := openFinding(t, l, cfg)
			want := func(subject, text, fix string) {
				t.Helper()
				wantFinding(t, found, subject, text, fix)
			}
			if err := errors.Join(l.Host.SetQueues(2), l.Peer.SetQueues(2)); err != nil {
				t.Fatal(err)
			}
			s.caughtUp(t)
			want(xsk.SubjectQueues, "afx0 has 2 receive queues now, and had 1", "ethtool -L afx0 rx 1")
			for range 2 { // again after it was taken away
				for _, p := range []netip.Prefix{l.StackV4, l.StackV6} {
					if err := l.Host.AddAddress(p); err != nil {
						t.Fatal(err)
					}
					want(xsk.SubjectAddresses, p.Addr().String()+" on afx0", "ip addr del "+p.String())
				}
				if err := errors.Join(l.Host.RemoveAddress(l.StackV4), l.Host.RemoveAddress(l.StackV6)); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(l.Peer.SetQueues(1), l.Host.SetQueues(1)); err != nil {
				t.Fatal(err)
			}
			s.works(t)
			for len(found) > 0 {
				t.Errorf("told again: %v", <-found)
			}
		})
	}
}

// openFinding is openIn, with what the stack finds.
func openFinding(t *testing.T, l *lab.Lab, cfg stack.Config) (*labStack, chan xsk.Finding) {
	t.Helper()
	found := make(chan xsk.Finding, 100)
	cfg.Device.OnFinding = func(f xsk.Finding) { found <- f }
	return openIn(t, l, cfg), found
}

func wantFinding(t *testing.T, found chan xsk.Finding, subject, text, fix string) {
	t.Helper()
	select {
	case f := <-found:
		t.Log(f)
		if f.Subject != subject || f.Level != xsk.Warning || !strings.Contains(f.Text, text) || !strings.Contains(f.Fix, fix) {
			t.Errorf("got %v, want %s, %q, %q", f, subject, text, fix)
		}
	case <-time.After(patience):
		t.Fatalf("no finding about %s", subject)
	}
}

// TestLabStray has flows arrive on a queue without a socket: the stack says so, once.
func TestLabStray(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	s, found := openFinding(t, l, stack.Config{Device: netdev.Config{Queues: []uint32{0}}})
	for range 3 {
		before := s.passed(t)
		lab.Eventually(t, patience, "packets on a queue without a socket", func() bool {
			c, err := l.Peer.Dial(t.Context(), "udp", hostPort(l.StackV4.Addr(), 9))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write([]byte("astray")) //nolint:errcheck // an ICMP error may have come
			return s.passed(t) > before
		})
		if before == 0 {
			wantFinding(t, found, xsk.SubjectQueues, "have just arrived on queues of afx0 without a socket", "a socket on every queue")
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if len(found) > 0 {
		t.Errorf("told again: %v", <-found)
	}
}

func (s *labStack) passed(t *testing.T) uint64 {
	t.Helper()
	st, err := s.Device().Stats()
	if err != nil {
		t.Fatal(err)
	}
	return st.Steering.PassNoSocket
}

// serveHelper runs a helper for the lab's AF_XDP side, for this test.
func serveHelper(t *testing.T, l *lab.Lab) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	ul, err := handover.Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	helper := make(chan error, 1)
	go func() {
		helper <- l.Host.Do(func() error {
			return handover.Serve(ctx, ul, handover.ServerConfig{
				Interface: lab.HostDevice, Users: []uint32{uint32(os.Getuid())},
				Addresses: []netip.Prefix{l.StackV4.Masked(), l.StackV6.Masked()},
				Log:       func(line string) { t.Log(line) },
			})
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-helper; err != nil {
			t.Error(err)
		}
	})
	return path
}
