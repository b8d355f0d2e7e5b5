package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/afxnet/afxnet/bench/internal/control"
	"github.com/afxnet/afxnet/bench/internal/role"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// testbed is the link that is measured, and the client at its other end.
type testbed struct {
	host       func(func() error) error // runs a function where the server is; nil for here
	device     string                   // the server's end
	clientEnd  string                   // the client's device, if it may be changed
	lab        *lab.Lab                 // the private network; nil on a real link
	clientNS   *lab.Namespace           // nil on another machine
	v4, v6     netip.Prefix             // of the peer under test
	client     *control.Conn
	clientPID  int // 0 on another machine
	closers    []func() error
	clientInfo role.Hello
}

// open makes the private network, or takes a real link.
func openTestbed(ctx context.Context, o options) (t *testbed, err error) {
	t = &testbed{}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if o.iface != "" {
		err = t.openReal(ctx, o)
	} else {
		err = t.openLab(o)
	}
	if err != nil {
		return t, err
	}
	if err := t.client.Call(ctx, "hello", nil, &t.clientInfo); err != nil {
		return t, err
	}
	return t, t.clientInfo.Check()
}

func (t *testbed) openLab(o options) error {
	l, err := lab.Open(lab.Config{Queues: o.queues, MTU: o.mtu, Offloads: true})
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("the bench makes network namespaces and needs root: %w", err)
	}
	if err != nil {
		return err
	}
	t.closers = append(t.closers, l.Close)
	if err := l.Peer.Do(tuneClient); err != nil {
		return err
	}
	t.lab, t.host, t.device, t.clientEnd, t.clientNS = l, l.Host.Do, lab.HostDevice, lab.PeerDevice, l.Peer
	t.v4, t.v6 = l.StackV4, l.StackV6
	p, err := role.Start(role.Client, o.process(1, l.Peer.Do))
	if err != nil {
		return err
	}
	t.client, t.clientPID = p.Conn, p.PID
	t.closers = append(t.closers, p.Stop)
	return nil
}

// tuneClient lets a client open connections as fast as a server takes them: it
// closes first, and would run out of ports while they wait (TIME_WAIT). And it has
// the client forget what connections to one peer have told about the way, such as
// how far segments are reordered: to the kernel, all peers are one host.
//
// Preconditions: the thread is in the client's namespace.
func tuneClient() error {
	_, err := setIPv4(map[string]string{
		"tcp_max_tw_buckets":  "256",
		"ip_local_port_range": "10000 65535",
		"tcp_no_metrics_save": "1",
	})
	return err
}

// tuneMachine does so on the machine of an agent until undo, but for the ports, of which
// there are enough.
func tuneMachine() (undo func() error, err error) {
	return setIPv4(map[string]string{"tcp_max_tw_buckets": "256", "tcp_no_metrics_save": "1"})
}

// setIPv4 sets what there is under net.ipv4 in this namespace. undo puts back what was
// there.
func setIPv4(values map[string]string) (undo func() error, err error) {
	const dir = "/proc/sys/net/ipv4/"
	before := make(map[string][]byte)
	undo = func() error {
		var errs []error
		for name, value := range before {
			errs = append(errs, os.WriteFile(dir+name, value, 0))
		}
		return errors.Join(errs...)
	}
	for name, value := range values {
		was, err := os.ReadFile(dir + name)
		if err == nil {
			err = os.WriteFile(dir+name, []byte(value), 0)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("set the client up: %w", err), undo())
		}
		before[name] = was
	}
	return undo, nil
}

// agent is the client of benches on other machines until ctx ends.
func agent(ctx context.Context, o options) (err error) {
	if o.tune {
		undo, tuneErr := tuneMachine()
		if tuneErr != nil {
			return tuneErr
		}
		defer func() { err = errors.Join(err, undo()) }()
	}
	return role.Agent(ctx, o.agent, os.Stderr)
}

// agentTimeout bounds the connection to an agent.
const agentTimeout = 5 * time.Second

func (t *testbed) openReal(ctx context.Context, o options) error {
	t.device, t.v4, t.clientEnd = o.iface, o.addr, o.peerDev
	d := net.Dialer{Timeout: agentTimeout}
	c, err := d.DialContext(ctx, "tcp", o.peer)
	if err != nil {
		return fmt.Errorf("reach the agent (go run ./bench -agent there): %w", err)
	}
	t.client = control.NewConn(c, "agent "+o.peer)
	t.closers = append(t.closers, c.Close)
	return nil
}

// inside runs f in the network namespace of the server's device.
func (t *testbed) inside(f func() error) error {
	if t.host == nil {
		return f()
	}
	return t.host(f)
}

// raiseMTU gives both ends of the private network another MTU, in bytes, until undo.
func (t *testbed) raiseMTU(mtu int) (undo func() error, err error) {
	undo = func() error { return t.lab.SetMTU(t.lab.Config.MTU) }
	if err := t.lab.SetMTU(mtu); err != nil {
		return nil, errors.Join(err, undo())
	}
	return undo, nil
}

// look returns the state of the server's device.
func (t *testbed) look() (ifc hostif.Interface, err error) {
	err = t.inside(func() error {
		ifc, err = hostif.Lookup(t.device)
		return err
	})
	return ifc, err
}

func (t *testbed) close() error {
	var errs []error
	for len(t.closers) > 0 {
		last := len(t.closers) - 1
		errs = append(errs, t.closers[last]())
		t.closers = t.closers[:last]
	}
	return errors.Join(errs...)
}
