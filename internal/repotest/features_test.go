package repotest

import (
	"errors"
	"go/ast"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// namedTest matches a test, example or fuzz function as the documentation names
// it: `xsk.TestShared`, `internal/hostif.TestChannels`.
var namedTest = regexp.MustCompile("`([a-z][a-z0-9/]*)\\.((?:Test|Fuzz|Example)[A-Za-z0-9_]*)`")

// TestFeatures holds docs/features.md to its word: each row has a test, and each
// test that it names exists.
func TestFeatures(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "features.md"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("no documentation here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[string]bool)
	for _, f := range module(t) {
		if !f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				have[f.pkg+"."+fn.Name.Name] = true
			}
		}
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| Feature |") || strings.HasPrefix(line, "| Trouble |") {
			continue
		}
		rows++
		named := namedTest.FindAllStringSubmatch(line, -1)
		if len(named) == 0 {
			t.Errorf("no test beside %q", strings.TrimSpace(line))
		}
		for _, m := range named {
			if !have[m[1]+"."+m[2]] {
				t.Errorf("docs/features.md names %s.%s, which does not exist", m[1], m[2])
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows in docs/features.md", rows)
	}
}

// rawOnly are the packages that raw users build; besides those of the module, they
// may come with these dependencies only.
var (
	rawOnly      = []string{"umem", "xsk", "xsk/handover", "xsk/deviceplugin"}
	rawMayImport = []string{"golang.org/x/sys", "github.com/cilium/ebpf", "github.com/vishvananda/netlink", "github.com/vishvananda/netns"}
)

// TestRawWithoutNetstack follows the imports of umem and xsk: who uses them alone
// builds no TCP/IP stack.
func TestRawWithoutNetstack(t *testing.T) {
	files := module(t)
	seen := make(map[string]bool)
	var follow func(pkg, via string)
	follow = func(pkg, via string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		for _, f := range files {
			if f.pkg != pkg || f.test {
				continue
			}
			for _, p := range f.imports(t) {
				if ours, ok := strings.CutPrefix(p, "./"); ok {
					follow(ours, via+" -> "+ours)
				} else if first, _, _ := strings.Cut(p, "/"); strings.Contains(first, ".") &&
					!slices.ContainsFunc(rawMayImport, func(dir string) bool { return below(p, dir) }) {
					t.Errorf("%s imports %s", via, p)
				}
			}
		}
	}
	for _, pkg := range rawOnly {
		follow(pkg, pkg)
	}
	if !seen["internal/ring"] || seen["netdev"] || seen["stack"] {
		t.Errorf("umem and xsk come with %v", seen)
	}
}
