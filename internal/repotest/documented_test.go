package repotest

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// public are the packages that users import.
var public = []string{"umem", "xsk", "xsk/handover", "xsk/deviceplugin", "netdev", "stack", "stack/inline"}

// spoken are methods that fmt and errors define.
var spoken = []string{"String", "Error", "Unwrap"}

// TestDocumented wants documentation on every exported name of the public
// packages. A comment at the end of the line counts, and so does one above a group
// of constants or variables. What stands in for Linux elsewhere is documented
// there.
func TestDocumented(t *testing.T) {
	names := 0
	for _, f := range module(t) {
		if f.test || f.generated || strings.HasSuffix(f.name, "_other.go") || !slices.Contains(public, f.pkg) {
			continue
		}
		missing := func(name *ast.Ident, documented bool) {
			names++
			if !documented {
				t.Errorf("%s: %s has no documentation", f.fset.Position(name.Pos()), name.Name)
			}
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
					missing(d.Name, d.Doc != nil || d.Recv != nil && slices.Contains(spoken, d.Name.Name))
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					documentedSpec(d, spec, missing)
				}
			}
		}
	}
	if names < 200 {
		t.Errorf("%d exported names", names)
	}
}

// documentedSpec reports the exported names of one specification.
func documentedSpec(d *ast.GenDecl, spec ast.Spec, missing func(*ast.Ident, bool)) {
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() {
				missing(name, d.Doc != nil || s.Doc != nil || s.Comment != nil)
			}
		}
	case *ast.TypeSpec:
		if s.Name.IsExported() {
			missing(s.Name, d.Doc != nil || s.Doc != nil)
		}
	}
}

// receiver is the name of a method's receiver type.
func receiver(d *ast.FuncDecl) string {
	e := d.Recv.List[0].Type
	if p, ok := e.(*ast.StarExpr); ok {
		e = p.X
	}
	if g, ok := e.(*ast.IndexExpr); ok {
		e = g.X
	}
	if id, ok := e.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
