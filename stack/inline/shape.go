package inline

import (
	"errors"
	"fmt"
	"reflect"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// offsets are where in the types of package tcp the fields are that are used
// here, in bytes. shapeErr tells which are not there, or of other types.
var offsets, shapeErr = findOffsets()

type fieldOffsets struct {
	queue, snd, rcv, waiters uintptr // in tcp.Endpoint
	gso, scoreboard          uintptr // in tcp.Endpoint
	maxSentAck, state        uintptr // in tcp.sender
	rcvNxt, rcvAcc, pending  uintptr // in tcp.receiver
	smss                     uintptr // in tcp.SACKScoreboard
}

func findOffsets() (o fieldOffsets, err error) {
	var errs []error
	find := func(t reflect.Type, name, want string) (uintptr, reflect.Type) {
		offset, of, err := fieldOffset(t, name, want)
		if err != nil {
			errs = append(errs, err)
		}
		return offset, of
	}
	ep := reflect.TypeFor[tcp.Endpoint]()
	o.queue, _ = find(ep, "segmentQueue", "tcp.segmentQueue")
	o.waiters, _ = find(ep, "waiterQueue", "*waiter.Queue")
	o.gso, _ = find(ep, "gso", "stack.GSO")
	var snd, rcv, scoreboard reflect.Type
	o.scoreboard, scoreboard = find(ep, "scoreboard", "*tcp.SACKScoreboard")
	o.snd, snd = find(ep, "snd", "*tcp.sender")
	o.rcv, rcv = find(ep, "rcv", "*tcp.receiver")
	if len(errs) == 0 {
		var pending reflect.Type
		o.maxSentAck, _ = find(snd.Elem(), "MaxSentAck", "seqnum.Value")
		o.state, _ = find(snd.Elem(), "TCPSenderState", "tcp.TCPSenderState")
		o.smss, _ = find(scoreboard.Elem(), "smss", "uint16")
		o.rcvNxt, _ = find(rcv.Elem(), "RcvNxt", "seqnum.Value")
		o.rcvAcc, _ = find(rcv.Elem(), "RcvAcc", "seqnum.Value")
		o.pending, pending = find(rcv.Elem(), "pendingRcvdSegments", "tcp.segmentHeap")
		if pending != nil && (pending.Kind() != reflect.Slice || pending.Elem().Kind() != reflect.Pointer) {
			errs = append(errs, fmt.Errorf("%v is no slice of pointers", pending))
		}
	}
	return o, errors.Join(errs...)
}

// fieldOffset returns where in a struct a field is, its own or that of a struct
// embedded in it, and its type, whose name is to be want.
func fieldOffset(t reflect.Type, name, want string) (offset uintptr, of reflect.Type, err error) {
	f, ok := t.FieldByName(name)
	if !ok || f.Type.String() != want {
		return 0, nil, fmt.Errorf("%v has no field %s of type %s", t, name, want)
	}
	for _, i := range f.Index {
		if t.Kind() != reflect.Struct {
			return 0, nil, fmt.Errorf("%s is behind a %v", name, t)
		}
		g := t.Field(i)
		offset += g.Offset
		t = g.Type
	}
	return offset, f.Type, nil
}
