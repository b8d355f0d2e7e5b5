package stack

import (
	"io"
	"net"
	"testing"
)

// bulks counts the calls round what is sent.
type bulks struct {
	idler
	begun, ended int
	t            *testing.T
}

func (b *bulks) BeginBulk() {
	if b.begun++; b.begun != b.ended+1 {
		b.t.Errorf("begun %d times, ended %d times", b.begun, b.ended)
	}
}

func (b *bulks) EndBulk() { b.ended++ }

// TestBulkWrites has long writes sent in bulk, piece by piece, and short ones not.
func TestBulkWrites(t *testing.T) {
	p := newPair(t)
	c, s := p.connect(t, "tcp", addrB)
	b := &bulks{idler: c.wr.idle, t: t}
	c.wr.mu.Lock()
	c.wr.idle = b
	c.wr.mu.Unlock()
	for _, w := range []struct{ size, least int }{
		{1, 0}, {bulkWrite - 1, 0}, {bulkWrite, 1}, {longWrite, 1}, {longWrite + bulkWrite, 2}, {5 * longWrite, 5},
	} {
		got := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.Discard, s, int64(w.size))
			got <- err
		}()
		before := b.begun
		if n, err := c.Write(make([]byte, w.size)); n != w.size || err != nil {
			t.Fatalf("write of %d bytes: %d, %v", w.size, n, err)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if n := b.begun - before; n < w.least || w.least == 0 && n != 0 || b.ended != b.begun {
			t.Errorf("write of %d bytes: %d in bulk, want %d; %d ended of %d", w.size, n, w.least, b.ended, b.begun)
		}
	}
}

// TestBulkDatagrams has a datagram in fragments sent in bulk, and one in a single frame
// not.
func TestBulkDatagrams(t *testing.T) {
	p := newPair(t)
	u := listenUDP(t, p.a, "udp", ":0")
	b := &bulks{idler: u.wr.idle, t: t}
	u.wr.mu.Lock()
	u.wr.idle = b
	u.wr.mu.Unlock()
	for _, w := range []struct{ size, begun int }{{1, 0}, {1472, 0}, {1501, 1}, {65507, 2}} {
		if _, err := u.WriteToUDP(make([]byte, w.size), &net.UDPAddr{IP: net.ParseIP(addrB), Port: 9}); err != nil {
			t.Fatal(err)
		}
		if b.begun != w.begun || b.ended != b.begun {
			t.Errorf("datagram of %d bytes: %d in bulk, want %d; %d ended", w.size, b.begun, w.begun, b.ended)
		}
	}
}
