package vmtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestAPTAgain has apt-get fail a number of times, as where the archive is out of
// reach.
func TestAPTAgain(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip(err)
	}
	const script = `#!/bin/sh
echo again >>tries
[ $(wc -l <tries) -gt %d ] || { echo out of reach >&2; exit 100; }
echo "$@"
`
	path := os.Getenv("PATH")
	for failures, tries := range map[int]int{0: 1, attempts - 1: attempts, attempts: attempts} {
		bin, v := t.TempDir(), &apt{dir: t.TempDir(), pause: time.Millisecond}
		t.Setenv("PATH", bin+string(filepath.ListSeparator)+path)
		if err := os.WriteFile(filepath.Join(bin, "apt-get"), fmt.Appendf(nil, script, failures), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := v.run(t.Context(), "apt-get", "update")
		if failed := failures >= attempts; (err != nil) != failed || !failed && out != "update\n" {
			t.Errorf("%d failures: %q, %v", failures, out, err)
		}
		if text, err := os.ReadFile(filepath.Join(v.dir, "tries")); err != nil || bytes.Count(text, []byte("\n")) != tries {
			t.Errorf("%d failures: %q, %v, want %d tries", failures, text, err, tries)
		}
	}
}
