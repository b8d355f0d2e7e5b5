package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// describe returns all that a caller can see of an error. The addresses of a stack
// under test are replaced by the kernel's loopback ones, so that the result can be
// compared with that for an error of package net.
func describe(err error) string {
	if err == nil {
		return "nil"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%v", err)
	var op *net.OpError
	if errors.As(err, &op) {
		fmt.Fprintf(&b, "; OpError %s %s %s %s", op.Op, op.Net, showAddr(op.Source), showAddr(op.Addr))
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		fmt.Fprintf(&b, "; DNSError %q %q %q %t %t %t", dns.Err, dns.Name, dns.Server, dns.IsTimeout, dns.IsTemporary, dns.IsNotFound)
	}
	var addr *net.AddrError
	if errors.As(err, &addr) {
		fmt.Fprintf(&b, "; AddrError %q %q", addr.Err, addr.Addr)
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		fmt.Fprintf(&b, "; SyscallError %s", call.Syscall)
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		fmt.Fprintf(&b, "; errno %d", errno)
	}
	var kind interface{ Timeout() bool }
	if errors.As(err, &kind) {
		fmt.Fprintf(&b, "; timeout %t", kind.Timeout())
	}
	var passing interface{ Temporary() bool }
	if errors.As(err, &passing) {
		fmt.Fprintf(&b, " temporary %t", passing.Temporary())
	}
	for _, target := range []error{context.Canceled, context.DeadlineExceeded, net.ErrClosed} {
		if errors.Is(err, target) {
			fmt.Fprintf(&b, "; is %v", target)
		}
	}
	return toKernel.Replace(b.String())
}

// toOurs and toKernel replace the kernel's loopback addresses by the stack's own,
// and the other way round.
var (
	toOurs   = strings.NewReplacer("127.0.0.1", addrA, "::1", globalA6)
	toKernel = strings.NewReplacer(addrA, "127.0.0.1", globalA6, "::1")
)

func showAddr(a net.Addr) string {
	if a == nil {
		return "none"
	}
	return fmt.Sprintf("%T(%v)", a, a)
}
