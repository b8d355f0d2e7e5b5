package hostif_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// TestWatchAddresses gives an interface addresses, and takes them.
func TestWatchAddresses(t *testing.T) {
	type told struct {
		addr  netip.Prefix
		index int
		there bool
	}
	l := lab.New(t, lab.Config{})
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan told, 1000)
	var stop func()
	err = l.Host.Do(func() error {
		stop, err = hostif.WatchAddresses(func(addr netip.Prefix, index int, there bool) { events <- told{addr, index, there} },
			func(err error) { t.Error(err) })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, addr := range []netip.Prefix{l.StackV4, l.StackV6} {
		for _, there := range []bool{true, false} {
			change := l.Host.AddAddress
			if !there {
				change = l.Host.RemoveAddress
			}
			if err := change(addr); err != nil {
				t.Fatal(err)
			}
			for want := (told{addr, ifc.Index, there}); ; {
				select {
				case got := <-events:
					if got != want {
						t.Logf("also %+v", got) // IPv6 tells of one more than once
						continue
					}
				case <-time.After(testTimeout):
					t.Fatalf("no event %+v", want)
				}
				break
			}
		}
	}
	stop()
	stop()
	if err := l.Host.AddAddress(l.StackV4); err != nil {
		t.Fatal(err)
	}
	if len(events) != 0 {
		t.Errorf("after stop: %+v", <-events)
	}
}

// TestWatchAddressesFails has a watch fail: it says so.
func TestWatchAddressesFails(t *testing.T) {
	ended := make(chan error, 2)
	stop, err := hostif.WatchAddressesClosed(func(err error) { ended <- err })
	if err != nil {
		t.Fatal(err)
	}
	stop() // it waits for the goroutine
	if len(ended) != 1 {
		t.Fatalf("told %d times", len(ended))
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "watch addresses: ") {
		t.Errorf("told %v", err)
	}
}

// TestWatchAddressesRefused has the kernel answer with an error, or end an answer with
// one: what was lost before stays unknown, so the watch fails.
func TestWatchAddressesRefused(t *testing.T) {
	for _, kind := range []uint16{unix.NLMSG_ERROR, unix.NLMSG_DONE} {
		for _, errno := range []unix.Errno{0, unix.ENOMEM} {
			b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofNlMsgerr)
			binary.NativeEndian.PutUint32(b, uint32(len(b)))
			binary.NativeEndian.PutUint16(b[4:], kind)
			binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr:], uint32(-int32(errno)))
			err := hostif.TellAddresses(b, nil)
			if errno == 0 && err != nil || errno != 0 && !errors.Is(err, errno) {
				t.Errorf("message %d with errno %d: %v", kind, errno, err)
			}
		}
	}
}

// TestWatchAddressesBusy asks for the addresses while the answer to that is under way, as
// after events were dropped twice: all of them are told, and the watch goes on.
func TestWatchAddressesBusy(t *testing.T) {
	l := lab.New(t, lab.Config{})
	const many = 1000 // more than one message of the kernel's holds
	told := make(map[netip.Prefix]bool)
	all, ended := make(chan bool), make(chan error, 1)
	var stop func()
	err := l.Host.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for i := range many {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{127, 9, byte(i >> 8), byte(i)}), 32)
			if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}}); err != nil {
				return err
			}
		}
		stop, err = hostif.WatchAddressesAsked(2, func(p netip.Prefix, _ int, there bool) {
			if p.Bits() == 32 && there && !told[p] {
				if told[p] = true; len(told) == many {
					close(all)
				}
			}
		}, func(err error) { ended <- err })
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-all:
	case err := <-ended:
		t.Errorf("the watch has ended: %v", err)
	case <-time.After(testTimeout):
		t.Error("not all of them were told")
	}
	stop()
	select {
	case err := <-ended:
		t.Errorf("the watch has ended: %v", err)
	default:
	}
}

// TestQueueCount counts in the namespace that it was opened in, until the interface
// is gone.
func TestQueueCount(t *testing.T) {
	l := lab.New(t, lab.Config{Queues: 3})
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	var q *hostif.QueueCount
	err = l.Host.Do(func() error {
		q, err = hostif.OpenQueueCount(ifc.Index)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for _, want := range []int{3, 1, 2} {
		if err := l.Host.SetQueues(want); err != nil {
			t.Fatal(err)
		}
		if n, err := q.Read(); n != want || err != nil {
			t.Errorf("%d queues, %v, want %d", n, err, want)
		}
	}
	if err := l.Delete(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Read(); !errors.Is(err, unix.ENODEV) {
		t.Errorf("of no interface: %v", err)
	}
}
