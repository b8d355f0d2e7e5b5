package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/afxnet/afxnet/examples/internal/demo"
	"github.com/afxnet/afxnet/examples/internal/demotest"
)

// start serves with a handler, and returns the address.
func start(t *testing.T, pair demo.Pair, h dns.HandlerFunc) string {
	t.Helper()
	stop, err := serveWith(pair.Server, ":53", h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return net.JoinHostPort(pair.Addr.String(), "53")
}

// TestLargeDatagrams has answers that come in several fragments.
func TestLargeDatagrams(t *testing.T) {
	long := slices.Repeat([]string{strings.Repeat("x", 250)}, 14)
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		address := start(t, pair, func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: long}}
			w.WriteMsg(m) //nolint:errcheck // the client says what it got
		})
		for i := range 20 {
			m, err := exchange(ctx, pair.Client, "udp", address, new(dns.Msg).SetQuestion("x.example.", dns.TypeTXT).SetEdns0(4096, false))
			if err != nil {
				t.Fatal(err)
			}
			if m.Truncated || len(m.Answer) != 1 || !slices.Equal(m.Answer[0].(*dns.TXT).Txt, long) {
				t.Fatalf("answer %d: %v", i, m)
			}
		}
	})
}

// TestOutage has the server's device go down and come back: the library's servers, of UDP
// and TCP, do not notice.
func TestOutage(t *testing.T) {
	pair, outage := demotest.Outage(t)
	address := start(t, pair, answer)
	for i := range 3 {
		outage(t.Context(), 2)
		for _, network := range []string{"udp", "tcp"} {
			name := fmt.Sprintf("small.%d.example.", i)
			m, err := exchange(t.Context(), pair.Client, network, address, new(dns.Msg).SetQuestion(name, dns.TypeTXT))
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Answer) != 1 || !slices.Equal(m.Answer[0].(*dns.TXT).Txt, text(name)) {
				t.Errorf("answer by %s after outage %d: %v", network, i, m)
			}
		}
	}
}

// TestOneSocket has many questions under way on one socket.
func TestOneSocket(t *testing.T) {
	const questions, atOnce = 2000, 64
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		conn, err := pair.Client.DialContext(ctx, "udp", start(t, pair, answer))
		if err != nil {
			t.Fatal(err)
		}
		c := &dns.Conn{Conn: conn}
		defer c.Close()
		free := make(chan struct{}, atOnce)
		sent := make(chan error, 1)
		name := func(id uint16) string { return fmt.Sprintf("small.%d.example.", id) }
		go func() {
			for id := range uint16(questions) {
				free <- struct{}{}
				q := new(dns.Msg).SetQuestion(name(id), dns.TypeTXT)
				q.Id = id
				if err := c.WriteMsg(q); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		var seen [questions]bool
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for i := range questions {
			m, err := c.ReadMsg()
			if err != nil {
				t.Fatalf("after %d answers: %v", i, err)
			}
			if seen[m.Id] || len(m.Answer) != 1 || !slices.Equal(m.Answer[0].(*dns.TXT).Txt, text(name(m.Id))) {
				t.Fatalf("seen before %v: %v", seen[m.Id], m)
			}
			seen[m.Id] = true
			<-free
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// TestTransfer transfers a zone.
func TestTransfer(t *testing.T) {
	const records = 20000
	record := func(i int) dns.RR {
		return &dns.A{
			Hdr: dns.RR_Header{Name: fmt.Sprintf("host%d.example.", i), Rrtype: dns.TypeA, Class: dns.ClassINET},
			A:   net.IPv4(10, byte(i>>16), byte(i>>8), byte(i)),
		}
	}
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: "example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns.example.", Mbox: "who.example.", Serial: 1}
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		address := start(t, pair, func(w dns.ResponseWriter, q *dns.Msg) {
			parts := make(chan *dns.Envelope)
			go func() {
				defer close(parts)
				parts <- &dns.Envelope{RR: []dns.RR{soa}}
				for i := 0; i < records; i += 100 {
					var part []dns.RR
					for j := range 100 {
						part = append(part, record(i+j))
					}
					parts <- &dns.Envelope{RR: part}
				}
				parts <- &dns.Envelope{RR: []dns.RR{soa}}
			}()
			new(dns.Transfer).Out(w, q, parts) //nolint:errcheck // the client says that it got less
			for range parts {
			}
			w.Close() //nolint:errcheck // likewise
		})
		conn, err := pair.Client.DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		parts, err := (&dns.Transfer{Conn: &dns.Conn{Conn: conn}, ReadTimeout: 30 * time.Second}).In(new(dns.Msg).SetAxfr("example."), address)
		if err != nil {
			t.Fatal(err)
		}
		var got []dns.RR
		for p := range parts {
			if p.Error != nil {
				t.Fatalf("after %d records: %v", len(got), p.Error)
			}
			got = append(got, p.RR...)
		}
		if len(got) != records+2 {
			t.Fatalf("%d records", len(got))
		}
		for i, r := range got[1 : records+1] {
			if r.String() != record(i).String() {
				t.Fatalf("record %d is %v", i, r)
			}
		}
	})
}

// TestHeaderAlone sends the header of a question with nothing behind it.
func TestHeaderAlone(t *testing.T) {
	question, err := new(dns.Msg).SetQuestion("x.example.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		address := start(t, pair, answer)
		for _, network := range []string{"udp", "tcp"} {
			conn, err := pair.Client.DialContext(ctx, network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := &dns.Conn{Conn: conn}
			if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(question[:12]); err != nil {
				t.Fatal(err)
			}
			if m, err := c.ReadMsg(); err != nil || m.Rcode != dns.RcodeFormatError {
				t.Errorf("%s: %v, %v", network, m, err)
			}
		}
	})
}

// TestRefused hears from the other host that there is no server.
func TestRefused(t *testing.T) {
	demotest.Each(t, func(ctx context.Context, t *testing.T, pair demo.Pair) {
		for _, network := range []string{"udp", "tcp"} {
			_, err := exchange(ctx, pair.Client, network, net.JoinHostPort(pair.Addr.String(), "53"), new(dns.Msg).SetQuestion("x.example.", dns.TypeA))
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v", network, err)
			}
		}
	})
}
