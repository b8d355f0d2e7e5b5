package stack

import "gvisor.dev/gvisor/pkg/tcpip"

// SetTTL sets the TTL or hop limit of the segments that leave from now on: 1 to
// 255; 64 unless set. Others are refused with EINVAL. The segments of the handshake,
// the SYN-ACK of an accepted connection among them, have left with 64. What leaves
// after Close has the value too, but for resets that answer what comes when the
// connection is over. It may be called from any goroutine.
func (c *TCPConn) SetTTL(ttl int) error {
	return c.setOption(func() tcpip.Error {
		if ttl < 1 || ttl > 255 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		// Each is used with its own family, which is the route's to know. An
		// endpoint knows both options: it cannot fail.
		_ = c.ep.SetSockOptInt(tcpip.IPv4TTLOption, ttl)
		_ = c.ep.SetSockOptInt(tcpip.IPv6HopLimitOption, ttl)
		return nil
	})
}

// SetTOS sets the TOS or traffic class of the segments that leave from now on: 0 to
// 255; 0 unless set. Others are refused with EINVAL. The lowest two bits are for
// ECN, which is TCP's own: they are ignored, as with Linux (__ip_sock_set_tos in
// net/ipv4/ip_sockglue.c, IPV6_TCLASS in net/ipv6/ipv6_sockglue.c), and sent as 0.
// The segments of the handshake, the SYN-ACK of an accepted connection among them,
// have left with 0. What leaves after Close has the value too, but for resets that
// answer what comes when the connection is over. It may be called from any goroutine.
func (c *TCPConn) SetTOS(tos int) error {
	return c.setOption(func() tcpip.Error {
		if tos < 0 || tos > 255 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		// One option for both families; netstack clears the bits of ECN.
		return c.ep.SetSockOptInt(tcpip.IPv4TOSOption, tos)
	})
}
