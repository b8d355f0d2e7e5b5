package xsk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/canceled"
	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/sys"
	"github.com/afxnet/afxnet/umem"
)

// severalSockets is what Linux 6.4 added for sockets that share a queue: to map the
// rings of a socket that is bound.
const severalSockets = "several sockets on one queue"

// busyRetry is the pause between two tries to bind a busy queue. The kernel
// lets go of one within a few RCU grace periods, some milliseconds each.
const busyRetry = 10 * time.Millisecond

// Open makes a socket and binds it to one queue of an interface, with the fill
// ring full. Packets arrive once a program redirects them to it: see [Program].
// Binding resets the link of some devices; they arrive no sooner than it is back.
//
// An error in Config names the field and the rule; any other is an *OpError
// (find it with errors.As). errors.Is tells the cause: unix.ENODEV no such
// interface; unix.ENETDOWN the interface is down; unix.EBUSY the queue is taken,
// still after Config.BusyTimeout; unix.EINVAL no such queue, or a size that
// does not fit; os.ErrPermission a capability is missing; unix.ENOBUFS the
// memory limit RLIMIT_MEMLOCK; errors.ErrUnsupported the kernel or the driver
// cannot do what was asked.
func Open(cfg Config) (*Socket, error) { return OpenContext(context.Background(), cfg) }

// OpenContext is Open, but does not wait for a busy queue any longer when ctx ends: the
// error wraps ctx's and its cause then, and nothing stays open. With a ctx that has ended
// it fails.
func OpenContext(ctx context.Context, cfg Config) (_ *Socket, err error) {
	given, err := cfg.Prepared.take()
	if err != nil {
		return nil, err
	}
	defer given.close()
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, err
	}
	s := newSocket(cfg.Interface, cfg.Queue)
	if err := canceled.Err(ctx); err != nil {
		return nil, s.opError("open", err, "")
	}
	dev, err := hostif.Lookup(cfg.Interface)
	if err != nil {
		return nil, s.opError("look up interface", err, "")
	}
	if err := s.preflight(dev, cfg); err != nil {
		return nil, err
	}
	if s.region = cfg.Region; cfg.Shared != nil {
		s.region = cfg.Shared.region
	}
	if s.region == nil {
		if s.region, err = newRegion(cfg.UMEM, dev); err != nil {
			return nil, s.opError("map umem", err, memoryRemedy(err, cfg.UMEM))
		}
		s.owned = true
		defer func() {
			if err != nil {
				err = joinClose(err, s.region.Close())
			}
		}()
	}
	if s.region.OnHeap() {
		return nil, s.onHeapError()
	}
	if cfg.TXOffload != 0 && s.region.TXMetadata() == 0 {
		return nil, s.opError("check transmit offload", fmt.Errorf("%v: the region has no room for it: %w", cfg.TXOffload, unix.EINVAL),
			fmt.Sprintf("make it with umem.Config.TXMetadata, %d bytes", umem.MinTXMetadata))
	}
	several := cfg.MultiBuffer.wanted(dev.MTU, s.chunkMTU())
	if !several && dev.MTU > s.chunkMTU() {
		return nil, s.opError("check mtu", fmt.Errorf("MTU %d, and multi-buffer is off: %w", dev.MTU, unix.EINVAL),
			fmt.Sprintf("a chunk of %d bytes with %d of headroom holds an MTU of %d: leave MultiBuffer on, use 4096 byte chunks, or set a smaller MTU", s.region.ChunkSize(), s.region.Headroom(), s.chunkMTU()))
	}
	if sh := cfg.Shared; sh != nil {
		sh.mu.Lock()
		defer sh.mu.Unlock()
		if err := sh.checkLocked(cfg, several); err != nil {
			return nil, s.opError("share umem", err, "")
		}
		several = several || sh.several && len(sh.pools) != 0
	}
	asked, joins := cfg.Bind, cfg.Shared != nil && len(cfg.Shared.pools) != 0
	bar := zeroCopyBar(dev, s.region, several)
	if bar == nil {
		bar = txOffloadBar(dev, cfg.TXOffload, true)
	}
	if bar != nil {
		switch {
		case joins && cfg.Shared.zerocopy, !joins && asked == BindZeroCopy:
			return nil, s.opError("bind", bar.err(), bar.fix)
		case !joins && asked == BindAuto:
			cfg.Bind, s.zeroCopyErr = BindCopy, bar.err()
		}
	}
	defer func() {
		if err == nil {
			return
		}
		if lost := s.rx.takeBack(); cfg.Shared != nil {
			cfg.Shared.lost += lost // its lock is held
		}
	}()
	k, key, err := s.openKernel(ctx, cfg, given, dev, several)
	if err != nil {
		return nil, err
	}
	s.kernel, s.fd = k, k.sock.FD()
	s.rx.bound(k)
	s.rx.marker = cfg.MetadataMarker
	s.tx.init(s.region, k)
	if !k.zerocopy {
		s.tx.burst = int(k.budget)
		if receivesOnly(dev, cfg.Queue) {
			s.tx.mute = s.opError("send", fmt.Errorf("queue %d, and the device has %d to send: %w", cfg.Queue, dev.TXQueues, errMute), fixSenders(dev))
		}
	}
	if asked == BindAuto && !k.zerocopy && s.zeroCopyErr == nil {
		why := "the first socket of Config.Shared is in copy mode, and so are all"
		if !joins {
			why, _ = whyCopy(dev, several, zeroCopyMTU(dev.Driver, s.region.MaxPacket()))
		}
		s.zeroCopyErr = fmt.Errorf("%s: %w", why, errors.ErrUnsupported)
	}
	if most := s.MaxMTU(); dev.MTU > most {
		err := s.opError("check mtu", fmt.Errorf("MTU %d: %w", dev.MTU, unix.EINVAL),
			fmt.Sprintf("packets over several chunks of %d bytes with %d of headroom hold an MTU of %d: use larger chunks or rings, or set a smaller MTU", s.region.ChunkSize(), s.region.Headroom(), most))
		return nil, joinClose(err, k.Close())
	}
	if bar := txOffloadBar(dev, cfg.TXOffload, k.zerocopy); bar != nil {
		return nil, joinClose(s.opError("check transmit offload", bar.err(), bar.fix), k.Close())
	}
	s.tx.offer(cfg.TXOffload)
	if err := s.setNAPI(cfg.NAPI, dev.Index); err != nil {
		return nil, joinClose(err, k.Close())
	}
	if cfg.Shared != nil {
		cfg.Shared.joinLocked(s, key)
	}
	s.rx.early = nil
	return s, nil
}

// onHeapError is why the kernel does not get a region of Go memory.
func (s *Socket) onHeapError() error {
	return s.opError("register umem", fmt.Errorf("the region is Go memory (umem.Config.OnHeap): %w", unix.EINVAL),
		"the kernel would pin what the garbage collector frees: leave OnHeap unset")
}

// chunkMTU is the largest MTU whose frames fit one chunk.
func (s *Socket) chunkMTU() int { return s.region.MaxPacket() - ethernetOverhead }

// preflight finds what the kernel would refuse without saying why.
func (s *Socket) preflight(dev hostif.Interface, cfg Config) error {
	if !dev.Up {
		return s.opError("bind", unix.ENETDOWN, "set the interface up: "+fixUp(cfg.Interface))
	}
	if n := dev.RXQueues; n > 0 && int(cfg.Queue) >= n {
		return s.opError("bind", fmt.Errorf("queue %d of %d: %w", cfg.Queue, n, unix.EINVAL),
			fmt.Sprintf("the interface has the receive queues 0 to %d: ethtool -l %s", n-1, cfg.Interface))
	}
	return nil
}

// openKernel makes the socket, unless it is given, gives it its memory and rings,
// and binds it. several asks for packets over several frames. key is the queue's, if there is a
// Shared, whose lock is held then.
func (s *Socket) openKernel(ctx context.Context, cfg Config, given *taken, dev hostif.Interface, several bool) (k *kernelSocket, key poolKey, err error) {
	sock, err := given.socket()
	if err != nil && given != nil {
		return nil, key, s.opError("take socket", err, "Config.Prepared.FD has to be an AF_XDP socket, as Prepare makes it")
	}
	if err != nil {
		return nil, key, s.explain("create socket", err, cfg.Bind, dev, several)
	}
	k = &kernelSocket{sock: sock, parts: 1}
	from := registration{own: true}
	step := "register umem"
	defer func() {
		if err != nil {
			if err = s.explain(step, err, cfg.Bind, dev, several); from.with != nil && step == "bind" && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
				err.(*OpError).Remedy = sharingRemedy(from.with)
			}
			err = joinClose(err, k.Close())
			k = nil
		}
	}()
	if cfg.Shared != nil {
		step = "share umem"
		if key, from, err = cfg.Shared.registrationLocked(k, dev, cfg.Queue, &cfg.Rings); err != nil {
			return k, key, err
		}
	}
	step = "register umem"
	if from.with == nil && !cfg.Prepared.registered() {
		if err := registerUMEM(sock, s.region, dev); err != nil {
			return k, key, err
		}
	}
	if step, err = k.sizeRings(cfg.Rings, from.own); err != nil {
		return k, key, err
	}
	if from.own {
		if step, err = k.mapRings(cfg.Rings); err != nil {
			return k, key, err
		}
	}
	step = "set transmit budget"
	if k.budget, err = setTXBudget(sock, cfg.TXBudget, cfg.Rings.TX); err != nil {
		return k, key, err
	}
	if !cfg.Prepared.busyPolls() {
		if err := k.setBusyPoll(cfg.BusyPoll); err != nil {
			step = stepSetBusyPoll
			return k, key, err
		}
	}
	if from.own {
		s.rx.init(s.region, k)
		s.rx.lendEarly()
	}
	step = "bind"
	if err := bind(ctx, sock, cfg, dev.Index, several, from.with); err != nil {
		return k, key, err
	}
	s.rx.device = true // unless the mode is another
	if !from.own {
		if step, err = k.mapRings(cfg.Rings); errors.Is(err, unix.EBUSY) { // a bound socket's rings (xsk_mmap, net/xdp/xsk.c)
			err = &UnsupportedError{Feature: severalSockets, MinKernel: "6.4"}
		}
		if err != nil {
			return k, key, err
		}
		s.rx.init(s.region, k)
	}
	step = "read bind mode"
	if k.zerocopy, err = sock.ZeroCopy(); err != nil {
		return k, key, err
	}
	s.rx.device = k.zerocopy
	if cfg.Bind == BindZeroCopy && !k.zerocopy {
		return k, key, fmt.Errorf("zero-copy was asked for, the kernel gave copy: %w", errors.ErrUnsupported)
	}
	if several {
		step = "read zero-copy segments"
		if k.parts, err = partsOf(k.zerocopy, dev.Index); err != nil {
			return k, key, err
		}
	}
	if err := k.readBusyPoll(cfg.BusyPoll); err != nil {
		step = stepReadBusyPoll
		return k, key, err
	}
	step = "create waiter"
	k.wait, err = sys.NewWaiter(sock)
	return k, key, err
}

// setTXBudget sets how many descriptors one wakeup sends, and returns how many
// that are. Zero is the default, which the kernel need not take.
func setTXBudget(sock *sys.Socket, budget, ring uint32) (uint32, error) {
	must := budget != 0
	if !must {
		budget = min(defaultTXBudget, ring)
	}
	if budget <= sys.KernelTXBudget && !must {
		return sys.KernelTXBudget, nil
	}
	err := sock.SetTXBudget(budget)
	switch {
	case err == nil:
		return budget, nil
	case !errors.Is(err, unix.ENOPROTOOPT):
		return 0, err
	case must:
		return 0, &UnsupportedError{Feature: "XDP_MAX_TX_SKB_BUDGET", MinKernel: "6.17"}
	}
	return sys.KernelTXBudget, nil
}

// partsOf returns how many frames a sent packet may lie in, where it may in
// several. A zero-copy driver drops, or stops at, a packet of more than it has
// segments for.
func partsOf(zerocopy bool, ifindex int) (int, error) {
	if !zerocopy {
		return maxTXParts, nil
	}
	segments, err := hostif.ZeroCopySegments(ifindex)
	return min(segments, maxTXParts), err
}

// bind retries while the queue is busy, until ctx ends. With another socket's UMEM, its flags
// hold.
func bind(ctx context.Context, sock *sys.Socket, cfg Config, ifindex int, several bool, with *Socket) error {
	var flags uint16
	switch cfg.Bind {
	case BindZeroCopy:
		flags = unix.XDP_ZEROCOPY
	case BindCopy:
		flags = unix.XDP_COPY
	}
	if !cfg.NoNeedWakeup {
		flags |= unix.XDP_USE_NEED_WAKEUP
	}
	if several {
		flags |= unix.XDP_USE_SG
	}
	deadline := time.Now().Add(cfg.BusyTimeout)
	for {
		var err error
		if with != nil {
			err = sock.BindShared(ifindex, cfg.Queue, with.fd)
		} else {
			err = sock.Bind(ifindex, cfg.Queue, flags)
		}
		if with == nil && several && errors.Is(err, unix.EINVAL) && sock.Bind(ifindex, cfg.Queue, flags&^unix.XDP_USE_SG) == nil {
			return &UnsupportedError{Feature: "XDP_USE_SG, for packets over several chunks,", MinKernel: "6.6"}
		}
		if !errors.Is(err, unix.EBUSY) || !time.Now().Before(deadline) {
			return err
		}
		select {
		case <-time.After(busyRetry):
		case <-ctx.Done():
			return fmt.Errorf("%w, while the queue is busy", canceled.Err(ctx))
		}
	}
}

// explain adds to a failed step what is known about its errno.
func (s *Socket) explain(step string, err error, asked BindMode, dev hostif.Interface, several bool) error {
	remedy := ""
	var since *UnsupportedError
	switch {
	case errors.As(err, &since) && since.Feature == severalSockets:
		remedy = "give each socket a queue of its own"
	case errors.Is(err, unix.EAFNOSUPPORT):
		err = errors.Join(&UnsupportedError{Feature: "AF_XDP (CONFIG_XDP_SOCKETS)", MinKernel: "4.18"}, err)
		remedy = fixNoAFXDP
	case step == stepSetBusyPoll || step == stepReadBusyPoll:
		remedy = busyPollRemedy(err)
	case errors.Is(err, os.ErrPermission):
		remedy = "an AF_XDP socket needs CAP_NET_RAW: " + fixNetRaw
	case step == "register umem" && (errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)):
		remedy = fmt.Sprintf("%d KiB of packet memory must fit into RLIMIT_MEMLOCK: %s", s.region.ChunkSize()*s.region.Chunks()>>10, fixMemlock)
	case step == "register umem" && errors.Is(err, unix.EINVAL):
		remedy = "the region must be one of umem.New's, and not closed"
	case step != "bind" && errors.Is(err, unix.EBUSY):
		remedy = "the socket of Config.Prepared has packet memory already, as Prepared.Registered says then, or is bound"
	case errors.Is(err, unix.EBUSY):
		remedy = "another AF_XDP socket has this queue, or a closed one has not let go yet: find it with ss --xdp"
		if who := hostif.SocketHolder(dev.Index, s.queue); who != "" {
			remedy = who + " has another AF_XDP socket on this queue: end it, or take another queue"
		}
	case step == "bind" && errors.Is(err, unix.EOPNOTSUPP):
		why, fix := whyCopy(dev, several, zeroCopyMTU(dev.Driver, s.region.MaxPacket()))
		remedy = why + ": " + fix
	case step == "bind" && errors.Is(err, errors.ErrUnsupported):
		remedy = fmt.Sprintf("set an MTU of %d or less", s.chunkMTU())
	case step == "bind" && errors.Is(err, unix.EINVAL):
		remedy = "the queue does not exist, or the driver refuses the chunk size or MTU in this mode"
		if asked == BindZeroCopy {
			why, fix := whyCopy(dev, several, zeroCopyMTU(dev.Driver, s.region.MaxPacket()))
			remedy = why + ": " + fix
		}
	case step == "bind" && errors.Is(err, unix.ENODEV):
		remedy = "the interface is gone"
	}
	return s.opError(step, err, remedy)
}
