package netdiff

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A difference is a behaviour in which the stack is not like package net, and
// why that is right, or at least better than what it would take.
type difference struct {
	behaviour string
	far       bool   // it shows at package net, when the stack is its peer
	net, ours string // what a caller sees
	reason    string
}

// known are all differences. A behaviour that differs and is not here fails the
// comparison, and so does one that is here and agrees.
var known = []difference{
	{
		"TCP/reset, told to Read/Read", false,
		"the first Read after a reset is ECONNRESET, later ones are io.EOF",
		"every Read is ECONNRESET",
		"Linux forgets a socket's error once it was told. Whoever comes second, as a reader beside another or with a buffer of its own, takes a stream that broke for one that is complete.",
	},
	{
		"TCP/reset, told to Write/Read", false,
		"after a Write that was told of the reset, Read is io.EOF",
		"Read is ECONNRESET",
		"As above: a writer and a reader are mostly two goroutines.",
	},
	{
		"TCP/reset, told to Read/WriteTo", false,
		"WriteTo after a Read that was told of the reset copies nothing, without an error",
		"it returns ECONNRESET",
		"As above.",
	},
	{
		"TCP/reset, told to Write/WriteTo", false,
		"WriteTo after a Write that was told of the reset copies nothing, without an error",
		"it returns ECONNRESET",
		"As above.",
	},
	{
		"stream/reset told to Read, then Read", false,
		"the second Read is io.EOF",
		"the second Read is ECONNRESET",
		"As above, told to one reader.",
	},
	{
		"packet/a socket of both families, ReadFromUDPAddrPort", false,
		"an IPv4 source comes as ::ffff:192.0.2.1",
		"it comes as 192.0.2.1",
		"The same host has one netip.Addr on every socket, so that it can be compared and be the key of a map. WriteToUDPAddrPort takes both forms.",
	},
	{
		"dialer/Control", false,
		"Dialer.Control and ControlContext are called with the new socket",
		"the dial fails, with an error that is errors.ErrUnsupported",
		"They are given a file descriptor, and a socket of a stack has none. What they are for mostly, options, it has methods for.",
	},
	{
		"dialer/ListenConfig.Control", false,
		"ListenConfig.Control is called with the new socket",
		"listening fails, with an error that is errors.ErrUnsupported",
		"As above.",
	},
	{
		"dial/WriteTo the network's broadcast address", true,
		"a datagram to the network's broadcast address reaches the sockets of its hosts",
		"it does not reach the stack through XDP",
		"The XDP program takes what is sent to the stack's own addresses. What is for all hosts goes to the kernel, since XDP cannot give it to both.",
	},
}

// maxKnown is what the list must stay below.
const maxKnown = 15

// isKnown and isKnownFar tell whether a behaviour is in the list.
func isKnown(name string) bool    { return isKnownAt(name, false) }
func isKnownFar(name string) bool { return isKnownAt(name, true) }

func isKnownAt(name string, far bool) bool {
	return slices.ContainsFunc(known, func(d difference) bool { return d.behaviour == name && d.far == far })
}

func TestKnown(t *testing.T) {
	if len(known) >= maxKnown {
		t.Errorf("%d known differences, fewer than %d are allowed", len(known), maxKnown)
	}
	for _, d := range known {
		if !slices.ContainsFunc(behaviours, func(b behaviour) bool { return b.name == d.behaviour }) {
			t.Errorf("no behaviour %q", d.behaviour)
		}
	}
}

func TestNames(t *testing.T) {
	seen := make(map[string]bool)
	lossy := 0
	for _, b := range behaviours {
		if seen[b.name] {
			t.Errorf("two behaviours are called %q", b.name)
		}
		seen[b.name] = true
		if b.lossy {
			lossy++
		}
	}
	if len(behaviours) < 250 || lossy < 24 {
		t.Errorf("%d behaviours, %d of them for a bad link: want 250 and 24", len(behaviours), lossy)
	}
	t.Logf("%d behaviours, %d of them for a bad link, %d differences", len(behaviours), lossy, len(known))
}

// libraries is what else users have to know: the behaviours are the same, but the
// types are not.
const libraries = `## Libraries that ask for package net's types

The stack's types are not package net's, and have no file descriptor, so neither File
nor SyscallConn. What that means for a library is in its sources: these are the
versions that examples/ uses, with the Go of go.mod. None of it keeps one from working.

| library | asks for | without it |
|---|---|---|
| net/http | CloseWrite, io.ReaderFrom | both are there. A file is copied through a buffer: there is no sendfile |
| net/http/httptrace | (a hook inside package net) | ConnectStart and ConnectDone are not called |
| crypto/tls, net/rpc | net.Conn | nothing is missing |
| grpc, with keepalive | *net.TCPConn, to set TCP_USER_TIMEOUT | it is not set: its own pings end a dead connection, or TCPConn.SetUserTimeout called by the dialer or the listener does |
| grpc | *net.TCPConn, to read without a buffer until there is data, if that is switched on | each connection keeps its read buffer, 32 KB unless ReadBufferSize says otherwise |
| grpc/channelz | syscall.Conn, for options of sockets | none are shown |
| quic-go | OOBCapablePacketConn, which is a net.PacketConn with SyscallConn, SetReadBuffer, ReadMsgUDP and WriteMsgUDP | a system call's worth of work for each datagram: no batches, no GSO, no ECN, and packets stay at their initial size, since it cannot tell that DF is set. The buffers are set |
| go-redis | syscall.Conn, to look whether an idle connection was closed | it is not looked: the first command on it fails, and is sent again on another |
| miekg/dns | *net.UDPConn, for the address that a query came to | the answer leaves from the address that the route suggests: a server with several addresses listens at each |
| miekg/dns | PacketConnReader of a Reader of one's own | DecorateReader has to return one that implements it |
| golang.org/x/net/ipv4, ipv6 | SyscallConn | NewPacketConn's and NewConn's methods fail. UDPConn has them itself: ReadBatch, JoinGroup, SetControlMessage, SetTTL and so on; TCPConn has SetTTL and SetTOS |
| golang.org/x/net/icmp | sockets of its own | what Dial and ListenPacket return for ip4:icmp takes and gives the same messages |
`

// document is the list as users read it.
func document() string {
	var b strings.Builder
	b.WriteString(`# Where the stack differs from package net

` + "`internal/netdiff`" + ` runs the same behaviours on package net and on a stack, over IPv4
and IPv6, and compares all that a caller can see: values, bytes, errors with their
fields and what ` + "`errors.Is`" + ` says of them, and whether a call waits. These are all that
differ. The file is written by ` + "`go test ./internal/netdiff -run TestDocument -netdiff.write`" + `
from the list that the comparison uses.

| behaviour | package net on Linux | stack | why |
|---|---|---|---|
`)
	for _, d := range known {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", d.behaviour, d.net, d.ours, d.reason)
	}
	b.WriteString(`
Not compared, since they are of each network: the sizes of socket buffers and how
much fits into them, port numbers, how often a host answers that nobody listens, and
whether a net.IP holds an IPv4 address in 4 bytes or 16. Nor how long Close takes after
SetLinger with more than 0: on Linux it blocks until all is acknowledged, for that time
at most and unless a signal comes, as the Go runtime's do; in the stack it returns at
once. What was written is sent either way. Nor which system call the error of a copy
names, what ReadMsgUDP returns beside an error, how golang.org/x/net packs the errors
of batches and groups, and what MultipathTCP says of a connection that was closed. A
stack whose Config names no Interface asks for no zone of addresses of the link. While
its interface is set down, a stack's calls fail with ENETDOWN, those too that wait;
Accept and reads of datagrams do once, with an error that is Temporary, and then wait.
With the kernel's sockets reads and Accept wait until it is up. Where the link is full, a
short datagram may overtake one in fragments that its socket sent before. While its process is
stopped a stack acknowledges nothing, as the kernel would: probes and timeouts of peers
end its connections, and so does TCPConn.SetUserTimeout after a stop that was longer.

`)
	b.WriteString(libraries)
	return b.String()
}

func TestDocument(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "differences.md")
	if *write {
		if err := os.WriteFile(path, []byte(document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		if _, err := os.Stat(filepath.Join("..", "..", "go.mod")); err != nil {
			t.Skip("no sources here: ", err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != document() {
		t.Errorf("%s is not what the list says: run with -netdiff.write", path)
	}
}
