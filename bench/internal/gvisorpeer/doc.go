// Package gvisorpeer opens what gVisor itself offers on a network interface as
// peers of the bench: its netstack and gonet over its own link endpoints.
//
//	kind     link endpoint            packets in        packets out
//
//	xdp      pkg/tcpip/link/xdp       one AF_XDP queue  one AF_XDP queue
//	packet   pkg/tcpip/link/fdbased   AF_PACKET socket  AF_PACKET socket, virtio header
//
// They are used as well as they can be: the transport settings are those of
// package stack and its ProfileWAN (cubic, SACK, buffers up to 16 MiB, no Nagle, no
// RACK, nothing sent again before 200 ms), and the link options are the ones that
// were fastest when the bench was written. Our own peers have ProfileLAN: reno, and
// 50 ms. The packet kind does not verify received checksums, as in gVisor's own
// container runtime; Peer.Info says so.
//
// # Addresses
//
// The peer has addresses of its own, which no kernel may have: gVisor answers
// ARP and neighbour solicitations for them. To the xdp endpoint the frames come
// through the steering program of package xsk, as they do to afxnet. The packet
// socket sees a copy of every frame, and the kernel drops its own for want of
// the address.
//
// # Close
//
// gVisor's endpoints are made to live as long as their process. Close ends
// their goroutines, closes their sockets, unmaps the rings, without which a
// socket stays bound, and detaches the program. What gVisor keeps to itself
// remains until the process ends: per Open an eventfd or two, and 2 MiB of the
// xdp endpoint's packet memory.
//
// # Limits
//
// The xdp endpoint has one queue and an MTU of 1500 bytes at most. Both kinds
// need Linux and CAP_NET_RAW, xdp further CAP_NET_ADMIN and CAP_BPF.
package gvisorpeer
