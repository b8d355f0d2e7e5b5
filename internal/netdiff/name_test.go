package netdiff

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// answers says what a nameserver has for a name without its dot at the end: its
// addresses, or a code.
type answers map[string]struct {
	addrs []netip.Addr
	code  dnsmessage.RCode
}

// resolver returns one whose nameserver is at the other end of a pipe. It blocks
// for the name "never".
func (a answers) resolver() *net.Resolver { return a.resolverTelling(func() {}) }

// resolverTelling is resolver, and calls told when an answer has been read.
func (a answers) resolverTelling(told func()) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		c, s := net.Pipe()
		go a.serve(s, told)
		return c, nil
	}}
}

// serve answers queries until the other end is closed. They are framed as over
// TCP, which is what a resolver takes everything for that is no net.PacketConn.
func (a answers) serve(s net.Conn, told func()) {
	defer s.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(s, size[:]); err != nil {
			return
		}
		q := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(s, q); err != nil {
			return
		}
		r, ok := a.answer(q)
		if !ok {
			s.Read(size[:]) //nolint:errcheck // until the resolver gives up
			return
		}
		if _, err := s.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(r))), r...)); err != nil {
			return
		}
		told()
	}
}

func (a answers) answer(query []byte) ([]byte, bool) {
	var q dnsmessage.Message
	if err := q.Unpack(query); err != nil || len(q.Questions) != 1 {
		return nil, false
	}
	name := q.Questions[0].Name
	found, ok := a[strings.TrimSuffix(name.String(), ".")]
	r := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true, RCode: found.code}, Questions: q.Questions}
	switch {
	case strings.HasPrefix(name.String(), "never."):
		return nil, false
	case !ok:
		r.RCode = dnsmessage.RCodeNameError
	}
	for _, addr := range found.addrs {
		h := dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: 1}
		switch {
		case addr.Is4() && q.Questions[0].Type == dnsmessage.TypeA:
			r.Answers = append(r.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: addr.As4()}})
		case addr.Is6() && q.Questions[0].Type == dnsmessage.TypeAAAA:
			r.Answers = append(r.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}})
		}
	}
	b, err := r.Pack()
	return b, err == nil
}

// answers returns those that behaviours ask for.
func (e *env) answers() answers {
	a := answers{}
	put := func(name string, code dnsmessage.RCode, addrs ...netip.Addr) {
		x := a[name]
		x.addrs, x.code = addrs, code
		a[name] = x
	}
	put("far.test", dnsmessage.RCodeSuccess, e.farHost)
	put("twice.test", dnsmessage.RCodeSuccess, e.farHost, e.farHost)
	put("both.test", dnsmessage.RCodeSuccess, e.farHosts[0], e.farHosts[1])
	put("nothing.test", dnsmessage.RCodeSuccess)
	put("broken.test", dnsmessage.RCodeServerFailure)
	put("hole.test", dnsmessage.RCodeSuccess, e.hole.Addr())
	put("holes.test", dnsmessage.RCodeSuccess, e.hole.Addr(), e.hole.Addr())
	put("refused.test", dnsmessage.RCodeRefused)
	return a
}

// nameBehaviours are about names of hosts, looked up by a Dialer's Resolver.
func nameBehaviours() (all []behaviour) {
	add := func(name string, run func(*env)) { all = append(all, behaviour{name: "name/" + name, run: run}) }
	for _, proto := range []string{"tcp", "udp"} {
		for _, name := range []string{"unknown.test.", "nothing.test.", "broken.test.", "refused.test.", "bad_.test..", ".", "a b.test."} {
			add("Dial "+proto+" "+name, func(e *env) {
				d := &net.Dialer{Resolver: e.answers().resolver()}
				e.saw("%s", e.notFound(d, proto+string(e.family), name))
				e.saw("%s", e.notFound(d, proto, name))
			})
		}
		add("Dial "+proto+" a name of the other family", func(e *env) {
			d := &net.Dialer{Resolver: e.answers().resolver()}
			e.saw("%s", e.notFound(d, proto+e.other(), "far.test."))
		})
		add("Dial "+proto+" a name, canceled before", func(e *env) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			c, err := e.near.DialBy(ctx, &net.Dialer{Resolver: e.answers().resolver()}, proto, "far.test.:80")
			e.saw("%v %s", c == nil, e.lookup(err))
		})
		add("Dial "+proto+" a name, canceled while it is looked up", func(e *env) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			dial := e.blocked(func() string {
				c, err := e.near.DialBy(ctx, &net.Dialer{Resolver: e.answers().resolver()}, proto, "never.test.:80")
				return map[bool]string{true: "nil ", false: ""}[c == nil] + e.lookup(err)
			})
			cancel()
			e.saw("%s", dial.result())
		})
		add("Dial "+proto+" a name, Timeout while it is looked up", func(e *env) {
			at := soon()
			d := &net.Dialer{Deadline: at, Resolver: e.answers().resolver()}
			c, err := e.near.DialBy(context.Background(), d, proto, "never.test.:80")
			e.saw("%v %s %s", c == nil, e.lookup(err), timing(at, err))
		})
	}
	for _, name := range []string{"far.test.", "twice.test.", "both.test."} {
		for _, network := range []string{"tcp", "FAMILY"} {
			// Package net dials two families on goroutines of its own, and they are
			// not in the lab.
			inside := network == "tcp" && name == "both.test."
			all = append(all, behaviour{name: "name/Dial " + network + " " + name, inside: inside, run: func(e *env) {
				network := strings.ReplaceAll(network, "FAMILY", e.tcp())
				l := e.farListenerAt(e.spare(e.far)) // free by the other family, too
				_, port, err := net.SplitHostPort(l.Addr().String())
				e.must(err)
				c, err := e.near.DialBy(context.Background(), &net.Dialer{Resolver: e.answers().resolver()}, network, name+":"+port)
				e.must(err)
				far := e.accept(l)
				e.saw("%s", e.addr(c.RemoteAddr()))
				e.send(c, "hello")
				e.saw("%q", e.exactly(far, 5))
			}})
		}
	}
	add("Dial udp far.test.", func(e *env) {
		far := e.farPacket()
		_, port, err := net.SplitHostPort(far.LocalAddr().String())
		e.must(err)
		c, err := e.near.DialBy(context.Background(), &net.Dialer{Resolver: e.answers().resolver()}, "udp", "far.test.:"+port)
		e.must(err)
		e.saw("%s", e.addr(c.RemoteAddr()))
		e.send(c, "hello")
		e.saw("%q", e.datagram(far))
	})
	add("Dial refused at all addresses of a name", func(e *env) {
		port := e.closedTCP()
		d := &net.Dialer{Resolver: e.answers().resolver()}
		c, err := e.near.DialBy(context.Background(), d, e.tcp(), hostPortOf("twice.test.", port))
		e.saw("%s", e.opened(c == nil, err))
	})
	add("Dial both.test. one family after the other", func(e *env) {
		l := e.farListenerAt(e.spare(e.far))
		d := &net.Dialer{FallbackDelay: -1, Resolver: e.answers().resolver()}
		c, err := e.near.DialBy(context.Background(), d, "tcp", hostPortOf("both.test.", portOf(l.Addr())))
		e.must(err)
		e.saw("%s", e.addr(c.RemoteAddr()))
	})
	add("Dial both.test. from an address", func(e *env) {
		l := e.farListenerAt(e.spare(e.far))
		d := &net.Dialer{LocalAddr: e.nearTCP(0), Resolver: e.answers().resolver()}
		c, err := e.near.DialBy(context.Background(), d, "tcp", hostPortOf("both.test.", portOf(l.Addr())))
		e.must(err)
		e.saw("%s", e.addr(c.RemoteAddr()))
	})
	add("Dial a name and a service", func(e *env) {
		d := &net.Dialer{Resolver: e.answers().resolver()}
		c, err := e.near.DialBy(context.Background(), d, e.tcp(), "far.test.:nosuchservice")
		e.saw("%s", e.opened(c == nil, err))
	})
	return all
}

func hostPortOf(name string, port int) string {
	return net.JoinHostPort(name, strconv.Itoa(port))
}

// notFound dials a name that has no address.
func (e *env) notFound(d *net.Dialer, network, name string) string {
	c, err := e.near.DialBy(context.Background(), d, network, net.JoinHostPort(name, "80"))
	return map[bool]string{true: "nil ", false: ""}[c == nil] + e.lookup(err)
}

// lookup is err for errors of a look-up, of which not compared is which nameserver
// of resolv.conf was asked.
func (e *env) lookup(err error) string {
	s := e.err(err)
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsTemporary {
		s += " dns temporary"
	}
	return s
}
