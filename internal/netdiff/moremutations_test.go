package netdiff

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// moreMutations are of copies, messages, batches, groups, and of what a Dialer has.
func moreMutations() []mutation {
	dialer := func(name, first string, change func(*net.Dialer)) mutation {
		return mutation{name, first, func(n network) network { return &mutant{network: n, dialer: change} }}
	}
	return []mutation{
		// Copies.
		tcpMutation("ReadFrom forgets the LimitedReader", "^copy/", func() *badTCP {
			return &badTCP{readFrom: func(c tcpConn, r io.Reader) (int64, error) {
				if l, ok := r.(*io.LimitedReader); ok && l.N > 0 {
					inner := *l
					return c.ReadFrom(&inner)
				}
				return c.ReadFrom(r)
			}}
		}),
		tcpMutation("ReadFrom takes all of a LimitedReader", "^copy/a part", func() *badTCP {
			return &badTCP{readFrom: func(c tcpConn, r io.Reader) (int64, error) {
				l, ok := r.(*io.LimitedReader)
				if !ok {
					return c.ReadFrom(r)
				}
				b := make([]byte, 64<<10)
				n, err := l.R.Read(b)
				if err != nil {
					return 0, err
				}
				m, err := c.Write(b[:min(int64(n), max(l.N, 0))])
				l.N -= int64(m)
				return int64(m), err
			}}
		}),
		tcpMutation("ReadFrom returns EOF", "^copy/|ReadFrom", func() *badTCP {
			return &badTCP{readFrom: func(c tcpConn, r io.Reader) (int64, error) {
				n, err := c.ReadFrom(r)
				if err == nil {
					err = io.EOF
				}
				return n, err
			}}
		}),
		tcpMutation("ReadFrom does not say that the reader failed", "^copy/all of a reader that fails", func() *badTCP {
			return &badTCP{readFrom: func(c tcpConn, r io.Reader) (int64, error) {
				n, err := c.ReadFrom(r)
				if errors.Is(err, errHalf) {
					err = nil
				}
				return n, err
			}}
		}),
		tcpMutation("ReadFrom's error is that of Write", "^TCP/.*/ReadFrom|^copy/", func() *badTCP {
			return &badTCP{readFrom: func(c tcpConn, r io.Reader) (int64, error) {
				n, err := c.ReadFrom(r)
				return n, op(func(oe *net.OpError) { oe.Op = "write" })(err)
			}}
		}),
		tcpMutation("ReadFrom counts too little", "^copy/all", func() *badTCP {
			return &badTCP{readFrom: func(c tcpConn, r io.Reader) (int64, error) {
				n, err := c.ReadFrom(r)
				return max(n-1, 0), err
			}}
		}),
		tcpMutation("WriteTo stops early", "^copy/to", func() *badTCP {
			return &badTCP{writeTo: func(c tcpConn, w io.Writer) (int64, error) {
				return io.CopyN(w, struct{ io.Reader }{c}, 4)
			}}
		}),
		tcpMutation("WriteTo does not say that the writer failed", "^copy/to a writer that fails", func() *badTCP {
			return &badTCP{writeTo: func(c tcpConn, w io.Writer) (int64, error) {
				n, err := c.WriteTo(w)
				if errors.Is(err, errHalf) {
					err = nil
				}
				return n, err
			}}
		}),
		tcpMutation("WriteTo passes its deadline", "^copy/at a deadline", func() *badTCP {
			return &badTCP{writeTo: func(c tcpConn, w io.Writer) (int64, error) {
				if err := c.SetReadDeadline(time.Time{}); err != nil {
					return 0, err
				}
				return c.WriteTo(w)
			}}
		}),

		// Messages and batches.
		udpMutation("ReadMsgUDP: no MSG_TRUNC", "^message/", func() *badUDP {
			return &badUDP{readMsg: func(c udpConn, b, oob []byte) (n, oobn, flags int, a *net.UDPAddr, err error) {
				n, oobn, _, a, err = c.ReadMsgUDP(b, oob)
				return n, oobn, 0, a, err
			}}
		}),
		udpMutation("ReadMsgUDP: waits for data with no room", "^message/.* of 0 bytes", func() *badUDP {
			return &badUDP{readMsg: func(c udpConn, b, oob []byte) (n, oobn, flags int, a *net.UDPAddr, err error) {
				for n == 0 && err == nil {
					n, oobn, flags, a, err = c.ReadMsgUDP(b, oob)
				}
				return n, oobn, flags, a, err
			}}
		}),
		udpMutation("WriteMsgUDP: bad control messages pass", "^UDP/.*bad control|^message/", func() *badUDP {
			return &badUDP{writeMsg: func(c udpConn, b, _ []byte, to *net.UDPAddr) (int, int, error) {
				return c.WriteMsgUDP(b, nil, to)
			}}
		}),
		udpMutation("WriteMsgUDP: control messages are not counted", "^message/.*zero bytes", func() *badUDP {
			return &badUDP{writeMsg: func(c udpConn, b, oob []byte, to *net.UDPAddr) (int, int, error) {
				n, _, err := c.WriteMsgUDP(b, oob, to)
				return n, 0, err
			}}
		}),
		udpMutation("WriteMsgUDP: a connected socket writes to addresses", "^UDP/connected/", func() *badUDP {
			return &badUDP{writeMsg: func(c udpConn, b, oob []byte, to *net.UDPAddr) (int, int, error) {
				if c.RemoteAddr() != nil {
					to = nil
				}
				return c.WriteMsgUDP(b, oob, to)
			}}
		}),
		udpMutation("ReadBatch waits for all", "^message/ReadBatch", func() *badUDP {
			return &badUDP{readBatch: func(c udpConn, ms []message) (int, error) {
				for i := range ms {
					if n, err := c.ReadBatch(ms[i:i+1], 0); n == 0 {
						return i, err
					}
				}
				return len(ms), nil
			}}
		}),
		udpMutation("ReadBatch has no source", "^message/ReadBatch", func() *badUDP {
			return &badUDP{readBatch: func(c udpConn, ms []message) (int, error) {
				n, err := c.ReadBatch(ms, 0)
				for i := range ms[:n] {
					ms[i].Addr = nil
				}
				return n, err
			}}
		}),
		udpMutation("ReadBatch fills one buffer only", "^message/ReadBatch into several", func() *badUDP {
			return &badUDP{readBatch: func(c udpConn, ms []message) (int, error) {
				part := []message{ms[0]}
				part[0].Buffers = part[0].Buffers[:1]
				n, err := c.ReadBatch(part, 0)
				part[0].Buffers = ms[0].Buffers
				ms[0] = part[0]
				return n, err
			}}
		}),
		udpMutation("WriteBatch sends one buffer only", "^message/WriteBatch", func() *badUDP {
			return &badUDP{writeBatch: func(c udpConn, ms []message) (int, error) {
				cut := make([]message, len(ms))
				for i, m := range ms {
					cut[i] = m
					cut[i].Buffers = m.Buffers[:min(len(m.Buffers), 1)]
				}
				n, err := c.WriteBatch(cut, 0)
				for i := range cut[:n] {
					ms[i].N, ms[i].NN = cut[i].N, cut[i].NN
				}
				return n, err
			}}
		}),
		udpMutation("WriteBatch fails for the second", "^message/WriteBatch", func() *badUDP {
			return &badUDP{writeBatch: func(c udpConn, ms []message) (int, error) {
				n, err := c.WriteBatch(ms, 0)
				if n != len(ms) && err == nil {
					err = syscall.EMSGSIZE
				}
				return n, err
			}}
		}),
		udpMutation("WriteBatch ignores addresses", "^message/WriteBatch, connected", func() *badUDP {
			return &badUDP{writeBatch: func(c udpConn, ms []message) (int, error) {
				if c.RemoteAddr() != nil {
					ms = bytesOnly(ms)
				}
				return c.WriteBatch(ms, 0)
			}}
		}),
		udpMutation("JoinGroup twice is fine", "^group/", func() *badUDP {
			return &badUDP{joinGroup: func(c udpConn, group net.Addr) error {
				if err := c.JoinGroup(group); !errors.Is(err, syscall.EADDRINUSE) {
					return err
				}
				return nil
			}}
		}),

		// Fields of Dialer and ListenConfig.
		dialer("Dialer.Timeout is lost", "^dialer/", func(d *net.Dialer) { d.Timeout = 0 }),
		dialer("Dialer.Deadline is lost", "^dialer/", func(d *net.Dialer) { d.Deadline = time.Time{} }),
		dialer("Dialer.Cancel is lost", "^dialer/Cancel", func(d *net.Dialer) {
			//lint:ignore SA1019 what there is is compared
			d.Cancel = nil
		}),
		dialer("Dialer.LocalAddr is lost", "^dialer/LocalAddr", func(d *net.Dialer) { d.LocalAddr = nil }),
		dialer("Dialer.LocalAddr's port is lost", "^dialer/LocalAddr", func(d *net.Dialer) {
			if a, ok := d.LocalAddr.(*net.TCPAddr); ok {
				d.LocalAddr = &net.TCPAddr{IP: a.IP}
			}
		}),
		dialer("Dialer.FallbackDelay below 0 is a short one", "^attempt/FallbackDelay below", func(d *net.Dialer) {
			if d.FallbackDelay < 0 {
				d.FallbackDelay = time.Millisecond
			}
		}),
		dialer("Dialer.FallbackDelay is for ever", "^attempt/FallbackDelay", func(d *net.Dialer) { d.FallbackDelay = -1 }),
		dialer("Dialer.LocalAddr, if it is nil, is any", "^attempt/LocalAddr", func(d *net.Dialer) {
			if a, ok := d.LocalAddr.(*net.UDPAddr); ok && a == nil {
				d.LocalAddr = nil
			}
		}),
		udpMutation("a zone is needed where it says nothing", "^zone/", func() *badUDP {
			return &badUDP{writeTo: func(c udpConn, b []byte, to netip.AddrPort) (int, error) {
				if to.Addr().Zone() != "" {
					return 0, &net.OpError{Op: "write", Net: "udp6", Source: c.LocalAddr(), Addr: net.UDPAddrFromAddrPort(to), Err: os.NewSyscallError("sendto", syscall.ENODEV)}
				}
				return c.WriteToUDPAddrPort(b, to)
			}}
		}),
		dialer("Dialer.Resolver is lost", "^name/", func(d *net.Dialer) { d.Resolver = nil }),
		mutation{"names of hosts: nothing is an address", "^name/", func(n network) network {
			return &mutant{network: n, dialErr: func(err error) error {
				if dns, ok := errors.AsType[*net.DNSError](err); ok {
					mine := *dns
					mine.IsNotFound = !dns.IsNotFound
					return op(func(oe *net.OpError) { oe.Err = &mine })(err)
				}
				return err
			}}
		}},
		mutation{"ListenConfig.KeepAlive is Control", "^dialer/ListenConfig", func(n network) network {
			return &mutant{network: n, config: func(lc *net.ListenConfig) {
				if lc.KeepAlive < 0 {
					lc.Control = func(string, string, syscall.RawConn) error { return nil }
				}
			}}
		}},
	}
}

// bytesOnly returns messages without addresses.
func bytesOnly(ms []message) []message {
	all := make([]message, len(ms))
	for i, m := range ms {
		all[i] = message{Buffers: m.Buffers, OOB: bytes.Clone(m.OOB)}
	}
	return all
}
