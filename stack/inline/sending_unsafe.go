package inline

import (
	"unsafe"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// sending is what of an endpoint says how it cuts what it sends. state is nil
// before the handshake is over.
type sending struct {
	state      *tcp.TCPSenderState
	gso        *gstack.GSO
	scoreboard *uint16 // the MSS that it counts in
}

// sendingOf returns the sending of an endpoint, whose lock the caller holds.
func sendingOf(ep *tcp.Endpoint) (s sending) {
	p := unsafe.Pointer(ep)
	s.gso = (*gstack.GSO)(unsafe.Add(p, offsets.gso))
	if snd := *(*unsafe.Pointer)(unsafe.Add(p, offsets.snd)); snd != nil {
		s.state = (*tcp.TCPSenderState)(unsafe.Add(snd, offsets.state))
	}
	if board := *(*unsafe.Pointer)(unsafe.Add(p, offsets.scoreboard)); board != nil {
		s.scoreboard = (*uint16)(unsafe.Add(board, offsets.smss))
	}
	return s
}
