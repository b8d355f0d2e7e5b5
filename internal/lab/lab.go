package lab

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"
)

// Lab is two namespaces and the veth pair between them. Its methods may be
// called from any goroutine.
type Lab struct {
	// Config is the configuration in force.
	Config Config

	// Host has the AF_XDP side, Peer the other one.
	Host, Peer *Namespace

	// StackV4 and StackV6 are the addresses for the stack under test, with
	// the length of their network's prefix. No kernel has them.
	StackV4, StackV6 netip.Prefix

	mu     sync.Mutex
	undo   []func() error // restores offloads, and frees what that takes
	closed bool
}

// Open makes a lab. Both interfaces are up, and running, when it returns.
//
// Without the privileges, errors.Is(err, os.ErrPermission) holds; on another
// system than Linux, errors.Is(err, errors.ErrUnsupported).
func Open(config Config) (*Lab, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Lab{
		Config:  config,
		StackV4: v4(stackNumber),
		StackV6: v6(stackNumber),
	}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// New makes a lab for a test, which closes it when it ends. If the machine
// cannot have one, it skips the test, see Require.
func New(tb testing.TB, config Config) *Lab {
	tb.Helper()
	Require(tb, NetNS)
	l, err := Open(config)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported) {
		Missing(tb, NetNS, err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Errorf("close lab: %v", err)
		}
	})
	return l
}

// Close deletes the veth pair and lets go of the namespaces. Sockets created
// in them go on to exist, without an interface, until they are closed.
// Close is idempotent.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var errs []error
	if l.Host != nil && l.Peer != nil && !l.Config.onNICs() {
		errs = append(errs, l.Delete())
	}
	for _, undo := range l.undo {
		errs = append(errs, undo())
	}
	for _, n := range []*Namespace{l.Host, l.Peer} {
		if n != nil {
			errs = append(errs, n.close())
		}
	}
	return errors.Join(errs...)
}
