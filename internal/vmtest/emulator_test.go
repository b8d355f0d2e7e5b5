package vmtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestPackaged has a system with modules of another QEMU, which ends if it comes
// across them.
func TestPackaged(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip(err)
	}
	const script = `#!/bin/sh
[ "$QEMU_MODULE_DIR" = "$2/qemu" ] || exit 1
for last; do :; done
case $last in
help) exit 1 ;;
%s,help) ;;
*,help) echo "${last%%,help} options:" ;;
esac
`
	for missing, want := range map[string]bool{"": true, "igb": false, "virtio-net-pci": false} {
		root := t.TempDir()
		loader := filepath.Join(root, "usr/lib64/ld-linux-x86-64.so.2")
		if err := os.MkdirAll(filepath.Dir(loader), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(loader, fmt.Appendf(nil, script, missing), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := packaged(root).check(t.Context()); (err == nil) != want {
			t.Errorf("without %q: %v", missing, err)
		}
	}
}
