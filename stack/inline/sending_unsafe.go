package inline

import (
	"reflect"
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

// sendingAt is where sending is: in a tcp.Endpoint the pointers to its sender and
// its scoreboard, and the GSO; what is sought in the two. sendingKnown is false
// if it is not.
var sendingAt, sendingKnown = func() (at struct{ snd, state, gso, scoreboard, smss uintptr }, ok bool) {
	ep := reflect.TypeFor[tcp.Endpoint]()
	snd, ok1 := ep.FieldByName("snd")
	gso, ok2 := ep.FieldByName("gso")
	scoreboard, ok3 := ep.FieldByName("scoreboard")
	if !ok1 || !ok2 || !ok3 || len(snd.Index) != 1 || len(gso.Index) != 1 || len(scoreboard.Index) != 1 ||
		snd.Type.Kind() != reflect.Pointer || snd.Type.Elem().Kind() != reflect.Struct ||
		gso.Type != reflect.TypeFor[gstack.GSO]() || scoreboard.Type != reflect.TypeFor[*tcp.SACKScoreboard]() {
		return at, false
	}
	state, ok1 := snd.Type.Elem().FieldByName("TCPSenderState")
	smss, ok2 := scoreboard.Type.Elem().FieldByName("smss")
	at.snd, at.state, at.gso, at.scoreboard, at.smss = snd.Offset, state.Offset, gso.Offset, scoreboard.Offset, smss.Offset
	return at, ok1 && ok2 && state.Type == reflect.TypeFor[tcp.TCPSenderState]() && smss.Type.Kind() == reflect.Uint16
}()

// sendingOf returns the sending of an endpoint, whose lock the caller holds.
func sendingOf(ep *tcp.Endpoint) (s sending) {
	p := unsafe.Pointer(ep)
	s.gso = (*gstack.GSO)(unsafe.Add(p, sendingAt.gso))
	if snd := *(*unsafe.Pointer)(unsafe.Add(p, sendingAt.snd)); snd != nil {
		s.state = (*tcp.TCPSenderState)(unsafe.Add(snd, sendingAt.state))
	}
	if board := *(*unsafe.Pointer)(unsafe.Add(p, sendingAt.scoreboard)); board != nil {
		s.scoreboard = (*uint16)(unsafe.Add(board, sendingAt.smss))
	}
	return s
}
