package postgres_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A statement is text of ours: nothing of what a client has sent is a part of it, nor anything that another package makes. What a
// client has sent goes to the server as a parameter.
func TestStatements_haveNothingOfClientsInThem(t *testing.T) {
	t.Parallel()
	statements := 0
	for _, dir := range []string{"../../services", "../../shared"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testkit") {
				return err
			}
			files := token.NewFileSet()
			f, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				text := statementOf(n)
				if text == nil {
					return true
				}
				statements++
				if why := foreign(text); why != "" {
					t.Errorf("%s: %s is a part of a statement", files.Position(n.Pos()), why)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if statements < 150 {
		t.Errorf("%d statements were found, which is hardly all", statements)
	}
	for _, bad := range []string{`db.Raw("SELECT " + in.Body.Sort)`, `db.Order(fmt.Sprintf("%s DESC", q))`, `tx.Where("id = " + c.Query("id"))`, `postgres.Change(tx, nil, r.URL.Path)`, `db.First(&u, in.ID)`} {
		expr, err := parser.ParseExpr(bad)
		if err != nil {
			t.Fatal(err)
		}
		if foreign(statementOf(expr)) == "" {
			t.Errorf("%s is not found", bad)
		}
	}
}

// statementOf is the text that a call gives the database as SQL; nil where n is no such call.
func statementOf(n ast.Node) ast.Expr {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil
	}
	fun := call.Fun
	if index, generic := fun.(*ast.IndexExpr); generic {
		fun = index.X
	}
	sel, ok := fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	at := 0
	switch sel.Sel.Name {
	case "Raw", "Where", "Order", "Select", "Joins", "Group", "Having":
	case "First", "Last", "Take", "Find", "Delete": // what follows the destination is a condition
		if !slices.Contains([]string{"tx", "db", "q"}, root(sel.X)) {
			return nil
		}
		at = 1
	case "Exec":
		if x, ok := sel.X.(*ast.Ident); ok && (x.Name == "conn" || x.Name == "r") { // pgx: a context comes first
			at = 1
		}
	case "Put", "Collect", "Change", "Alone":
		if x, ok := sel.X.(*ast.Ident); !ok || x.Name != "postgres" && x.Name != "tx" {
			return nil
		}
		at = 1
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "postgres" && (sel.Sel.Name == "Change" || sel.Sel.Name == "Alone") {
			at = 2
		}
	default:
		return nil
	}
	if len(call.Args) <= at {
		return nil
	}
	return call.Args[at]
}

// root is the name that a chain of calls begins with.
func root(chain ast.Expr) string {
	for {
		switch c := chain.(type) {
		case *ast.Ident:
			return c.Name
		case *ast.CallExpr:
			chain = c.Fun
		case *ast.SelectorExpr:
			chain = c.X
		default:
			return ""
		}
	}
}

// puts reports whether a call puts together what it is given, which is looked at as well: a function of the package's own, or
// one of these.
func puts(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		return true
	case *ast.SelectorExpr:
		x, ok := f.X.(*ast.Ident)
		return ok && x.Name == "strings" && slices.Contains([]string{"Join", "Repeat", "TrimSuffix"}, f.Sel.Name)
	}
	return false
}

// foreign says what in a statement's text is not ours; empty where all of it is.
func foreign(text ast.Expr) (why string) {
	ast.Inspect(text, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return false // database/sql's Raw, of a connection
		case *ast.CallExpr:
			if !puts(n.Fun) {
				why = "what a call makes"
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && slices.Contains([]string{"in", "req", "c", "body"}, x.Name) || n.Sel.Name == "Body" || n.Sel.Name == "URL" {
				why = "an input (" + n.Sel.Name + ")"
			}
		}
		return why == ""
	})
	return why
}
