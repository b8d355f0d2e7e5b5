package stack_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/stack"
)

// Kinds of records in reports (RFC 3376, 4.2.12; RFC 3810, 5.2.12).
const (
	recordCurrent = 2 // is in the group, asked by a query
	recordJoined  = 4
	recordLeft    = 3
)

// TestLabMulticastQueries is a switch: it hears of the groups that the stack joins
// and leaves, and its queries for a group are answered while the stack is in it.
func TestLabMulticastQueries(t *testing.T) {
	s := openLab(t, lab.Config{}, stack.Config{})
	fd := rawSocket(t, s.lab.Peer)
	for i, f := range families(s.lab) {
		t.Run(f.name, func(t *testing.T) {
			group := netip.MustParseAddr(labGroups[i].ours)
			u, err := s.ListenUDP("udp", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			if err := u.JoinGroup(nil, groupAt(group.String())); err != nil {
				t.Fatal(err)
			}
			awaitReport(t, fd, group, recordJoined)
			if _, err := unix.Write(fd, query(group)); err != nil {
				t.Fatal(err)
			}
			awaitReport(t, fd, group, recordCurrent)
			if err := u.LeaveGroup(nil, groupAt(group.String())); err != nil {
				t.Fatal(err)
			}
			awaitReport(t, fd, group, recordLeft)
		})
	}
}

// rawSocket returns a socket for all frames at a namespace's interface.
func rawSocket(t *testing.T, n *lab.Namespace) (fd int) {
	t.Helper()
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	err := n.Do(func() error {
		ifi, err := net.InterfaceByName(n.Device)
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	wait := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	return fd
}

// awaitReport reads frames until one is a report with such a record of the group.
func awaitReport(t *testing.T, fd int, group netip.Addr, kind byte) {
	t.Helper()
	b := make([]byte, 1<<16)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue // a signal of the runtime's
		}
		if err != nil {
			t.Fatalf("no report of kind %d for %v: %v", kind, group, err)
		}
		if reports(b[:n], group, kind) {
			return
		}
	}
	t.Fatalf("no report of kind %d for %v", kind, group)
}

// reports tells whether a frame is a report of IGMPv3 or MLDv2 with such a record.
func reports(frame []byte, group netip.Addr, kind byte) bool {
	if len(frame) < 14+40 {
		return false
	}
	packet := frame[14:]
	var records []byte
	switch etherType := binary.BigEndian.Uint16(frame[12:]); {
	case group.Is4() && etherType == unix.ETH_P_IP && packet[9] == unix.IPPROTO_IGMP:
		igmp := packet[int(packet[0]&15)*4:]
		if igmp[0] != 0x22 {
			return false
		}
		records = igmp[8:]
	case group.Is6() && etherType == unix.ETH_P_IPV6 && packet[6] == 0 && packet[40] == unix.IPPROTO_ICMPV6:
		mld := packet[48:] // behind the router alert
		if mld[0] != 143 {
			return false
		}
		records = mld[8:]
	}
	size := len(group.AsSlice())
	for len(records) >= 4+size {
		a, _ := netip.AddrFromSlice(records[4 : 4+size])
		if a == group && records[0] == kind {
			return true
		}
		records = records[min(len(records), 4+size+size*int(binary.BigEndian.Uint16(records[2:]))):]
	}
	return false
}

// query is a router's question who is in the group, to be answered within a tenth of
// a second (RFC 3376, 4.1; RFC 3810, 5.1).
func query(group netip.Addr) []byte {
	a := group.As16()
	router := net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	if group.Is4() {
		igmp := append([]byte{0x11, 1, 0, 0}, a[12:]...)
		igmp = append(igmp, 2, 125, 0, 0)
		binary.BigEndian.PutUint16(igmp[2:], onesComplement(igmp))
		ip := []byte{0x46, 0xc0, 0, byte(24 + len(igmp)), 0, 0, 0, 0, 1, unix.IPPROTO_IGMP, 0, 0, 10, 77, 0, 77}
		ip = append(ip, a[12:]...)
		ip = append(ip, 0x94, 4, 0, 0) // router alert
		binary.BigEndian.PutUint16(ip[10:], onesComplement(ip))
		frame := append([]byte{1, 0, 0x5e, a[13] & 0x7f, a[14], a[15]}, router...)
		return append(append(append(frame, 8, 0), ip...), igmp...)
	}
	mld := append([]byte{130, 0, 0, 0, 0, 100, 0, 0}, a[:]...)
	mld = append(mld, 2, 125, 0, 0)
	ip := []byte{0x60, 0, 0, 0, 0, byte(8 + len(mld)), 0, 1}
	from := netip.MustParseAddr("fe80::77").As16()
	ip = append(append(ip, from[:]...), a[:]...)
	pseudo := append(append([]byte{0, 0, 0, byte(len(mld)), 0, 0, 0, unix.IPPROTO_ICMPV6}, ip[8:]...), mld...)
	binary.BigEndian.PutUint16(mld[2:], onesComplement(pseudo))
	ip = append(ip, unix.IPPROTO_ICMPV6, 0, 5, 2, 0, 0, 1, 0) // router alert
	frame := append([]byte{0x33, 0x33, a[12], a[13], a[14], a[15]}, router...)
	return append(append(append(frame, 0x86, 0xdd), ip...), mld...)
}

// onesComplement is the Internet checksum of an even number of bytes.
func onesComplement(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
