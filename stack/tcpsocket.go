package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/afxnet/afxnet/netdev"
)

// A tcpSocket is a socket over an endpoint of netstack.
type tcpSocket struct {
	socket
	ep    tcpip.Endpoint
	wq    *waiter.Queue
	queue waiter.Queue // what wq points to, unless netstack has made one
	entry waiter.Entry // registered with wq for the socket's life

	born       time.Time   // when the connection was made; zero for a listener
	impatience *impatience // the user timeout; nil: none
}

// open readies k for use with an endpoint that it makes.
func (k *tcpSocket) open(s *Stack, network string, proto tcpip.NetworkProtocolNumber, v6only bool) error {
	k.wq = &k.queue
	ep, terr := s.ns.NewEndpoint(tcp.ProtocolNumber, proto, k.wq)
	if terr != nil {
		return sysError("socket", terr)
	}
	ep.SocketOptions().SetV6Only(v6only)
	return k.adopt(s, network, ep, k.wq)
}

// adopt readies k for use with an endpoint that exists. If it fails the
// endpoint is closed.
func (k *tcpSocket) adopt(s *Stack, network string, ep tcpip.Endpoint, wq *waiter.Queue) error {
	k.ep, k.wq = ep, wq
	if err := k.start(s, network, k); err != nil {
		ep.Close()
		return err
	}
	k.entry.Init((*wakes)(&k.socket), readEvents|writeEvents)
	wq.EventRegister(&k.entry)
	return nil
}

// fillFrames has netstack use, for data, the room that it leaves in every frame
// for options that few have, if package stack/inline is there to do it. The
// handshake must be over: it says which options there may be.
func (k *tcpSocket) fillFrames() {
	ep, ok := k.ep.(*tcp.Endpoint)
	p := k.stack.fast.inline.p
	if !ok || p == nil {
		return
	}
	ep.LockUser()
	if room, ok := p.Fill(ep, netdev.GSOSize); ok {
		ep.SetOwner(netdev.OptionRoom(room))
	}
	ep.UnlockUser()
}

// end implements ender.
func (k *tcpSocket) end(abort bool) {
	timeout := k.impatience.end()
	if abort {
		k.ep.Abort()
	} else {
		// What is still to be sent gets a bound of its own, and netstack would
		// probe the peer in TIME-WAIT too.
		if o := k.ep.SocketOptions(); o.GetKeepAlive() {
			o.SetKeepAlive(false)
		}
		if !k.born.IsZero() {
			boundRetries(k.ep, k.born, timeout)
		}
		k.ep.Close()
	}
	// The endpoint may live on for minutes (TIME-WAIT) and must not keep k.
	k.wq.EventUnregister(&k.entry)
}

// A wakes is a socket as what its endpoint tells of events.
type wakes socket

// NotifyEvent implements waiter.EventListener. The endpoint calls it, often
// with its lock held: it must not call back.
func (w *wakes) NotifyEvent(events waiter.EventMask) {
	if events&readEvents != 0 {
		w.rd.wake()
	}
	if events&writeEvents != 0 {
		w.wr.wake()
	}
}
