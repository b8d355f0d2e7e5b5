package stack

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// A nameserver answers for names that end in "test.", with addresses that go with
// where it is: kernel sockets or a stack's.
type nameserver struct {
	v4, v6 netip.Addr // what names stand for

	mu    sync.Mutex
	asked map[string]int // queries by "network name type"
	came  chan string    // names of queries, as many as there is room for
}

func newNameserver(v4, v6 string) *nameserver {
	return &nameserver{
		v4: netip.MustParseAddr(v4), v6: netip.MustParseAddr(v6),
		asked: make(map[string]int), came: make(chan string, 64),
	}
}

// serve answers on both sockets until the test ends.
func (ns *nameserver) serve(t testing.TB, p net.PacketConn, l net.Listener) {
	var wg sync.WaitGroup
	wg.Go(func() { ns.servePackets(t, p) })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			ns.serveStream(t, c)
		}
	})
	t.Cleanup(func() {
		p.Close()
		l.Close()
		wg.Wait()
	})
}

// on serves at an address of a stack.
func (ns *nameserver) on(t testing.TB, s *Stack, address string) {
	t.Helper()
	p, err := s.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ns.serve(t, p, l)
}

func (ns *nameserver) servePackets(t testing.TB, p net.PacketConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := p.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			t.Error(err)
			return
		}
		if answer := ns.answer(t, "udp", b[:n]); answer != nil {
			if _, err := p.WriteTo(answer, from); err != nil && !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	}
}

func (ns *nameserver) serveStream(t testing.TB, c net.Conn) {
	defer c.Close()
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return // hung up
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Error(err)
		return
	}
	if answer := ns.answer(t, "tcp", b); answer != nil {
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}
}

// many is how many addresses "many.test" has: too many for a datagram.
const many = 200

// answer returns nil for no answer.
func (ns *nameserver) answer(t testing.TB, network string, query []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		t.Errorf("query: %v, %d questions", err, len(m.Questions))
		return nil
	}
	q := m.Questions[0]
	name := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
	ns.mu.Lock()
	ns.asked[network+" "+name+" "+q.Type.String()]++
	ns.mu.Unlock()
	select {
	case ns.came <- name:
	default:
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	host, _ := strings.CutSuffix(name, ".test")
	a4, a6 := []netip.Addr{ns.v4}, []netip.Addr{ns.v6}
	switch host {
	case "both", "a.search", "first.search":
	case "four":
		a6 = nil
	case "six":
		a4 = nil
	case "hole6": // nobody answers for the IPv6 address
		a6 = []netip.Addr{netip.MustParseAddr("2001:db8::99")}
	case "hole4":
		a4 = []netip.Addr{netip.MustParseAddr("10.0.0.99")}
	case "two": // the first of which nobody answers for
		a4, a6 = []netip.Addr{netip.MustParseAddr("10.0.0.99"), ns.v4}, nil
	case "many":
		if m.Truncated = network == "udp"; !m.Truncated {
			for range many - 1 {
				a4 = append(a4, a4[0].Next())
			}
		}
		a6 = nil
	case "busy":
		m.RCode = dnsmessage.RCodeServerFailure
	case "silent":
		return nil
	default:
		m.RCode = dnsmessage.RCodeNameError
	}
	if m.RCode == dnsmessage.RCodeSuccess && !m.Truncated {
		h := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, Type: q.Type, TTL: 60}
		switch q.Type {
		case dnsmessage.TypeA:
			for _, a := range a4 {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
			}
		case dnsmessage.TypeAAAA:
			for _, a := range a6 {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
			}
		case dnsmessage.TypeTXT:
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.TXTResource{TXT: []string{"v=1"}}})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		t.Error(err)
	}
	return answer
}

// count returns how many queries there were for a name and type.
func (ns *nameserver) count(network, name, qtype string) int {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return ns.asked[network+" "+name+" "+qtype]
}

// wait returns when a name is asked for.
func (ns *nameserver) wait(t testing.TB, name string) {
	t.Helper()
	within(t, "query for "+name, func() {
		for <-ns.came != name {
		}
	})
}

// Global addresses: IPv6 comes before IPv4 with these, and after it with addrA6 and
// addrB6, which are unique local ones (RFC 6724).
const (
	globalA6 = "2001:db8::1"
	globalB6 = "2001:db8::2"
)

// named is a pair with global addresses, of which a has b for its nameserver.
type named struct {
	*pair
	ns *nameserver
}

func newNamed(t testing.TB) named {
	t.Helper()
	a := testConfig(addrA, globalA6)
	a.Nameservers = []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(addrB), 0)}
	n := named{newPairWith(t, pairOptions{a: a, b: testConfig(addrB, globalB6)}), newNameserver(addrB, globalB6)}
	n.ns.on(t, n.b, addrB+":53")
	return n
}

// inKernel serves on kernel sockets, and returns a resolver that asks there,
// whatever resolv.conf says.
func (ns *nameserver) inKernel(t testing.TB) *net.Resolver {
	t.Helper()
	var p net.PacketConn
	var l net.Listener
	var err error
	for range 10 { // the port may be taken by one of the two protocols
		if p, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if l, err = net.Listen("tcp", p.LocalAddr().String()); err == nil {
			break
		}
		p.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	ns.serve(t, p, l)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, p.LocalAddr().String())
	}}
}
