// Command sharedumem has packets enter at one queue and leave at another, of the
// same device or of another one, without being copied: both sockets use one region
// of packet memory (XDP_SHARED_UMEM).
//
//	go run ./examples/sharedumem -i eth0 -o eth1 -addr 192.0.2.10 -mac 02:00:00:00:00:01
//
// takes from the kernel what arrives on queue 0 of eth0 for 192.0.2.10, which the
// host must not have, and sends it out of queue 0 of eth1 to that MAC address. With
// -lab it does so from queue 0 to 1 of a device in a private network, -n times:
//
//	go run ./examples/sharedumem -lab
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/afxnet/afxnet/examples/internal/command"
	"github.com/afxnet/afxnet/examples/internal/rawlab"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	n := command.Count("n", 10000, "with -lab, datagrams to send")
	in := flag.String("i", "", "interface that packets enter at, on queue 0")
	out := flag.String("o", "", "interface that they leave at, on queue 0")
	var addr netip.Addr
	flag.TextVar(&addr, "addr", netip.Addr{}, "address whose packets are taken")
	var mac net.HardwareAddr
	flag.Func("mac", "MAC address that they are sent to", func(s string) (err error) { mac, err = net.ParseMAC(s); return err })
	command.Main("sharedumem", command.Ways{
		Lab:  func(ctx context.Context) error { return runLab(ctx, *n) },
		Host: func(ctx context.Context) error { return run(ctx, *in, *out, addr, mac) },

		LabOnly: []string{"n"}, HostOnly: []string{"i", "o", "addr", "mac"},
	})
}

func run(ctx context.Context, in, out string, addr netip.Addr, mac net.HardwareAddr) error {
	if len(mac) != 6 || !addr.IsValid() { // before a device is touched
		return errors.New("-addr and -mac: which packets, and a MAC address of 6 bytes to send them to, are needed")
	}
	p, err := open(xsk.Config{Interface: in}, xsk.Config{Interface: out}, addr)
	if err != nil {
		return err
	}
	return errors.Join(p.forward(ctx, mac), p.close())
}

func runLab(ctx context.Context, n int) error {
	return rawlab.Run(ctx, 2, func(l *rawlab.Lab) (func(context.Context) error, error) {
		peer, err := l.Peer.Interface()
		if err != nil {
			return nil, err
		}
		p, err := open(xsk.Config{Interface: lab.HostDevice}, xsk.Config{Interface: lab.HostDevice, Queue: 1}, l.Address)
		return func(ctx context.Context) error { return errors.Join(p.forward(ctx, peer.MAC), p.close()) }, err
	}, func(ctx context.Context, l *rawlab.Lab) error { return l.RoundTrips(ctx, n, 1) })
}

// path is the way of the packets.
type path struct {
	shared  *xsk.Shared
	in, out *xsk.Socket
	prog    *xsk.Program
}

func open(in, out xsk.Config, addr netip.Addr) (_ *path, err error) {
	region, err := umem.New(umem.Config{Chunks: 2 * 4096})
	if err != nil {
		return nil, err
	}
	p := &path{shared: xsk.NewShared(region)}
	in.Shared, out.Shared, in.MultiBuffer = p.shared, p.shared, xsk.MultiBufferOff // a descriptor is a packet
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.prog, err = xsk.LoadProgram(xsk.ProgramConfig{Interface: in.Interface}); err != nil {
		return nil, err
	}
	if err := p.prog.Attach(); err != nil {
		return nil, err
	}
	if p.in, err = xsk.Open(in); err != nil {
		return nil, err
	}
	if p.out, err = xsk.Open(out); err != nil {
		return nil, err
	}
	return p, errors.Join(p.prog.AddSocket(p.in.Queue(), p.in.FD()), p.prog.AddAddress(addr))
}

// close ends it, the program first: then no packet is on its way to a socket that
// is being closed.
func (p *path) close() error {
	var errs []error
	if p.prog != nil {
		errs = append(errs, p.prog.Close())
	}
	for _, s := range p.shared.Sockets() {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, p.shared.Region().Close())...)
}

// forward sends to mac what arrives, until ctx ends.
func (p *path) forward(ctx context.Context, mac net.HardwareAddr) error {
	defer context.AfterFunc(ctx, p.in.Interrupt)()
	rx, tx, batch := p.in.RX(), p.out.TX(), make([]umem.Desc, 64)
	for ctx.Err() == nil {
		n := rx.Receive(batch)
		for _, d := range batch[:n] {
			b := p.in.Region().Bytes(d)
			copy(b[6:], b[:6])
			copy(b, mac)
			if b[6]&1 != 0 || !tx.Queue(d.Addr, len(b)) {
				rx.Recycle([]umem.Desc{d}) // was to a group, from which no frame may come, or the ring is full
			}
		}
		tx.Flush()
		tx.Reclaim() // the frames are free for either socket
		rx.Refill()
		if n == 0 {
			if err := errors.Join(rx.Err(), tx.Err(), p.in.Wait(false, 100*time.Millisecond)); err != nil {
				return err
			}
		}
	}
	in, err1 := p.in.Statistics()
	out, err2 := p.out.Statistics()
	fmt.Printf("%d packets entered, %d left, %d completions\n", in.RXFrames, out.TXFrames, out.TXCompletions)
	return errors.Join(err1, err2)
}
