package floor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/xsk"
)

// Floor is the responder on the queues of one interface. Its methods may be
// called from any goroutine.
type Floor struct {
	device string
	block  bool
	mtu    int
	prog   *xsk.Program
	groups []io.Closer // multicast memberships
	queues []*queue
	totals []totals // one per queue
	stop   atomic.Bool

	serveMu sync.Mutex // held by Serve
	mu      sync.Mutex
	closed  bool
	err     error // of Close
}

var _ peer.Responder = (*Floor)(nil)

// Open binds an AF_XDP socket to the first cfg.Queues queues of an interface and
// takes the traffic for cfg.V4 and cfg.V6 from the kernel, all ports of both. One
// of the two may be the zero Prefix; the host must have neither. With
// cfg.Polling "block" an idle queue sleeps; it spins otherwise. cfg.Off is not
// read.
//
// A bad field of cfg is named; errors.Is finds EADDRINUSE for an address that the
// host has, EINVAL for an MTU above the device's, and in *xsk.OpError what
// [xsk.Open] and [xsk.LoadProgram] document.
func Open(cfg peer.Config) (peer.Responder, error) {
	f, err := open(cfg)
	if err != nil {
		return nil, err // not a *Floor that is nil
	}
	return f, nil
}

func open(cfg peer.Config) (_ *Floor, err error) {
	if err := check(cfg); err != nil {
		return nil, err
	}
	dev, err := hostif.Lookup(cfg.Interface)
	if err != nil {
		return nil, fmt.Errorf("floor: %w", err)
	}
	if len(dev.MAC) != 6 {
		return nil, fmt.Errorf("floor: %s has no Ethernet address: %w", cfg.Interface, errors.ErrUnsupported)
	}
	if cfg.MTU == 0 {
		cfg.MTU = dev.MTU
	}
	if cfg.MTU > dev.MTU {
		return nil, fmt.Errorf("floor: Config.MTU: %d bytes, %s has %d: %w", cfg.MTU, cfg.Interface, dev.MTU, syscall.EINVAL)
	}
	f := &Floor{device: cfg.Interface, block: cfg.Polling == "block", mtu: cfg.MTU, totals: make([]totals, max(cfg.Queues, 1))}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.prog, err = xsk.LoadProgram(xsk.ProgramConfig{Interface: cfg.Interface, Queues: max(dev.RXQueues, dev.TXQueues, 1)}); err != nil {
		return f, err
	}
	// Before the sockets: some drivers reset the link for it.
	if err = f.prog.Attach(); err != nil {
		return f, err
	}
	for i := range f.totals {
		if err = f.addQueue(uint32(i), dev, cfg); err != nil {
			return f, err
		}
	}
	for _, p := range []netip.Prefix{cfg.V4, cfg.V6} {
		if err = f.claim(p.Addr(), dev.Index); err != nil {
			return f, err
		}
	}
	return f, nil
}

// check finds what is wrong with cfg by itself.
func check(cfg peer.Config) error {
	switch {
	case cfg.Interface == "":
		return errors.New("floor: Config.Interface is empty")
	case cfg.V4.IsValid() && !cfg.V4.Addr().Is4():
		return fmt.Errorf("floor: Config.V4: %v is not IPv4", cfg.V4)
	case cfg.V6.IsValid() && (!cfg.V6.Addr().Is6() || cfg.V6.Addr().Is4In6()):
		return fmt.Errorf("floor: Config.V6: %v is not IPv6", cfg.V6)
	case !cfg.V4.IsValid() && !cfg.V6.IsValid():
		return errors.New("floor: Config.V4 and Config.V6 are both empty: one is needed")
	case cfg.MTU < 0 || cfg.MTU != 0 && cfg.MTU < minMTU:
		return fmt.Errorf("floor: Config.MTU: %d bytes: 0, or %d and more", cfg.MTU, minMTU)
	case cfg.Queues < 0:
		return fmt.Errorf("floor: Config.Queues: %d: 0 or more", cfg.Queues)
	}
	switch cfg.Polling {
	case "", "block", "adaptive", "spin":
		return nil
	}
	return fmt.Errorf("floor: Config.Polling: %q: block, adaptive, spin or nothing", cfg.Polling)
}

// minMTU is what every IPv4 host must take (RFC 791), in bytes.
const minMTU = 576

func (f *Floor) addQueue(id uint32, dev hostif.Interface, cfg peer.Config) error {
	// A batch of replies in one system call, where the kernel can (6.17).
	s, err := xsk.Open(xsk.Config{Interface: dev.Name, Queue: id, TXBudget: uint32(batch * chunksOf(f.mtu))})
	if errors.Is(err, errors.ErrUnsupported) {
		s, err = xsk.Open(xsk.Config{Interface: dev.Name, Queue: id})
	}
	if err != nil {
		return err
	}
	a := newAnswerer([6]byte(dev.MAC), cfg.V4.Addr(), cfg.V6.Addr(), f.mtu)
	f.queues = append(f.queues, newQueue(s, a, f.block, &f.totals[id]))
	return f.prog.AddSocket(id, s.FD())
}

// claim takes an address from now on; the zero Addr is none.
func (f *Floor) claim(addr netip.Addr, ifindex int) error {
	if !addr.IsValid() {
		return nil
	}
	holder, err := hostif.Holder(addr)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	if holder != "" {
		return fmt.Errorf("floor: the host has %v on %s, take it off or choose another: %w", addr, holder, syscall.EADDRINUSE)
	}
	if err := f.prog.AddAddress(addr); err != nil || addr.Is4() {
		return err
	}
	b := addr.As16()
	group, err := hostif.JoinMulticast(ifindex, net.HardwareAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]})
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	f.groups = append(f.groups, group)
	return nil
}

// Serve answers on every queue until ctx is done, and returns nil then, or until
// a queue is of no use any more. It may be called again, but not at the same
// time: the second call waits. After Close, errors.Is(err, net.ErrClosed) holds.
func (f *Floor) Serve(ctx context.Context) error {
	f.serveMu.Lock()
	defer f.serveMu.Unlock()
	if f.isClosed() {
		return fmt.Errorf("floor: serve on %s: %w", f.device, net.ErrClosed)
	}
	f.stop.Store(false)
	if f.isClosed() { // Close may have set stop before
		f.stop.Store(true)
	}
	defer context.AfterFunc(ctx, f.halt)()
	errs := make([]error, len(f.queues))
	yield := runtime.GOMAXPROCS(0) <= len(f.queues)
	var wg sync.WaitGroup
	for i, q := range f.queues {
		wg.Go(func() {
			if errs[i] = q.serve(&f.stop, yield); errs[i] != nil {
				f.halt()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// halt ends Serve.
func (f *Floor) halt() {
	f.stop.Store(true)
	for _, q := range f.queues {
		q.sock.Interrupt()
	}
}

func (f *Floor) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// Close ends Serve and gives the addresses and the interface back to the kernel.
// Idempotent; it joins the errors of every step.
func (f *Floor) Close() error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.mu.Unlock()
	f.halt()
	f.serveMu.Lock() // until Serve has returned, and another Close
	defer f.serveMu.Unlock()
	if !first {
		return f.err
	}
	var errs []error
	if f.prog != nil {
		errs = append(errs, f.prog.Close())
	}
	for _, g := range f.groups {
		errs = append(errs, g.Close())
	}
	for _, q := range f.queues {
		errs = append(errs, q.sock.Close())
	}
	f.err = errors.Join(errs...)
	return f.err
}

// Counters returns the events of all queues, and the wakeups and losses that the
// sockets counted.
func (f *Floor) Counters() map[string]uint64 {
	m := make(map[string]uint64, int(events)+8)
	for i := range f.totals {
		for e, name := range eventNames {
			m[name] += f.totals[i][e].Load()
		}
	}
	for _, q := range f.queues {
		st, err := q.sock.Statistics()
		if err != nil {
			m["statistics_errors"]++
		}
		m["tx_wakeups"] += st.TXWakeups
		m["rx_wakeups"] += st.RXWakeups
		m["tx_device_drops"] += st.TXDeviceDrops
		m["rx_ring_full"] += st.Kernel.RXRingFull
		m["rx_dropped"] += st.Kernel.RXDropped
		m["rx_fill_empty"] += st.Kernel.FillRingEmpty
	}
	return m
}

// Info returns the modes as read back from the kernel.
func (f *Floor) Info() map[string]string {
	bind, polling := "zero-copy", "spin"
	for _, q := range f.queues {
		if !q.sock.ZeroCopy() {
			bind = "copy"
		}
	}
	if f.block {
		polling = "block"
	}
	return map[string]string{
		"attach": f.prog.Mode().String(), "bind": bind, "polling": polling,
		"queues": strconv.Itoa(len(f.queues)), "mtu": strconv.Itoa(f.mtu),
	}
}
