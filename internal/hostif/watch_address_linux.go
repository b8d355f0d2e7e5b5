package hostif

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// WatchAddresses calls fn for every address that an interface of the network
// namespace is given (there), or loses, one call at a time, on a goroutine of its own.
// The address comes with the length of its network's prefix, index is the
// interface's. What the interfaces have at the start is not told, and an
// address may be told again. If events came faster than fn took them, all that are
// there are told anew; losses are not, then. If the watch fails, ended is called in
// place of fn, once, with why.
//
// stop is as that of Watch.
func WatchAddresses(fn func(addr netip.Prefix, index int, there bool), ended func(error)) (stop func(), err error) {
	l, err := listen(unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, err
	}
	go l.runAddresses(fn, ended)
	return sync.OnceFunc(l.stop), nil
}

func (l *listener) runAddresses(fn func(netip.Prefix, int, bool), ended func(error)) {
	defer close(l.done)
	defer l.file.Close()
	for stale := false; ; {
		n, err := l.receive(!stale)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return // stop was called
		case errors.Is(err, unix.ENOBUFS):
			stale = true
			continue
		case stale && errors.Is(err, unix.EAGAIN): // deaf until its queue is empty
			stale = false
			err = l.askAddresses()
		case err == nil:
			// The answer before is not over yet, and had begun when events were
			// dropped; or there was no memory for this one (netlink_dump, Linux
			// 6.18 net/netlink/af_netlink.c).
			if err = tellAddresses(l.buf[:n], fn); errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOBUFS) {
				stale, err = true, nil
			}
		}
		if err != nil {
			ended(fmt.Errorf("hostif: watch addresses: %w", err))
			return
		}
	}
}

// askAddresses asks for all that there are. The kernel answers one question of a socket's
// at a time, and has EBUSY for another.
func (l *listener) askAddresses() error {
	req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	return l.send(req.Serialize())
}

// tellAddresses calls fn for each address in a batch of messages. The error is the one
// that the kernel answers a request with.
func tellAddresses(batch []byte, fn func(netip.Prefix, int, bool)) error {
	msgs, err := syscall.ParseNetlinkMessage(batch)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if (m.Header.Type == unix.NLMSG_ERROR || m.Header.Type == unix.NLMSG_DONE) && len(m.Data) >= 4 {
			if errno := unix.Errno(-int32(native.Uint32(m.Data))); errno != 0 {
				return os.NewSyscallError("netlink", errno)
			}
		}
		if addr, index, ok := parseAddress(m); ok {
			fn(addr, index, m.Header.Type == unix.RTM_NEWADDR)
		}
	}
	return nil
}

// parseAddress returns an interface's own address of a message: the other end's
// of a point-to-point link is IFA_ADDRESS, and the own one IFA_LOCAL then.
func parseAddress(m syscall.NetlinkMessage) (p netip.Prefix, index int, ok bool) {
	if m.Header.Type != unix.RTM_NEWADDR && m.Header.Type != unix.RTM_DELADDR || len(m.Data) < unix.SizeofIfAddrmsg {
		return p, 0, false
	}
	attrs, err := nl.ParseRouteAttr(m.Data[unix.SizeofIfAddrmsg:])
	if err != nil {
		return p, 0, false
	}
	var addr netip.Addr
	local := false
	for _, a := range attrs {
		if a.Attr.Type == unix.IFA_LOCAL || a.Attr.Type == unix.IFA_ADDRESS && !local {
			local = a.Attr.Type == unix.IFA_LOCAL
			addr, ok = netip.AddrFromSlice(a.Value)
		}
	}
	// struct ifaddrmsg: family, prefix length, flags, scope, index.
	return netip.PrefixFrom(addr, int(m.Data[1])), int(native.Uint32(m.Data[4:])), ok
}
