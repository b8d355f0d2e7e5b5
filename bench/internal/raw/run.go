package raw

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"
)

// spinCheck is how many empty polls go by before a loop lets other goroutines
// run, if GOMAXPROCS is 1.
const spinCheck = 64

// run watches the limits of a loop. It belongs to the loop's goroutine, which is
// locked to its thread until finish, so that its CPU time is its own.
type run struct {
	job     Job
	stop    atomic.Bool
	release func() bool
	yield   bool
	idle    int
	start   time.Time // of the first packet
	last    time.Time // of the latest
	cpu     time.Duration
	res     Result
}

func newRun(ctx context.Context, job Job) *run {
	runtime.LockOSThread()
	r := &run{job: job, yield: runtime.GOMAXPROCS(0) == 1, cpu: threadCPU()}
	r.release = context.AfterFunc(ctx, func() { r.stop.Store(true) })
	return r
}

// room returns how many packets of a batch are still to be done; 0 ends the
// loop.
func (r *run) room() int {
	if r.stop.Load() || r.job.Duration > 0 && !r.start.IsZero() && time.Since(r.start) >= r.job.Duration {
		return 0
	}
	if r.job.Packets == 0 {
		return Batch
	}
	return int(min(Batch, r.job.Packets-min(r.job.Packets, r.res.Packets)))
}

// begin starts the clock, once.
func (r *run) begin() {
	if r.start.IsZero() {
		r.start = time.Now()
		r.last = r.start
	}
}

// done counts n packets of so many bytes; none counts as an empty poll.
func (r *run) done(n, bytes int) {
	if n == 0 {
		if r.idle++; r.yield && r.idle%spinCheck == 0 {
			runtime.Gosched()
		}
		return
	}
	r.idle = 0
	r.res.Packets += uint64(n)
	r.res.Bytes += uint64(bytes)
	r.last = time.Now()
}

// finish ends the run and returns what was counted.
func (r *run) finish() Result {
	r.release()
	r.res.Elapsed = r.last.Sub(r.start)
	r.res.CPU = threadCPU() - r.cpu
	runtime.UnlockOSThread()
	return r.res
}
