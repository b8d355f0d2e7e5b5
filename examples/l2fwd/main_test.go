package main

import (
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
)

// TestJumbo has a device refused whose packets would be several descriptors.
func TestJumbo(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{MTU: 9000})
	err := l.Host.Do(func() error {
		set, err := open(lab.HostDevice, l.StackV4.Addr())
		if err != nil {
			t.Log(err)
			return nil
		}
		t.Error("an MTU of 9000 is taken")
		return set.Close()
	})
	if err != nil {
		t.Error(err)
	}
}
