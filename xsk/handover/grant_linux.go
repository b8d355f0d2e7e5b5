package handover

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/steering"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// grant is the interface while a process has it.
type grant struct {
	conn   *conn
	dev    hostif.Interface
	steer  *steering.Interface
	lost   bool          // the process is being told that the program is
	pushed chan struct{} // closed when what push was given last is sent; nil if nothing was
	queues []uint32
	given  map[uint32]bool // queues whose socket the process has
	memory memory          // of each socket
	size   int             // of that, in bytes
	busy   xsk.BusyPoll
}

// open attaches the program for a process, if it may have what it asks for.
func (s *server) open(c *conn, req request) (_ *grant, err error) {
	if req.Protocol != protocol {
		return nil, fmt.Errorf("protocol %d, not %d: use one release of afxnet on both sides: %w", req.Protocol, protocol, unix.EPROTONOSUPPORT)
	}
	if req.Interface != "" && req.Interface != s.cfg.Interface {
		return nil, fmt.Errorf("interface %.20q: there is %q here: %w", req.Interface, s.cfg.Interface, unix.ENODEV)
	}
	g := &grant{conn: c, given: make(map[uint32]bool)}
	if req.BusyPoll != nil {
		if g.busy = xsk.BusyPoll(*req.BusyPoll); !s.cfg.BusyPoll {
			return nil, fmt.Errorf("busy polling is not allowed (option -busy-poll of the helper): %w", unix.EACCES)
		}
	}
	if req.Memory == nil {
		return nil, fmt.Errorf("no size of memory: %w", unix.EINVAL)
	}
	g.memory = *req.Memory
	if !s.cfg.HugePages && g.memory.HugePages == umem.HugePagesRequire {
		return nil, fmt.Errorf("huge pages are not allowed (option -huge-pages of the helper): %w", unix.EACCES)
	}
	if !s.cfg.HugePages {
		g.memory.HugePages = umem.HugePagesOff
	}
	if g.size, err = g.memory.config().Size(); err != nil {
		return nil, err
	}
	if g.dev, err = hostif.Lookup(s.cfg.Interface); err != nil {
		return nil, err
	}
	if g.steer, err = steering.Attach(g.dev, s.cfg.Attach); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	// Some drivers add queues for the program.
	if g.dev, err = hostif.Lookup(s.cfg.Interface); err != nil {
		return nil, err
	}
	if g.queues, err = s.choose(req.Queues, g.dev); err != nil {
		return nil, err
	}
	if all := g.size * len(g.queues); int64(all) > s.cfg.MaxMemory {
		return nil, fmt.Errorf("%d bytes for %d sockets, at most %d are allowed (option -memory of the helper): %w", all, len(g.queues), s.cfg.MaxMemory, unix.ENOBUFS)
	}
	return g, nil
}

// choose returns the queues that a process gets.
func (s *server) choose(asked []uint32, dev hostif.Interface) ([]uint32, error) {
	may := s.cfg.Queues
	if may == nil {
		for q := range max(dev.RXQueues, 1) {
			may = append(may, uint32(q))
		}
	}
	if asked == nil && len(may) > maxQueues {
		return nil, &xsk.OpError{Op: "choose queues", Device: dev.Name, Queue: xsk.NoQueue,
			Err:    fmt.Errorf("it receives on %d queues: a process has at most %d, and what comes on the others would stay in the kernel: %w", len(may), maxQueues, unix.EINVAL),
			Remedy: fmt.Sprintf("ethtool -L %s combined %d, or name those that packets come on (option -queues of the helper)", dev.Name, maxQueues)}
	}
	if asked == nil {
		return may, nil
	}
	if len(asked) > maxQueues {
		return nil, fmt.Errorf("%d queues: at most %d: %w", len(asked), maxQueues, unix.EINVAL)
	}
	for i, q := range asked {
		if !slices.Contains(may, q) {
			return nil, fmt.Errorf("queue %d: there are %v to have: %w", q, may, unix.EACCES)
		}
		if slices.Contains(asked[:i], q) {
			return nil, fmt.Errorf("queue %d is named twice: %w", q, unix.EINVAL)
		}
	}
	return asked, nil
}

// socket makes the socket of a queue, with its memory, and puts it into the
// program's map. An address is claimed, and so the first packet redirected, after
// the process has bound it. The descriptors are those of socket and memory.
func (g *grant) socket(queue uint32) (fds []int, err error) {
	if !slices.Contains(g.queues, queue) || g.given[queue] {
		return nil, fmt.Errorf("queue %d: one socket for each of %v: %w", queue, g.queues, unix.EACCES)
	}
	file, region, err := g.makeMemory()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	defer func() {
		// Whether the memory can be let go of is known last.
		if err = errors.Join(err, region.Close()); err != nil {
			fds, err = nil, errors.Join(err, seqpacket.CloseAll(fds))
			return
		}
		g.given[queue] = true
	}()
	p, err := xsk.Prepare(g.dev.Name, region, g.busy)
	if err != nil {
		return nil, err
	}
	fds = []int{p.FD}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fds, os.NewSyscallError("fcntl", err)
	}
	fds = append(fds, fd)
	return fds, g.steer.AddSocket(queue, p.FD)
}

// makeMemory makes the memory of a socket, on huge pages if the process wants those,
// and on the NUMA node of the device. A file's pages remain where they were first
// touched, whoever maps it.
func (g *grant) makeMemory() (file *os.File, region *umem.Region, err error) {
	cfg := g.memory.config()
	if cfg.HugePages != umem.HugePagesOff {
		huge := cfg
		huge.HugePages = umem.HugePagesRequire
		if file, region, err = g.mapMemory(huge, unix.MFD_HUGETLB|unix.MFD_HUGE_2MB); err == nil {
			return file, region, nil
		}
		if cfg.HugePages == umem.HugePagesRequire {
			const hugePage = 2 << 20
			return nil, nil, &xsk.OpError{Op: "map umem", Device: g.dev.Name, Queue: xsk.NoQueue, Err: err,
				Remedy: fmt.Sprintf("reserve huge pages: sysctl vm.nr_hugepages=%d", g.size/hugePage*len(g.queues))}
		}
		cfg.HugePages = umem.HugePagesOff
	}
	return g.mapMemory(cfg, 0)
}

func (g *grant) mapMemory(cfg umem.Config, flags int) (_ *os.File, region *umem.Region, err error) {
	if cfg.File, err = makeFile(g.size, flags); err != nil {
		return nil, nil, err
	}
	if node := g.dev.NUMANode(); node >= 0 {
		near := cfg
		near.Node = umem.OnNode(node)
		if region, err = umem.New(near); err == nil {
			return cfg.File, region, nil
		}
	}
	if region, err = umem.New(cfg); err != nil {
		return nil, nil, errors.Join(err, cfg.File.Close())
	}
	return cfg.File, region, nil
}

// makeFile makes a file of memory that nobody can make longer or shorter: bytes that
// are cut off would be a fatal signal to who has them mapped.
func makeFile(size, flags int) (*os.File, error) {
	fd, err := unix.MemfdCreate("afxnet-umem", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|flags)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "afxnet-umem")
	if err := f.Truncate(int64(size)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), f.Close())
	}
	return f, nil
}

// claim gives an address to the process, if it may have it.
func (g *grant) claim(cfg ServerConfig, addr netip.Addr) error {
	if addr = addr.Unmap(); !within(cfg.Addresses, addr) {
		return g.notGiven("claim", addr, cfg.Addresses, "-addr")
	}
	return g.steer.AddAddress(addr)
}

// join makes the process's sockets members of a multicast group, if it may be in it.
func (g *grant) join(cfg ServerConfig, group netip.Addr) error {
	if group = group.Unmap(); !within(cfg.Groups, group) {
		return g.notGiven("join", group, cfg.Groups, "-group")
	}
	return g.steer.JoinGroup(group)
}

func (g *grant) notGiven(op string, addr netip.Addr, given []netip.Prefix, option string) error {
	return &xsk.OpError{Op: op + " " + addr.String(), Device: g.dev.Name, Queue: xsk.NoQueue,
		Err:    fmt.Errorf("the helper gives %v: %w", given, unix.EACCES),
		Remedy: "choose one of these, or start the helper with " + option + " " + addr.String()}
}

// close takes the program off the interface. A nil grant has none.
func (g *grant) close() error {
	if g == nil || g.steer == nil {
		return nil
	}
	return g.steer.Close()
}

// busyPollOf is b on its way, nil if it is off.
func busyPollOf(b xsk.BusyPoll) *busyPoll {
	if b.Time <= time.Duration(0) {
		return nil
	}
	bp := busyPoll(b)
	return &bp
}
