package stack

import (
	"flag"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/raced"
)

var dispositionFrames = flag.Int("afxnet.frames", 0, "number of frames of TestDisposition; 0 is 50000")

// receiveMechanisms are those on the way from the wire to the endpoints, and how
// each is switched off. Another one takes another line here.
var receiveMechanisms = []struct {
	name string
	off  func(c *Config)
}{
	{"fast IP", func(c *Config) { c.NoFastIP = true }},
	{"GRO", func(c *Config) { c.Device.NoGRO = true }},
	{"ACK merging", func(c *Config) { c.Device.NoACKMerge = true }},
}

// newTargets makes a target for each combination of mechanisms; the first has
// none.
func newTargets(t testing.TB) (all []*target) {
	for set := range 1 << len(receiveMechanisms) {
		cfg := dispositionConfig()
		var on []string
		for i, m := range receiveMechanisms {
			if set>>i&1 == 0 {
				m.off(&cfg)
			} else {
				on = append(on, m.name)
			}
		}
		if len(on) == 0 {
			on = []string{"nothing"}
		}
		all = append(all, newTarget(t, strings.Join(on, ", "), cfg))
	}
	return all
}

// TestDisposition sends the same frames to a stack with each combination of
// mechanisms, and wants the same to come of each frame: delivered to the same
// endpoint, headers and data; dropped, and counted under the same name; answered
// with the same packet.
func TestDisposition(t *testing.T) {
	n := 50_000
	switch {
	case *dispositionFrames > 0:
		n = *dispositionFrames
	case raced.Enabled:
		n = 8_000
	case testing.Short():
		n = 15_000
	}
	targets := newTargets(t)
	plain := targets[0]
	g := newTraffic(1, [6]byte(plain.w.Port(0).MAC()), [6]byte(plain.w.Port(1).MAC()))
	most := 64
	for done, bursts := 0, 1; done < n; bursts++ {
		frames := g.burst(min(most, n-done))
		done += len(frames)
		want, err := plain.burst(frames)
		if err != nil {
			t.Fatalf("with %s, up to frame %d: %v", plain.name, done, err)
		}
		for _, v := range targets[1:] {
			got, err := v.burst(frames)
			if err != nil {
				t.Fatalf("with %s, up to frame %d: %v", v.name, done, err)
			}
			for i := range got {
				if !got[i].equal(&want[i]) {
					t.Fatalf("frame %d of a burst of %d: %x\n  with %s: %s\n  with %s: %s", i, len(frames), frames[i],
						plain.name, want[i].describe(plain.names), v.name, got[i].describe(v.names))
				}
			}
			compareTotals(t, plain.name, v.name, plain.total, v.total)
		}
		// Time goes on only here, so that timers fire at the same place.
		for _, v := range targets {
			if v.clock.RunImmediatelyScheduledJobs(); bursts%16 == 0 {
				v.clock.Advance(700 * time.Millisecond)
			}
		}
		late := plain.late()
		for _, v := range targets[1:] {
			if got := v.late(); !got.equal(&late) {
				t.Fatalf("later, up to frame %d:\n  with %s: %s\n  with %s: %s", done, plain.name, late.describe(plain.names), v.name, got.describe(v.names))
			}
		}
		if t.Failed() {
			t.Fatalf("up to frame %d", done)
		}
	}
	for _, v := range targets[1:] {
		compareTotals(t, plain.name, v.name, plain.unknown(), v.unknown())
	}
	checkReach(t, targets, n)
}

// compareTotals compares what is counted by reason.
func compareTotals(t *testing.T, nameA, nameB string, a, b map[string]uint64) {
	t.Helper()
	if maps.Equal(a, b) {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if a[k] != b[k] {
			t.Errorf("%s: %d with %s, %d with %s", k, a[k], nameA, b[k], nameB)
		}
	}
	for k, n := range b {
		if _, ok := a[k]; !ok {
			t.Errorf("%s: %d with %s, none with %s", k, n, nameB, nameA)
		}
	}
}

// checkReach sees that the frames have reached what is compared: that the
// mechanisms have been at work, and each reason for a drop was met.
func checkReach(t *testing.T, targets []*target, n int) {
	t.Helper()
	for _, v := range targets {
		q := deviceStats(v.s)[0]
		fast := v.s.Stats().FastReceived
		t.Logf("with %s: %d frames up in %d packets, %d of them the short way", v.name, q.RXDelivered, q.RXPackets, fast)
		if on := !v.s.cfg.NoFastIP; on != (fast > uint64(n/8)) {
			t.Errorf("with %s: %d packets took the short way", v.name, fast)
		}
		if merged := q.RXDelivered - q.RXPackets; v.merged != (merged > uint64(n/16)) {
			t.Errorf("with %s: %d frames were merged into others", v.name, merged)
		}
		if v.superseded != (q.RXACKs > uint64(n/100)) {
			t.Errorf("with %s: %d acknowledgements were superseded", v.name, q.RXACKs)
		}
	}
	plain := targets[0]
	for _, k := range []string{"rx too short", "rx bad IP version", "rx bad IPv4 header length", "rx bad IP total length", "rx bad TCP data offset",
		"rx bad UDP length", "rx bad IPv4 checksum", "rx bad TCP checksum", "rx bad UDP checksum", "rx missing UDP checksum"} {
		if plain.total[k] == 0 {
			t.Errorf("%q was not met", k)
		}
	}
	if len(plain.unknown()) < 10 {
		t.Errorf("protocols that were met and are not known: %v", plain.unknown())
	}
	ip, st := plain.s.ns.Stats().IP, plain.s.ns.Stats()
	for name, c := range map[string]uint64{
		"invalid source": ip.InvalidSourceAddressesReceived.Value(), "invalid destination": ip.InvalidDestinationAddressesReceived.Value(),
		"malformed packet": ip.MalformedPacketsReceived.Value(), "malformed fragment": ip.MalformedFragmentsReceived.Value(),
		"unknown UDP port": st.UDP.UnknownPortErrors.Value(), "reset": st.TCP.ResetsSent.Value(), "TCP to many": st.TCP.InvalidSegmentsReceived.Value(),
		"port unreachable": st.ICMP.V4.PacketsSent.DstUnreachable.Value(), "port unreachable, IPv6": st.ICMP.V6.PacketsSent.DstUnreachable.Value(),
		"parameter problem": st.ICMP.V4.PacketsSent.ParamProblem.Value(), "echo reply": st.ICMP.V4.PacketsSent.EchoReply.Value(),
	} {
		if c == 0 {
			t.Errorf("no frame met %q", name)
		}
	}
	var met []string
	for i, name := range plain.names {
		if plain.value(i) != 0 {
			met = append(met, name)
		}
	}
	t.Logf("%d counters of netstack were met: %s", len(met), strings.Join(met, ", "))
	// The addition that Netstack makes to its counters is right.
	for _, v := range targets {
		before := make([]uint64, len(v.names))
		for i := range before {
			before[i] = v.value(i)
		}
		v.s.Netstack()
		for i := range before {
			if got := v.value(i); got != before[i] {
				t.Errorf("with %s: %s is %d after Netstack, and was %d with what took the short way", v.name, v.names[i], got, before[i])
			}
		}
	}
}
