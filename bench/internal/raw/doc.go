// Package raw measures what AF_XDP itself can do on a link, without a TCP/IP
// stack: receive and drop, transmit, forward. The bench gives bulk results as a
// share of it.
//
//	function      this side                          the partner at the other end
//	ReceiveDrop   RX ring to fill ring               Transmit, or Send for kernel work
//	Transmit      frames written, TX ring            ReceiveDrop, Drain, or nothing: the kernel drops
//	Forward       RX ring to TX ring, no copy        Transmit
//	Drain         kernel UDP socket that reads       Transmit
//	Send          kernel UDP socket that writes      ReceiveDrop
//
// Every loop works in batches of [Batch] packets and makes one wakeup per batch
// where the kernel has a transmit budget of that size (6.17). Transmit writes each
// packet into its frame anew, as a sender of real data would. A batch then is 64
// descriptors: a third as many packets at an MTU of 9000, where each takes three
// chunks.
//
// The cheapest drop by the kernel at the other end is that of a frame to a MAC
// address which is not its own: it is not routed first.
//
// Drain and Send are for ceilings of stream rows: the work at the other end is
// then that of a kernel socket, and with AckEvery there is traffic against the
// stream as TCP has it.
//
// [Reference] is the same in C: a program of its own, compiled with the
// machine's compiler if there is one, with the least ring code that works; it
// knows packets of one chunk only ([ReferenceFrame]). The
// ratio of the two, in turns within one run, says what Go and the checks of
// packages xsk and umem cost.
package raw
