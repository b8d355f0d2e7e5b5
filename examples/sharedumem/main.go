// Command sharedumem has packets enter at one queue and leave at another, of the
// same device or of another one, without being copied: both sockets use one region
// of packet memory (XDP_SHARED_UMEM).
//
//	go run ./examples/sharedumem -i eth0 -o eth1 -addr 192.0.2.10 -mac 02:00:00:00:00:01
//
// takes from the kernel what arrives on queue 0 of eth0 for 192.0.2.10, which the
// host must not have, and sends it out of queue 0 of eth1 to that MAC address. With
// -lab it makes a private network, in which packets enter at queue 0 and leave at
// queue 1, sends -n datagrams from the other end and wants each of them back:
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
	"os"
	"os/signal"
	"time"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	useLab := flag.Bool("lab", false, "make a private network and send to it")
	n := flag.Int("n", 10000, "with -lab, datagrams to send")
	in := flag.String("i", "", "interface that packets enter at, on queue 0")
	out := flag.String("o", "", "interface that they leave at, on queue 0")
	addr := flag.String("addr", "", "address whose packets are taken")
	mac := flag.String("mac", "", "MAC address that they are sent to")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *useLab {
		err = runLab(ctx, *n)
	} else {
		err = run(ctx, *in, *out, *addr, *mac)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sharedumem:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in, out, address, station string) error {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	mac, err := net.ParseMAC(station)
	if err != nil {
		return fmt.Errorf("-mac: %w", err)
	}
	p, err := open(xsk.Config{Interface: in}, xsk.Config{Interface: out}, addr)
	if err != nil {
		return err
	}
	return errors.Join(p.forward(ctx, mac), p.close())
}

// path is the way of the packets.
type path struct {
	region  *umem.Region
	in, out *xsk.Socket
	prog    *xsk.Program
}

func open(in, out xsk.Config, addr netip.Addr) (_ *path, err error) {
	p := &path{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.region, err = umem.New(umem.Config{Chunks: 2 * 4096}); err != nil {
		return nil, err
	}
	if p.prog, err = xsk.LoadProgram(xsk.ProgramConfig{Interface: in.Interface}); err != nil {
		return nil, err
	}
	if err := p.prog.Attach(); err != nil {
		return nil, err
	}
	in.Shared = xsk.NewShared(p.region)
	out.Shared = in.Shared
	if p.in, err = xsk.Open(in); err != nil {
		return nil, err
	}
	if p.out, err = xsk.Open(out); err != nil {
		return nil, err
	}
	p.in.RX().Refill()
	return p, errors.Join(p.prog.AddSocket(p.in.Queue(), p.in.FD()), p.prog.AddAddress(addr))
}

// close ends it, the program first: then no packet is on its way to a socket that
// is being closed.
func (p *path) close() (err error) {
	if p.prog != nil {
		err = p.prog.Close()
	}
	for _, s := range []*xsk.Socket{p.in, p.out} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	if p.region != nil {
		err = errors.Join(err, p.region.Close())
	}
	return err
}

// forward sends to mac what arrives, until ctx ends.
func (p *path) forward(ctx context.Context, mac net.HardwareAddr) error {
	defer context.AfterFunc(ctx, p.in.Interrupt)()
	rx, tx, batch := p.in.RX(), p.out.TX(), make([]umem.Desc, 64)
	for ctx.Err() == nil {
		n := rx.Receive(batch)
		for _, d := range batch[:n] {
			b := p.region.Bytes(d)
			copy(b[6:], b[:6])
			copy(b, mac)
			if !tx.Queue(d.Addr, len(b)) {
				rx.Recycle([]umem.Desc{d}) // the ring is full: dropped
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
	return nil
}
