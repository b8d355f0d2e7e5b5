package demo

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/afxnet/afxnet/internal/lab"
)

// TestGone ends a service whose interface is deleted, and says why.
func TestGone(t *testing.T) {
	lab.Require(t, lab.NetNS, lab.XDP)
	l := lab.New(t, lab.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // or it would go on for good
	defer cancel()
	deleted := make(chan error, 1)
	p := Program{Name: "gone", Port: 7, Serve: func(Host, string) (stop func() error, err error) {
		go func() { deleted <- l.Delete() }()
		return func() error { return nil }, nil
	}}
	err := l.Host.Do(func() error {
		return p.runInterface(ctx, options{iface: lab.HostDevice, addr: l.StackV4.String()})
	})
	if !errors.Is(err, syscall.ENODEV) {
		t.Errorf("got %v", err)
	}
	if err := <-deleted; err != nil {
		t.Error(err)
	}
}
