package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/afxnet/afxnet/internal/frames"
	"github.com/afxnet/afxnet/netdev"
)

// result is what one protocol's run gave.
type result struct {
	Messages   int     `json:"messages"`
	Mismatches int     `json:"mismatches"`
	P50        float64 `json:"p50_us"`
	P99        float64 `json:"p99_us"`
}

type report struct {
	Info     netdev.Info
	TCP, UDP result
	Frames   frames.Account
}

func (r *report) bind() string {
	if r.Info.ZeroCopy {
		return "zero-copy"
	}
	return "copy"
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{
			"bind": r.bind(), "attach": r.Info.Attach.String(), "queues": len(r.Info.Queues),
			"tcp": r.TCP, "udp": r.UDP, "frames_missing": r.Frames.Missing, "drops": r.Frames.Drops,
		})
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%s: %s, bind %s, attach %v, %d queue(s), MTU %d\n", r.Info.Interface, r.Info.Driver, r.bind(), r.Info.Attach, len(r.Info.Queues), r.Info.MTU)
	fmt.Fprintf(t, "\nprotocol\tmessages\tmismatches\tp50 us\tp99 us\n")
	for _, p := range []struct {
		name string
		result
	}{{"tcp", r.TCP}, {"udp", r.UDP}} {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.1f\t%.1f\n", p.name, p.Messages, p.Mismatches, p.P50, p.P99)
	}
	fmt.Fprintf(t, "\nframes\tin\tout\n")
	for _, f := range r.Frames.Steps {
		fmt.Fprintf(t, "%s\t%d\t%d\n", f.Name, f.In, f.Out)
	}
	fmt.Fprintf(t, "missing\t%d\n", r.Frames.Missing)
	for _, name := range slices.Sorted(maps.Keys(r.Frames.Drops)) {
		fmt.Fprintf(t, "dropped: %s\t%d\n", name, r.Frames.Drops[name])
	}
	return t.Flush()
}

// verdict is nil if every message came back intact and every frame is accounted
// for.
func (r *report) verdict() error {
	var errs []error
	if n := r.TCP.Mismatches + r.UDP.Mismatches; n != 0 {
		errs = append(errs, fmt.Errorf("%d messages came back changed", n))
	}
	if n := r.Frames.Missing; n != 0 {
		errs = append(errs, fmt.Errorf("%d frames are unaccounted for", n))
	}
	return errors.Join(errs...)
}
