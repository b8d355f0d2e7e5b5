package lab

import (
	"testing"
	"time"
)

// Eventually waits until cond holds, and fails the test if it does not within
// limit. It is for states of the kernel of which there is no event: a counter, a
// program that goes away. Where there is an event, wait for that.
func Eventually(tb testing.TB, limit time.Duration, what string, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(limit); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", limit, what)
		}
	}
}
