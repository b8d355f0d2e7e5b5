package stack

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// pingData is how many bytes an echo request of Ping has behind its header, as
// ping(8) sends.
const pingData = 56

// Ping sends one ICMP echo request to a host and waits for its reply. It returns
// the time between the two. A lost packet is not sent again, and a host that is
// not there says nothing: the context has to have an end. The error is a
// *net.OpError: errors.Is tells context.Canceled, context.DeadlineExceeded,
// ENETUNREACH, ENETDOWN and net.ErrClosed (the stack was closed) apart. Programs
// that want more use ListenPacket with "ip4:icmp" or "ip6:ipv6-icmp".
func (s *Stack) Ping(ctx context.Context, host netip.Addr) (time.Duration, error) {
	host = host.Unmap()
	name, at := "ip4:icmp", "0.0.0.0"
	if !host.Is4() {
		name, at = "ip6:ipv6-icmp", "::"
	}
	to := ipAddr(host)
	fail := func(err error) (time.Duration, error) {
		var oe *net.OpError
		if errors.As(err, &oe) {
			err = oe.Err
		}
		return 0, opError("ping", name, nil, to, err)
	}
	if !host.IsValid() {
		return fail(errMissingAddress)
	}
	n, _ := icmpNetwork(name)
	real, err := s.destination("sendto", n, netip.AddrPortFrom(host, 0))
	if err != nil {
		return fail(err)
	}
	to = ipAddr(real.Addr())
	c, err := s.listenICMP(ctx, n, at)
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() {
		c.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // closed: Ping is over
	})
	defer stop()
	if err := ctx.Err(); err != nil {
		return fail(contextError(err))
	}
	request, err := c.request(to)
	if err != nil {
		return fail(err)
	}
	start := time.Now()
	for {
		b := make([]byte, len(request)+1)
		n, from, err := c.ReadFrom(b)
		if cerr := ctx.Err(); err != nil && cerr != nil {
			return fail(contextError(cerr))
		}
		if err != nil {
			return fail(err)
		}
		// All but type and checksum come back.
		if bytes.Equal(b[4:max(n, 4)], request[4:]) && (host.IsMulticast() || from.String() == to.String()) {
			return time.Since(start), nil
		}
	}
}

// request sends an echo request with an identifier that nobody has.
func (c *ICMPConn) request(to *net.IPAddr) ([]byte, error) {
	b := make([]byte, header.ICMPv4MinimumSize+pingData)
	rand.Read(b[4:]) //nolint:errcheck // it does not fail
	b[0] = byte(header.ICMPv4Echo)
	if c.icmp.proto == header.ICMPv6ProtocolNumber {
		b[0] = byte(header.ICMPv6EchoRequest)
	}
	for {
		_, err := c.WriteTo(b, to)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return b, err
		}
		binary.BigEndian.PutUint16(b[4:], binary.BigEndian.Uint16(b[4:])+1)
	}
}
