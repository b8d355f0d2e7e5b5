package inline

import (
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// timestampLen is what the timestamp option takes in a header, in bytes.
const timestampLen = header.TCPOptionTSLength + 2 // on a word boundary

// fill is Processor.Fill. netstack leaves room in every segment for all the
// options that one may ever have, four SACK blocks among them: 1420 bytes of data
// in a frame of an MTU of 1500, where 1448 fit behind a timestamp. Hardly a
// segment with data has SACK blocks.
//
// Segments, the congestion window and SACK's scoreboard are all in units of that
// size, so it is changed only while nothing is on its way.
func fill(ep *tcp.Endpoint, size func(mss int) int) (room int, ok bool) {
	s := sendingOf(ep)
	if s.state == nil || s.scoreboard == nil || ep.EndpointState() != tcp.StateEstablished ||
		s.state.SndUna != s.state.SndNxt || s.gso.Type == gstack.GSONone || int(s.gso.MSS) != s.state.MaxPayloadSize {
		return 0, false
	}
	if ep.SendTSOk {
		room = timestampLen
	}
	mss := s.state.MaxPayloadSize + sackLen(ep.SACKPermitted, room)
	s.state.MaxPayloadSize, s.gso.MSS, *s.scoreboard = mss, uint16(mss), uint16(mss)
	s.gso.MaxSize = uint32(size(mss))
	return room, true
}

// sackLen returns the room, in bytes, that netstack leaves for SACK blocks beside
// other options (Endpoint.maxOptionSize in pkg/tcpip/transport/tcp/endpoint.go).
func sackLen(permitted bool, others int) int {
	if !permitted {
		return 0
	}
	const head, block = 4, 8 // kind and length on a word boundary
	return head + block*min(header.TCPMaxSACKBlocks, (header.TCPOptionsMaximumSize-others-head)/block)
}
