package umem

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync"
)

// HugePages says what Config.HugePages asks for.
type HugePages uint8

const (
	HugePagesOff     HugePages = iota // ordinary pages
	HugePagesTry                      // huge pages if there are any; Region.HugePages tells
	HugePagesRequire                  // an error if there are none
)

// Config describes a Region. The zero value is 4096 chunks of 4096 bytes on
// ordinary pages.
type Config struct {
	// ChunkSize is the size of one chunk in bytes: 2048 or 4096, a power of
	// two not above the page size (the kernel's rule for aligned chunks,
	// net/xdp/xdp_umem.c). Zero means 4096. A chunk holds a packet of
	// ChunkSize - 256 - Headroom bytes, so 2048 is enough for an MTU of 1500.
	ChunkSize int

	// Unaligned admits any ChunkSize from 2048 to the page size that is a
	// multiple of 64, such as 3072 (XDP_UMEM_UNALIGNED_CHUNK_FLAG, 5.4): chunks
	// then cross the borders of pages. For zero-copy that needs huge pages, and
	// the few chunks that straddle two of those stay Unused.
	Unaligned bool

	// Chunks is the number of chunks: at least 4, at most 2^24. Zero means
	// 4096.
	Chunks int

	// Headroom is the number of bytes left free before each received packet,
	// beside the kernel's own 256. It must leave room for a 64 byte packet.
	Headroom int

	// TXMetadata is the number of bytes kept free right before every packet that
	// is sent, in which package xsk puts what it asks of the kernel or the device
	// (XDP_UMEM_TX_METADATA_LEN, Linux 6.8): a multiple of 8 from MinTXMetadata
	// to 248. A sent packet then has that much less of its chunk. Zero is none;
	// xsk.Config.TXOffload sets it where it is needed.
	TXMetadata int

	// HugePages asks for 2 MiB pages, which spare the NIC's IOMMU and the TLB.
	// The zero value asks for ordinary pages. The kernel reserves huge pages
	// in vm.nr_hugepages.
	HugePages HugePages

	// Node is the NUMA node to take the memory from, if there is enough:
	// OnNode(n). The zero value is the node of the CPU that calls New; package
	// xsk then takes the device's. A node that does not exist is an error.
	Node Node

	// OnHeap takes the memory from the Go heap. The kernel does not get it
	// then: it is for simulated kernels, where the race detector can see it.
	OnHeap bool

	// File is where the memory is, shared with whoever else maps it: a file of
	// memory (memfd_create(2)) of Chunks times ChunkSize bytes or more, that
	// another process has made and registered, see package xsk/handover. The
	// caller closes it, after New if he likes. Who makes the file decides about
	// huge pages (MFD_HUGETLB); HugePages is then what the caller insists on. Node
	// is for the pages that nobody has touched yet. OnHeap must be zero.
	File *os.File
}

const (
	defaultChunkSize = 4096
	defaultChunks    = 4096
	minChunks        = 4
	maxChunks        = 1 << 24
	minPacket        = 64
	hugePageSize     = 2 << 20
	chunkAlign       = 64 // a cache line
	maxNodes         = 1024
)

var errOnHeap = errors.New("umem: Config.HugePages: the Go heap (Config.OnHeap) has none")

// withDefaults resolves zero fields and checks the rest.
func (c Config) withDefaults() (Config, error) {
	if c.ChunkSize == 0 {
		c.ChunkSize = defaultChunkSize
	}
	if c.Chunks == 0 {
		c.Chunks = defaultChunks
	}
	if page := os.Getpagesize(); c.Unaligned {
		if c.ChunkSize < 2048 || c.ChunkSize > page || c.ChunkSize%chunkAlign != 0 {
			return c, fmt.Errorf("umem: Config.ChunkSize: %d bytes, unaligned: a multiple of %d from 2048 to the page size, %d", c.ChunkSize, chunkAlign, page)
		}
	} else if bits.OnesCount(uint(c.ChunkSize)) != 1 || c.ChunkSize < 2048 || c.ChunkSize > page {
		return c, fmt.Errorf("umem: Config.ChunkSize: %d bytes: a power of two from 2048 to the page size, %d", c.ChunkSize, page)
	}
	if c.Chunks < minChunks || c.Chunks > maxChunks {
		return c, fmt.Errorf("umem: Config.Chunks: %d: from %d to %d", c.Chunks, minChunks, maxChunks)
	}
	if most := c.ChunkSize - KernelHeadroom - minPacket; c.Headroom < 0 || c.Headroom > most {
		return c, fmt.Errorf("umem: Config.Headroom: %d bytes: from 0 to %d in a chunk of %d", c.Headroom, most, c.ChunkSize)
	}
	if n := c.TXMetadata; n != 0 && (n < MinTXMetadata || n > maxTXMetadata || n%txMetadataAlign != 0) {
		return c, fmt.Errorf("umem: Config.TXMetadata: %d bytes: a multiple of %d from %d to %d", n, txMetadataAlign, MinTXMetadata, maxTXMetadata)
	}
	if c.HugePages > HugePagesRequire {
		return c, fmt.Errorf("umem: Config.HugePages: %d: no such choice", c.HugePages)
	}
	if c.Node < 0 || c.Node > maxNodes {
		return c, fmt.Errorf("umem: Config.Node: node %d: from 0 to %d", c.Node-1, maxNodes-1)
	}
	if c.OnHeap && c.HugePages == HugePagesRequire {
		return c, errOnHeap
	}
	if c.OnHeap && c.Node != 0 {
		return c, errors.New("umem: Config.Node: the Go heap (Config.OnHeap) is on none")
	}
	if c.File != nil && c.OnHeap {
		return c, errors.New("umem: Config.File: the memory is there already: OnHeap must be zero")
	}
	return c, nil
}

// Size returns how many bytes of memory New(c) takes, or what is wrong with c: Chunks
// times ChunkSize with their defaults, up to the end of a huge page if it asks for
// those.
func (c Config) Size() (int, error) {
	c, err := c.withDefaults()
	if err != nil {
		return 0, err
	}
	size := c.Chunks * c.ChunkSize
	if c.HugePages != HugePagesOff {
		size = wholePages(size, hugePageSize)
	}
	return size, nil
}

// wholePages is size, or more to the end of a page.
func wholePages(size, page int) int { return (size + page - 1) / page * page }

// Region is one mapping of packet memory and the pool of its frames.
type Region struct {
	mem       []byte
	chunkSize int
	inverse   uint64 // see number
	unaligned bool
	headroom  int
	metadata  int // Config.TXMetadata
	onHeap    bool
	huge      bool
	hugeErr   error // why there are no huge pages, if they were asked for

	state  []State  // one per chunk; written by the frame's owner only
	answer []uint16 // the same, where there is TXMetadata: see SetAnswer
	pool   pool
	debug  debug

	unmap func() error // nil on the heap
	once  sync.Once
	err   error
}

// New makes a region; every frame is Free. Errors name the field and the rule.
// With HugePagesRequire and no huge pages left, errors.Is(err, unix.ENOMEM)
// holds; with a File on ordinary pages, unix.EINVAL.
func New(cfg Config) (*Region, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Region{
		chunkSize: cfg.ChunkSize,
		inverse:   inverseOf(cfg.ChunkSize),
		unaligned: cfg.Unaligned,
		headroom:  cfg.Headroom,
		metadata:  cfg.TXMetadata,
		state:     make([]State, cfg.Chunks),
	}
	if cfg.OnHeap {
		r.mem = make([]byte, cfg.Chunks*cfg.ChunkSize)
		r.onHeap = true
		if cfg.HugePages == HugePagesTry {
			r.hugeErr = errOnHeap
		}
	} else if err := r.mapMemory(cfg); err != nil {
		return nil, err
	}
	if r.metadata != 0 {
		r.answer = make([]uint16, cfg.Chunks)
	}
	r.pool.fill(r)
	r.debug.init(r)
	return r, nil
}

// mapMemory maps the region, with huge pages if they are asked for.
func (r *Region) mapMemory(cfg Config) error {
	size := cfg.Chunks * cfg.ChunkSize
	if cfg.File != nil {
		if err := r.mapFile(cfg, size); err != nil {
			return fmt.Errorf("umem: Config.File: %d chunks of %d bytes: %w", cfg.Chunks, cfg.ChunkSize, err)
		}
		return nil
	}
	if cfg.HugePages != HugePagesOff {
		full := wholePages(size, hugePageSize)
		mem, unmap, err := mapAnonymous(full, true, cfg.Node)
		if err == nil {
			r.mem, r.unmap, r.huge = mem[:size:size], unmap, true
			return nil
		}
		r.hugeErr = fmt.Errorf("umem: %d bytes on huge pages (reserve them: sysctl vm.nr_hugepages=%d): %w", full, full/hugePageSize, err)
		if cfg.HugePages == HugePagesRequire {
			return r.hugeErr
		}
	}
	mem, unmap, err := mapAnonymous(size, false, cfg.Node)
	if err != nil {
		return fmt.Errorf("umem: %d chunks of %d bytes: %w", cfg.Chunks, cfg.ChunkSize, err)
	}
	r.mem, r.unmap = mem, unmap
	return nil
}

// Close unmaps the region. Everything that uses it must be closed before: the
// sockets first, so that the kernel has let go of the memory. Idempotent.
func (r *Region) Close() error {
	r.once.Do(func() {
		if r.unmap != nil {
			r.err = r.unmap()
		}
		r.mem = nil
	})
	return r.err
}

// ChunkSize returns the size of a chunk in bytes.
func (r *Region) ChunkSize() int { return r.chunkSize }

// Chunks returns the number of chunks.
func (r *Region) Chunks() int { return len(r.state) }

// Headroom returns Config.Headroom in bytes.
func (r *Region) Headroom() int { return r.headroom }

// Index returns the number of the chunk that a lies in; outside the region it is
// Chunks() or more.
func (r *Region) Index(a Addr) int { return int(min(r.number(a), maxChunks)) }

// Unaligned returns Config.Unaligned.
func (r *Region) Unaligned() bool { return r.unaligned }

// OnHeap tells whether the region is Go memory, which no real socket may have.
func (r *Region) OnHeap() bool { return r.onHeap }

// HugePages tells whether the region lies on huge pages. If they were asked
// for and are not there, err says why.
func (r *Region) HugePages() (on bool, err error) { return r.huge, r.hugeErr }

// Memory returns the whole region, to register it with a socket. Reading or
// writing packets through it bypasses every check.
func (r *Region) Memory() []byte { return r.mem }
