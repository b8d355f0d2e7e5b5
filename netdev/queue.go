package netdev

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/internal/packet"
	"github.com/afxnet/afxnet/umem"
	"github.com/afxnet/afxnet/xsk"
)

// rxBatch is how many frames one poll takes: enough to spread the cost of the
// ring stores, the wakeup and the merging, few enough for the frames' headers
// (64 times two cache lines) to stay in the first-level cache.
const rxBatch = 64

// queue is one AF_XDP socket at work: a receive side under pollMu, a transmit
// side with locks of its own.
//
// Lock order: pollMu, then netstack's locks, then tx.mu, then tx.arriveMu. The
// receive side calls into netstack with pollMu held, and netstack calls the
// transmit side with its own locks held, so the transmit side must call neither
// netstack nor the receive side.
type queue struct {
	d     *Device
	index uint32 // in Device.queues
	sock  *xsk.Socket
	busy  bool // an empty poll is a system call that runs the NAPI

	_  cpu.CacheLinePad // senders and who receives are mostly on different processors
	tx txQueue
	_  cpu.CacheLinePad

	missed  atomic.Bool   // the poller found the poll lock taken; see poller.go
	parks   atomic.Int32  // who is in the socket's Park, or about to be; see doze.go
	kicked  chan struct{} // wakes the poller when it is not the one who parks; 1 slot
	rouse   func()        // ends Park
	woke    atomic.Bool   // set by wakes: a caller who found the place in Park taken was woken
	wakes   func()
	minder  *time.Timer   // runs mind while minding
	pollMu  sync.Mutex    // the poll lock: who holds it owns all below
	minding bool          // the minder will arm
	calls   bool          // the poller is to be kicked after the unlock
	period  time.Duration // of the minder
	late    bool          // the last one who left has not armed
	noLate  int           // how many more have to
	backoff int           // what noLate was set to the last time
	left    int           // how many have left without, since then
	came    bool          // a caller has, since the minder looked
	polled  bool          // a caller has, since the poller did
	payoff  payoff        // of spinning
	shared  int           // so many callers more count as some of many
	dead    bool          // closed: the socket must not be touched
	rx      *xsk.RX
	region  *umem.Region
	descs   [rxBatch]umem.Desc
	frames  [rxBatch][]byte
	infos   [rxBatch]packet.Info
	gro     packet.GRO
	verify  packet.VerifyOptions

	st rxCounters // written by the poll lock's holder, read by any
}

func newQueue(d *Device, index int, s *xsk.Socket) *queue {
	q := &queue{d: d, index: uint32(index), sock: s, rx: s.RX(), region: s.Region()}
	q.busy = s.BusyPoll().On()
	if d.cfg.AcceptPartialChecksums {
		q.verify |= packet.AcceptPartial
	}
	q.gro.KeepACKs = d.cfg.NoACKMerge
	q.parks.Store(pollerParks)
	q.kicked, q.rouse = make(chan struct{}, 1), s.Interrupt
	q.wakes = func() {
		if !q.woke.Load() { // as in lockPoll
			q.woke.Store(true)
		}
	}
	q.tx.init(d, q)
	q.minder = time.AfterFunc(time.Hour, q.mind)
	q.minder.Stop()
	// A zero-copy driver wants frames before the first packet.
	q.rx.Refill()
	return q
}

// poll receives one batch and hands it up; it returns the number of descriptors
// taken. Precondition: pollMu held.
func (q *queue) poll() int {
	n := q.rx.Receive(q.descs[:])
	if n == 0 {
		// A batch may have consisted of bad descriptors only.
		q.rx.Refill()
		return 0
	}
	f := q.d.afterBatch.Load() // as the batch begins: it has to be told of its end
	nd := q.d.dispatcher.Load()
	if nd == nil {
		q.st.notAttached.Add(q.packets(n))
	} else {
		q.receive(*nd, n)
		if f != nil {
			q.tx.gather()
			(*f)(int(q.index))
			q.tx.release()
		}
	}
	q.rx.Recycle(q.descs[:n])
	q.rx.Refill()
	return n
}

// close frees what waits to be sent and stops callers. The poller has ended.
func (q *queue) close() {
	q.tx.close()
	q.pollMu.Lock()
	defer q.pollMu.Unlock()
	q.dead = true
	q.minder.Stop()
	clear(q.frames[:])
}

// dispatcher is the part of netstack that the receive path calls.
type dispatcher = gstack.NetworkDispatcher
