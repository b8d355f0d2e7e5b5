// Package handover splits privileges: a small helper process, with privileges,
// makes AF_XDP sockets, their memory and the steering program, and gives them over a
// Unix socket to processes that have none.
//
//	helper: root, or four capabilities       process: no capability, any user
//
//	memory   memfd, registered as UMEM -------> mapped
//	sockets  made, put into the map ----------> sized, mapped, bound, used
//	program  loaded, attached, kept
//	         claims addresses <---------------- asks for addresses
//
// The command afxnet-handover is the helper; [Serve] is the same for a program of
// one's own. [Open] is the other side: ordinary sockets of package xsk. In packages
// netdev and stack, the one field netdev.Config.Handover does it.
//
// # Who may have what
//
// The helper has one interface and decides by its own configuration: which users
// (SO_PEERCRED), which addresses, multicast groups and queues, how much memory. A process can
// therefore not take the host's addresses, nor those of anybody else. One process
// at a time has the interface, since there is one program on it.
//
// What it cannot decide is what is sent: who has an AF_XDP socket can send any frame
// on its device, under any source address, as with a packet socket; before Linux 6.5
// (and stable kernels since) it can bind the socket to other devices, too, and always
// to any queue. Nor can the helper take a socket back while the process lives: only the
// packets, with the program.
//
// # Lifetime
//
// The program is on the interface as long as both processes live and the connection
// between them does. When either ends, however it ends, the kernel detaches the
// program, and packets for the addresses are the kernel's again. Sockets and memory
// go with the process that has them. [Set.Done] tells when the helper has gone.
//
// # The process needs
//
// No capability, no bpf(2), no RLIMIT_MEMLOCK. It has to be in the network namespace
// of the interface. docs/privileges.md has the kernel's rules and a unit for systemd.
//
// # Messages
//
// One request at a time, answered by one reply: JSON of at most 4096 bytes in a
// message of a SOCK_SEQPACKET socket, with descriptors beside it (SCM_RIGHTS).
//
//	open     protocol, queues, memory, busy polling   the program is attached
//	socket   queue                                    an AF_XDP socket, its memory
//	claim    address
//	release  address
//	join     address                                  of a multicast group
//	leave    address
//	counters
//	close                                             the program is detached
//
// Two replies answer nothing: a finding about the interface, and "lost", before the
// helper ends the connection because somebody has taken the program off.
//
// What is not understood ends the connection.
package handover
