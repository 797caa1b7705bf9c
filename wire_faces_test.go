package rollingupgrade_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"
)

// ownFace are the functions and files of tests whose Runners have the fake's own methods with -wire too, each with the reason.
var ownFace = map[string]string{
	"example_*_test.go":                          "examples show readers the fake",
	"TestN3_N6_NewRefusesSettingsThatCannotWork": "New refuses; nothing is called",
	"TestS4_OwnKinds":                            "in its last part New refuses; nothing is called",
	"TestExportDisturbed":                        "exports ask the store only",
	"pruner":                                     "pruning asks the store only",
	"makeRecords":                                "the records in testdata hold the fake's states",
}

// TestWire_EveryRunnerHasALine holds that no Runner of a test bypasses the wire without being listed.
func TestWire_EveryRunnerHasALine(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	runners := 0
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || types.ExprString(call.Fun) != "ru.New" {
					return true
				}
				runners++
				p := types.ExprString(call.Args[0])
				if lit, ok := call.Args[0].(*ast.CompositeLit); ok && len(lit.Elts) > 0 {
					p = types.ExprString(lit.Elts[0]) // what it wraps
				}
				switch {
				case strings.HasPrefix(p, "face("), strings.Contains(p, ".face()"), strings.HasPrefix(p, "l.provider("), strings.HasPrefix(p, "&crashProvider"):
				case ownFace[f.Name.Name] != "":
					used[f.Name.Name] = true
				case strings.HasPrefix(file, "example_"):
					used["example_*_test.go"] = true
				default:
					t.Errorf("%s: the Runner of %s has the provider %s, which does not go over the wire with -wire", file, f.Name.Name, p)
				}
				return true
			})
		}
	}
	if runners < 15 {
		t.Errorf("%d Runners were found", runners)
	}
	for name := range ownFace {
		if !used[name] {
			t.Errorf("%s is listed and makes no Runner of its own", name)
		}
	}
}
