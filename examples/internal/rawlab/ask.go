package rawlab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"
)

// Ask sends n datagrams to a port of the example's address, from a kernel's socket
// and one at a time, and wants each back as it was.
func (l *Lab) Ask(ctx context.Context, n int, port string) error {
	c, err := l.Peer.Dial(ctx, "udp", net.JoinHostPort(l.Address.String(), port))
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Now()) })()
	question, back := make([]byte, 100), make([]byte, 200)
	start := time.Now()
	for i := range n {
		binary.BigEndian.PutUint64(question, uint64(i))
		if _, err := c.Write(question); err != nil {
			return err
		}
		k, err := c.Read(back)
		if err != nil {
			return fmt.Errorf("datagram %d: %w", i, err)
		}
		if string(back[:k]) != string(question) {
			return fmt.Errorf("datagram %d came back as %x", i, back[:k])
		}
	}
	fmt.Printf("%d datagrams answered, %v each\n", n, (time.Since(start) / time.Duration(max(n, 1))).Round(100*time.Nanosecond))
	return nil
}
