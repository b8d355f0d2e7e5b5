package repotest

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/afxnet/afxnet/internal/raced"
)

// modulePath is the module's import path.
const modulePath = "github.com/afxnet/afxnet"

// file is one Go source of the module.
type file struct {
	name      string // path below the module, with slashes
	pkg       string // its directory: "xsk", "internal/ring"; "." for the root
	test      bool
	generated bool
	text      []byte
	fset      *token.FileSet
	syntax    *ast.File
}

// imports returns the import paths, those of the module relative to it with
// "./" in front.
func (f *file) imports(tb testing.TB) (paths []string) {
	tb.Helper()
	for _, spec := range f.syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			tb.Fatalf("%s: import %s: %v", f.name, spec.Path.Value, err)
		}
		if rest, ok := strings.CutPrefix(p, modulePath+"/"); ok {
			p = "./" + rest
		}
		paths = append(paths, p)
	}
	return paths
}

// module returns every Go file of the module. It skips the test where the
// sources are not there: a test binary may be run elsewhere. The race detector
// would read the same files, slowly.
func module(tb testing.TB) []*file {
	tb.Helper()
	if raced.Enabled {
		tb.Skip("the files are the same with the race detector")
	}
	files, err := parsed()
	if errors.Is(err, fs.ErrNotExist) {
		tb.Skip("no sources here: ", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	if !slices.ContainsFunc(files, func(f *file) bool { return f.pkg == "internal/ring" }) {
		tb.Fatalf("%d files, none of them in internal/ring", len(files))
	}
	return files
}

// parsed parses the module once for all tests, which only read.
var parsed = sync.OnceValues(func() (files []*file, err error) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return nil, err
	}
	err = fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if entry.IsDir() {
			if name != "." && (base == "testdata" || base == "vendor" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		f, err := parse(root, name)
		if err == nil {
			files = append(files, f)
		}
		return err
	})
	return files, err
})

func parse(root, name string) (*file, error) {
	f := &file{name: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet()}
	var err error
	if f.text, err = os.ReadFile(filepath.Join(root, name)); err != nil {
		return nil, err
	}
	if f.syntax, err = parser.ParseFile(f.fset, name, f.text, parser.ParseComments); err != nil {
		return nil, err
	}
	f.generated = ast.IsGenerated(f.syntax)
	return f, nil
}

// below tells whether pkg is dir or lies below it.
func below(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }
