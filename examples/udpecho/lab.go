package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

func runLab(ctx context.Context, n int) (err error) {
	l, err := lab.Open(lab.Config{Queues: 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var set *xsk.Set
	if err := l.Host.Do(func() (err error) { set, err = open(lab.HostDevice, l.StackV4.Addr()); return err }); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- serve(ctx, set) }()
	err = ask(ctx, l, n)
	cancel()
	return errors.Join(err, <-done, set.Close())
}

// ask sends n datagrams, one at a time, and checks the answers.
func ask(ctx context.Context, l *lab.Lab, n int) error {
	c, err := l.Peer.Dial(ctx, "udp", net.JoinHostPort(l.StackV4.Addr().String(), "7"))
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })()
	question, back := make([]byte, 100), make([]byte, 200)
	start := time.Now()
	for i := range n {
		binary.BigEndian.PutUint64(question, uint64(i))
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := c.Write(question); err != nil {
			return err
		}
		k, err := c.Read(back)
		if err != nil {
			return fmt.Errorf("datagram %d: %w", i, err)
		}
		if string(back[:k]) != string(question) {
			return fmt.Errorf("datagram %d came back as %x", i, back[:k])
		}
	}
	fmt.Printf("%d datagrams answered, %v each\n", n, (time.Since(start) / time.Duration(max(n, 1))).Round(100*time.Nanosecond))
	return nil
}
