package stack_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/internal/mechanism"
	"github.com/afxnet/afxnet/stack"
)

// labGroups are groups for the tests, by family as families has them: one that the
// stack joins, another, and one that the link's protocols use.
var labGroups = [2]struct{ ours, other, link string }{
	{"239.77.1.2", "239.77.1.3", "224.0.0.251"},
	{"ff05::77:102", "ff05::77:103", "ff02::fb"},
}

const groupPort = 5077

func groupAt(group string) *net.UDPAddr {
	return &net.UDPAddr{IP: net.ParseIP(group), Port: groupPort}
}

// memberships returns what a namespace's kernel tells of its multicast groups: those
// of IP, and those that the filters of its devices let through.
func memberships(t *testing.T, n *lab.Namespace) string {
	t.Helper()
	var all []string
	err := n.Do(func() error {
		for file, what := range map[string]string{
			"igmp":      `(?m)^\s+[0-9A-F]{8}|^\d+\s+\S+`, // without timers
			"igmp6":     `(?m)^\d+\s+\S+\s+[0-9a-f]{32}`,
			"dev_mcast": `(?m)^.*$`,
		} {
			b, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			all = append(all, file+":\n"+strings.Join(regexp.MustCompile(what).FindAllString(string(b), -1), "\n"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// ownMemberships is memberships once the namespace is in the group of its own
// address, which comes a moment after the address.
func ownMemberships(t *testing.T, n *lab.Namespace) (own string) {
	t.Helper()
	a := n.V6.Addr().As16()
	lab.Eventually(t, patience, "the group of the namespace's address", func() bool {
		own = memberships(t, n)
		return strings.Contains(own, fmt.Sprintf("3333ff%x", a[13:])) && strings.Contains(own, fmt.Sprintf("1ff%x", a[13:]))
	})
	return own
}

// kernelMember returns a kernel socket that is in a group on the lab's interface.
func kernelMember(t *testing.T, n *lab.Namespace, group string) *net.UDPConn {
	t.Helper()
	var c *net.UDPConn
	err := n.Do(func() error {
		ifi, err := net.InterfaceByName(n.Device)
		if err == nil {
			c, err = net.ListenMulticastUDP("udp", ifi, groupAt(group))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// kernelSender returns a kernel socket that sends to groups on the lab's interface.
func kernelSender(t *testing.T, n *lab.Namespace, f family, from netip.Addr) net.PacketConn {
	t.Helper()
	c, err := n.ListenPacket("udp", hostPort(from, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	err = n.Do(func() error {
		ifi, err := net.InterfaceByName(n.Device)
		if err != nil {
			return err
		}
		if f.stack.Is4() {
			return ipv4.NewPacketConn(c).SetMulticastInterface(ifi)
		}
		return ipv6.NewPacketConn(c).SetMulticastInterface(ifi)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// randomDatagrams returns some of sizes up to most, different ones.
func randomDatagrams(most int) (all [][]byte) {
	for _, n := range []int{1, 100, 1400, most} {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rand.Uint32())
		}
		all = append(all, b)
	}
	return all
}

// sendTo sends datagrams to an address.
func sendTo(t *testing.T, c net.PacketConn, to net.Addr, all ...[]byte) {
	t.Helper()
	for _, b := range all {
		if _, err := c.WriteTo(b, to); err != nil {
			t.Fatalf("to %v: %v", to, err)
		}
	}
}

// wantRead checks that the next datagrams of a socket are these.
func wantRead(t *testing.T, what string, c net.PacketConn, all ...[]byte) {
	t.Helper()
	b := make([]byte, 1<<16)
	for i, want := range all {
		c.SetReadDeadline(time.Now().Add(patience)) //nolint:errcheck // open
		n, _, err := c.ReadFrom(b)
		if err != nil || !bytes.Equal(b[:n], want) {
			t.Fatalf("%s: datagram %d of %d: %d bytes, want %d, equal %v, %v", what, i+1, len(all), n, len(want), bytes.Equal(b[:n], want), err)
		}
	}
}

// TestLabMulticast joins groups of both families over AF_XDP: what a kernel sends
// to them arrives, what the stack sends arrives at a kernel that is a member, and
// what is none of the stack's remains the host's.
func TestLabMulticast(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{})
	for i, f := range families(s.lab) {
		t.Run(f.name, func(t *testing.T) {
			g := labGroups[i]
			// IPv6 fragments of a group stay with the kernel.
			most := 5000
			if f.stack.Is6() {
				most = 1300
			}
			u, err := s.ListenUDP("udp", &net.UDPAddr{Port: groupPort})
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			unicast := &net.UDPAddr{IP: f.stack.AsSlice(), Port: groupPort}
			peer := kernelSender(t, s.lab.Peer, f, f.peer)
			end := []byte("end")
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}

			// In one group after the other the host's sockets are, and hear.
			host := kernelMember(t, s.lab.Host, g.other)
			sendTo(t, peer, groupAt(g.ours), []byte("nobody is in it"))
			sendTo(t, peer, unicast, end)
			wantRead(t, "before joining", u, end)
			check(u.JoinGroup(nil, groupAt(g.ours)))
			all := randomDatagrams(most)
			sendTo(t, peer, groupAt(g.ours), all...)
			wantRead(t, "joined", u, all...)
			all = randomDatagrams(1000)
			sendTo(t, peer, groupAt(g.other), all...)
			wantRead(t, "the host in another group", host, all...)
			sendTo(t, peer, unicast, end)
			wantRead(t, "the stack, not in the other group", u, end)

			// To a kernel that is a member.
			far := kernelMember(t, s.lab.Peer, g.ours)
			all = randomDatagrams(1400)
			sendTo(t, u, groupAt(g.ours), all...)
			wantRead(t, "the peer", far, all...)
			wantRead(t, "multicast loopback", u, all...)

			// A group that the host is in is not taken from it, nor those of the link.
			if err := u.JoinGroup(nil, groupAt(g.other)); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "the host is in it") {
				t.Errorf("JoinGroup of the host's group: %v, want EADDRINUSE and why", err)
			}
			sendTo(t, peer, groupAt(g.other), end)
			wantRead(t, "the host after that", host, end)
			if err := u.JoinGroup(nil, groupAt(g.link)); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("JoinGroup(%s): %v, want ErrUnsupported", g.link, err)
			}
			host.Close()
			check(u.JoinGroup(nil, groupAt(g.other)))
			check(u.LeaveGroup(nil, groupAt(g.other)))

			// A second socket keeps the group when the first has left it.
			v, err := s.ListenUDP("udp", nil)
			check(err)
			check(v.JoinGroup(nil, groupAt(g.ours)))
			check(u.LeaveGroup(nil, groupAt(g.ours)))
			sendTo(t, peer, groupAt(g.ours), []byte("kept"))
			wantRead(t, "one of two has left", u, []byte("kept")) // by its port
			check(v.Close())
			before, err := s.Device().Stats()
			check(err)
			sendTo(t, peer, groupAt(g.ours), []byte("nobody is in it any more"))
			sendTo(t, peer, unicast, end)
			wantRead(t, "left", u, end)
			after, err := s.Device().Stats()
			check(err)
			if after.Steering.PassMulticast == before.Steering.PassMulticast {
				t.Error("after leaving the program has passed no multicast to the kernel")
			}

			// What the host joins later is the stack's until the stack leaves it.
			check(u.JoinGroup(nil, groupAt(g.ours)))
			late := kernelMember(t, s.lab.Host, g.ours)
			sendTo(t, peer, groupAt(g.ours), []byte("stack"))
			wantRead(t, "beside the host", u, []byte("stack"))
			check(u.LeaveGroup(nil, groupAt(g.ours)))
			sendTo(t, peer, groupAt(g.ours), []byte("host"))
			wantRead(t, "the host that has waited", late, []byte("host"))
			late.Close()
		})
	}
}

// TestLabMulticastLimit joins one group of IPv4 more than the kernel admits.
func TestLabMulticastLimit(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{})
	u, err := s.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	group := func(n int) net.Addr { return &net.UDPAddr{IP: net.IPv4(239, 77, 2, byte(n))} }
	for n := range 20 {
		if err := u.JoinGroup(nil, group(n)); err != nil {
			t.Fatalf("group %d: %v", n+1, err)
		}
	}
	full := ownMemberships(t, s.lab.Host)
	if err := u.JoinGroup(nil, group(20)); !errors.Is(err, syscall.ENOBUFS) || !strings.Contains(err.Error(), "igmp_max_memberships") {
		t.Errorf("group 21: %v, want ENOBUFS and the remedy", err)
	}
	if now := memberships(t, s.lab.Host); now != full {
		t.Errorf("after that error:\n%s\nwant\n%s", now, full)
	}
	host := kernelMember(t, s.lab.Host, "239.77.2.20")
	f := families(s.lab)[0]
	sendTo(t, kernelSender(t, s.lab.Peer, f, f.peer), groupAt("239.77.2.20"), []byte("host"))
	wantRead(t, "the host in the group that the stack could not join", host, []byte("host"))
	host.Close()
	if err := u.LeaveGroup(nil, group(3)); err != nil {
		t.Fatal(err)
	}
	if err := u.JoinGroup(nil, group(20)); err != nil {
		t.Errorf("group 21 after leaving one: %v", err)
	}
}

// TestLabMulticastClose compares the groups of the host before and after a stack
// that joins some: one that leaves them, one that is closed with its sockets open,
// and one that is killed.
func TestLabMulticastClose(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	before := ownMemberships(t, l.Host)
	joined := func(now string) bool {
		return strings.Contains(now, "02014DEF") && strings.Contains(now, "ff050000000000000000000000770102")
	}
	for _, leave := range []bool{true, false} {
		s, err := tryOpen(l, stack.Config{})
		if err != nil {
			t.Fatal(err)
		}
		u, err := joinLabGroups(s)
		if err != nil {
			t.Fatal(err)
		}
		if now := memberships(t, l.Host); !joined(now) {
			t.Errorf("joined: the host has\n%s", now)
		}
		if leave {
			u.Close()
			if now := memberships(t, l.Host); joined(now) {
				t.Errorf("left: the host has\n%s", now)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if now := memberships(t, l.Host); now != before {
			t.Errorf("left %v and closed: the host has\n%s\nwant\n%s", leave, now, before)
		}
	}

	cmd := exec.Command(os.Args[0], "-test.run=^TestLabGroupVictim$", mechanism.Argument())
	cmd.Env = append(os.Environ(), childEnv+"=group victim")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Host.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "joined" {
		if strings.HasPrefix(lines.Text(), "error") {
			t.Errorf("the child: %s", lines.Text())
			break
		}
	}
	if now := memberships(t, l.Host); !joined(now) {
		t.Errorf("the child has joined, and the host has\n%s", now)
	}
	cmd.Process.Kill() //nolint:errcheck // Wait tells
	cmd.Wait()         //nolint:errcheck // it was killed
	restoreSettings(t, l)
	lab.Eventually(t, patience, "the groups of a killed process gone", func() bool { return memberships(t, l.Host) == before })
}

// joinLabGroups has a socket join the groups of both families.
func joinLabGroups(s *stack.Stack) (*stack.UDPConn, error) {
	u, err := s.ListenUDP("udp", nil)
	if err != nil {
		return nil, err
	}
	return u, errors.Join(u.JoinGroup(nil, groupAt(labGroups[0].ours)), u.JoinGroup(nil, groupAt(labGroups[1].ours)))
}

// TestLabGroupVictim is the child of TestLabMulticastClose.
func TestLabGroupVictim(t *testing.T) {
	if child() != "group victim" {
		return
	}
	s, err := stack.Open(stack.WithFlag(stack.Config{
		Interface:        lab.HostDevice,
		Addresses:        []netip.Prefix{netip.MustParsePrefix("10.77.0.1/24"), netip.MustParsePrefix("fd77::1/64")},
		NoDuplicateCheck: true,
	}))
	if err == nil {
		_, err = joinLabGroups(s)
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println("joined")
	select {} // until the kill
}
