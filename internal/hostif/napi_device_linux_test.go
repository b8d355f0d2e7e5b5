package hostif

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDeviceNAPIOnOldKernels has each way in which a kernel has no settings for one
// NAPI, and one before Linux 5.8, which has none for a device either.
func TestDeviceNAPIOnOldKernels(t *testing.T) {
	for name, change := range map[string]func(*fakeNetdev, *keeper){
		"before 6.3":                 func(_ *fakeNetdev, k *keeper) { k.open = func() (netdev, error) { return nil, unix.ENOENT } },
		"before 6.8":                 func(n *fakeNetdev, _ *keeper) { n.lacks[netdevCmdQueueGet] = unix.EOPNOTSUPP },
		"before 6.13, without links": func(n *fakeNetdev, _ *keeper) { clear(n.links); clear(n.napis[300]); clear(n.napis[301]) },
		"before 6.13":                func(n *fakeNetdev, _ *keeper) { clear(n.napis[301]) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "eth0")
			write := func(file, text string) {
				t.Helper()
				if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, file), []byte(text+"\n"), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			write("ifindex", "7")
			write("gro_flush_timeout", "30")
			kernel := newFakeNetdev()
			k := keeperOf(t.TempDir(), kernel)
			k.files = func(index int) (*deviceFiles, error) {
				return &deviceFiles{root: filepath.Dir(dir), index: index, close: func() {}}, nil
			}
			change(kernel, &k)
			ask := NAPIValues{NAPIDeferHardIRQs: 100, NAPIGROFlushTimeout: 200}
			if _, err := k.set(7, 1, ask); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "Linux 5.8") {
				t.Errorf("before 5.8: %v", err)
			}
			write("napi_defer_hard_irqs", "4")
			h, err := k.set(7, 1, ask)
			if err != nil {
				t.Fatal(err)
			}
			if got := sysfsValue(dir+"/napi_defer_hard_irqs") + " " + sysfsValue(dir+"/gro_flush_timeout"); got != "100 200" || !h.Device {
				t.Errorf("set: %s", got)
			}
			if err := h.Restore(); err != nil {
				t.Error(err)
			}
			if got := sysfsValue(dir+"/napi_defer_hard_irqs") + " " + sysfsValue(dir+"/gro_flush_timeout"); got != "4 30" {
				t.Errorf("restored: %s", got)
			}
			if kernel.writes != 0 {
				t.Errorf("%d settings of NAPIs", kernel.writes)
			}
			if left, err := os.ReadDir(string(k.dir)); len(left) != 0 || err != nil {
				t.Errorf("records: %v, %v", left, err)
			}
		})
	}
}
