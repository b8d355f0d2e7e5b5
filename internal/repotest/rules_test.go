package repotest

import (
	"bytes"
	"go/ast"
	"go/format"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unsafeName is what a file with unsafe is called. The operating system comes
// last, or the go command would not take it for one.
var unsafeName = regexp.MustCompile(`^(.*_)?unsafe(_(linux|darwin|windows|freebsd))?(_(amd64|arm64))?(_test)?\.go$`)

func TestUnsafe(t *testing.T) {
	for _, f := range module(t) {
		if slices.Contains(f.imports(t), "unsafe") && !f.generated && !unsafeName.MatchString(path.Base(f.name)) {
			t.Errorf("%s imports unsafe: only *_unsafe.go and *_unsafe_<os>.go may", f.name)
		}
		for _, c := range f.syntax.Comments {
			for _, line := range c.List {
				if strings.HasPrefix(line.Text, "//go:linkname ") && !unsafeName.MatchString(path.Base(f.name)) && !f.generated {
					t.Errorf("%s: go:linkname outside *_unsafe.go", f.fset.Position(line.Pos()))
				}
			}
		}
	}
}

func TestUnsafeName(t *testing.T) {
	for name, want := range map[string]bool{
		"ring_unsafe.go": true, "xdp_unsafe_linux.go": true, "xdp_unsafe_test.go": true, "unsafe.go": true,
		"xdp_unsafe_linux_amd64.go": true, "xdp_unsafe_linux_test.go": true,
		"xdp_linux.go": false, "unsafely.go": false, "notunsafe.go": false, "xdp_unsafe_linux.c": false,
	} {
		if got := unsafeName.MatchString(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// TestFileSuffix finds names in which an operating system is not last: the go
// command would build the file everywhere.
func TestFileSuffix(t *testing.T) {
	misplaced := regexp.MustCompile(`_(linux|darwin|windows)_([a-z0-9]+)\.go$`)
	for _, f := range module(t) {
		m := misplaced.FindStringSubmatch(strings.TrimSuffix(f.name, "_test.go") + map[bool]string{true: ".go", false: ""}[f.test])
		if m != nil && m[2] != "amd64" && m[2] != "arm64" && !bytes.Contains(f.text, []byte("//go:build ")) {
			t.Errorf("%s: %q in the middle of a name is no build constraint: write _%s_%s.go", f.name, m[1], m[2], m[1])
		}
	}
}

// arrows says which package of the module may import which: a line's packages,
// and those below them, only what it lists. Tests may use internal/descriptors,
// internal/lab, internal/raced and internal/wire on top.
var arrows = []struct {
	pkg string
	may []string
}{
	{"internal/ring", nil},
	{"internal/alarm", nil},
	{"internal/canceled", nil},
	{"internal/descriptors", nil},
	{"internal/packet", nil},
	{"internal/sys", []string{"internal/ring"}},
	{"internal/hostif", nil},
	{"internal/lab", []string{"internal/hostif"}},
	{"internal/wire", []string{"internal/ring", "internal/packet", "umem", "xsk"}},
	{"umem", nil},
	{"xsk", []string{"umem", "internal/canceled", "internal/ring", "internal/sys", "internal/hostif", "internal/steering"}},
	{"internal/steering", []string{"xsk", "internal/hostif", "internal/alarm"}},
	{"netdev", []string{"netdev", "xsk", "umem", "internal"}},
	{"stack", []string{"stack", "netdev", "xsk", "umem", "internal"}},
}

func TestImportArrows(t *testing.T) {
	for _, f := range module(t) {
		for _, rule := range arrows {
			if !below(f.pkg, rule.pkg) {
				continue
			}
			may := append([]string{rule.pkg}, rule.may...)
			if f.test {
				may = append(may, "internal/descriptors", "internal/lab", "internal/raced", "internal/wire")
			}
			for _, p := range f.imports(t) {
				p, ours := strings.CutPrefix(p, "./")
				if ours && !slices.ContainsFunc(may, func(dir string) bool { return below(p, dir) }) {
					t.Errorf("%s imports %s: %s may import only %v", f.name, p, rule.pkg, may)
				}
			}
		}
		for _, p := range f.imports(t) {
			if p, ours := strings.CutPrefix(p, "./"); ours && !below(f.pkg, "examples") && !below(f.pkg, "bench") &&
				(below(p, "examples") || below(p, "bench")) {
				t.Errorf("%s imports %s: nothing may import examples and bench", f.name, p)
			}
		}
	}
}

// TestBubbles wants bubbles of package raced, which keeps the race detector from a
// crash.
func TestBubbles(t *testing.T) {
	for _, f := range module(t) {
		if f.pkg != "internal/raced" && bytes.Contains(f.text, []byte("synctest"+".Test(")) {
			t.Errorf("%s: use raced.Bubble in place of "+"synctest"+".Test", f.name)
		}
	}
}

// owners says who may import a heavy dependency.
var owners = []struct {
	dependency string
	packages   []string
}{
	// The bench measures gVisor's own endpoints beside ours, on a device and in
	// memory, and counts system calls with a program at a tracepoint.
	{"gvisor.dev/gvisor", []string{"netdev", "stack", "bench/internal/gvisorpeer", "bench/internal/inmemory"}},
	{"github.com/cilium/ebpf", []string{"xsk", "bench/internal/syscount"}},
	{"github.com/vishvananda/netlink", []string{"internal/hostif", "internal/lab"}},
	{"github.com/vishvananda/netns", []string{"internal/hostif", "internal/lab"}},
	{"github.com/safchain/ethtool", []string{"internal/hostif", "internal/lab"}},
	{"gonum.org/v1/plot", []string{"bench/internal/report"}},
	{"github.com/HdrHistogram/hdrhistogram-go", []string{"bench"}},
	// What only examples use is in a module of theirs: see TestExamples.
	{"github.com/miekg/dns", []string{"examples/libraries"}},
	{"github.com/quic-go/quic-go", []string{"examples/libraries"}},
	{"github.com/redis/go-redis", []string{"examples/libraries"}},
	{"google.golang.org/grpc", []string{"examples/libraries"}},
}

func TestDependencies(t *testing.T) {
	for _, f := range module(t) {
		if bytes.Contains(f.text, []byte("//go:build never\n")) {
			continue // pins versions, is never built
		}
		for _, p := range f.imports(t) {
			for _, o := range owners {
				if below(p, o.dependency) && !slices.ContainsFunc(o.packages, func(dir string) bool { return below(f.pkg, dir) }) {
					t.Errorf("%s imports %s: only %v may", f.name, p, o.packages)
				}
			}
		}
	}
}

// TestPackageDoc wants a package comment of at least a sentence, in one file.
func TestPackageDoc(t *testing.T) {
	docs := make(map[string][]string)
	for _, f := range module(t) {
		if f.test || f.generated {
			continue
		}
		docs[f.pkg] = append(docs[f.pkg], "")
		if f.syntax.Doc == nil {
			continue
		}
		if text := f.syntax.Doc.Text(); text != "" {
			docs[f.pkg] = append(docs[f.pkg], f.name)
			if f.syntax.Name.Name != "main" && !strings.HasPrefix(text, "Package "+f.syntax.Name.Name+" ") {
				t.Errorf("%s: the package comment starts with %q", f.name, strings.SplitN(text, "\n", 2)[0])
			}
		}
	}
	for pkg, names := range docs {
		names = slices.DeleteFunc(names, func(s string) bool { return s == "" })
		if len(names) == 0 {
			t.Errorf("package %s has no comment", pkg)
		} else if len(names) > 1 && path.Base(pkg) != "internal" {
			t.Errorf("package %s has comments in %v", pkg, names)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, f := range module(t) {
		if f.generated {
			continue
		}
		want, err := format.Source(f.text)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		} else if !bytes.Equal(want, f.text) {
			t.Errorf("%s is not formatted: gofmt -w", f.name)
		}
	}
}

// maxLines is the ceiling for a source file: one idea per file.
const maxLines = 500

func TestFileLength(t *testing.T) {
	for _, f := range module(t) {
		if n := bytes.Count(f.text, []byte("\n")); n > maxLines && !f.test && !f.generated {
			t.Errorf("%s has %d lines, at most %d: split it by noun", f.name, n, maxLines)
		}
	}
}

// leftover matches marks of unfinished work. It is put together so that this
// file does not match.
var leftover = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)

func TestNothingLeftOver(t *testing.T) {
	for _, f := range module(t) {
		if f.generated {
			continue
		}
		for i, line := range bytes.Split(f.text, []byte("\n")) {
			if m := leftover.Find(line); m != nil {
				t.Errorf("%s:%d: %s", f.name, i+1, m)
			}
		}
	}
}

// TestNoSleepInTests finds tests that wait for a time instead of an event. In a
// bubble, time is an event.
func TestNoSleepInTests(t *testing.T) {
	for _, f := range module(t) {
		if !f.test || bytes.Contains(f.text, []byte("raced.Bubble(")) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "time" || x.Name == "unix" || x.Name == "syscall") {
					t.Errorf("%s: a test sleeps: wait for an event, or use raced.Bubble", f.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}
