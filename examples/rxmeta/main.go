// Command rxmeta prints what the device knows of the packets that it receives, and
// no packet says by itself: the hash that chose the queue, the time of arrival by
// the device's clock, the VLAN tag that it took off.
//
//	go run ./examples/rxmeta -i eth0 -addr 192.0.2.10 -hash -timestamp -vlan
//
// takes from the kernel what is sent to 192.0.2.10, which the host must not have,
// on a device that declares all three (see examples/doctor). Nobody answers ARP for
// it: senders need a neighbour entry. With -lab it makes a private network, sends
// itself -n datagrams and wants a hash of each:
//
//	go run ./examples/rxmeta -lab
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
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

func main() {
	n := command.Count("n", 40, "with -lab, datagrams to send")
	iface := flag.String("i", "", "interface")
	addr := flag.String("addr", "", "address whose packets are printed")
	var wanted xsk.RXMetadataSet
	for name, set := range map[string]xsk.RXMetadataSet{"hash": xsk.RXHash, "timestamp": xsk.RXTimestamp, "vlan": xsk.RXVLANTag} {
		flag.BoolFunc(name, "ask for it", func(string) error { wanted |= set; return nil })
	}
	command.Main("rxmeta", command.Ways{
		Lab:  func(ctx context.Context) error { return runLab(ctx, *n) },
		Host: func(ctx context.Context) error { return run(ctx, *iface, *addr, wanted) },

		LabOnly: []string{"n"}, HostOnly: []string{"i", "addr", "hash", "timestamp", "vlan"},
	})
}

// open puts a socket on queue 0 and has the program ask for metadata.
func open(iface string, addr netip.Addr, wanted xsk.RXMetadataSet) (*xsk.Set, error) {
	set, err := xsk.OpenAll(xsk.SetConfig{
		Socket:  xsk.Config{Interface: iface},
		Queues:  []uint32{0},
		Program: xsk.ProgramConfig{Metadata: wanted},
	})
	if err != nil {
		return nil, err
	}
	if err := set.Program().AddAddress(addr); err != nil {
		return nil, errors.Join(err, set.Close())
	}
	return set, nil
}

// each calls f for the metadata of each packet, until that says so or ctx ends.
func each(ctx context.Context, s *xsk.Socket, f func(m xsk.RXMetadata, ok bool) (more bool)) error {
	defer context.AfterFunc(ctx, s.Interrupt)()
	rx, batch := s.RX(), make([]umem.Desc, 64)
	for {
		n := rx.Receive(batch)
		for packet := range umem.Packets(batch[:n]) {
			if !f(rx.Metadata(packet[0])) {
				return nil
			}
		}
		rx.Recycle(batch[:n])
		rx.Refill()
		if n == 0 && rx.Empty() {
			if err := errors.Join(rx.Err(), ctx.Err(), s.Wait(false, time.Second)); err != nil {
				return err
			}
		}
	}
}

func run(ctx context.Context, iface, address string, wanted xsk.RXMetadataSet) (err error) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return fmt.Errorf("-addr: %w", err)
	}
	set, err := open(iface, addr, wanted)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	err = each(ctx, set.Sockets()[0], func(m xsk.RXMetadata, ok bool) bool {
		fmt.Printf("%v: hash %#08x of %#x, time %d ns, VLAN tag %#04x:%d\n", m.Valid, m.Hash, m.HashType, m.Timestamp, m.VLANProto, m.VLANTCI&0xfff)
		return true
	})
	if errors.Is(err, context.Canceled) { // as it ends
		return nil
	}
	return err
}

func runLab(ctx context.Context, n int) (err error) {
	l, err := lab.Open(lab.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	var set *xsk.Set
	if err := l.Host.Do(func() (err error) { set, err = open(lab.HostDevice, l.StackV4.Addr(), xsk.RXHash); return err }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	host, err := l.Host.Interface()
	if err == nil {
		err = l.Peer.SetNeighbor(l.StackV4.Addr(), host.MAC)
	}
	for i := 0; i < n && err == nil; i++ { // four flows
		var c net.Conn
		if c, err = l.Peer.Dial(ctx, "udp", net.JoinHostPort(l.StackV4.Addr().String(), fmt.Sprint(1000+i%4))); err == nil {
			_, err = c.Write([]byte("what am I"))
			err = errors.Join(err, c.Close())
		}
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	hashed, got := 0, 0
	err = each(ctx, set.Sockets()[0], func(m xsk.RXMetadata, ok bool) bool {
		if got++; ok && m.Valid == xsk.RXHash {
			hashed++
		}
		return got < n
	})
	fmt.Printf("%d of %d packets with a hash\n", hashed, n)
	if err == nil && hashed < n {
		err = errors.New("a packet had none")
	}
	return err
}
