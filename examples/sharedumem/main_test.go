package main

import (
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/xsk"
)

// TestJumbo has a device refused whose packets would be several descriptors.
func TestJumbo(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{Queues: 2, MTU: 9000})
	err := l.Host.Do(func() error {
		p, err := open(xsk.Config{Interface: lab.HostDevice}, xsk.Config{Interface: lab.HostDevice, Queue: 1}, l.StackV4.Addr())
		if err != nil {
			t.Log(err)
			return nil
		}
		t.Error("an MTU of 9000 is taken")
		return p.close()
	})
	if err != nil {
		t.Error(err)
	}
}
