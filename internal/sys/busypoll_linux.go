package sys

import (
	"os"

	"golang.org/x/sys/unix"
)

// SetBusyPoll sets SO_BUSY_POLL, in microseconds (3.11): calls on the socket
// run the NAPI behind its queue.
func (s *Socket) SetBusyPoll(us int) error { return s.setOption(unix.SO_BUSY_POLL, us) }

// SetPreferBusyPoll sets SO_PREFER_BUSY_POLL (5.11): who polls is relied on, and
// the device's interrupts stay masked meanwhile.
func (s *Socket) SetPreferBusyPoll() error { return s.setOption(unix.SO_PREFER_BUSY_POLL, 1) }

// SetBusyPollBudget sets SO_BUSY_POLL_BUDGET (5.11): how many packets one call
// may take from the device. It cannot be read back.
func (s *Socket) SetBusyPollBudget(packets int) error {
	return s.setOption(unix.SO_BUSY_POLL_BUDGET, packets)
}

// BusyPoll reads SO_BUSY_POLL, in microseconds.
func (s *Socket) BusyPoll() (us int, err error) { return s.option(unix.SO_BUSY_POLL) }

// PreferBusyPoll reads SO_PREFER_BUSY_POLL.
func (s *Socket) PreferBusyPoll() (bool, error) {
	v, err := s.option(unix.SO_PREFER_BUSY_POLL)
	return v != 0, err
}

// NAPI reads SO_INCOMING_NAPI_ID (4.12): the id of the NAPI that calls on the
// socket would run; 0 if the kernel does not know one.
func (s *Socket) NAPI() (id uint32, err error) {
	v, err := s.option(unix.SO_INCOMING_NAPI_ID)
	return uint32(v), err
}

func (s *Socket) setOption(opt, v int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, opt, v))
}

func (s *Socket) option(opt int) (int, error) {
	v, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, opt)
	return v, os.NewSyscallError("getsockopt", err)
}
