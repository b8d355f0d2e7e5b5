package xsk

import (
	"fmt"
	"math"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
)

// NAPI are settings of the queue's NAPI, the part of the driver that takes packets
// from the device. They belong to the device, not to the socket: others that use
// the queue have them too. What is zero is left alone; negative sets it to zero.
type NAPI struct {
	// DeferHardIRQs is after how many polls without a packet the interrupt is
	// on again (napi_defer_hard_irqs; for one queue since 6.13, before that
	// for the whole device, since 5.8).
	DeferHardIRQs int

	// GROFlushTimeout is how long the kernel waits for somebody to poll, while
	// the interrupt is off, until it does so itself (gro_flush_timeout; for one
	// queue since 6.13, before that for the whole device, since 5.8): up to 1 s.
	GROFlushTimeout time.Duration

	// IRQSuspendTimeout is how long the interrupt stays off after an epoll that
	// busy polls has found packets (6.13): up to 1 s. It works with the two
	// above only, for who waits for the socket by an epoll of his own with
	// EPIOCSPARAMS.
	IRQSuspendTimeout time.Duration

	// Thread says what polls.
	Thread NAPIThread
}

// NAPIThread says what runs a NAPI.
type NAPIThread uint8

const (
	// NAPIThreadKeep leaves it as it is.
	NAPIThreadKeep NAPIThread = iota
	// NAPIThreadOff has softirqs run it, on the CPU of the interrupt.
	NAPIThreadOff
	// NAPIThreadOn gives it a kernel thread, which can be given a CPU (6.17).
	NAPIThreadOn
	// NAPIThreadBusyPoll gives it one that polls all the time (6.19).
	NAPIThreadBusyPoll
)

func (t NAPIThread) String() string {
	switch t {
	case NAPIThreadKeep:
		return "keep"
	case NAPIThreadOff:
		return "off"
	case NAPIThreadOn:
		return "on"
	case NAPIThreadBusyPoll:
		return "busy poll"
	}
	return fmt.Sprintf("NAPI thread %d", uint8(t))
}

// NAPIState is what the kernel told of a NAPI once it was set. Zero is zero here.
type NAPIState struct {
	NAPI
	ID     uint32 // 0 if nothing was asked for, or Device
	Device bool   // these are of all of the device's NAPIs: the kernel has none for one queue
}

func (n NAPI) check() error {
	if n.DeferHardIRQs > math.MaxInt32 {
		return fmt.Errorf("xsk: Config.NAPI.DeferHardIRQs: %d polls: at most %d", n.DeferHardIRQs, math.MaxInt32)
	}
	for name, d := range map[string]time.Duration{"GROFlushTimeout": n.GROFlushTimeout, "IRQSuspendTimeout": n.IRQSuspendTimeout} {
		if d > maxBusyTime {
			return fmt.Errorf("xsk: Config.NAPI.%s: %v: at most %v", name, d, maxBusyTime)
		}
	}
	if n.Thread > NAPIThreadBusyPoll {
		return fmt.Errorf("xsk: Config.NAPI.Thread: %v: no such choice", n.Thread)
	}
	return nil
}

// values are what to set.
func (n NAPI) values() hostif.NAPIValues {
	values := make(hostif.NAPIValues)
	for name, v := range map[hostif.NAPIValue]int64{
		hostif.NAPIDeferHardIRQs:     int64(n.DeferHardIRQs),
		hostif.NAPIGROFlushTimeout:   int64(n.GROFlushTimeout),
		hostif.NAPIIRQSuspendTimeout: int64(n.IRQSuspendTimeout),
	} {
		if v != 0 {
			values[name] = uint64(max(v, 0))
		}
	}
	if n.Thread != NAPIThreadKeep {
		values[hostif.NAPIThreaded] = uint64(n.Thread - NAPIThreadOff)
	}
	return values
}

// napiOf is what values mean.
func napiOf(id uint32, device bool, values hostif.NAPIValues) NAPIState {
	s := NAPIState{ID: id, Device: device, NAPI: NAPI{
		DeferHardIRQs:     int(values[hostif.NAPIDeferHardIRQs]),
		GROFlushTimeout:   time.Duration(values[hostif.NAPIGROFlushTimeout]),
		IRQSuspendTimeout: time.Duration(values[hostif.NAPIIRQSuspendTimeout]),
	}}
	if t, ok := values[hostif.NAPIThreaded]; ok {
		s.Thread = NAPIThreadOff + NAPIThread(t)
	}
	return s
}

// NAPI tells the settings of the queue's NAPI as they were read back when the
// socket was opened; zero if Config.NAPI was.
//
// Before Linux 6.13, with NAPIState.Device, these are the device's, for each of its
// queues, whoever has those. The sockets of one process can have them together if
// they ask for the same, and the last one's Close restores what was before; another
// process gets unix.EBUSY meanwhile. Only what was asked for is told.
func (s *Socket) NAPI() NAPIState {
	if s.napi == nil {
		return NAPIState{}
	}
	return napiOf(s.napi.ID, s.napi.Device, s.napi.Values)
}

// restoreNAPI gives the NAPI its former settings. Idempotent.
func (s *Socket) restoreNAPI() error {
	if s.napi == nil {
		return nil
	}
	return s.napi.Restore()
}
