package xsk

import (
	"os"
	"strings"
	"testing"

	"github.com/afxnet/afxnet/umem"
)

// TestSetConfig refuses what the sockets of a set cannot each have, before anything
// is done to the device.
func TestSetConfig(t *testing.T) {
	for _, tc := range []struct {
		cfg  SetConfig
		says string
	}{
		{SetConfig{Socket: Config{Queue: 1}}, "SetConfig.Socket: Queue"},
		{SetConfig{Socket: Config{Prepared: &Prepared{FD: -1}}}, "SetConfig.Socket: Queue, Shared and Prepared"},
		{SetConfig{Socket: Config{UMEM: umem.Config{File: os.Stdin}}}, "SetConfig.Socket.UMEM.File"},
		{SetConfig{Queues: []uint32{}}, "SetConfig.Queues: empty"},
		{SetConfig{Queues: []uint32{0, 3, 1, 3}}, "SetConfig.Queues[3]: queue 3 is named twice"},
		{SetConfig{Queues: []uint32{2, 2}, Share: true}, "SetConfig.Queues[1]: queue 2 is named twice"},
	} {
		tc.cfg.Socket.Interface = "nonesuch0"
		s, err := OpenAll(tc.cfg)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%v does not say %q", err, tc.says)
		}
	}
}
