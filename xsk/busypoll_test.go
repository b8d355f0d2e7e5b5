package xsk

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/ring"
	"github.com/afxnet/afxnet/umem"
)

func TestBusyPollConfig(t *testing.T) {
	const us = time.Microsecond
	for _, c := range []struct {
		in, want BusyPoll
		err      string
	}{
		{},
		{in: BusyPoll{Time: us}, want: BusyPoll{Time: us, Budget: 64}},
		{in: BusyPoll{Time: 20 * us, Prefer: true}, want: BusyPoll{Time: 20 * us, Budget: 64, Prefer: true}},
		{in: BusyPoll{Time: time.Second, Budget: 65535}, want: BusyPoll{Time: time.Second, Budget: 65535}},
		{in: BusyPoll{Prefer: true}, err: "Time is zero"},
		{in: BusyPoll{Budget: 8}, err: "Time is zero"},
		{in: BusyPoll{Time: -us}, err: "BusyPoll.Time"},
		{in: BusyPoll{Time: us / 2}, err: "BusyPoll.Time: 500ns"},
		{in: BusyPoll{Time: us + 1}, err: "BusyPoll.Time"},
		{in: BusyPoll{Time: time.Second + us}, err: "up to 1s"},
		{in: BusyPoll{Time: us, Budget: -1}, err: "BusyPoll.Budget: -1"},
		{in: BusyPoll{Time: us, Budget: 65536}, err: "from 1 to 65535"},
	} {
		got, err := Config{BusyPoll: c.in}.withDefaults()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || got.BusyPoll != c.want {
			t.Errorf("%+v: got %+v, %v, want %+v", c.in, got.BusyPoll, err, c.want)
		}
	}
}

// newBusySim is a socket with rings of 8 over a kernel that works only when it
// is called.
func newBusySim(tb testing.TB, b BusyPolling) (*Socket, *simKernel) {
	tb.Helper()
	old, k := newSim(tb, 8, 32)
	k.busy = b
	return NewOn(k, old.Region(), "sim0", 3), k
}

// preferred is the mode in which nobody but the socket's calls runs the NAPI.
var preferred = BusyPolling{BusyPoll{Time: time.Microsecond, Budget: 2, Prefer: true}, 77}

// TestBusyReceive has packets wait in the device until recvfrom takes two of
// them.
func TestBusyReceive(t *testing.T) {
	waiting := 5
	for _, c := range []struct {
		busy BusyPolling
		got  []int // by call of Receive
	}{
		{preferred, []int{2, 2, 1, 0, 0}},
		{BusyPolling{BusyPoll{Time: time.Microsecond, Budget: 2}, 77}, []int{2, 2, 1, 0, 0}},
		{BusyPolling{BusyPoll{Time: time.Microsecond, Budget: 2}, 0}, []int{0, 0}}, // no NAPI
		{BusyPolling{NAPI: 77}, []int{0, 0}},                                       // not asked for
	} {
		t.Run(fmt.Sprintf("%+v", c.busy), func(t *testing.T) {
			s, k := newBusySim(t, c.busy)
			if s.BusyPoll() != c.busy {
				t.Errorf("BusyPoll = %+v", s.BusyPoll())
			}
			left := waiting
			k.wakeRX = func() syscall.Errno {
				n := min(left, 2)
				k.receive(uint32(n))
				left -= n
				return 0
			}
			s.RX().Refill()
			dst := make([]umem.Desc, 8)
			for i, want := range c.got {
				if got := s.RX().Receive(dst); got != want {
					t.Errorf("call %d: got %d packets, want %d", i, got, want)
				} else {
					s.RX().Recycle(dst[:got])
				}
				s.RX().Refill()
			}
			calls := 0
			if c.busy.On() {
				calls = len(c.got)
			}
			if st := statistics(t, s); k.rxCalls != calls || st.RXBusyPolls != uint64(calls) || st.RXWakeups != 0 || st.RXWakeupErrors != 0 {
				t.Errorf("%d calls, want %d; %+v", k.rxCalls, calls, st)
			}
		})
	}
}

// TestBusyReceiveFull makes no call while the RX ring has packets.
func TestBusyReceiveFull(t *testing.T) {
	s, k := newBusySim(t, preferred)
	s.RX().Refill()
	k.receive(5)
	dst := make([]umem.Desc, 2)
	for _, want := range []int{2, 2, 1} {
		if got := s.RX().Receive(dst); got != want || k.rxCalls != 0 {
			t.Errorf("got %d packets with %d calls, want %d with none", got, k.rxCalls, want)
		}
	}
	k.wakeRX = func() syscall.Errno { return syscall.ENETDOWN }
	if got := s.RX().Receive(dst); got != 0 || k.rxCalls != 1 {
		t.Errorf("got %d packets with %d calls, want 0 with 1", got, k.rxCalls)
	}
	if st := statistics(t, s); st.RXBusyPolls != 1 || st.RXWakeupErrors != 1 {
		t.Errorf("%+v, want one call that failed", st)
	}
}

// TestBusySend has frames leave, and come back, only when sendto is called,
// although the driver never asks for that.
func TestBusySend(t *testing.T) {
	for _, prefer := range []bool{true, false} {
		t.Run(fmt.Sprintf("prefer=%t", prefer), func(t *testing.T) {
			busy := preferred
			busy.Prefer = prefer
			s, k := newBusySim(t, busy)
			k.wakeTX = func() syscall.Errno {
				for _, d := range k.sent { // of the last call
					k.complete(d.Addr)
				}
				k.sent = k.sent[:0]
				k.takeTX(8)
				return 0
			}
			tx := s.TX()
			if tx.Free(9); k.txCalls != 0 {
				t.Errorf("%d calls with nothing sent", k.txCalls)
			}
			queue(t, tx, 8)
			if left := tx.Flush(); prefer && (left != 0 || k.txCalls != 1) || !prefer && (left != 8 || k.txCalls != 0) {
				t.Errorf("Flush = %d with %d calls", left, k.txCalls)
			}
			if !prefer {
				k.wakeTX() // an interrupt
			}
			if got := tx.Free(1); (got > 0) != prefer {
				t.Errorf("Free = %d", got)
			}
			if !prefer {
				k.wakeTX()
				if tx.Free(1) == 0 {
					t.Error("Free = 0 after the interrupt")
				}
			}
			if tx.Lent() != 0 {
				t.Errorf("%d frames lent", tx.Lent())
			}
			want := map[bool]int{true: 2}[prefer]
			if st := statistics(t, s); k.txCalls != want || st.TXWakeups != uint64(want) {
				t.Errorf("%d calls, %d counted, want %d", k.txCalls, st.TXWakeups, want)
			}
		})
	}
}

// TestBusySendErrors counts what comes of the calls that Free makes.
func TestBusySendErrors(t *testing.T) {
	for _, e := range []syscall.Errno{0, syscall.EBUSY, syscall.EAGAIN, syscall.ENETDOWN} {
		t.Run(e.Error(), func(t *testing.T) {
			s, k := newBusySim(t, preferred)
			k.rings.TX.Flags.Store(ring.FlagNeedWakeup)
			k.wakeTX = func() syscall.Errno { k.takeTX(8); return 0 }
			queue(t, s.TX(), 8)
			if left := s.TX().Flush(); left != 0 {
				t.Fatalf("Flush = %d", left)
			}
			k.wakeTX = func() syscall.Errno { return e }
			if n := s.TX().Free(1); n != 0 {
				t.Errorf("Free = %d with all frames out", n)
			}
			want := Statistics{}
			switch e {
			case syscall.EBUSY:
				want.TXDeviceDrops = 1
			case syscall.ENETDOWN:
				want.TXWakeupErrors, want.TXLastError = 1, e
			}
			st := statistics(t, s)
			if st.TXDeviceDrops != want.TXDeviceDrops || st.TXWakeupErrors != want.TXWakeupErrors || st.TXLastError != want.TXLastError || st.TXWakeups != 2 {
				t.Errorf("%+v", st)
			}
			if err := s.TX().Err(); (want.TXWakeupErrors != 0) != errors.Is(err, syscall.ENETDOWN) {
				t.Errorf("Err = %v", err)
			}
		})
	}
}

// TestBusyAllocations holds the calls to what the data path may allocate.
func TestBusyAllocations(t *testing.T) {
	s, k := newBusySim(t, preferred)
	k.wakeRX = func() syscall.Errno { return syscall.EAGAIN }
	dst := make([]umem.Desc, 8)
	if n := testing.AllocsPerRun(100, func() { s.RX().Receive(dst); s.TX().Free(9); s.TX().Flush() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
