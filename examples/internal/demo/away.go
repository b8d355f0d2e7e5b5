package demo

import (
	"errors"
	"syscall"
	"time"
)

// Away reports whether err is that of an interface which is set down, and may come up
// again, after a pause. Servers that go on when Accept has a temporary error, as
// net/http's, need nothing of the kind.
func Away(err error) bool {
	if !errors.Is(err, syscall.ENETDOWN) || errors.Is(err, syscall.ENODEV) {
		return false
	}
	time.Sleep(100 * time.Millisecond)
	return true
}
