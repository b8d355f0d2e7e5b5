package netdev

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/internal/wire"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// rigConfig describes a device on port 0 of a wire whose port 1 is played by
// the test.
type rigConfig struct {
	cfg    Config
	chosen bool // cfg says which mechanisms are on; otherwise -afxnet.off does
	mtu    int
	rings  uint32 // descriptors of each ring; 0 means 256
	chunk  int    // bytes; 0 means 2048, or 4096 if that holds a frame and 2048 does not
	chunks int    // 0 means what the rings can hold and half as many again
	idle   bool   // no pollers: the test polls with rig.poll
	frames *int   // counts what port 1 receives, in place of keeping it

	metadata int // umem.Config.TXMetadata
}

type rig struct {
	tb   testing.TB
	w    *wire.Wire
	d    *Device
	sock *xsk.Socket
	rec  *recorder

	mu   sync.Mutex
	sent [][]byte // what port 1 received
}

func newRig(tb testing.TB, c rigConfig) *rig {
	tb.Helper()
	if c.mtu == 0 {
		c.mtu = 1500
	}
	if c.chunk == 0 {
		c.chunk = chunkFor(c.mtu)
	}
	if c.rings == 0 {
		c.rings = 256
	}
	if c.chunks == 0 {
		c.chunks = max(16, int(c.rings)*3)
	}
	w, err := wire.New(wire.Config{Ports: [2]wire.PortConfig{{MTU: c.mtu, MultiBuffer: c.mtu > chunkMTU(c.chunk)}, {MTU: 65535}}})
	if err != nil {
		tb.Fatal(err)
	}
	r := &rig{tb: tb, w: w, rec: &recorder{}}
	r.sock = openSocketOn(tb, w.Port(0), 0, umem.Config{ChunkSize: c.chunk, Chunks: c.chunks, TXMetadata: c.metadata}, c.rings, c.rings)
	if !c.chosen {
		c.cfg = withFlag(c.cfg)
	}
	r.d, err = NewOn([]*xsk.Socket{r.sock}, Link{Name: "wire0", MAC: w.Port(0).MAC(), MTU: c.mtu}, c.cfg)
	if err != nil {
		tb.Fatal(err)
	}
	w.Port(1).OnReceive(func(f []byte) {
		if c.frames != nil {
			*c.frames++
			return
		}
		r.mu.Lock()
		r.sent = append(r.sent, bytes.Clone(f))
		r.mu.Unlock()
	})
	if c.idle {
		var nd gstack.NetworkDispatcher = r.rec
		r.d.dispatcher.Store(&nd)
	} else {
		r.d.LinkEndpoint().Attach(r.rec)
	}
	tb.Cleanup(r.close)
	return r
}

// chunkMTU is the largest MTU whose frames a chunk holds.
func chunkMTU(chunk int) int { return chunk - umem.KernelHeadroom - ethernetLen - vlanLen }

// chunkFor returns the size of chunk that holds a frame, or 2048 if there is
// none: such frames lie in several.
func chunkFor(mtu int) int {
	if mtu > chunkMTU(2048) && mtu <= chunkMTU(4096) {
		return 4096
	}
	return 2048
}

// withFlag switches off what -afxnet.off names.
func withFlag(cfg Config) Config {
	cfg.NoGRO = cfg.NoGRO || mechanism.Off(mechanism.GRO)
	cfg.NoACKHold = cfg.NoACKHold || mechanism.Off(mechanism.ACKHold)
	cfg.NoACKMerge = cfg.NoACKMerge || mechanism.Off(mechanism.ACKMerge)
	cfg.NoGather = cfg.NoGather || mechanism.Off(mechanism.Gather)
	cfg.NoLateArm = cfg.NoLateArm || mechanism.Off(mechanism.LateArm)
	return cfg
}

func openSocket(tb testing.TB, p *wire.Port, queue, chunk, chunks int, rx, tx uint32) *xsk.Socket {
	tb.Helper()
	return openSocketOn(tb, p, queue, umem.Config{ChunkSize: chunk, Chunks: chunks}, rx, tx)
}

func openSocketOn(tb testing.TB, p *wire.Port, queue int, cfg umem.Config, rx, tx uint32) *xsk.Socket {
	tb.Helper()
	cfg.OnHeap = true
	region, err := umem.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := p.Open(queue, region, xsk.RingSizes{Fill: rx, Completion: tx, RX: rx, TX: tx})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (r *rig) close() {
	r.tb.Helper()
	r.queue().HoldCompletions(false)
	r.checkAtRest()
	if err := r.d.Close(); err != nil {
		r.tb.Error(err)
	}
	if err := r.w.Close(); err != nil {
		r.tb.Error(err)
	}
	checkWire(r.tb, r.w)
}

// queue is the kernel's side of the device's socket; nil after Close.
func (r *rig) queue() *wire.Queue {
	if q := r.w.Port(0).Queue(0); q != nil {
		return q
	}
	return new(wire.Queue)
}

// checkAtRest fails unless every frame is back. Nothing may wait to be sent.
func (r *rig) checkAtRest() {
	r.tb.Helper()
	q := r.d.queues[0]
	if q.tx.dead {
		return
	}
	q.tx.mu.Lock()
	q.tx.flush()
	q.tx.unlock()
	checkAudit(r.tb, r.d)
}

// checkAudit fails unless all frames are free or with the kernel to be filled.
func checkAudit(tb testing.TB, d *Device) {
	tb.Helper()
	for i, a := range d.Audit() {
		if a.Held != 0 || a.TX != 0 || a.Free+a.Fill != d.queues[i].region.Chunks() {
			tb.Errorf("queue %d: frames %+v of %d", i, a, d.queues[i].region.Chunks())
		}
	}
}

func checkWire(tb testing.TB, w *wire.Wire) {
	tb.Helper()
	for dir, s := range w.Stats() {
		if err := s.Check(); err != nil {
			tb.Errorf("direction %d: %v", dir, err)
		}
	}
}

// inject sends frames to the device and returns what it hands up, in an idle
// rig. The batches are of up to n frames.
func (r *rig) inject(n int, frames ...[]byte) []delivery {
	r.tb.Helper()
	r.rec.take()
	for part := range slices.Chunk(frames, min(n, rxBatch)) {
		for _, f := range part {
			if !r.w.Port(0).Inject(f) {
				r.tb.Fatalf("the wire does not take a frame of %d bytes", len(f))
			}
		}
		r.poll()
	}
	return r.rec.take()
}

// poll has the device receive all there is.
func (r *rig) poll() {
	q := r.d.queues[0]
	q.pollMu.Lock()
	for q.poll() != 0 {
	}
	q.leave()
}

// write gives the device a packet as netstack does, and keeps no reference.
func (r *rig) write(pkts ...*gstack.PacketBuffer) {
	r.tb.Helper()
	for _, pkt := range pkts {
		if err := r.d.QDisc().WritePacket(pkt); err != nil {
			r.tb.Errorf("write: %v", err)
		}
		pkt.DecRef()
	}
}

// out returns what has arrived at the far end since the last call.
func (r *rig) out() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sent
	r.sent = nil
	return s
}

func (r *rig) stats() QueueStats {
	r.tb.Helper()
	st, err := r.d.Stats()
	if err != nil {
		r.tb.Fatal(err)
	}
	return st.Queues[0]
}

// delivery is a packet that a device handed up.
type delivery struct {
	proto    tcpip.NetworkProtocolNumber
	link     []byte
	data     []byte // IP packet
	head     int    // bytes of IP packet in the first view
	views    int
	pktType  tcpip.PacketType
	hash     uint32
	verified bool
}

// info parses the delivery as a frame.
func (d *delivery) info(tb testing.TB) (info packet.Info) {
	tb.Helper()
	if r := packet.Parse(d.frame(), &info); r != packet.OK {
		tb.Fatalf("delivered packet does not parse: %v", r)
	}
	return info
}

func (d *delivery) frame() []byte { return append(bytes.Clone(d.link), d.data...) }

// recorder is a NetworkDispatcher that keeps copies.
type recorder struct {
	mu     sync.Mutex
	got    []delivery
	count  int
	notify func() // called after each, if set before the first
}

func (r *recorder) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *gstack.PacketBuffer) {
	d := delivery{
		proto: proto, pktType: pkt.PktType, hash: pkt.Hash, verified: Verified(pkt),
		link: bytes.Clone(pkt.LinkHeader().Slice()),
	}
	views, _ := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		if d.views == 0 {
			d.head = v.Size() - len(d.link)
		}
		d.views++
	}
	if v := pkt.Data().AsRange().ToView(); v != nil { // nil: nothing follows the link header
		d.data = bytes.Clone(v.AsSlice())
		v.Release()
	}
	r.mu.Lock()
	r.got = append(r.got, d)
	r.count++
	r.mu.Unlock()
	if r.notify != nil {
		r.notify()
	}
}

func (r *recorder) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *gstack.PacketBuffer) {}

func (r *recorder) take() []delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}
