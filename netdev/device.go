package netdev

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/cpu"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/afxnet/afxnet/xsk"
)

// Link is what a Device has to know of the link below its sockets.
type Link struct {
	Name string
	MAC  net.HardwareAddr // 6 bytes
	MTU  int              // bytes of IP packet
}

// ErrNoCarrier is in the error of a link that is down for want of a carrier only: the
// cable is out, or the driver starts the device anew. It comes back by itself. What is
// sent meanwhile is dropped and counted, as the kernel does (__dev_direct_xmit, Linux
// 6.18 net/core/dev.c), and is no error.
var ErrNoCarrier = errors.New("no carrier")

// Device makes one netstack device out of the queues of one interface. Its
// methods may be called from any goroutine.
type Device struct {
	cfg    Config
	link   Link
	mtu    atomic.Uint32 // see mtu.go
	queues []*queue
	ep     endpoint

	senders []*queue // those that can send: all, unless sendBelow says otherwise

	_       cpu.CacheLinePad // each wait writes the count, each packet reads what is beside it
	callers atomic.Int32     // goroutines in PollBeforePark
	_       cpu.CacheLinePad

	maxCallers int32
	oneProc    bool                                     // GOMAXPROCS is 1: who polls has the only processor
	dispatcher atomic.Pointer[gstack.NetworkDispatcher] // nil while not attached
	afterBatch atomic.Pointer[func(queue int)]          // nil: nothing to do
	down       atomic.Pointer[error]                    // why the link is down; nil while it is up
	broken     atomic.Pointer[error]                    // why it will stay down; nil nearly always

	host      *host      // program, sockets and watches of a real interface; nil over NewOn
	linkMu    sync.Mutex // held by SetLink; before every other lock
	followers []func()   // guarded by linkMu
	mtuMu     sync.Mutex // guards the next two; orders changes of mtu
	linkMTU   int        // the interface's, as far as frames fit their chunks
	askedMTU  int        // a smaller one, of endpoint.SetMTU; 0 if there is none
	startMu   sync.Mutex // guards started; orders start and Close
	started   bool
	closing   atomic.Bool
	workers   sync.WaitGroup
	closed    sync.Once
	err       error // of Close
}

// NewOn makes a device of sockets that are already there, one per queue, for
// whoever steers packets to them by other means. The device uses both halves of
// every socket until Close, which closes them. Packets flow once the endpoint
// is attached to a stack. The interface fields of cfg are not used. It knows nothing of
// an interface below: whoever does tells SetLink, and a MAC that changes needs a new Device.
func NewOn(sockets []*xsk.Socket, link Link, cfg Config) (*Device, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(sockets) == 0 {
		return nil, errors.New("netdev: no socket")
	}
	if len(link.MAC) != 6 {
		return nil, fmt.Errorf("netdev: %s: MAC address %v: not an Ethernet one", link.Name, link.MAC)
	}
	d := &Device{cfg: cfg, link: link}
	// A spinning goroutine holds a processor: leave one to the others.
	procs := runtime.GOMAXPROCS(0)
	d.maxCallers, d.oneProc = int32(max(1, procs-1)), procs == 1
	for _, s := range sockets {
		if most := maxMTU(s); link.MTU < minMTU || link.MTU > most {
			return nil, fmt.Errorf("netdev: %s: MTU %d: from %d to %d in chunks of %d bytes, multi-buffer %v", link.Name, link.MTU, minMTU, most, s.Region().ChunkSize(), s.MultiBuffer())
		}
		if room := s.Region().MaxPacket(); room < leastRoom {
			return nil, fmt.Errorf("netdev: %s: Config.UMEM.Headroom: %d bytes: it leaves %d of a chunk of %d, and the headers of a frame take up to %d", link.Name, s.Region().Headroom(), room, s.Region().ChunkSize(), leastRoom)
		}
	}
	d.setMTU(link.MTU)
	d.ep.init(d)
	if len(sockets) >= queueMask {
		return nil, fmt.Errorf("netdev: %s: %d queues: at most %d", link.Name, len(sockets), queueMask-1)
	}
	for i, s := range sockets {
		d.queues = append(d.queues, newQueue(d, i, s))
	}
	d.senders = d.queues
	return d, nil
}

// sendBelow leaves sending to the queues that an interface has for it, n of them. It
// may have more for receiving (ethtool -l): what a socket on one of those is given to
// send, the kernel leaves in the ring, and does not say so (Linux 6.18 net/xdp/xsk.c,
// __xsk_generic_xmit). It is called before the endpoint is attached.
func (d *Device) sendBelow(n int) error {
	var ids []uint32
	d.senders = nil
	for _, q := range d.queues {
		id := q.sock.Queue()
		if ids = append(ids, id); int(id) < n {
			d.senders = append(d.senders, q)
		}
	}
	if len(d.senders) == 0 {
		return fmt.Errorf("netdev: Config.Queues: %d: %s has %d transmit queues: at least one below that, to send", ids, d.link.Name, n)
	}
	return nil
}

// AfterBatch sets a function that the goroutine which polls a queue calls when
// it has handed up a batch of packets, with the queue's index in Info().Queues:
// at most one call at a time for each queue. It must not wait for anything. Set
// it before the endpoint is attached. That there is one tells the device that
// what a batch brings has been processed when the call returns.
//
// Nil takes the function away, at any time. It is still called once for a batch
// that is being handed up.
func (d *Device) AfterBatch(f func(queue int)) {
	if f != nil {
		d.afterBatch.Store(&f)
		return
	}
	d.afterBatch.Store(nil)
}

// QueueCount returns the number of queues.
func (d *Device) QueueCount() int { return len(d.queues) }

const (
	ethernetLen = 14
	vlanLen     = 4

	// leastRoom is what the first chunk of a frame has to hold, in bytes: all its
	// headers, those of IPv4 and TCP with all the options that there can be.
	leastRoom = ethernetLen + 60 + 60
)

// LinkEndpoint returns the device as netstack wants it, for Stack.CreateNIC.
// NICOptions.QDisc should be QDisc's.
func (d *Device) LinkEndpoint() gstack.LinkEndpoint { return &d.ep }

// QDisc returns the device's queueing discipline. With netstack's own the
// packets get there all the same, one allocation each later.
func (d *Device) QDisc() gstack.QueueingDiscipline { return (*qdisc)(d) }

// MAC returns the interface's Ethernet address as it is now.
func (d *Device) MAC() net.HardwareAddr { return net.HardwareAddr(d.ep.LinkAddress()) }

// start runs the pollers, once, when the first dispatcher is attached.
func (d *Device) start() {
	d.startMu.Lock()
	defer d.startMu.Unlock()
	if d.started || d.closing.Load() {
		return
	}
	d.started = true
	for _, q := range d.queues {
		d.workers.Go(q.run)
	}
}

// SetLink tells the device that its link went down (err says why; see
// [ErrNoCarrier]) or came up (nil). Open does so itself for its interface. A device
// that has lost a queue or its helper for good stays down. What it says already it does
// not say again.
func (d *Device) SetLink(err error) {
	d.linkMu.Lock() // so that OnLink hears of the changes in their order
	defer d.linkMu.Unlock()
	if broken := d.broken.Load(); broken != nil {
		err = *broken
	}
	if now := d.LinkErr(); now != nil && err != nil && now.Error() == err.Error() {
		return // something else has changed, and it is down as before
	}
	if err == nil {
		d.down.Store(nil)
	} else {
		d.down.Store(&err)
	}
	for _, q := range d.queues {
		if err != nil {
			q.tx.discard()
		}
		q.interrupt()
	}
	d.tellLocked()
	if d.cfg.OnLink != nil && !d.closing.Load() {
		d.cfg.OnLink(err)
	}
}

// tellLocked tells the followers, unless the device is being closed.
func (d *Device) tellLocked() {
	if d.closing.Load() {
		return
	}
	for _, f := range d.followers {
		f()
	}
}

// setMAC follows the interface's address, and tells the followers.
func (d *Device) setMAC(mac string) {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	if d.ep.setMAC(mac) {
		d.tellLocked()
	}
}

// FollowLink has f called at once and after each change of the link or of its Ethernet
// address, before Config.OnLink is; LinkErr and MAC tell what they are. Calls do not
// overlap. f must not block and must not call Close, SetLink or FollowLink.
func (d *Device) FollowLink(f func()) {
	d.linkMu.Lock()
	defer d.linkMu.Unlock()
	d.followers = append(d.followers, f)
	f()
}

// fail takes the device down for good: a queue's poller has ended, or the helper. It is
// as if the interface were gone: nobody has to wait for it.
func (d *Device) fail(err error) {
	err = fmt.Errorf("netdev: %s, for good: %w: %w: %w", d.link.Name, syscall.ENETDOWN, syscall.ENODEV, err)
	d.broken.CompareAndSwap(nil, &err)
	d.SetLink(err)
}

// LinkErr returns nil while the link is up, and otherwise why it is not, for want of
// a carrier alone with [ErrNoCarrier].
func (d *Device) LinkErr() error {
	if p := d.down.Load(); p != nil {
		return *p
	}
	return nil
}

// Close stops the pollers, detaches the program, closes the sockets and undoes
// every setting of the interface that Open made. Packets still queued are
// dropped. It waits for its goroutines, so do not call it from one of the
// device's callbacks. Idempotent; the errors of all steps are joined.
func (d *Device) Close() error {
	d.closed.Do(func() {
		d.dispatcher.Store(nil)
		d.startMu.Lock()
		d.closing.Store(true)
		d.startMu.Unlock()
		var errs []error
		if d.host != nil {
			// Detach first: from here on the kernel answers on the interface.
			errs = append(errs, d.host.detach())
		}
		for _, q := range d.queues {
			q.interrupt()
		}
		d.workers.Wait()
		for _, q := range d.queues {
			q.close()
			errs = append(errs, q.sock.Close())
		}
		if d.host != nil {
			errs = append(errs, d.host.steer.Close())
		}
		d.err = errors.Join(errs...)
	})
	return d.err
}
