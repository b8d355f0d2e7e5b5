// Command dns is a DNS server and its clients on sockets that bypass the kernel:
// the server and one client are miekg/dns's, another client is package net's own
// resolver:
//
//	go -C examples/libraries run ./dns -i eth0 -addr 192.0.2.10/24 -gw 192.0.2.1
//
// is a server; another one with -to is its client. With -lab it makes a private
// network, and is both there, against the kernel's sockets:
//
//	go -C examples/libraries run ./dns -lab
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/afxnet/afxnet/examples/internal/demo"
)

var program = demo.Program{Name: "dns", Port: 53, Serve: serve, Use: use}

func main() { demo.Main(program) }

// serve is an ordinary DNS server, but for where its sockets come from.
func serve(h demo.Host, address string) (stop func() error, err error) {
	return serveWith(h, address, answer)
}

func serveWith(h demo.Host, address string, f dns.HandlerFunc) (stop func() error, err error) {
	p, err := h.ListenPacket("udp", address) // instead of net.ListenPacket
	if err != nil {
		return nil, err
	}
	l, err := h.Listen("tcp", address) // instead of net.Listen
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	udp := &dns.Server{PacketConn: p, Handler: f}
	tcp := &dns.Server{Listener: l, Handler: f, ReadTimeout: 10 * time.Second} // as long as exchange waits
	started := make(chan struct{}, 2)
	for _, srv := range []*dns.Server{udp, tcp} {
		srv.NotifyStartedFunc = func() { started <- struct{}{} }
		go srv.ActivateAndServe() //nolint:errcheck // nil after Shutdown
	}
	<-started
	<-started
	return func() error { return errors.Join(udp.Shutdown(), tcp.Shutdown()) }, nil
}

// text is what a name's TXT record says: "small" is short, and anything else too
// long for a datagram.
func text(name string) []string {
	if strings.HasPrefix(name, "small.") {
		return []string{"the answer for " + name}
	}
	return slices.Repeat([]string{"the answer for " + strings.Repeat(name, 8)}, 100)
}

// answer answers for every name. It cuts what is too long for the client, which
// then comes again over TCP.
func answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	if len(q.Question) == 0 { // a header that promises one: the library lets it through
		w.WriteMsg(m.SetRcodeFormatError(q)) //nolint:errcheck // it was no question
		return
	}
	h := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: 60}
	switch h.Rrtype = q.Question[0].Qtype; h.Rrtype {
	case dns.TypeTXT:
		m.Answer = append(m.Answer, &dns.TXT{Hdr: h, Txt: text(h.Name)})
	case dns.TypeA:
		m.Answer = append(m.Answer, &dns.A{Hdr: h, A: net.IPv4(192, 0, 2, 1)})
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	w.WriteMsg(m) //nolint:errcheck // the client asks again
}

// use asks over UDP and TCP.
func use(ctx context.Context, h demo.Host, address string) (string, error) {
	resolver := &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return h.DialContext(ctx, network, address) // instead of net.Dialer's
		},
	}
	addrs, err := resolver.LookupHost(ctx, "www.example.")
	if err != nil {
		return "", err
	}
	if !slices.Equal(addrs, []string{"192.0.2.1"}) {
		return "", fmt.Errorf("addresses %v", addrs)
	}
	for _, name := range []string{"small.example.", "large.example."} {
		got, err := resolver.LookupTXT(ctx, name)
		if err != nil {
			return "", err
		}
		if !slices.Equal(got, []string{strings.Join(text(name), "")}) {
			return "", fmt.Errorf("%s: %q", name, got)
		}
	}
	for i := range 200 {
		network := []string{"udp", "tcp"}[i%2]
		name := fmt.Sprintf("small.%d.example.", i)
		m, err := exchange(ctx, h, network, address, new(dns.Msg).SetQuestion(name, dns.TypeTXT))
		if err != nil {
			return "", err
		}
		if len(m.Answer) != 1 || !slices.Equal(m.Answer[0].(*dns.TXT).Txt, text(name)) {
			return "", fmt.Errorf("%s: %v", name, m)
		}
	}
	return "200 answers to miekg/dns, and 3 to package net's resolver, one of them too long for UDP", nil
}

// exchange asks one question on a connection of its own.
func exchange(ctx context.Context, h demo.Host, network, address string, q *dns.Msg) (*dns.Msg, error) {
	conn, err := h.DialContext(ctx, network, address) // instead of net.Dial
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := dns.Client{Timeout: 10 * time.Second}
	m, _, err := c.ExchangeWithConnContext(ctx, q, &dns.Conn{Conn: conn})
	return m, err
}
