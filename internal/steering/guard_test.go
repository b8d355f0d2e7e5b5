package steering

import (
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
)

// TestRepeat has a look take long, as if the process had been stopped: the next one is as
// long after it as any.
func TestRepeat(t *testing.T) {
	raced.Bubble(t, func(t *testing.T) {
		stop := make(chan struct{})
		last, looks := time.Now(), 0
		repeat(stop, func() (over bool) {
			if since := time.Since(last); since != guardEvery {
				t.Errorf("look %d is %v after the last one", looks, since)
			}
			looks++
			time.Sleep(guardEvery * time.Duration(looks) / 2 * 3)
			last = time.Now()
			return looks == 5
		})
		if looks != 5 {
			t.Errorf("%d looks, want 5", looks)
		}
		close(stop)
		repeat(stop, func() bool { t.Error("a look after stop"); return true })
	})
}
