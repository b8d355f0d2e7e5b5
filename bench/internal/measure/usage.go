// Package measure reads what a workload costs: what a process used, what the
// machine's CPUs did, what a device carried, and how long operations took.
package measure

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is what the process has used since it started, and what its network
// namespace's device has carried. Differences of two say what happened between.
type Usage struct {
	CPU         time.Duration `json:"cpu"` // user and system
	Voluntary   int64         `json:"voluntary"`
	Involuntary int64         `json:"involuntary"` // context switches
	Mallocs     uint64        `json:"mallocs"`
	AllocBytes  uint64        `json:"alloc_bytes"`
	Resident    uint64        `json:"resident"` // bytes of memory now, not a counter

	Link     Link              `json:"link"`     // zero without a device
	Counters map[string]uint64 `json:"counters"` // the peer's own
}

// Link is what a device has carried, as seen from it.
type Link struct {
	RXFrames, TXFrames uint64
	RXBytes, TXBytes   uint64
}

// Self reads the usage of this process and, unless device is empty, of a device
// in its network namespace. What cannot be read is zero.
func Self(device string) Usage {
	var u Usage
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		u.CPU = time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
		u.Voluntary, u.Involuntary = int64(ru.Nvcsw), int64(ru.Nivcsw)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Mallocs, u.AllocBytes = m.Mallocs, m.TotalAlloc
	u.Resident = resident()
	if text, err := os.ReadFile("/proc/self/net/dev"); err == nil && device != "" {
		u.Link, _ = parseLink(text, device) // a device that is gone has carried nothing
	}
	return u
}

// Shrink gives unused memory back to the system, so that Usage.Resident tells
// what is in use.
func Shrink() { debug.FreeOSMemory() }

func resident() uint64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(text))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// parseLink finds a device's line in /proc/net/dev: eight columns of what was
// received, bytes and packets first, then the same for what was sent.
func parseLink(text []byte, device string) (Link, error) {
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		if !ok || strings.TrimSpace(name) != device {
			continue
		}
		f := strings.Fields(rest)
		if len(f) < 10 {
			break
		}
		var l Link
		for _, c := range []struct {
			column int
			value  *uint64
		}{{0, &l.RXBytes}, {1, &l.RXFrames}, {8, &l.TXBytes}, {9, &l.TXFrames}} {
			v, err := strconv.ParseUint(f[c.column], 10, 64)
			if err != nil {
				return Link{}, fmt.Errorf("measure: /proc/net/dev: %w", err)
			}
			*c.value = v
		}
		return l, nil
	}
	return Link{}, fmt.Errorf("measure: /proc/net/dev has no counters of %s", device)
}

// Sub returns u minus an earlier v. Resident is the growth, 0 if it shrank.
func (u Usage) Sub(v Usage) Usage {
	d := Usage{
		CPU:         u.CPU - v.CPU,
		Voluntary:   u.Voluntary - v.Voluntary,
		Involuntary: u.Involuntary - v.Involuntary,
		Mallocs:     u.Mallocs - v.Mallocs,
		AllocBytes:  u.AllocBytes - v.AllocBytes,
		Link: Link{
			RXFrames: u.Link.RXFrames - v.Link.RXFrames, TXFrames: u.Link.TXFrames - v.Link.TXFrames,
			RXBytes: u.Link.RXBytes - v.Link.RXBytes, TXBytes: u.Link.TXBytes - v.Link.TXBytes,
		},
		Counters: make(map[string]uint64),
	}
	if u.Resident > v.Resident {
		d.Resident = u.Resident - v.Resident
	}
	for name, n := range u.Counters {
		d.Counters[name] = n - v.Counters[name]
	}
	return d
}
