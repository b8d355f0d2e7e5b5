package netdiff

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"
)

// A ground is where behaviours run: two networks that reach each other. The near
// one is looked at; the far one is its peer.
type ground struct {
	near, far network

	// hosts are their addresses, by family: 0 is IPv4, 1 is IPv6.
	nearHost, farHost [2]netip.Addr

	// hole is an address that answers to no SYN, by family, seen from near.
	hole [2]netip.AddrPort

	// half is a port of the far end that is a hole by IPv6, and free by IPv4.
	half int

	// nearLink and farLink are the ends on their link, in the lab.
	nearLink, farLink linkHost

	// tell has the near end get an ICMP message from the far one; nil: there is
	// no way to. Messages do not overtake each other.
	tell func(near, far netip.Addr, m []byte) error

	// frames sees and takes away frames between the ends.
	frames frames

	// mutate, if not nil, puts a mistake over the near network.
	mutate func(network) network

	// patience is how long a behaviour may take before it is said to hang. It is
	// never part of what is compared.
	patience time.Duration
}

// A behaviour is something that both networks do, and should do alike.
type behaviour struct {
	name string
	run  func(*env)

	only   byte // '4' or '6': makes sense with one family only; 0: both
	lab    bool // needs a network of its own: routes, neighbours
	inside bool // is not for the lab
	lossy  bool // holds on a bad link too
	raw    bool // needs raw sockets of the kernel
	filter bool // needs socket filters of the kernel
	alone  bool // runs beside none that say so: see aloneLock
	slow   bool // waits for seconds: runs beside others, and not on mutants
}

// Kinds of behaviours, by what they do to a link, in the order in which they run.
const (
	kindLargeDatagram = iota
	kindDatagram
	kindBulk
	kindStream
)

var (
	aboutDatagrams = regexp.MustCompile(`UDP|ReadFrom|Packet|WriteTo|Batch|^packet/|^message/|^group/`)
	aboutLargeOnes = regexp.MustCompile(`^(packet|message)/.* of [0-9]{4,} bytes|^packet/a full receive buffer|too long`)
	aboutBulk      = regexp.MustCompile(`^copy/.*(all|both)|^stream/(4 MB|io|concurrent|what was|reset (of both|told to a blocked Write)|Write of nothing while|Close (sends|with linger))|^stream/[0-9]{5,} bytes|^blocking/(Write/|SetDeadline ends both|CloseWrite ends)`)
)

func (b *behaviour) kind() int {
	switch {
	case aboutLargeOnes.MatchString(b.name):
		return kindLargeDatagram
	case aboutDatagrams.MatchString(b.name):
		return kindDatagram
	case aboutBulk.MatchString(b.name):
		return kindBulk
	}
	return kindStream
}

// An env is what a behaviour works with. Whatever it sees of the near end becomes
// a line of its trace, and traces are compared.
type env struct {
	near, far         network
	nearHost, farHost netip.Addr
	farHosts          [2]netip.Addr // of both families
	hole              netip.AddrPort
	half              int
	nearLink, farLink linkHost
	family            byte // '4' or '6'
	names
	patience time.Duration
	tell     func(near, far netip.Addr, m []byte) error
	frames   frames
	trace    []string
}

// stopped is what a behaviour panics with that cannot go on: the reason.
type stopped string

// saw adds a line to the trace.
func (e *env) saw(format string, args ...any) {
	e.trace = append(e.trace, fmt.Sprintf(format, args...))
}

// must ends the behaviour if what it needs does not work.
func (e *env) must(err error) {
	if err != nil {
		panic(stopped(e.err(err)))
	}
}

// soon and late are deadlines: one that calls are expected to reach, and one that
// is reached only if something is wrong.
func soon() time.Time          { return time.Now().Add(30 * time.Millisecond) }
func (e *env) late() time.Time { return time.Now().Add(e.patience) }

// tcp and udp are the names of networks of the family.
func (e *env) tcp() string { return "tcp" + string(e.family) }
func (e *env) udp() string { return "udp" + string(e.family) }

func hostPort(a netip.Addr, port int) string { return net.JoinHostPort(a.String(), strconv.Itoa(port)) }

func (e *env) nearTCP(port int) *net.TCPAddr {
	return &net.TCPAddr{IP: e.nearHost.AsSlice(), Port: port}
}

func (e *env) farTCP(port int) *net.TCPAddr {
	return &net.TCPAddr{IP: e.farHost.AsSlice(), Port: port}
}

func (e *env) nearUDP(port int) *net.UDPAddr {
	return &net.UDPAddr{IP: e.nearHost.AsSlice(), Port: port}
}

func (e *env) farUDP(port int) *net.UDPAddr {
	return &net.UDPAddr{IP: e.farHost.AsSlice(), Port: port}
}

// accept takes a connection within the patience of e.
func (e *env) accept(l net.Listener) tcpConn {
	if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
		e.must(d.SetDeadline(e.late()))
	}
	c, err := l.Accept()
	e.must(err)
	return c.(tcpConn)
}

// spares counts the ports that were given out.
var spares atomic.Uint32

func init() { spares.Store(rand.Uint32()) }

// spare returns a port of a network that nobody has, and that nobody gets who asks
// for any: those are above 16000. Behaviours that take a port a second time need
// one, or dial it where nobody is to answer, by another address say, since others
// run beside them.
func (e *env) spare(n network) int {
	for until := e.late(); time.Now().Before(until); {
		port := 10000 + int(spares.Add(1)%6000)
		l, err := n.ListenTCP("tcp", &net.TCPAddr{Port: port})
		if err != nil {
			continue
		}
		e.must(l.Close())
		c, err := n.ListenUDP("udp", &net.UDPAddr{Port: port})
		if err != nil {
			continue
		}
		e.must(c.Close())
		return port
	}
	panic(stopped("no port is free"))
}

// farListener returns a listener of the far end.
func (e *env) farListener() tcpListener { return e.farListenerAt(0) }

func (e *env) farListenerAt(port int) tcpListener {
	l, err := e.far.ListenTCP(e.tcp(), e.farTCP(port))
	e.must(err)
	e.call(l.Addr(), "far")
	return l
}

// nearListener returns a listener of the near end.
func (e *env) nearListener() tcpListener { return e.nearListenerAt(0) }

func (e *env) nearListenerAt(port int) tcpListener {
	l, err := e.near.ListenTCP(e.tcp(), e.nearTCP(port))
	e.must(err)
	e.call(l.Addr(), "near")
	return l
}

// dialed returns a connection that the near end has dialed.
func (e *env) dialed() (near, far tcpConn) {
	l := e.farListener()
	c, err := e.near.DialTCP(e.tcp(), nil, e.farTCP(portOf(l.Addr())))
	e.must(err)
	far = e.accept(l)
	e.must(l.Close())
	e.call(far.RemoteAddr(), "near")
	return c, far
}

// accepted returns a connection that the near end has accepted.
func (e *env) accepted() (near, far tcpConn) { return e.acceptedAt(0) }

func (e *env) acceptedAt(port int) (near, far tcpConn) {
	l := e.nearListenerAt(port)
	c, err := e.far.DialTCP(e.tcp(), nil, e.nearTCP(portOf(l.Addr())))
	e.must(err)
	e.call(c.LocalAddr(), "far")
	near = e.accept(l)
	e.must(l.Close())
	return near, c
}

// nearPacket and farPacket return unconnected UDP sockets.
func (e *env) nearPacket() udpConn {
	c, err := e.near.ListenUDP(e.udp(), e.nearUDP(0))
	e.must(err)
	e.call(c.LocalAddr(), "near")
	return c
}

func (e *env) farPacket() udpConn {
	c, err := e.far.ListenUDP(e.udp(), e.farUDP(0))
	e.must(err)
	e.call(c.LocalAddr(), "far")
	return c
}

// connectedUDP returns a UDP socket of the near end that is connected to one of
// the far end, which is not.
func (e *env) connectedUDP() (near, far udpConn) {
	far = e.farPacket()
	near, err := e.near.DialUDP(e.udp(), nil, e.farUDP(portOf(far.LocalAddr())))
	e.must(err)
	e.call(near.LocalAddr(), "near")
	return near, far
}

// closedTCP returns a port of the far end where nobody listens, and nobody will:
// a connection has it.
func (e *env) closedTCP() int {
	l, err := e.far.ListenTCP(e.tcp(), e.farTCP(0))
	e.must(err)
	c, err := e.far.DialTCP(e.tcp(), nil, e.farTCP(portOf(l.Addr())))
	e.must(err)
	e.call(c.LocalAddr(), "closed")
	return portOf(c.LocalAddr())
}

// closedUDP returns a port of the far end where nobody receives from the near
// end: a socket that is connected elsewhere has it.
func (e *env) closedUDP() int {
	other := e.farPacket()
	c, err := e.far.DialUDP(e.udp(), e.farUDP(0), e.farUDP(portOf(other.LocalAddr())))
	e.must(err)
	e.call(c.LocalAddr(), "closed")
	return portOf(c.LocalAddr())
}

// A call is one that was started on a goroutine of its own.
type call struct {
	e    *env
	id   int64
	done chan string
}

// start makes a call and returns at once. f returns what is to be compared.
func (e *env) start(f func() string) *call {
	c := &call{e: e, done: make(chan string, 1)}
	id := make(chan int64)
	go func() {
		id <- goroutineID()
		defer func() {
			p := recover()
			if why, ok := p.(stopped); ok {
				c.done <- "cannot go on: " + string(why)
			} else if p != nil {
				panic(p)
			}
		}()
		c.done <- f()
	}()
	c.id = <-id
	return c
}

// notBlocked is what the result of a call begins with that should have blocked.
const notBlocked = "did not block: "

// blocked starts a call and returns when it sleeps, or has ended.
func (e *env) blocked(f func() string) *call {
	c := e.start(f)
	slept := sleepers.watch(c.id)
	select {
	case <-slept:
	case s := <-c.done:
		sleepers.forget(c.id)
		select {
		case <-slept: // and has ended meanwhile
		default:
			s = notBlocked + s
		}
		c.done <- s
	}
	return c
}

// result waits for the end of the call.
func (c *call) result() string { return <-c.done }

// soFar returns the result if the call has ended, and what is known otherwise.
func (c *call) soFar() string {
	if c == nil {
		return "nobody that is known"
	}
	select {
	case s := <-c.done:
		c.done <- s
		return s
	default:
		return "a call that has not ended"
	}
}

// io returns what a call that moves bytes has returned.
func (e *env) io(n int, err error) string { return fmt.Sprintf("%d bytes, %s", n, e.err(err)) }

// io64 is io for copies.
func (e *env) io64(n int64, err error) string { return e.io(int(n), err) }

// msg is io for calls with control messages.
func (e *env) msg(n, oobn int, err error) string {
	return fmt.Sprintf("%d, %d bytes, %s", n, oobn, e.err(err))
}

// readMsg returns what reading with control messages has returned. With an error
// package net has -1 bytes from an empty address, or 0.
func (e *env) readMsg(n, oobn, flags int, from string, err error) string {
	if err != nil {
		return e.err(err)
	}
	return fmt.Sprintf("%d, %d bytes from %s, flags %#x", n, oobn, from, flags)
}

// batch returns n messages with room for 8 bytes each.
func batch(n int) []message {
	ms := make([]message, n)
	for i := range ms {
		ms[i].Buffers = [][]byte{make([]byte, 8)}
	}
	return ms
}

// group returns a multicast group, one that nobody else is in.
func (e *env) group() *net.UDPAddr {
	if e.family == '4' {
		return &net.UDPAddr{IP: net.IPv4(239, 7, 7, 7)}
	}
	return &net.UDPAddr{IP: net.ParseIP("ff05::777")}
}

// when tells whether a call that has just ended has waited for a deadline.
func when(deadline time.Time) string {
	if time.Now().Before(deadline) {
		return "before the deadline"
	}
	return "at the deadline"
}

// timing is when for a call that may have ended for another reason.
func timing(deadline time.Time, err error) string {
	var te interface{ Timeout() bool }
	if !errors.As(err, &te) || !te.Timeout() {
		return "at once"
	}
	return when(deadline)
}

// read reads once and returns what came.
func (e *env) read(r io.Reader, size int) string {
	b := make([]byte, size)
	n, err := r.Read(b)
	return fmt.Sprintf("%q, %s", b[:min(max(n, 0), size)], e.err(err))
}

// readAll reads until an error, within the patience of e.
func (e *env) readAll(c net.Conn) string {
	e.must(c.SetReadDeadline(e.late()))
	b, err := io.ReadAll(c)
	return fmt.Sprintf("%d bytes, %s", len(b), e.err(err))
}

// exactly reads n bytes and fails otherwise.
func (e *env) exactly(c net.Conn, n int) []byte {
	e.must(c.SetReadDeadline(e.late()))
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	e.must(err)
	e.must(c.SetReadDeadline(time.Time{}))
	return b
}

// send writes all of a text and fails otherwise.
func (e *env) send(c net.Conn, text string) {
	_, err := c.Write([]byte(text))
	e.must(err)
}

// nobody returns an address on the link that no host has. It is of use on a ground
// with a link only.
func (e *env) nobody() netip.Addr {
	b := e.nearHost.AsSlice()
	b[len(b)-1] = 200
	a, _ := netip.AddrFromSlice(b)
	return a
}
