package main

import (
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

// TestTryFails has a device whose queue somebody else has: that is a problem, too.
func TestTryFails(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	err := l.Host.Do(func() error {
		other, err := xsk.Open(xsk.Config{Interface: lab.HostDevice})
		if err != nil {
			return err
		}
		for _, asJSON := range []bool{false, true} {
			if r, err := examine(lab.HostDevice, asJSON, true); err == nil || r == nil || r.Tried == nil || r.Tried.Error == "" {
				t.Errorf("JSON %v: got %+v, %v", asJSON, r, err)
			}
		}
		return other.Close()
	})
	if err != nil {
		t.Error(err)
	}
}
