//go:build linux && (amd64 || arm64)

package xsk_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// A UDP datagram whose checksum the kernel or the NIC completes, and which comes
// back with the time at which it was sent.
func ExampleTX_QueueRequest() {
	s, err := xsk.Open(xsk.Config{Interface: "eth0", TXOffload: xsk.TXChecksum | xsk.TXTimestamp})
	if errors.Is(err, errors.ErrUnsupported) {
		log.Fatal("neither the kernel nor the NIC does it: ", err)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	tx := s.TX()
	if tx.Free(1) == 0 {
		return
	}
	a, frame, _ := tx.Frame()
	n := writeDatagram(frame) // with the sum of the pseudo-header as its checksum
	r := xsk.TXRequest{Do: xsk.TXChecksum | xsk.TXTimestamp, ChecksumStart: 14 + 20, ChecksumOffset: 6, ID: 1}
	if d := (umem.Desc{Addr: a, Len: uint32(n)}); !tx.QueueRequest(r, d) {
		log.Print(tx.CheckRequest(r, d))
		tx.Cancel(a)
	}
	tx.Flush()

	times := make([]xsk.TXTime, 64)
	for tx.Lent() > 0 {
		tx.Reclaim() // whenever there is nothing better to do
	}
	for _, t := range times[:tx.Timestamps(times)] {
		fmt.Println("datagram", t.ID, "was sent at", t.Time, "ns")
	}
}

func writeDatagram([]byte) int { return 60 }
