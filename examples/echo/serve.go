package main

import (
	"errors"
	"net"
	"sync"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/stack"
)

// echo is a TCP and a UDP echo service.
type echo struct {
	tcp net.Listener
	udp net.PacketConn
	wg  sync.WaitGroup
}

// serve starts the service on a stack. This is all there is to it: the rest of
// the code is what it would be over package net.
func serve(s *stack.Stack, address string) (*echo, error) {
	l, err := s.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p, err := s.ListenPacket("udp", address)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	e := &echo{tcp: l, udp: p}
	e.wg.Go(e.serveTCP)
	e.wg.Go(e.serveUDP)
	return e, nil
}

func (e *echo) serveTCP() {
	for {
		c, err := e.tcp.Accept()
		if demo.Away(err) {
			continue
		}
		if err != nil {
			return // closed
		}
		e.wg.Go(func() {
			defer c.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				if n > 0 {
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
				if err != nil {
					return // io.EOF, or the peer is gone
				}
			}
		})
	}
}

func (e *echo) serveUDP() {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := e.udp.ReadFrom(buf)
		if demo.Away(err) {
			continue
		}
		if err != nil {
			return // closed
		}
		if _, err := e.udp.WriteTo(buf[:n], from); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// close ends the listeners and waits for the connections to end.
func (e *echo) close() error {
	err := errors.Join(e.tcp.Close(), e.udp.Close())
	e.wg.Wait()
	return err
}
