package hostif

import "fmt"

// NAPIValue names one setting of a NAPI, by the number of its attribute in
// NETDEV_CMD_NAPI_SET (linux/netdev.h).
type NAPIValue uint16

// The settings of a NAPI, with the Linux release that has them.
const (
	NAPIDeferHardIRQs     NAPIValue = 5 // polls without a packet before the interrupt is on again (6.13)
	NAPIGROFlushTimeout   NAPIValue = 6 // nanoseconds until the kernel polls while it is off (6.13)
	NAPIIRQSuspendTimeout NAPIValue = 7 // nanoseconds it stays off while a program polls and finds packets (6.13)
	NAPIThreaded          NAPIValue = 8 // a NAPIThreaded constant (6.17)
)

// Values of NAPIThreaded.
const (
	NAPIThreadedOff      = 0 // polled by softirqs
	NAPIThreadedOn       = 1 // by a kernel thread of its own
	NAPIThreadedBusyPoll = 2 // by one that never sleeps (6.19)
)

// String names a value as the kernel does.
func (v NAPIValue) String() string {
	switch v {
	case NAPIDeferHardIRQs:
		return "defer-hard-irqs"
	case NAPIGROFlushTimeout:
		return "gro-flush-timeout"
	case NAPIIRQSuspendTimeout:
		return "irq-suspend-timeout"
	case NAPIThreaded:
		return "threaded"
	}
	return fmt.Sprintf("NAPI setting %d", uint16(v))
}

// since is the Linux release that can set it for one NAPI.
func (v NAPIValue) since() string {
	if v == NAPIThreaded {
		return "6.17"
	}
	return "6.13"
}

// NAPIValues are settings of one NAPI: those that are asked for, or those that the
// kernel told.
type NAPIValues map[NAPIValue]uint64
