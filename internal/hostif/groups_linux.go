package hostif

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Groups makes the host's kernel a member of IP multicast groups on one interface,
// for somebody else who takes what is sent to them: the kernel reports the
// membership to switches and routers (IGMP, MLD), answers their queries, and lets
// the group through the NIC's filter. It ends with Close or the process, however
// that ends.
//
// It belongs to the network namespace of the thread that has called OpenGroups;
// the methods may be called on any, by one goroutine at a time. No privilege is
// needed.
type Groups struct {
	index int
	v4    groupFamily
	v6    groupFamily
}

// groupFamily is what Groups has for one family: a socket that holds the
// memberships and receives nothing, for it is bound to no port, and the kernel's
// list of all memberships in the namespace.
type groupFamily struct {
	fd   int // -1: none
	list *os.File
	err  error // why it can not be used, or nil
}

// OpenGroups prepares for memberships on the interface with this index. What stands
// in the way, such as a kernel without IPv6, is the error of Member and Join.
func OpenGroups(index int) *Groups {
	return &Groups{
		index: index,
		v4:    openGroupFamily(unix.AF_INET, "/proc/thread-self/net/igmp"),
		v6:    openGroupFamily(unix.AF_INET6, "/proc/thread-self/net/igmp6"),
	}
}

func openGroupFamily(domain int, path string) (f groupFamily) {
	f.fd, f.err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if f.err != nil {
		f.fd, f.err = -1, os.NewSyscallError("socket", f.err)
		return f
	}
	// An open file keeps to the namespace that it was opened in.
	f.list, f.err = os.Open(path)
	return f
}

func (g *Groups) family(group netip.Addr) *groupFamily {
	if group.Is4() {
		return &g.v4
	}
	return &g.v6
}

// Member tells whether the kernel is in a group on the interface, by whosesoever
// wish.
func (g *Groups) Member(group netip.Addr) (bool, error) {
	f := g.family(group)
	if f.err != nil {
		return false, g.error("list", group, f.err)
	}
	all, err := io.ReadAll(io.NewSectionReader(f.list, 0, 1<<30))
	if err != nil {
		return false, g.error("list", group, err)
	}
	if group.Is4() {
		return listed4(all, g.index, group), nil
	}
	return listed6(all, g.index, group), nil
}

// listed4 looks for a group in /proc/net/igmp: a line for each interface, which
// begins with its index, and below it indented ones that begin with a group, as
// the number that its bytes are in memory (igmp_mc_seq_show, net/ipv4/igmp.c).
func listed4(list []byte, index int, group netip.Addr) bool {
	want := fmt.Sprintf("%08X", binary.NativeEndian.Uint32(group.AsSlice()))
	here := false
	for s := bufio.NewScanner(bytes.NewReader(list)); s.Scan(); {
		first, _, _ := strings.Cut(strings.TrimSpace(s.Text()), "\t")
		switch {
		case !strings.HasPrefix(s.Text(), "\t"):
			here = first == strconv.Itoa(index)
		case here && strings.HasPrefix(first, want):
			return true
		}
	}
	return false
}

// listed6 looks for a group in /proc/net/igmp6: lines of index, name, group in hex
// and more (igmp6_mc_seq_show, net/ipv6/mcast.c).
func listed6(list []byte, index int, group netip.Addr) bool {
	want := hex.EncodeToString(group.AsSlice())
	for s := bufio.NewScanner(bytes.NewReader(list)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) > 2 && f[0] == strconv.Itoa(index) && f[2] == want {
			return true
		}
	}
	return false
}

// Join makes the kernel a member. The error wraps unix.EADDRINUSE if these Groups
// are in it, and unix.ENOBUFS if they are in as many as a socket may be, of IPv4 20
// unless net.ipv4.igmp_max_memberships says otherwise.
func (g *Groups) Join(group netip.Addr) error {
	return g.change("join", group, unix.IP_ADD_MEMBERSHIP, unix.IPV6_JOIN_GROUP)
}

// Leave takes Join back.
func (g *Groups) Leave(group netip.Addr) error {
	return g.change("leave", group, unix.IP_DROP_MEMBERSHIP, unix.IPV6_LEAVE_GROUP)
}

func (g *Groups) change(op string, group netip.Addr, option4, option6 int) error {
	err := g.family(group).err
	switch {
	case err != nil:
	case group.Is4():
		err = unix.SetsockoptIPMreqn(g.v4.fd, unix.IPPROTO_IP, option4, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(g.index)})
		err = os.NewSyscallError("setsockopt", err)
	default:
		err = unix.SetsockoptIPv6Mreq(g.v6.fd, unix.IPPROTO_IPV6, option6, &unix.IPv6Mreq{Multiaddr: group.As16(), Interface: uint32(g.index)})
		err = os.NewSyscallError("setsockopt", err)
	}
	if err != nil {
		return g.error(op, group, err)
	}
	return nil
}

func (g *Groups) error(op string, group netip.Addr, err error) error {
	return fmt.Errorf("hostif: %s multicast group %v, interface index %d: %w", op, group, g.index, err)
}

// Close leaves all groups. Idempotent.
func (g *Groups) Close() error {
	return errors.Join(g.v4.close(), g.v6.close())
}

func (f *groupFamily) close() error {
	var errs []error
	if f.fd >= 0 {
		errs = append(errs, os.NewSyscallError("close", unix.Close(f.fd)))
	}
	if f.list != nil {
		errs = append(errs, f.list.Close())
	}
	*f = groupFamily{fd: -1, err: os.ErrClosed}
	return errors.Join(errs...)
}
