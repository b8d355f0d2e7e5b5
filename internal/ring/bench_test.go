package ring

import (
	"fmt"
	"testing"
)

// BenchmarkRing passes entries from a producer to a consumer on one goroutine:
// the cost of the ring code alone, without traffic between CPUs.
func BenchmarkRing(b *testing.B) {
	for _, batch := range []uint32{1, 64} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			m := heapAt(b, 2048, 0)
			p, c := NewProducer(m), NewConsumer(m)
			var sum uint64
			b.ReportAllocs()
			for b.Loop() {
				first, _ := p.Reserve(batch)
				for i := range batch {
					p.Set(first+i, uint64(i))
				}
				p.Submit()
				first, n := c.Peek(batch)
				for i := range n {
					sum += c.Get(first + i)
				}
				c.Release()
			}
			if c.Err() != nil || sum == 0 && batch > 1 {
				b.Fatal(c.Err(), sum)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/entry")
		})
	}
}
