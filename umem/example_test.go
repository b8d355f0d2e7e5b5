package umem_test

import (
	"fmt"
	"log"

	"github.com/afxnet/afxnet/umem"
)

// A frame is taken from a cache, written to, and given back.
func ExampleNew() {
	region, err := umem.New(umem.Config{ChunkSize: 2048, Chunks: 64})
	if err != nil {
		log.Fatal(err)
	}
	defer region.Close()
	cache := region.NewCache()
	frame, _ := cache.Get()
	n := copy(region.Chunk(frame), "a packet")
	fmt.Printf("%s\n", region.Bytes(umem.Desc{Addr: frame, Len: uint32(n)}))
	fmt.Println(region.Audit().Held, "held")
	cache.Put(frame)
	fmt.Println(region.Audit().Held, "held,", region.MaxPacket(), "bytes fit a received packet")
	// Output:
	// a packet
	// 1 held
	// 0 held, 1792 bytes fit a received packet
}

// Chunks of 3072 bytes hold an MTU of 2798 in three quarters of the memory that
// those of 4096 take.
func ExampleConfig_unaligned() {
	region, err := umem.New(umem.Config{ChunkSize: 3072, Chunks: 64, Unaligned: true})
	if err != nil {
		log.Fatal(err)
	}
	defer region.Close()
	fmt.Println(len(region.Memory()), region.Frame(3072+100))
	// Output: 196608 3072
}

// The descriptors of received packets, of which the second lies in two frames.
func ExamplePackets() {
	descs := []umem.Desc{
		{Addr: 256, Len: 60},
		{Addr: 2304, Len: 1792, Options: umem.OptionContinues},
		{Addr: 4352, Len: 700},
	}
	for packet := range umem.Packets(descs) {
		fmt.Println(len(packet))
	}
	// Output:
	// 1
	// 2
}
