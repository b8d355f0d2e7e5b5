package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/afxnet/afxnet/internal/raced"
)

// An attempt says what becomes of dialing one address: after a time there is a
// connection, or an error. Without a time there never is anything.
type attempt struct {
	after time.Duration
	err   error
}

// A track is what a race is tried on. Its addresses are "4a", "4b", "6a" and so on:
// a family and a name.
type track struct {
	does map[string]attempt

	mu     sync.Mutex
	start  time.Time
	events []string // what happened, and when
	open   int      // connections that are not closed
}

func (k *track) note(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.events = append(k.events, fmt.Sprintf("%v ", time.Since(k.start))+fmt.Sprintf(format, args...))
}

type trackConn struct {
	net.Conn
	k    *track
	name string
}

func (c *trackConn) Close() error {
	c.k.note("close %s", c.name)
	c.k.open--
	return nil
}

func trackAddr(name string) netip.AddrPort {
	if name[0] == '4' {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, name[1]}), 1)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 0x20, 15: name[1]}), 1)
}

func trackName(to netip.AddrPort) string {
	b := to.Addr().AsSlice()
	return fmt.Sprintf("%d%c", map[int]int{4: 4, 16: 6}[len(b)], b[len(b)-1])
}

func (k *track) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	name := trackName(to)
	k.note("dial %s", name)
	a := k.does[name]
	var done <-chan time.Time
	if a.after != 0 {
		done = time.After(a.after)
	}
	select {
	case <-done:
		if a.err != nil {
			return nil, a.err
		}
		k.mu.Lock()
		k.open++
		k.mu.Unlock()
		return &trackConn{k: k, name: name}, nil
	case <-ctx.Done():
		k.note("give %s up", name)
		return nil, contextError(ctx.Err())
	}
}

// TestRace follows dials of several addresses in time.
func TestRace(t *testing.T) {
	const ms = time.Millisecond
	bad := errors.New("bad")
	for _, tc := range []struct {
		name    string
		addrs   string
		delay   time.Duration // below 0: one after the other
		timeout time.Duration
		does    map[string]attempt
		want    string // the winner, or the error and the address that it is of
		events  []string
	}{
		{
			name: "the first is quick", addrs: "6a 4a",
			does: map[string]attempt{"6a": {after: 299 * ms}},
			want: "6a", events: []string{"0s dial 6a"},
		},
		{
			name: "the first is slow", addrs: "6a 4a",
			does: map[string]attempt{"6a": {after: 600 * ms}, "4a": {after: 100 * ms}},
			want: "4a", events: []string{"0s dial 6a", "300ms dial 4a", "400ms give 6a up"},
		},
		{
			name: "the first wins all the same", addrs: "6a 4a",
			does: map[string]attempt{"6a": {after: 350 * ms}, "4a": {after: 100 * ms}},
			want: "6a", events: []string{"0s dial 6a", "300ms dial 4a", "350ms give 4a up"},
		},
		{
			name: "a delay of one's own", addrs: "4a 6a", delay: 10 * ms,
			does: map[string]attempt{"6a": {after: 10 * ms}},
			want: "6a", events: []string{"0s dial 4a", "10ms dial 6a", "20ms give 4a up"},
		},
		{
			name: "the first fails at once", addrs: "6a 4a",
			does: map[string]attempt{"6a": {ms, bad}, "4a": {after: 400 * ms}},
			want: "4a", events: []string{"0s dial 6a", "1ms dial 4a"},
		},
		{
			name: "all of the first family, then the other", addrs: "6a 4a 6b 4b",
			does: map[string]attempt{"6a": {ms, bad}, "6b": {ms, bad}, "4a": {ms, bad}, "4b": {after: ms}},
			want: "4b", events: []string{"0s dial 6a", "1ms dial 6b", "2ms dial 4a", "3ms dial 4b"},
		},
		{
			name: "the second family fails first", addrs: "6a 4a",
			does: map[string]attempt{"6a": {500 * ms, bad}, "4a": {ms, errors.New("worse")}},
			want: "bad of 6a", events: []string{"0s dial 6a", "300ms dial 4a"},
		},
		{
			name: "a slow first family may win after the other failed", addrs: "6a 4a",
			does: map[string]attempt{"6a": {after: 500 * ms}, "4a": {ms, bad}},
			want: "6a", events: []string{"0s dial 6a", "300ms dial 4a"},
		},
		{
			name: "one after the other", addrs: "6a 4a 6b", delay: -1,
			does: map[string]attempt{"6a": {ms, bad}, "4a": {ms, errors.New("worse")}, "6b": {after: ms}},
			want: "6b", events: []string{"0s dial 6a", "1ms dial 4a", "2ms dial 6b"},
		},
		{
			name: "the time is shared out", addrs: "4a 4b 4c", timeout: 12 * time.Second,
			does:   map[string]attempt{"4b": {time.Second, bad}},
			want:   "i/o timeout of 4a",
			events: []string{"0s dial 4a", "4s give 4a up", "4s dial 4b", "5s dial 4c", "12s give 4c up"},
		},
		{
			name: "not into pieces below two seconds", addrs: "4a 4b 4c", timeout: 3 * time.Second,
			want:   "i/o timeout of 4c",
			events: []string{"0s dial 4a", "2s give 4a up", "2s dial 4b", "3s give 4b up"},
		},
		{
			name: "each family has all the time", addrs: "6a 6b 4a", timeout: 10 * time.Second,
			want:   "i/o timeout of 6a",
			events: []string{"0s dial 6a", "300ms dial 4a", "5s give 6a up", "5s dial 6b", "10s give up", "10s give up"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			raced.Bubble(t, func(t *testing.T) {
				k := &track{does: tc.does, start: time.Now()}
				var all []netip.AddrPort
				for name := range strings.FieldsSeq(tc.addrs) {
					all = append(all, trackAddr(name))
				}
				r := race{delay: tc.delay, one: k.dial, fail: func(to netip.AddrPort, err error) error {
					return fmt.Errorf("%v of %s", err, trackName(to))
				}}
				ctx := t.Context()
				if tc.timeout != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.timeout)
					defer cancel()
				}
				try := r.both
				if tc.delay < 0 {
					try = r.inTurn
				}
				c, err := try(ctx, all)
				got := ""
				if err != nil {
					got = err.Error()
				} else {
					got = c.(*trackConn).name
				}
				if got != tc.want {
					t.Errorf("%s, want %s", got, tc.want)
				}
				for i, e := range k.events { // two at one time come in any order
					if strings.HasPrefix(e, "10s give") {
						k.events[i] = "10s give up"
					}
				}
				if !slices.Equal(k.events, tc.events) {
					t.Errorf("%q, want %q", k.events, tc.events)
				}
				if open := map[bool]int{true: 1}[err == nil]; k.open != open {
					t.Errorf("%d connections are open, want %d", k.open, open)
				}
			})
		})
	}
}

// TestRaceTie has both families connect at one time. Either may win; the other is
// closed before the dial returns.
func TestRaceTie(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		k := &track{start: time.Now(), does: map[string]attempt{"6a": {after: 2 * time.Second}, "4a": {after: time.Second}}}
		r := race{
			delay: time.Second,
			one: func(_ context.Context, to netip.AddrPort) (net.Conn, error) {
				return k.dial(context.WithoutCancel(t.Context()), to) // too late to stop
			},
		}
		c, err := r.both(t.Context(), []netip.AddrPort{trackAddr("6a"), trackAddr("4a")})
		if err != nil || c == nil || k.open != 1 {
			t.Errorf("%v, %v; %d connections are open", c, err, k.open)
		}
	})
}

// endpoints returns how many TCP endpoints a stack has that are not over.
func endpoints(s *Stack) (n int) {
	for _, e := range s.ns.RegisteredEndpoints() {
		if ep, ok := e.(*tcp.Endpoint); ok && tcp.EndpointState(ep.State()) != tcp.StateTimeWait {
			n++
		}
	}
	return n
}

// waitFor returns when ok reports true.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// dialed starts a dial and returns when it has sent n SYNs.
func dialed(t testing.TB, d *Dialer, ctx context.Context, address string, n uint64) chan error {
	t.Helper()
	begun := d.Stack.ns.Stats().TCP.ActiveConnectionOpenings
	n += begun.Value()
	done := make(chan error, 1)
	go func() {
		c, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			c.Close()
		}
		done <- err
	}()
	waitFor(t, "a SYN", func() bool { return begun.Value() >= n })
	return done
}

// TestBlackHole dials names of which one address does not answer.
func TestBlackHole(t *testing.T) {
	for _, tc := range []struct {
		name, host, peer string
		delay            time.Duration
	}{
		{"IPv6, which comes first", "hole6.test.", addrB, time.Millisecond},
		{"IPv4, which is not needed", "hole4.test.", "[" + globalB6 + "]", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNamed(t)
			l, err := n.b.Listen("tcp", tc.peer+":80")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := (&Dialer{Stack: n.a, FallbackDelay: tc.delay}).Dial("tcp", tc.host+":80")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.RemoteAddr().String(); got != tc.peer+":80" {
				t.Errorf("connected to %s, want %s", got, tc.peer)
			}
			if got := endpoints(n.a); got != 1 {
				t.Errorf("%d endpoints, want one: a half-open connection is left", got)
			}
		})
	}
}

// TestDialBothCanceled cancels a dial while addresses of both families do not
// answer, and one while the second is waited for.
func TestDialBothCanceled(t *testing.T) {
	n := newNamed(t)
	n.ns.v6 = netip.MustParseAddr("2001:db8::98")
	d := &Dialer{Stack: n.a, FallbackDelay: time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	both := dialed(t, d, ctx, "hole4.test.:80", 2)
	cancel()
	within(t, "dial", func() {
		if oe := wantOp(t, <-both, "dial", context.Canceled); oe.Addr.String() != "[2001:db8::98]:80" {
			t.Errorf("%v: want the error of the first address", oe)
		}
	})
	if got := endpoints(n.a); got != 0 {
		t.Errorf("%d endpoints are left", got)
	}

	n.ns.v6 = netip.MustParseAddr(globalB6) // refuses
	d.FallbackDelay = time.Hour
	ctx, cancel = context.WithCancel(t.Context())
	second := dialed(t, d, ctx, "hole4.test.:80", 2)
	cancel()
	within(t, "dial", func() { wantOp(t, <-second, "dial", syscall.ECONNREFUSED) })
	if got := endpoints(n.a); got != 0 {
		t.Errorf("%d endpoints are left", got)
	}
}

// TestDialInTurn dials addresses that refuse, or do not answer, before others.
func TestDialInTurn(t *testing.T) {
	n := newNamed(t)
	l, err := n.b.Listen("tcp", addrB+":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, delay := range []time.Duration{-1, time.Hour} {
		d := &Dialer{Stack: n.a, FallbackDelay: delay}
		c, err := d.Dial("tcp", "both.test.:80") // IPv6 refuses
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		_, err = d.Dial("tcp", "both.test.:81")
		oe := wantOp(t, err, "dial", syscall.ECONNREFUSED)
		if oe.Addr.String() != "["+globalB6+"]:81" {
			t.Errorf("%v: want the error of the first address", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := dialed(t, &Dialer{Stack: n.a}, ctx, "two.test.:80", 1)
	cancel()
	within(t, "dial", func() {
		// As package net has it: the address that comes next.
		if oe := wantOp(t, <-first, "dial", context.Canceled); oe.Addr.String() != addrB+":80" {
			t.Errorf("%v", oe)
		}
	})
}
