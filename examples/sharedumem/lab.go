package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afxnet/afxnet/examples/internal/rawlab"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

func runLab(ctx context.Context, n int) (err error) {
	l, err := rawlab.Open(2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	peer, err := l.Peer.Interface()
	if err != nil {
		return err
	}
	var p *path
	err = l.Host.Do(func() (err error) {
		p, err = open(xsk.Config{Interface: lab.HostDevice}, xsk.Config{Interface: lab.HostDevice, Queue: 1}, l.Address)
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	done := make(chan error, 1)
	go func() { done <- p.forward(ctx, peer.MAC) }()
	err = l.RoundTrips(ctx, n, 1)
	cancel()
	err = errors.Join(err, <-done)
	in, e1 := p.in.Statistics()
	out, e2 := p.out.Statistics()
	fmt.Printf("%d packets entered at queue 0, %d left at queue 1, %d completions\n", in.RXFrames, out.TXFrames, out.TXCompletions)
	return errors.Join(err, e1, e2, p.close())
}
