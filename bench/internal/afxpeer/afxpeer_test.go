package afxpeer

import (
	"strings"
	"testing"

	"github.com/afxnet/afxnet/bench/internal/peer"
)

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
