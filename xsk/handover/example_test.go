package handover_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/handover"
)

// A process without privileges opens what the helper gives it.
func ExampleOpen() {
	set, err := handover.Open(handover.Config{Path: "/run/afxnet/eth0.sock"})
	if err != nil {
		log.Fatal(err)
	}
	defer set.Close()
	if err := set.AddAddress(netip.MustParseAddr("192.0.2.10")); err != nil {
		log.Fatal(err)
	}
	for _, s := range set.Sockets() {
		go func(s *xsk.Socket) {
			// as with any other socket: s.RX(), s.TX(), s.Wait
			fmt.Println(s.Device(), s.Queue())
		}(s)
	}
	<-set.Done()
	log.Fatal(set.Err()) // the helper has gone, and the program with it
}

// A program with privileges is the helper for user 1000.
func ExampleServe() {
	l, err := handover.Listen("/run/afxnet/eth0.sock", 0o666)
	if err != nil {
		log.Fatal(err)
	}
	err = handover.Serve(context.Background(), l, handover.ServerConfig{
		Interface: "eth0",
		Users:     []uint32{1000},
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/32")},
	})
	if err != nil {
		log.Fatal(err)
	}
}
