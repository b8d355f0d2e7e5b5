package xsk

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/hostif"
)

func TestNAPIConfig(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		in   NAPI
		want hostif.NAPIValues
		err  string
	}{
		{want: hostif.NAPIValues{}},
		{in: NAPI{DeferHardIRQs: 2, GROFlushTimeout: ms}, want: hostif.NAPIValues{hostif.NAPIDeferHardIRQs: 2, hostif.NAPIGROFlushTimeout: 1e6}},
		{in: NAPI{DeferHardIRQs: -1, GROFlushTimeout: -1, IRQSuspendTimeout: -1},
			want: hostif.NAPIValues{hostif.NAPIDeferHardIRQs: 0, hostif.NAPIGROFlushTimeout: 0, hostif.NAPIIRQSuspendTimeout: 0}},
		{in: NAPI{Thread: NAPIThreadOff}, want: hostif.NAPIValues{hostif.NAPIThreaded: hostif.NAPIThreadedOff}},
		{in: NAPI{Thread: NAPIThreadOn}, want: hostif.NAPIValues{hostif.NAPIThreaded: hostif.NAPIThreadedOn}},
		{in: NAPI{Thread: NAPIThreadBusyPoll}, want: hostif.NAPIValues{hostif.NAPIThreaded: hostif.NAPIThreadedBusyPoll}},
		{in: NAPI{GROFlushTimeout: time.Second, IRQSuspendTimeout: time.Second, DeferHardIRQs: 1<<31 - 1},
			want: hostif.NAPIValues{hostif.NAPIDeferHardIRQs: 1<<31 - 1, hostif.NAPIGROFlushTimeout: 1e9, hostif.NAPIIRQSuspendTimeout: 1e9}},
		{in: NAPI{DeferHardIRQs: 1 << 31}, err: "NAPI.DeferHardIRQs: 2147483648"},
		{in: NAPI{GROFlushTimeout: time.Second + 1}, err: "NAPI.GROFlushTimeout: 1.000000001s: at most 1s"},
		{in: NAPI{IRQSuspendTimeout: time.Minute}, err: "NAPI.IRQSuspendTimeout"},
		{in: NAPI{Thread: 4}, err: "NAPI.Thread: NAPI thread 4"},
	} {
		got, err := Config{NAPI: c.in}.withDefaults()
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil || !maps.Equal(got.NAPI.values(), c.want) {
			t.Errorf("%+v: got %v, %v, want %v", c.in, got.NAPI.values(), err, c.want)
		}
		// What was set reads back as what was asked for, but for what was left
		// alone.
		back := napiOf(9, false, got.NAPI.values())
		if back.ID != 9 || back.Thread != c.in.Thread || back.DeferHardIRQs != max(c.in.DeferHardIRQs, 0) || back.GROFlushTimeout != max(c.in.GROFlushTimeout, 0) || back.IRQSuspendTimeout != max(c.in.IRQSuspendTimeout, 0) {
			t.Errorf("%+v reads back as %+v", c.in, back)
		}
	}
}
