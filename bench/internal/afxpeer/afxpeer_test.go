package afxpeer

import (
	"strings"
	"testing"

	"github.com/afxnet/afxnet/bench/internal/peer"
	"github.com/afxnet/afxnet/internal/sys"
	"github.com/afxnet/afxnet/internal/without"
)

// TestOff switches off what it is asked to, and nothing if it is not.
func TestOff(t *testing.T) {
	sc, err := config(peer.Config{Off: []string{without.GRO, TXBudget}})
	if err != nil || sc.Device.TXBudget != sys.KernelTXBudget || !sc.Device.NoGRO {
		t.Errorf("got %+v, %v", sc.Device, err)
	}
	if sc, err = config(peer.Config{}); err != nil || sc.Device.TXBudget != 0 || sc.Device.NoGRO {
		t.Errorf("got %+v, %v", sc.Device, err)
	}
}

func TestOpenErrors(t *testing.T) {
	for _, tc := range []struct {
		cfg  peer.Config
		want string
	}{
		{peer.Config{Polling: "sometimes"}, `no polling mode "sometimes"`},
		{peer.Config{Off: []string{"gravity"}}, `no mechanism "gravity"`},
		{peer.Config{Interface: "eth0"}, "Addresses"},
	} {
		if _, err := Open(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", tc.cfg, err, tc.want)
		}
	}
}
