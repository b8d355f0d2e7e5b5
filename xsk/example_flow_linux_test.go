//go:build linux && (amd64 || arm64)

package xsk_test

import (
	"errors"
	"fmt"
	"log"
	"net/netip"

	"github.com/afxnet/afxnet/xsk"
)

// One socket gets its flow on one queue of a NIC; elsewhere it reads them all.
func ExampleSteerFlow() {
	rule, err := xsk.SteerFlow("lo", xsk.FlowRule{
		Protocol: xsk.ProtocolUDP,
		Dst:      netip.MustParsePrefix("192.0.2.1/32"),
		DstPort:  4242,
		Queue:    0,
	})
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		fmt.Println("no rules: OpenAll")
	case err != nil:
		log.Fatal(err)
	default:
		defer rule.Close()
		fmt.Println("one queue: Open")
	}
	// Output: no rules: OpenAll
}
