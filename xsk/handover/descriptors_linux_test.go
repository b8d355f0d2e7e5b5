package handover

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afxnet/afxnet/xsk/internal/seqpacket"
)

// TestDescriptorsRefused has the kernel refuse descriptors for the helper, which it
// would have to close, for as long as that takes.
func TestDescriptorsRefused(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer seqpacket.CloseAll(pair[:])
	err = unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 0)
	if errors.Is(err, unix.ENOPROTOOPT) {
		t.Skip("needs Linux 6.16")
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, ServerConfig{Interface: "nonesuch0", Users: []uint32{uint32(os.Getuid())}})
	}()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	first := dial(t, path) // an answer shows that Serve has begun
	if err := first.Send([]byte(`{"op":"counters"}`), patience); err != nil {
		t.Fatal(err)
	}
	if _, _, err := first.Receive(patience); err != nil {
		t.Fatal(err)
	}
	if err := dial(t, path).Send([]byte(`{"op":"open"}`), patience, pair[1]); !errors.Is(err, unix.EPERM) {
		t.Errorf("a descriptor is sent: %v, want EPERM", err)
	}
}
