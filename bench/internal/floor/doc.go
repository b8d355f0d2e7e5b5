// Package floor is a canned responder on raw AF_XDP: it speaks just enough ARP,
// neighbour discovery, IP, UDP and TCP that a kernel client can run the request
// and bulk workloads of the bench against it. It does the least that any server on an
// AF_XDP socket could do, so what it shows is what the kernel client and the link
// allow.
//
// A reply is built in the frame that the request came in, and that frame is
// sent; no byte of payload is copied. One goroutine per queue works in batches
// and wakes the kernel once per batch. Checksums of requests are not verified:
// that of an echo is updated and not computed anew, so that the client finds
// what was damaged on the way here. An idle queue that spins yields its CPU now
// and then: these sched_yield calls are the only others it makes. Of a packet that
// lies in several frames (XDP_USE_SG) the first, which has the headers, is looked
// at and changed; the others are sent back as they came, and are read if the checksum
// seems to be left to hardware.
//
// # TCP without connections
//
// The server's stream mirrors the client's. Its initial sequence number is the
// client's own, and it sends exactly the bytes that it receives, so the echo of
// the segment at SEQ starts at SEQ, and no table of connections is needed:
//
//	client sends              reply
//	SYN SEQ                   SYN+ACK SEQ, ACK = SEQ+1, with MSS and window scale
//	n bytes at SEQ            the same n bytes at SEQ
//	FIN at SEQ                FIN+ACK at SEQ
//	keepalive probe           ACK
//	data that it has back     ACK: a retransmission that lost a race
//	other ACKs, RST           nothing
//
// What the reply acknowledges follows from the ACK of the client. If that equals
// SEQ, the client has everything back that it sent before, and the reply
// acknowledges the segment. If it is behind, earlier echoes are still on their
// way, and whether the earlier requests ever arrived is not known: the reply then
// acknowledges only what the client has back. So a request or an echo that is
// lost leaves data at the client unacknowledged, the client sends it again, and
// it is echoed again with the same numbers. The price is one ACK more when a
// request takes several segments: the flow is remembered in a table of hints, and
// the client's next ACK is answered. A hint that is wrong costs one frame.
//
// There is no flow control: a client that does not read loses echoes to its
// closed window, and gets them by sending again.
//
// # Bulk
//
// The same responder is the bench's peer raw, which says what AF_XDP carries in
// bulk if the other end has the work that it has with any server: a kernel client
// that reads or writes a TCP connection, through its whole stack, with the ACKs
// of one. It serves the sink and the source (package peer). For these it does
// keep a connection, a few numbers of it:
//
//   - From a client it takes segments, does not touch their data, and
//     acknowledges 64 at once, or fewer if no more come: about as often as this
//     project's stack does. Behind a gap it remembers what it has, so that only
//     what was lost is sent again: a client without SACK that had to send all of
//     it would hardly ever get through, since each time out is twice the one before.
//   - To a client it sends zeros, each segment written into its frame anew and
//     its checksum computed from a sum that is known, a batch of 64 frames per
//     system call, into the window that the client offers. There is no congestion
//     control. What is lost is sent again from there on, after three duplicate
//     ACKs or a tenth of a second.
//
// It offers neither timestamps nor SACK, so a frame carries 1460 bytes where that
// of a whole stack carries 1448: 0.8% are the options' and not the stack's.
package floor
