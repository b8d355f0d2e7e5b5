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

// bursts counts the calls round what is sent as one burst, and the fragments in it.
type bursts struct{ begun, ended int }

func (b *bursts) BeginBurst() { b.begun++ }
func (b *bursts) EndBurst()   { b.ended++ }

// TestBurstDatagrams has a datagram in fragments sent as one burst, and one in a single
// frame not.
func TestBurstDatagrams(t *testing.T) {
	p := newPairWith(t, pairOptions{verified: true, a: testConfig(addrA, addrA6), b: testConfig(addrB, addrB6)})
	b := new(bursts)
	p.a.fast.long.burster = b
	for _, host := range []string{addrB, addrB6} {
		u := listenUDP(t, p.a, "udp", ":0")
		most := 1500 - 8 - 20
		if host == addrB6 {
			most -= 20
		}
		for _, w := range []struct{ size, bursts int }{{1, 0}, {most, 0}, {most + 1, 1}, {65507 - 40, 1}} {
			before := b.begun
			if _, err := u.WriteToUDP(make([]byte, w.size), &net.UDPAddr{IP: net.ParseIP(host), Port: 9}); err != nil {
				t.Fatal(err)
			}
			if n := b.begun - before; n != w.bursts || b.ended != b.begun {
				t.Errorf("datagram of %d bytes to %s: %d bursts, want %d; %d ended of %d", w.size, host, n, w.bursts, b.ended, b.begun)
			}
		}
	}
}
