package hostif_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/hostif"
	"github.com/afxnet/afxnet/internal/lab"
)

// TestZeroCopySegments asks about veth, which has no zero-copy, and about an
// interface that is not there.
func TestZeroCopySegments(t *testing.T) {
	l := lab.New(t, lab.Config{})
	ifc, err := l.Host.Interface()
	if err != nil {
		t.Fatal(err)
	}
	err = l.Host.Do(func() error {
		n, err := hostif.ZeroCopySegments(ifc.Index)
		if err == nil && n != 1 {
			t.Errorf("veth: %d segments, want 1", n)
		}
		if _, err := hostif.ZeroCopySegments(1 << 30); !errors.Is(err, unix.ENODEV) {
			t.Errorf("no such interface: %v", err)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
