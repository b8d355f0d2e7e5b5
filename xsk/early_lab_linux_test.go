package xsk

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/internal/lab"
	"github.com/afxnet/afxnet/umem"
)

// TestEarlyFill wants the fill ring full when the socket is bound, and the frames
// back in the pool of the caller's region if Open fails after that.
func TestEarlyFill(t *testing.T) {
	l := lab.New(t, lab.Config{})
	region, err := umem.New(umem.Config{Chunks: 256})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := region.Close(); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		_, err = openIn(l, small(Config{Region: region, Bind: BindZeroCopy}))
		if !errors.Is(err, unix.EOPNOTSUPP) {
			t.Fatalf("zero-copy on veth: %v", err)
		}
		if a := region.Audit(); a.Free != 256 || a.Pooled != 256 {
			t.Fatalf("after an Open that failed: %+v", a)
		}
	}
	s := mustOpen(t, l, small(Config{Region: region}))
	if a := region.Audit(); a.Fill != 64 || a.Free != 256-64 {
		t.Fatalf("after Open: %+v", a)
	}
	if n := s.RX().Refill(); n != 0 {
		t.Errorf("Refill lent %d frames to a full ring", n)
	}
	if st, err := s.Statistics(); err != nil || st.FillShortage != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}
