//go:build linux && (amd64 || arm64)

package xsk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

// openSet opens a set on the lab's host side, which the caller closes.
func openSet(l *lab.Lab, cfg SetConfig) (s *Set, err error) {
	cfg.Socket.Interface = lab.HostDevice
	cfg.Socket.Rings = RingSizes{RX: 64, TX: 64}
	err = l.Host.Do(func() error {
		s, err = OpenAll(cfg)
		return err
	})
	return s, err
}

// TestSet has the peer send to every queue: each socket of a set gets what
// arrives on its own, and sends it back from another.
func TestSet(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	for _, share := range []bool{false, true} {
		t.Run(map[bool]string{false: "own regions", true: "shared"}[share], func(t *testing.T) {
			l := lab.New(t, lab.Config{Queues: 3})
			set, err := openSet(l, SetConfig{Share: share})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := errors.Join(set.Close(), set.Close()); err != nil {
					t.Error(err)
				}
			}()
			if n := len(set.Sockets()); n != 3 {
				t.Fatalf("%d sockets on 3 queues", n)
			}
			if err := l.Host.Do(func() error { return set.WaitLink(t.Context()) }); err != nil {
				t.Fatal(err)
			}
			if f := checkIn(t, l, set); len(f) != 0 {
				t.Errorf("findings: %v", f)
			}
			if err := set.Program().AddAddress(l.StackV4.Addr()); err != nil {
				t.Fatal(err)
			}
			fd := packetSocket(t, l)
			for i, s := range set.Sockets() {
				from := peerSocket(t, l, uint32(i)) // its frames arrive on the same queue here
				frame := udpFrame(t, l, []byte{'q', byte(i)})
				a, chunk, _ := from.TX().Frame()
				from.TX().Queue(a, copy(chunk, frame))
				from.TX().Flush()
				d := receiveDesc(t, s, frame)
				b := s.Region().Bytes(d)
				binary.BigEndian.PutUint16(b[12:], etherTypeSent)
				via := s
				if share {
					via = set.Sockets()[(i+1)%3]
				}
				if !via.TX().Queue(d.Addr, len(b)) || via.TX().Flush() != 0 {
					t.Fatalf("queue %d: Queue or Flush; Err %v", i, via.TX().Err())
				}
				if got := readFrame(t, fd, etherTypeSent); !bytes.Equal(got[14:], frame[14:]) {
					t.Errorf("queue %d: the peer got %x", i, got)
				}
			}
		})
	}
}

// peerSocket is a socket on a queue of the peer.
func peerSocket(t *testing.T, l *lab.Lab, queue uint32) (s *Socket) {
	t.Helper()
	err := l.Peer.Do(func() (err error) {
		s, err = Open(Config{Interface: l.Peer.Device, Queue: queue, Rings: RingSizes{RX: 64, TX: 64}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func checkIn(t *testing.T, l *lab.Lab, set *Set) (findings []Finding) {
	t.Helper()
	err := l.Host.Do(func() (err error) {
		findings, err = set.Check()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return findings
}

// TestSetMissesQueues binds to one of two queues: Check says so before a packet is
// lost, and how many were, after.
func TestSetMissesQueues(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	set, err := openSet(l, SetConfig{Queues: []uint32{0}})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	f := checkIn(t, l, set)
	if len(f) != 1 || f[0].Level != Warning || f[0].Subject != SubjectQueues ||
		!strings.Contains(f[0].Text, "queue 1,") || !strings.Contains(f[0].Fix, "ethtool -L afx0 ") {
		t.Errorf("findings: %v", f)
	}
	if err := set.Program().AddAddress(l.StackV4.Addr()); err != nil {
		t.Fatal(err)
	}
	from := peerSocket(t, l, 1)
	a, chunk, _ := from.TX().Frame()
	from.TX().Queue(a, copy(chunk, udpFrame(t, l, []byte("missed"))))
	from.TX().Flush()
	lab.Eventually(t, limit, "a packet on a queue without a socket", func() bool {
		f = checkIn(t, l, set)
		return len(f) == 2
	})
	if !strings.Contains(f[1].Text, "1 packets") {
		t.Errorf("findings: %v", f)
	}
}

// TestSetReceivesOnly has a set on a device with more queues to receive than to
// send: what it has to send on the others stays, and it says why; by a socket on one
// that sends it leaves.
func TestSetReceivesOnly(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 3, TXQueues: 1})
	set, err := openSet(l, SetConfig{Share: true})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if f := checkIn(t, l, set); len(f) != 1 || f[0].Level != Note || f[0].Subject != SubjectQueues ||
		!strings.Contains(f[0].Text, "1 transmit queues") || !strings.Contains(f[0].Text, "queues 1 and 2") || !strings.Contains(f[0].Fix, "ethtool -L afx0") {
		t.Errorf("findings: %v", f)
	}
	if err := set.Program().AddAddress(l.StackV4.Addr()); err != nil {
		t.Fatal(err)
	}
	fd := packetSocket(t, l)
	from := peerSocket(t, l, 2)
	frame := udpFrame(t, l, []byte("answer by another queue"))
	for range 2 {
		a, chunk, _ := from.TX().Frame()
		from.TX().Queue(a, copy(chunk, frame))
		from.TX().Flush()
	}
	mute, sends := set.Sockets()[2], set.Sockets()[0]
	d := receiveDesc(t, mute, frame)
	if err := mute.TX().Err(); err != nil {
		t.Errorf("before it has to send: %v", err)
	}
	if !mute.TX().Queue(d.Addr, int(d.Len)) || mute.TX().Flush() != 1 {
		t.Fatal("sent on a queue that only receives")
	}
	var op *OpError
	if err := mute.TX().Err(); !errors.As(err, &op) || !errors.Is(err, unix.ENXIO) || op.Queue != 2 || !strings.Contains(op.Remedy, "queues below 1") {
		t.Errorf("sent on a queue that only receives: %v", err)
	}
	d = receiveDesc(t, mute, frame)
	b := mute.Region().Bytes(d)
	binary.BigEndian.PutUint16(b[12:], etherTypeSent)
	if !sends.TX().Queue(d.Addr, len(b)) || sends.TX().Flush() != 0 || sends.TX().Err() != nil {
		t.Fatalf("queue 0: Queue or Flush; Err %v", sends.TX().Err())
	}
	if got := readFrame(t, fd, etherTypeSent); !bytes.Equal(got[14:], frame[14:]) {
		t.Errorf("the peer got %x", got)
	}
}

func TestSetErrors(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2})
	region, err := umem.New(umem.Config{Chunks: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer region.Close()
	before := descriptors.Open(t)
	for name, tc := range map[string]struct {
		cfg  SetConfig
		is   error
		says string
	}{
		"queue":       {cfg: SetConfig{Queues: []uint32{0, 1, 2}}, is: unix.EINVAL, says: "queue 2 of 2"},
		"twice":       {cfg: SetConfig{Queues: []uint32{0, 0}}, says: "SetConfig.Queues[1]: queue 0 is named twice"},
		"socket":      {cfg: SetConfig{Socket: Config{Queue: 1}}, says: "SetConfig.Socket"},
		"program":     {cfg: SetConfig{Program: ProgramConfig{Interface: "x"}}, says: "SetConfig.Program.Interface"},
		"two regions": {cfg: SetConfig{Share: true, Socket: Config{Region: region}}, says: "SetConfig.Share"},
		"umem":        {cfg: SetConfig{Share: true, Socket: Config{UMEM: umem.Config{ChunkSize: 1000}}}, says: "Config.ChunkSize"},
	} {
		s, err := openSet(l, tc.cfg)
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		} else if tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := before.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
	set, err := openSet(l, SetConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := l.SetDown(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := l.Host.Do(func() error { return set.WaitLink(ctx) }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitLink of a device that is down: %v", err)
	}
}

func TestUnreadQueues(t *testing.T) {
	for _, tc := range []struct {
		n     int
		rss   []int
		bound []uint32
		want  []int
	}{
		{n: 2, bound: []uint32{0, 1}},
		{n: 4, bound: []uint32{0, 1}, want: []int{2, 3}},
		{n: 4, rss: []int{0, 1}, bound: []uint32{0, 1}},
		{n: 4, rss: []int{0, 3}, bound: []uint32{0, 1}, want: []int{3}},
		{n: 1, want: []int{0}},
	} {
		if got := unreadQueues(tc.n, tc.rss, tc.bound); !slices.Equal(got, tc.want) {
			t.Errorf("%d queues, RSS %v, bound %v: %v, want %v", tc.n, tc.rss, tc.bound, got, tc.want)
		}
	}
	if got := listQueues([]int{1, 2, 5}); got != "queues 1, 2 and 5" {
		t.Errorf("%q", got)
	}
}

// TestSetProgramLost has the program taken off.
func TestSetProgramLost(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	set, err := openSet(l, SetConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if f := checkIn(t, l, set); len(f) != 0 {
		t.Errorf("findings: %v", f)
	}
	if err := l.DetachProgram(); err != nil {
		t.Fatal(err)
	}
	if f := checkIn(t, l, set); len(f) != 1 || f[0].Level != Problem || f[0].Subject != SubjectProgram || !strings.Contains(f[0].Text, "detached") || f[0].Fix == "" {
		t.Errorf("findings: %v", f)
	}
}
