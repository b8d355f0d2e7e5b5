//go:build linux && (amd64 || arm64)

package xsk_test

import (
	"errors"
	"fmt"
	"log"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// What a device can do, before anything is opened. It needs no privilege.
func ExampleCheck() {
	report, err := xsk.Check("lo")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Interface, "would be bound in mode", report.Choice.Bind)
	for _, f := range report.Findings {
		if f.Level == xsk.Problem {
			log.Print(f.Text, "; fix: ", f.Fix)
		}
	}
	// Output: lo would be bound in mode copy
}

// Every error says which step failed on what; the cause is in it.
func ExampleOpError() {
	_, err := xsk.Open(xsk.Config{Interface: "nope0"})
	var op *xsk.OpError
	if errors.As(err, &op) {
		fmt.Println(op.Op, "of", op.Device)
	}
	fmt.Println(errors.Is(err, unix.ENODEV))
	// Output:
	// look up interface of nope0
	// true
}

func ExampleCounters_All() {
	c := xsk.Counters{RedirectIPv4: 3, PassNoSocket: 1}
	for verdict, n := range c.All() {
		if n != 0 {
			fmt.Println(verdict, verdict.Redirected(), n)
		}
	}
	// Output:
	// redirect_ipv4 true 3
	// pass_no_socket false 1
}

// Sockets on all queues of a device, and the program that directs an address's
// packets to them.
func ExampleOpenAll() {
	set, err := xsk.OpenAll(xsk.SetConfig{Socket: xsk.Config{Interface: "eth0"}})
	if err != nil {
		log.Fatal(err)
	}
	defer set.Close()
	if err := set.Program().AddAddress(netip.MustParseAddr("192.0.2.10")); err != nil {
		log.Fatal(err)
	}
	for _, s := range set.Sockets() {
		go func() {
			batch := make([]umem.Desc, 64)
			for s.Wait(false, 0) == nil {
				n := s.RX().Receive(batch)
				s.RX().Recycle(batch[:n])
				s.RX().Refill()
			}
		}()
	}
}

// One region for two devices: what is received on the one can be sent on the other
// without a copy.
func ExampleNewShared() {
	region, err := umem.New(umem.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer region.Close() // after the sockets
	shared := xsk.NewShared(region)
	in, err := xsk.Open(xsk.Config{Interface: "eth0", Shared: shared})
	if err != nil {
		log.Fatal(err)
	}
	defer in.Close()
	out, err := xsk.Open(xsk.Config{Interface: "eth1", Shared: shared})
	if err != nil {
		log.Fatal(err)
	}
	defer out.Close()

	batch := make([]umem.Desc, 64)
	for _, d := range batch[:in.RX().Receive(batch)] {
		if !out.TX().Queue(d.Addr, int(d.Len)) {
			in.RX().Recycle([]umem.Desc{d})
		}
	}
	out.TX().Flush()
}
