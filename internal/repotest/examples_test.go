package repotest

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// libraries is the module of the examples that need other people's libraries.
const libraries = "examples/libraries"

// maxExampleLines is the ceiling for a file of an example, which is for reading.
const maxExampleLines = 160

// rawExamples show the raw sockets, and are read from beginning to end: each has
// fewer lines than maxRawLines in all its files.
var rawExamples = []string{"rxdrop", "txgen", "l2fwd", "udpecho", "sharedumem", "rxmeta", "unprivileged", "doctor"}

const maxRawLines = 150

// TestRawExamples holds them to that.
func TestRawExamples(t *testing.T) {
	lines := make(map[string]int)
	for _, f := range module(t) {
		if name, ok := strings.CutPrefix(f.pkg, "examples/"); ok && !f.test {
			lines[name] += bytes.Count(f.text, []byte("\n"))
		}
	}
	for _, name := range rawExamples {
		if n := lines[name]; n >= maxRawLines {
			t.Errorf("examples/%s has %d lines, want fewer than %d", name, n, maxRawLines)
		}
	}
	if lines["rxdrop"] == 0 {
		t.Errorf("examples: %v", lines)
	}
}

// TestExamples wants every example to say how to run it in a private network,
// in a command that works, and to be short.
func TestExamples(t *testing.T) {
	var found []string
	for _, f := range module(t) {
		if !below(f.pkg, "examples") || f.test {
			continue
		}
		if n := bytes.Count(f.text, []byte("\n")); n > maxExampleLines {
			t.Errorf("%s has %d lines, at most %d", f.name, n, maxExampleLines)
		}
		if f.syntax.Name.Name != "main" || f.syntax.Doc == nil {
			continue
		}
		found = append(found, f.pkg)
		command := "go run ./" + f.pkg + " -lab"
		if name, ok := strings.CutPrefix(f.pkg, libraries+"/"); ok {
			command = "go -C " + libraries + " run ./" + name + " -lab"
		}
		if !slices.Contains(strings.Split(f.syntax.Doc.Text(), "\n"), "\t"+command) {
			t.Errorf("%s: the package comment has no line %q", f.name, command)
		}
	}
	if len(found) < 2 {
		t.Errorf("examples: %v", found)
	}
}

// TestLibrariesModule wants the examples' own module to build with the tree it is
// in, and this module not to know its dependencies.
func TestLibrariesModule(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(name)))
		if err != nil {
			t.Skip("no sources here: ", err)
		}
		return string(text)
	}
	own, theirs := read("go.mod"), read(libraries+"/go.mod")
	for _, line := range []string{"module " + modulePath + "/" + libraries, "replace " + modulePath + " => ../.."} {
		if !slices.Contains(strings.Split(theirs, "\n"), line) {
			t.Errorf("%s/go.mod has no line %q", libraries, line)
		}
	}
	for _, o := range owners {
		if slices.Equal(o.packages, []string{libraries}) && strings.Contains(own, o.dependency+" ") {
			t.Errorf("go.mod requires %s: that is for %s", o.dependency, libraries)
		}
	}
}

// TestSecondSignal wants programs that close on a signal to end at once on the next:
// whoever sends it has waited long enough. Processes of examples/unprivileged's lab get
// the same interrupt from the terminal and from their parent.
func TestSecondSignal(t *testing.T) {
	n := 0
	for _, f := range module(t) {
		if f.test || f.name == "examples/unprivileged/main.go" {
			continue
		}
		if !bytes.Contains(f.text, []byte("signal.NotifyContext(")) {
			continue
		}
		want := "context.AfterFunc(ctx, stop)"
		if f.name == "bench/main.go" { // has figures to show, and is run by timeout(1)
			want = "context.AfterFunc(ctx, func() { time.AfterFunc(again, stop) })"
		}
		if n++; !bytes.Contains(f.text, []byte(want)) {
			t.Errorf("%s: no %s for signal.NotifyContext", f.name, want)
		}
	}
	if n == 0 {
		t.Error("no program is found")
	}
}
