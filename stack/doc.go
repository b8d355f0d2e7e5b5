// Package stack is a TCP/IP stack of the program's own on a network interface,
// with the sockets of package net: Dial, Listen and ListenPacket give net.Conn,
// net.Listener and net.PacketConn, and code that takes those needs no change. A
// Dialer and a ListenConfig have the fields of net's, and a Stack besides. Packets
// do not pass through the kernel's stack.
//
//	application goroutines        TCPConn, TCPListener, UDPConn
//	        |  Read copies out       ^
//	        |  Write copies in       | one wakeup per waiting side
//	        v                        |
//	gVisor netstack               TCP, ICMP, IPv4, IPv6, ARP, ND; UDP is our own
//	        |  WritePackets          ^
//	        v                        | DeliverNetworkPacket
//	link endpoint                 frames of the device's queues
//
// There is one copy on each way between the application's memory and
// netstack's: Write must keep the bytes to send them again. Where the link
// copies is the link's to say.
//
// # Goroutines
//
// Every method of every type may be called from any goroutine. No connection,
// listener or socket has a goroutine of its own. A call that cannot go on
// waits on a semaphore of its side of the socket: reading and writing are two
// sides, and calls on one side go one after the other, so that the bytes of
// concurrent Writes are not mixed. Netstack wakes a side when something
// happens; so do deadlines, Close, and the end of the device. Close returns
// when no call is inside the socket any more.
//
// A connection has buffers only while there is something in them: an idle one
// takes some 6 KB, most of them netstack's.
//
// Before a goroutine sleeps it may poll the device for a while, so that the packet
// it waits for need not wake it: see netdev.Config.Poll.
//
// # Errors
//
// Errors are *net.OpError with the operation names of package net, around an
// *os.SyscallError with the number that Linux would give, so that errors.Is
// works with syscall.ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT, EADDRINUSE,
// EADDRNOTAVAIL, ENETUNREACH, EHOSTUNREACH, EMSGSIZE and others. Further:
//
//	io.EOF, bare             the end of the peer's data
//	os.ErrDeadlineExceeded   a deadline has passed; Timeout is true
//	net.ErrClosed            the socket or the Stack was closed
//	syscall.ENETDOWN         the device was set down, or is gone (ENODEV as well). Who
//	                         accepts or reads datagrams is told once that it was set
//	                         down, by an error that is Temporary, and then waits for it.
//	                         A lost carrier is waited out
//	context.Canceled         the context of a dial was canceled
//	*net.AddrError           a bad address or port
//	*net.DNSError            a name was not found, or nobody could be asked
//	errors.ErrUnsupported    a Dialer or ListenConfig has a Control function
//
// Addresses of a connection can be asked for at any time, also after it was
// reset or closed.
//
// # Names
//
// Names are looked up by Go's own resolver, over the stack's sockets: see
// Stack.Resolver. It reads the hosts file and resolv.conf of the host, which is
// right where the stack's network knows the same nameservers, and no use where
// resolv.conf names one on the host's loopback interface, as systemd-resolved has
// it: look-ups then fail with an error that says so, and Config.Nameservers is the
// remedy. A Dialer with net.DefaultResolver looks up names by the kernel's sockets.
//
// "localhost" and no host mean the stack's own addresses, whatever the hosts file
// says. The addresses of a name are tried in the order of RFC 6724 with the routes
// of the stack, and both families at once if the first is slow (RFC 6555).
//
// # Addresses of the link
//
// fe80::/10, and the groups of the link as ff02::1, mean something with an interface
// only. Their zone is Config.Interface, or its index; Dial and Listen ask for it, as
// Linux does, and who sends need not have one. In a stack that has no name for its
// interface they are used without.
//
// # Differences from package net
//
// The types are not those of package net, which are concrete: code that
// asserts *net.TCPConn does not find it. There are no file descriptors, so no
// SyscallConn and no File, and nothing for a Control function to be called with.
// A TCPConn could have a SyscallConn that runs its function and has no descriptor
// for it, but a library that finds the method believes that the rest of the
// connection is the kernel's too (QUIC does of a UDPConn); without it, libraries
// use the methods that are there.
// A source address that is IPv4 is given as IPv4, never mapped to IPv6. After
// a reset every Read reports it, not only the first. The ConnectStart and
// ConnectDone of net/http/httptrace are not called: package net has private means
// for that; DNSStart and DNSDone are. When a dial returns, its attempts that did
// not win are over; in package net they end soon after. An ICMP socket sends echo
// requests only, see ICMPConn.
//
// # The stack itself
//
// A stack has loopback addresses, 127.0.0.0/8 and ::1, for the families that it
// has addresses of: "localhost", an empty host and the wildcard mean those to
// Dial. They are the stack's own, not the host's, and what is sent to them, or to
// the stack's other addresses, by the stack itself never reaches the device; nor
// does the stack take packets from the device that claim to be from or to them.
//
// # Copies
//
// io.Copy between TCP connections of stacks, and between those and TCP and Unix
// connections of package net, goes from one side's buffers to the other's: see
// TCPConn.ReadFrom and WriteTo. It holds no buffer while it waits.
//
// # Out-of-band data
//
// A UDPConn tells of each datagram its TTL, TOS and destination if
// SetControlMessage asks for them, in the form of Linux's control messages, and
// takes those of a datagram that is sent. ReadBatch and WriteBatch move many
// datagrams with one wakeup. Groups are joined with JoinGroup; on a device that Open
// has opened those that the host is in are refused, see [netdev.Device.JoinGroup].
//
// A TCPConn has SetTTL and SetTOS for its segments, and Info, which tells what
// TCP_INFO of Linux does as far as netstack knows it.
//
// # What it is not for
//
// A stack is not a router, not a firewall, and not a way to reach the host it
// runs on: packets leave by the wire. It forwards nothing and makes up no
// addresses; there is no DHCP and no SLAAC. Open looks for other hosts with its
// addresses, but the stack does not watch for those that come later.
package stack
