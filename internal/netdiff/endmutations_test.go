package netdiff

import (
	"net/netip"
	"sync/atomic"
	"syscall"
)

// icmpMutations are of ICMP errors, if there are raw sockets to send them.
func icmpMutations() []mutation {
	if !rawAllowed() {
		return nil
	}
	dial := func(name, first string, change func(error) error) mutation {
		return mutation{name, first, func(n network) network { return &mutant{network: n, dialErr: change} }}
	}
	return []mutation{
		dial("dial: an unreachable network is an unreachable host", "^icmp/TCP dial", replace(syscall.ENETUNREACH, syscall.EHOSTUNREACH)),
		dial("dial: prohibited is unreachable", "^icmp/TCP dial", replace(syscall.EACCES, syscall.EHOSTUNREACH)),
		dial("dial: a bad header is an unknown protocol", "^icmp/TCP dial", replace(syscall.EPROTO, syscall.ENOPROTOOPT)),
		dial("dial: a host that is down is unreachable", "^icmp/TCP dial", replace(syscall.EHOSTDOWN, syscall.EHOSTUNREACH)),
		udpMutation("UDP: prohibited is refused", "^icmp/", func() *badUDP {
			return &badUDP{readAs: func(c udpConn, b []byte) (int, error) {
				n, err := c.Read(b)
				return n, replace(syscall.EHOSTUNREACH, syscall.ECONNREFUSED)(replace(syscall.EACCES, syscall.ECONNREFUSED)(err))
			}}
		}),
	}
}

// endMutations are of how connections end.
func endMutations() []mutation {
	return []mutation{
		tcpMutation("Read of nothing waits for nobody", "^end/Read of nothing", func() *badTCP {
			return &badTCP{read: func(c tcpConn, b []byte) (int, error) {
				if len(b) == 0 {
					return 0, nil
				}
				return c.Read(b)
			}}
		}),
		tcpMutation("Write of nothing is fine after Close", "^end/Close twice", func() *badTCP {
			return &badTCP{write: func(c tcpConn, b []byte) (int, error) {
				if len(b) == 0 {
					return 0, nil
				}
				return c.Write(b)
			}}
		}),
		tcpMutation("linger of a second is none", "^end/", func() *badTCP {
			return &badTCP{setLinger: func(c tcpConn, sec int) error { return c.SetLinger(min(sec, 0)) }}
		}),
		tcpMutation("CloseWrite loses what waits", "^end/CloseWrite", func() *badTCP {
			return &badTCP{closeWrite: func(c tcpConn) error {
				if err := c.SetLinger(0); err != nil {
					return err
				}
				return c.Close()
			}}
		}),
		udpMutation("ReadFromUDPAddrPort: Close does not wake it", "^blocking/ReadFromUDPAddrPort/Close", func() *badUDP {
			var reading atomic.Int32
			return &badUDP{
				read: func(c udpConn, b []byte) (int, netip.AddrPort, error) {
					reading.Add(1)
					defer reading.Add(-1)
					return c.ReadFromUDPAddrPort(b)
				},
				close: func(c udpConn) error {
					if reading.Load() != 0 {
						return nil
					}
					return c.Close()
				},
			}
		}),
	}
}
