package demo

import (
	"errors"
	"syscall"
)

// Away reports whether err is that of an interface which is set down, and may come up
// again. Accept and reads of datagrams tell of it once, and then wait for it. Servers
// that go on after a temporary error, as net/http's, need nothing of the kind.
func Away(err error) bool {
	return errors.Is(err, syscall.ENETDOWN) && !errors.Is(err, syscall.ENODEV)
}
