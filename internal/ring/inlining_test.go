package ring

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestInlining holds the methods of the data path to what the compiler inlines:
// a call per descriptor would cost more than its work.
func TestInlining(t *testing.T) {
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("no go command: ", err)
	}
	if _, err := os.Stat("ring.go"); err != nil {
		t.Skip("no sources here: ", err) // a test binary that was moved
	}
	out, err := exec.CommandContext(t.Context(), goTool, "build", "-gcflags=-m", "-overlay="+instances(t), ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	var got []string
	for _, m := range regexp.MustCompile(` can inline \(\*(\w+)(?:\[go\.shape[^)]*\])?\)\.(\w+)`).FindAllStringSubmatch(string(out), -1) {
		got = append(got, m[1]+"."+m[2])
	}
	for _, want := range []string{
		"Producer.Set", "producerIndex.Len", "producerIndex.Free",
		"producerIndex.Cancel", "producerIndex.Submit",
		"producerIndex.NeedsWakeup", "producerIndex.Err",
		"Consumer.Get", "consumerIndex.Len", "consumerIndex.Available",
		"consumerIndex.Cancel", "consumerIndex.Release",
		"consumerIndex.Empty", "consumerIndex.NeedsWakeup", "consumerIndex.Err",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not inlined any more", want)
		}
	}
	if t.Failed() {
		t.Logf("inlined: %v", got)
	}
}

// instances writes a build overlay that adds a file to the package, in which
// the generic types are instantiated: the compiler decides only then.
func instances(t *testing.T) (overlay string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "instances.go")
	overlay = filepath.Join(dir, "overlay.json")
	list, err := json.Marshal(map[string]map[string]string{
		"Replace": {filepath.Join(here, "instances.go"): source},
	})
	if err != nil {
		t.Fatal(err)
	}
	const text = `package ring

func instances() (any, any) { return new(Producer[uint64]), new(Consumer[uint64]) }
`
	for name, data := range map[string][]byte{source: []byte(text), overlay: list} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}
