package stack

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// TestKeepAliveSettings compares what Dialer and ListenConfig make of their
// settings with what package net tells the kernel.
func TestKeepAliveSettings(t *testing.T) {
	p := newPair(t)
	for _, tc := range []struct {
		period time.Duration
		config net.KeepAliveConfig
	}{
		{},
		{period: -1},
		{period: 20 * time.Second},
		{period: 20 * time.Second, config: net.KeepAliveConfig{Idle: 30 * time.Second}},
		{period: -1, config: net.KeepAliveConfig{Enable: true}},
		{config: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 7 * time.Second, Count: 3}},
		{config: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}},
		{config: net.KeepAliveConfig{Idle: 30 * time.Second}},
	} {
		theirs, err := (&net.ListenConfig{KeepAlive: tc.period, KeepAliveConfig: tc.config}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ours, err := (&ListenConfig{Stack: p.b, KeepAlive: tc.period, KeepAliveConfig: tc.config}).Listen(t.Context(), "tcp", addrB+":0")
		if err != nil {
			t.Fatal(err)
		}
		theirDialer := net.Dialer{KeepAlive: tc.period, KeepAliveConfig: tc.config}
		ourDialer := Dialer{Stack: p.a, KeepAlive: tc.period, KeepAliveConfig: tc.config}
		tc1, ts := dialAndAccept(t, theirDialer.Dial, theirs)
		oc, os := dialAndAccept(t, ourDialer.Dial, ours)
		for who, conns := range map[string][2]net.Conn{"dialed": {oc, tc1}, "accepted": {os, ts}} {
			if got, want := probes(conns[0].(*TCPConn)), kernelProbes(t, conns[1].(*net.TCPConn)); got != want {
				t.Errorf("%v, %+v: %s: %s, with package net %s", tc.period, tc.config, who, got, want)
			}
		}
		for _, c := range []interface{ Close() error }{tc1, ts, oc, os, theirs, ours} {
			c.Close()
		}
	}
}

func dialAndAccept(t *testing.T, dial func(network, address string) (net.Conn, error), l net.Listener) (c, s net.Conn) {
	t.Helper()
	c, err := dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if s, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return c, s
}

func probes(c *TCPConn) string {
	var idle tcpip.KeepaliveIdleOption
	var interval tcpip.KeepaliveIntervalOption
	c.ep.GetSockOpt(&idle)
	c.ep.GetSockOpt(&interval)
	count, _ := c.ep.GetSockOptInt(tcpip.KeepaliveCountOption)
	return fmt.Sprint(c.ep.SocketOptions().GetKeepAlive(), time.Duration(idle), time.Duration(interval), count)
}

func kernelProbes(t *testing.T, c *net.TCPConn) (all string) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		get := func(level, name int) int {
			v, err := unix.GetsockoptInt(int(fd), level, name)
			if err != nil {
				t.Error(err)
			}
			return v
		}
		all = fmt.Sprint(get(unix.SOL_SOCKET, unix.SO_KEEPALIVE) != 0,
			time.Duration(get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE))*time.Second,
			time.Duration(get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL))*time.Second,
			get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT))
	})
	return all
}
