package stack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/canceled"
)

// The check for duplicate addresses sends two probes and waits this long after
// each. RFC 5227 (1.1) and RFC 4861 (10) have seconds, for links where a host
// takes that long to wake up; a start that takes seconds would only be switched
// off. A host on a data centre's link answers in less than a millisecond.
const (
	duplicateProbes = 2
	duplicateWait   = 100 * time.Millisecond
)

// duplicateTries bounds how often the check is made if it takes several times as long as
// it should, since the process, or its machine, got no processor: the answers may have
// come and not have been read when the time was over.
const duplicateTries = 4

// whileStalled calls check until it takes no longer than twice the time it should, or
// fails, at most duplicateTries times.
func whileStalled(should time.Duration, check func() error) error {
	for try := 1; ; try++ {
		start := time.Now()
		err := check()
		if err != nil || time.Since(start) < 2*should || try == duplicateTries {
			return err
		}
	}
}

// checkDuplicates asks the link whether another host has one of the stack's
// addresses, all at once. The stack must not have them yet, but frames about
// them must reach it. It ends with ctx, which is an error.
func (s *Stack) checkDuplicates(ctx context.Context) error {
	if err := s.setDuplicateProbes(duplicateProbes); err != nil {
		return err
	}
	err := whileStalled(duplicateProbes*duplicateWait, func() error { return s.askForDuplicates(ctx) })
	if err != nil {
		return err
	}
	// Or netstack would check the IPv6 addresses again, and not use them
	// meanwhile.
	return s.setDuplicateProbes(0)
}

// askForDuplicates asks once, and waits for the answers.
func (s *Stack) askForDuplicates(ctx context.Context) error {
	type answer struct {
		addr   netip.Addr
		result gstack.DADResult
	}
	answers := make(chan answer, len(s.cfg.Addresses)) // whoever answers holds locks of netstack
	for _, p := range s.cfg.Addresses {
		a := p.Addr()
		_, terr := s.ns.CheckDuplicateAddress(nicID, familyOf(a), tcpipAddr(a), func(r gstack.DADResult) {
			answers <- answer{a, r}
		})
		if terr != nil {
			return stackError("check whether "+a.String()+" is free", terr)
		}
	}
	var err error
	for range s.cfg.Addresses {
		// A probe that cannot be sent, because the link is down, tells nothing.
		var r answer
		select {
		case r = <-answers:
		case <-ctx.Done():
			return fmt.Errorf("stack: check whether the addresses are free: %w", canceled.Err(ctx))
		}
		if dup, ok := r.result.(*gstack.DADDupAddrDetected); ok && err == nil {
			err = fmt.Errorf("stack: claim %v: the host with the address %v has it on the link of %s: %w",
				r.addr, net.HardwareAddr(dup.HolderLinkAddress), s.cfg.Interface, syscall.EADDRINUSE)
		}
	}
	return err
}

// setDuplicateProbes says how many probes ask for an address.
func (s *Stack) setDuplicateProbes(n uint8) error {
	for _, proto := range []tcpip.NetworkProtocolNumber{arp.ProtocolNumber, ipv6.ProtocolNumber} {
		ep, terr := s.ns.GetNetworkEndpoint(nicID, proto)
		if terr != nil {
			return stackError("set up the check for duplicate addresses", terr)
		}
		d, ok := ep.(gstack.DuplicateAddressDetector)
		if !ok {
			return stackError("set up the check for duplicate addresses", &tcpip.ErrNotSupported{})
		}
		d.SetDADConfigurations(gstack.DADConfigurations{DupAddrDetectTransmits: n, RetransmitTimer: duplicateWait})
	}
	return nil
}
