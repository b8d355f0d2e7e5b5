//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// addrOwn is ADDR_OWN of bpf/steer.c.
const addrOwn = uint32(1)

// AddSocket directs the redirected frames of a queue to an AF_XDP socket. The
// socket must be bound to this queue of this interface, or the kernel drops
// the frames. It leaves the program by itself when it is closed.
//
// The error wraps unix.EEXIST if the queue has another socket, and
// unix.EOPNOTSUPP if fd is not an AF_XDP socket.
func (p *Program) AddSocket(queue uint32, fd int) error {
	const op = "add socket to program"
	if int64(queue) >= int64(p.cfg.Queues) {
		return p.queueError(op, queue, fmt.Errorf("ProgramConfig.Queues is %d", p.cfg.Queues))
	}
	if fd < 0 {
		return p.queueError(op, queue, os.NewSyscallError("bpf", unix.EBADF))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.queueError(op, queue, net.ErrClosed)
	}
	if err := p.objs.Xsks.Update(queue, uint32(fd), ebpf.UpdateNoExist); err != nil {
		return p.queueError(op, queue, err)
	}
	return nil
}

// RemoveSocket lets the frames of a queue go to the kernel. A queue without a
// socket is no error.
func (p *Program) RemoveSocket(queue uint32) error {
	const op = "remove socket from program"
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.queueError(op, queue, net.ErrClosed)
	}
	if int64(queue) >= int64(p.cfg.Queues) {
		return nil
	}
	if err := p.objs.Xsks.Delete(queue); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return p.queueError(op, queue, err)
	}
	return nil
}

func (p *Program) queueError(op string, queue uint32, err error) error {
	return &OpError{Op: op, Device: p.cfg.Interface, Queue: queue, Err: err}
}

// AddAddress claims a unicast address for the sockets: IPv4, IPv4 mapped into
// IPv6 (which is the same), or IPv6 without a zone. The host must not have it.
// Adding it again changes nothing.
//
// The error wraps unix.E2BIG if ProgramConfig.MaxAddresses is reached.
func (p *Program) AddAddress(addr netip.Addr) error {
	const op = "add address to program"
	addr, err := ownAddress(addr)
	if err != nil {
		return p.opError(op, err)
	}
	return p.claim(op, addr)
}

// AddGroup claims UDP that is sent to a multicast group: IPv4, or IPv6 without a
// zone. The kernel gets no such datagram of the group any more, also if a socket of
// the host is in it; everything else sent to the group remains the kernel's, IGMP
// and MLD among it, and of IPv6 packets those with extension headers, as fragments
// have. To be in the group, so that the NIC and switches and routers deliver it, is
// for the caller. Groups count against ProgramConfig.MaxAddresses. Adding one again
// changes nothing.
//
// The error wraps unix.E2BIG if ProgramConfig.MaxAddresses is reached.
func (p *Program) AddGroup(group netip.Addr) error {
	const op = "add group to program"
	group, err := ownGroup(group)
	if err != nil {
		return p.opError(op, err)
	}
	return p.claim(op, group)
}

// claim puts an address or group into its map.
func (p *Program) claim(op string, addr netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.opError(op, net.ErrClosed)
	}
	m, key := p.addressKeyLocked(addr)
	if err := m.Put(key, addrOwn); err != nil {
		if errors.Is(err, unix.E2BIG) {
			err = fmt.Errorf("%v: ProgramConfig.MaxAddresses is %d: %w", addr, p.cfg.MaxAddresses, err)
		}
		return p.opError(op, err)
	}
	p.addrs[addr] = struct{}{}
	return nil
}

// RemoveAddress gives an address back to the kernel. The error wraps
// os.ErrNotExist if the program does not have it.
func (p *Program) RemoveAddress(addr netip.Addr) error {
	const op = "remove address from program"
	addr = addr.Unmap()
	if addr.IsMulticast() {
		return p.opError(op, fmt.Errorf("%v is a group: %w", addr, os.ErrNotExist))
	}
	return p.release(op, addr)
}

// RemoveGroup gives a multicast group back to the kernel. The error wraps
// os.ErrNotExist if the program does not have it.
func (p *Program) RemoveGroup(group netip.Addr) error {
	const op = "remove group from program"
	group = group.Unmap()
	if !group.IsMulticast() {
		return p.opError(op, fmt.Errorf("%v is not a group: %w", group, os.ErrNotExist))
	}
	return p.release(op, group)
}

// release takes an address or group out of its map.
func (p *Program) release(op string, addr netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.opError(op, net.ErrClosed)
	}
	if _, ok := p.addrs[addr]; !ok {
		return p.opError(op, fmt.Errorf("%v: %w", addr, os.ErrNotExist))
	}
	m, key := p.addressKeyLocked(addr)
	if err := m.Delete(key); err != nil {
		return p.opError(op, err)
	}
	delete(p.addrs, addr)
	return nil
}

// Addresses returns the claimed addresses in ascending order.
func (p *Program) Addresses() []netip.Addr { return p.claimed(false) }

// Groups returns the claimed multicast groups in ascending order.
func (p *Program) Groups() []netip.Addr { return p.claimed(true) }

func (p *Program) claimed(groups bool) []netip.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.SortedFunc(maps.Keys(p.addrs), netip.Addr.Compare)
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return a.IsMulticast() != groups })
}

// addressKeyLocked returns the map that addr belongs in and its key there,
// bytes as on the wire.
func (p *Program) addressKeyLocked(addr netip.Addr) (*ebpf.Map, []byte) {
	if addr.Is4() {
		return p.objs.Addr4, addr.AsSlice()
	}
	return p.objs.Addr6, addr.AsSlice()
}

// Counters returns the sums over all CPUs. Frames that arrive meanwhile may be
// in one counter and not yet in another.
func (p *Program) Counters() (Counters, error) {
	const op = "read program counters"
	var c Counters
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return c, p.opError(op, net.ErrClosed)
	}
	m := p.objs.steerMaps.Counters
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return c, p.opError(op, err)
	}
	// All by one system call (Linux 5.13): who watches them does so each second.
	var cursor ebpf.MapBatchCursor
	keys, perCPU := make([]uint32, numVerdicts), make([]uint64, int(numVerdicts)*cpus)
	n, err := m.BatchLookup(&cursor, keys, perCPU, nil)
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) { // that is the end
		return c, p.opError(op, err)
	}
	if n != int(numVerdicts) {
		return c, p.opError(op, fmt.Errorf("%d counters, want %d", n, numVerdicts))
	}
	for i, v := range keys {
		for _, n := range perCPU[i*cpus:][:cpus] {
			*c.at(Verdict(v)) += n
		}
	}
	return c, nil
}

// testFrameMax bounds what Test hands to the kernel, in bytes: kernels refuse
// test frames near a page, and no verdict depends on more.
const testFrameMax = 512

// Test returns the verdict on an Ethernet frame of at least 14 bytes, as it
// would be on a queue that has a socket. It works whether or not the program
// is attached, and changes no counter.
func (p *Program) Test(frame []byte) (Verdict, error) {
	const op = "test program"
	if len(frame) < 14 {
		return 0, p.opError(op, fmt.Errorf("frame of %d bytes is shorter than an Ethernet header", len(frame)))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, p.opError(op, net.ErrClosed)
	}
	frame = frame[:min(len(frame), testFrameMax)]
	v, err := p.objs.AfxnetVerdict.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		return 0, p.opError(op, err)
	}
	return Verdict(v), nil
}
