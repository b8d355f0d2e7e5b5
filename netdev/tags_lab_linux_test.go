package netdev_test

import (
	"testing"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/netdev"
)

// TestKeepTags wants VLAN tags left in their frames while a device is open, and
// the setting back after it, also where Open fails.
func TestKeepTags(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	taken := func() (on bool) {
		t.Helper()
		err := l.Host.Do(func() (err error) {
			on, err = hostif.FeatureOn(lab.HostDevice, "rx-vlan-hw-parse")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return on
	}
	if !taken() {
		t.Fatal("the offload is off by itself")
	}
	open := func(cfg netdev.Config) (d *netdev.Device, err error) {
		cfg.Interface = lab.HostDevice
		err = l.Host.Do(func() error {
			d, err = netdev.Open(cfg)
			return err
		})
		return d, err
	}
	d, err := open(netdev.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if taken() {
		t.Error("tags are taken off while a device is open")
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if !taken() {
		t.Error("the offload is off after Close")
	}
	if _, err := open(netdev.Config{Queues: []uint32{7}}); err == nil {
		t.Error("queue 7 of 1 was opened")
	}
	if !taken() {
		t.Error("the offload is off after an Open that failed")
	}
}
