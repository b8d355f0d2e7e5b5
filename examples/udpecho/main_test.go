package main

import (
	"context"
	"testing"

	"github.com/afxnet/afxnet/internal/lab"
)

// TestJumbo has a device refused whose packets would be several descriptors.
func TestJumbo(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	ended, end := context.WithCancel(t.Context())
	end()
	l := lab.New(t, lab.Config{MTU: 9000})
	err := l.Host.Do(func() error {
		serve, err := open(lab.HostDevice, l.StackV4.Addr())
		if err != nil {
			t.Log(err)
			return nil
		}
		t.Error("an MTU of 9000 is taken")
		return serve(ended)
	})
	if err != nil {
		t.Error(err)
	}
}
