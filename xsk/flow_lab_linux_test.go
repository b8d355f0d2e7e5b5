//go:build linux && (amd64 || arm64)

package xsk

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/descriptors"
	"github.com/afxnet/afxnet/internal/lab"
)

// TestSteerFlowVeth refuses on a device without rules, with the reason and what to do,
// and before that what no device has.
func TestSteerFlowVeth(t *testing.T) {
	lab.Require(t, lab.NetNS)
	l := lab.New(t, lab.Config{Queues: 2})
	fds := descriptors.Open(t)
	udp := FlowRule{Protocol: ProtocolUDP, Dst: netip.MustParsePrefix("0.0.0.0/0"), DstPort: 4242, Queue: 1}
	far, bad := udp, udp
	far.Queue, bad.Protocol = 2, 0
	for _, tc := range []struct {
		device string
		rule   FlowRule
		is     error
		says   []string
	}{
		{lab.HostDevice, udp, errors.ErrUnsupported, []string{"steer flow, " + lab.HostDevice + " queue 1", "the driver has none", "OpenAll"}},
		{lab.HostDevice, far, unix.EINVAL, []string{"the device has 2 receive queues"}},
		{lab.HostDevice, bad, nil, []string{"xsk: flow rule: Protocol: 0"}},
		{"nope0", udp, unix.ENODEV, []string{"nope0"}},
	} {
		err := l.Host.Do(func() error {
			_, err := SteerFlow(tc.device, tc.rule)
			return err
		})
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("%+v: %v, want %v", tc.rule, err, tc.is)
			continue
		}
		for _, want := range tc.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	}
	if left := fds.New(descriptors.Open(t)); len(left) > 0 {
		t.Errorf("descriptors that are left: %v", left)
	}
}
