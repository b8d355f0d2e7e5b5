//go:build !linux

package load

import "time"

// sleep is time.Sleep where nothing more precise is at hand.
func sleep(d time.Duration) { time.Sleep(d) }

// precise needs Linux.
func precise() (undo func()) { return func() {} }
