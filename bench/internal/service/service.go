// Package service is what a peer under test serves: echo, sink, source and
// proxy, with sockets of package net's interfaces and nothing else.
package service

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/afxnet/afxnet/bench/internal/peer"
)

// Set is the services on one peer. Each connection has a goroutine.
type Set struct {
	wg    sync.WaitGroup
	ended chan struct{} // closed by Close

	mu      sync.Mutex
	closers map[io.Closer]struct{} // nil once closed
}

// Start opens the services at an address of p. backend is the host of the
// servers behind the proxy; invalid for none.
func Start(p peer.Peer, at, backend netip.Addr) (_ *Set, err error) {
	s := &Set{ended: make(chan struct{}), closers: make(map[io.Closer]struct{})}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	v := "4"
	if at.Is6() {
		v = "6"
	}
	tcp := []struct {
		port  int
		serve func(net.Conn)
	}{{peer.EchoPort, echo}, {peer.SinkPort, sink}, {peer.SourcePort, source}}
	if backend.IsValid() {
		for _, b := range [][2]int{{peer.ProxyPort, peer.EchoPort}, {peer.ProxySinkPort, peer.SinkPort}} {
			to := hostPort(backend, b[1])
			tcp = append(tcp, struct {
				port  int
				serve func(net.Conn)
			}{b[0], func(c net.Conn) { s.join(c, to) }})
		}
	}
	for _, t := range tcp {
		l, err := p.Listen("tcp"+v, hostPort(at, t.port))
		if err != nil {
			return nil, err
		}
		s.add(l)
		s.wg.Go(func() { s.accept(l, t.serve) })
	}
	c, err := p.ListenPacket("udp"+v, hostPort(at, peer.EchoPort))
	if err != nil {
		return nil, err
	}
	s.add(c)
	s.wg.Go(func() { echoPackets(c) })
	return s, nil
}

func hostPort(a netip.Addr, port int) string {
	return net.JoinHostPort(a.String(), strconv.Itoa(port))
}

// Close ends all services and waits for their goroutines.
func (s *Set) Close() {
	s.mu.Lock()
	closers := s.closers
	if closers != nil {
		close(s.ended)
	}
	s.closers = nil
	s.mu.Unlock()
	for c := range closers {
		c.Close()
	}
	s.wg.Wait()
}

// add notes what Close has to close, and closes it if that was before.
func (s *Set) add(c io.Closer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closers == nil {
		c.Close()
		return false
	}
	s.closers[c] = struct{}{}
	return true
}

// done closes c and forgets it.
func (s *Set) done(c io.Closer) {
	s.mu.Lock()
	delete(s.closers, c)
	s.mu.Unlock()
	c.Close()
}

// How long accept waits before it tries again: at first, and at most. As net/http.
const (
	firstWait = 5 * time.Millisecond
	lastWait  = time.Second
)

// accept serves connections until Close. An error may pass, as a want of file
// descriptors does, and whoever waits in the backlog is served then.
func (s *Set) accept(l net.Listener, serve func(net.Conn)) {
	wait := firstWait
	for {
		c, err := l.Accept()
		if err != nil {
			select {
			case <-s.ended:
				return
			case <-time.After(wait):
			}
			wait = min(2*wait, lastWait)
			continue
		}
		wait = firstWait
		if !s.add(c) {
			return
		}
		s.wg.Go(func() {
			defer s.done(c)
			serve(c)
		})
	}
}

// Buffers of a connection: small, so that ten thousand idle ones show what the
// stack needs, and grown when a message fills it.
const (
	firstBuffer = 2 << 10
	lastBuffer  = 64 << 10
)

// echo sends back what arrives.
func echo(c net.Conn) {
	b := make([]byte, firstBuffer)
	for {
		n, err := c.Read(b)
		if n > 0 {
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		if n == len(b) && n < lastBuffer {
			b = make([]byte, 2*n)
		}
	}
}

// sink reads to the end and answers with how much that was.
func sink(c net.Conn) {
	b := make([]byte, lastBuffer)
	var total uint64
	for {
		n, err := c.Read(b)
		total += uint64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
	}
	_, _ = c.Write(binary.BigEndian.AppendUint64(nil, total)) // the client misses it if it fails
}

// source sends as many bytes as it is asked for.
func source(c net.Conn) {
	var ask [8]byte
	if _, err := io.ReadFull(c, ask[:]); err != nil {
		return
	}
	b := make([]byte, lastBuffer)
	for left := binary.BigEndian.Uint64(ask[:]); left > 0; {
		n, err := c.Write(b[:min(left, lastBuffer)])
		if err != nil {
			return
		}
		left -= uint64(n)
	}
}

// join carries bytes both ways between c and a connection to a kernel server.
func (s *Set) join(c net.Conn, to string) {
	var d net.Dialer
	b, err := d.DialContext(context.Background(), "tcp", to)
	if err != nil || !s.add(b) {
		return
	}
	defer s.done(b)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(c, b) // ends with the connection
		halfClose(c)
	})
	_, _ = io.Copy(b, c)
	halfClose(b)
	back.Wait()
}

func halfClose(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		h.CloseWrite() //nolint:errcheck // the connection may be gone
		return
	}
	c.Close()
}
