package floor

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/bench/internal/peer"
)

func TestConfig(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("fd00::1/64")
	good := peer.Config{Interface: "none0", V4: v4, V6: v6}
	if err := check(good); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*peer.Config){
		"Interface":           func(c *peer.Config) { c.Interface = "" },
		"V4":                  func(c *peer.Config) { c.V4 = v6 },
		"V6":                  func(c *peer.Config) { c.V6 = v4 },
		"V4 and Config.V6":    func(c *peer.Config) { c.V4, c.V6 = netip.Prefix{}, netip.Prefix{} },
		"MTU":                 func(c *peer.Config) { c.MTU = 575 },
		"Queues":              func(c *peer.Config) { c.Queues = -1 },
		`Polling: "sideways"`: func(c *peer.Config) { c.Polling = "sideways" },
	} {
		cfg := good
		change(&cfg)
		f, err := Open(cfg)
		if f != nil || err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestTally(t *testing.T) {
	var count tally
	var sum totals
	for range 2 {
		count[framesIn] = 3
		count.publish(&sum)
	}
	if sum[framesIn].Load() != 6 || count[framesIn] != 0 || sum[framesOut].Load() != 0 {
		t.Errorf("%v %v", sum[framesIn].Load(), count)
	}
	for e, name := range eventNames {
		if name == "" {
			t.Errorf("event %d has no name", e)
		}
	}
}
