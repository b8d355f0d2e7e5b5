// Package netdev makes one gVisor netstack device out of the AF_XDP queues of a
// network interface. Use it to run a netstack of your own; package stack is the
// one that looks like package net.
//
//	        netstack: IP, TCP, UDP, ICMP, ARP, ND
//	 DeliverNetworkPacket ^          | WritePacket
//	                      |          v
//	two views per packet  |       arrivals      any goroutine appends
//	merge   (packet.GRO)  |          |          whoever has the transmit lock:
//	verify  checksums     |       hold pure ACKs
//	parse   once          |       flow queues   only if the ring is full
//	                      |       cut to MSS    copy and checksum in one pass
//	                      |          v
//	          RX ring --> UMEM frames --> TX ring --> one wakeup per burst
//	                      ^          |
//	          fill ring --+          +--> completion ring
//
// At an MTU that one chunk does not hold a frame lies in several, its headers in
// the first (Config.MultiBuffer); nothing above the rings tells the difference.
//
// # Who owns a frame
//
//	while                          owner                         state
//	in the fill ring, RX ring      kernel                        umem.Fill
//	being parsed and copied        holder of the poll lock       umem.Held
//	being written                  holder of the transmit lock   umem.Held
//	in the TX, completion ring     kernel                        umem.TX
//
// Packets are copied once in each direction, between UMEM and netstack's
// buffers, in zero-copy bind mode too: that word is about NIC and UMEM only. No
// buffer of netstack ever refers to UMEM, so a slow reader holds no frame.
//
// # Goroutines
//
// Each queue has two locks. The poll lock covers the receive half, the transmit
// lock the sending half. A background goroutine per queue polls; any goroutine
// sends: with the transmit lock if nobody else is at it, and otherwise by appending
// its packet for whoever is. Neither lock is shared by two queues.
// Packets are delivered with the poll lock held, and netstack sends with its own
// locks held; so the order is poll lock, netstack, transmit lock, and the
// transmit side calls nothing above it.
//
// A queue with nothing to do has its poller asleep in Socket.Wait, no timer
// armed, and no thread occupied (PollBlock and PollAdaptive).
//
// # Steering
//
// The kernel keeps everything that does not concern an address given to
// AddAddress, or is UDP to a group given to JoinGroup; see package xsk. XDP cannot clone a frame, so each goes to one of
// the two stacks: gratuitous ARP and router advertisements go to the kernel.
//
// # What it is not for
//
// It has no sockets and no addresses. It does not forward between interfaces.
package netdev
