package stack_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/internal/wired"
	"github.com/afxnet/afxnet/stack"
	"github.com/afxnet/afxnet/umem"
)

// openTwo opens two stacks that are joined by a wire in memory, so that the
// examples need neither a network interface nor privileges. Programs call
// stack.Open.
func openTwo() (client, server *stack.Stack, end func() error) {
	p, err := wired.Open(wire.Config{}, umem.Config{}, [2]stack.Config{
		{
			Addresses:   []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("2001:db8::1/64")},
			Nameservers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:53")},
		},
		{Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24"), netip.MustParsePrefix("2001:db8::2/64")}},
	})
	if err != nil {
		log.Fatal(err)
	}
	return p.Stacks[0], p.Stacks[1], p.Close
}

var serverV4, serverV6 = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::2")

// serveNames is a DNS server that knows the addresses of one name.
func serveNames(p net.PacketConn, v4, v6 netip.Addr) {
	b := make([]byte, 1232)
	for {
		n, from, err := p.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil {
			continue
		}
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		q := m.Questions[0]
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type}
		switch {
		case q.Name.String() != "server.example.":
			m.RCode = dnsmessage.RCodeNameError
		case q.Type == dnsmessage.TypeA:
			m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: v4.As4()}}}
		case q.Type == dnsmessage.TypeAAAA:
			m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AAAAResource{AAAA: v6.As16()}}}
		}
		answer, err := m.Pack()
		if err != nil {
			log.Fatal(err)
		}
		p.WriteTo(answer, from)
	}
}

// A stack has the functions of package net as methods.
func Example() {
	client, server, end := openTwo()
	defer end()

	l, err := server.Listen("tcp", ":7")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		io.Copy(c, c)
		c.Close()
	}()

	c, err := client.Dial("tcp", "10.0.0.2:7")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, "hello")
	line, err := bufio.NewReader(c).ReadString('\n')
	fmt.Print(line, err, "\n")
	// Output:
	// hello
	// <nil>
}

// An HTTP client and server use a stack in the place of the kernel.
func ExampleDialer() {
	client, server, end := openTwo()
	defer end()

	names, err := server.ListenPacket("udp", ":domain")
	if err != nil {
		log.Fatal(err)
	}
	go serveNames(names, serverV4, serverV6)
	l, err := server.Listen("tcp", ":http")
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s\n", r.Host)
	})}
	go srv.Serve(l)

	dialer := &stack.Dialer{Stack: client, Timeout: 5 * time.Second} // was &net.Dialer{...}
	transport := &http.Transport{DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("http://server.example/")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	fmt.Print(string(text), err, "\n")
	// Output:
	// hello server.example
	// <nil>
}

// Accepted connections are probed after a minute, and at most 101 wait to be
// accepted: one more than the backlog, as on Linux.
func ExampleListenConfig() {
	_, server, end := openTwo()
	defer end()

	lc := stack.ListenConfig{Stack: server, KeepAlive: time.Minute, Backlog: 100}
	l, err := lc.Listen(context.Background(), "tcp", ":http")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	fmt.Println(l.Addr())
	// Output:
	// [::]:80
}

// Names are looked up over the stack, by Go's own resolver.
func ExampleStack_Resolver() {
	client, server, end := openTwo()
	defer end()

	names, err := server.ListenPacket("udp", ":domain")
	if err != nil {
		log.Fatal(err)
	}
	go serveNames(names, serverV4, serverV6)

	addrs, err := client.Resolver().LookupNetIP(context.Background(), "ip4", "server.example.")
	fmt.Println(addrs, err)

	_, err = client.Dial("tcp", "nobody.example.:http")
	var dns *net.DNSError
	fmt.Println(errors.As(err, &dns) && dns.IsNotFound, err)
	// Output:
	// [10.0.0.2] <nil>
	// true dial tcp: lookup nobody.example. on 10.0.0.2:53: no such host
}

// Info tells how a connection is doing. The figures are those of the moment.
func ExampleTCPConn_Info() {
	client, server, end := openTwo()
	defer end()

	l, err := server.Listen("tcp", ":7")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	c, err := client.Dial("tcp", "10.0.0.2:7")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	info, err := c.(*stack.TCPConn).Info()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.State, info.Congestion, info.Retransmitted)
	// Output: ESTABLISHED Open 0
}
