// Package repocheck checks what the compiler does not: that the links in doc comments lead somewhere, that the code and the
// tables of the READMEs are true, and that the root package depends on nothing that it should not. Its tests do so for this module.
package repocheck

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc/comment"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A listed package is what go list says of it.
type listed struct {
	ImportPath string
	Dir        string
	Name       string
	Export     string // file with its export data
	GoFiles    []string
	Imports    []string
	Standard   bool
	Module     *struct{ Main bool }
}

// goList runs go list in dir.
func goList(dir string, args ...string) ([]listed, error) {
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Name,Export,GoFiles,Imports,Standard,Module"}, args...)...)
	cmd.Dir = dir
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %v: %w: %s", args, err, errs.String())
	}
	var all []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
}

// A linker resolves the links of doc comments.
type linker struct {
	dir      string
	fset     *token.FileSet
	packages map[string]*listed
	importer types.Importer
}

// DocLinks returns the links in the doc comments of the module in dir that lead nowhere, one line each.
func DocLinks(dir string) ([]string, error) {
	all, err := goList(dir, "-export", "-deps", "./...")
	if err != nil {
		return nil, err
	}
	l := &linker{dir: dir, fset: token.NewFileSet(), packages: map[string]*listed{}}
	for n := range all {
		l.packages[all[n].ImportPath] = &all[n]
	}
	l.importer = importer.ForCompiler(l.fset, "gc", l.open)
	var broken []string
	for n := range all {
		if p := &all[n]; p.Module != nil && p.Module.Main {
			b, err := l.check(p)
			if err != nil {
				return nil, err
			}
			broken = append(broken, b...)
		}
	}
	return broken, nil
}

// open returns the export data of a package.
func (l *linker) open(path string) (io.ReadCloser, error) {
	p := l.packages[path]
	if p == nil { // named in a comment only
		found, err := goList(l.dir, "-export", path)
		if err != nil {
			return nil, err
		}
		p = &found[0]
		l.packages[path] = p
	}
	return os.Open(p.Export)
}

// check returns the broken links of a package.
func (l *linker) check(p *listed) ([]string, error) {
	self, err := l.importer.Import(p.ImportPath)
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	imports := map[string]string{} // path by name, in any file: so does go doc
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(l.fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return nil, err
			}
			name := ""
			if q := l.packages[path]; q != nil {
				name = q.Name
			}
			if i.Name != nil {
				name = i.Name.Name
			}
			imports[name] = path
		}
	}
	docs := &comment.Parser{
		LookupPackage: func(name string) (string, bool) {
			if path, ok := imports[name]; ok {
				return path, true
			}
			if name == self.Name() {
				return "", true
			}
			return comment.DefaultLookupPackage(name)
		},
		LookupSym: func(recv, name string) bool { return has(self, recv, name) },
	}
	var broken []string
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			for _, c := range commentsOf(n) {
				for _, link := range l.broken(docs.Parse(c.Text())) {
					at := l.fset.Position(c.Pos())
					if rel, err := filepath.Rel(l.dir, at.Filename); err == nil {
						at.Filename = filepath.ToSlash(rel)
					}
					broken = append(broken, fmt.Sprintf("%s:%d: [%s] leads nowhere", at.Filename, at.Line, link))
				}
			}
			_, body := n.(*ast.BlockStmt)
			return !body // comments in functions are for readers of the source
		})
	}
	return broken, nil
}

// commentsOf returns the doc comments that belong to a node.
func commentsOf(n ast.Node) []*ast.CommentGroup {
	var all []*ast.CommentGroup
	switch n := n.(type) {
	case *ast.File:
		all = append(all, n.Doc)
	case *ast.GenDecl:
		all = append(all, n.Doc)
	case *ast.FuncDecl:
		all = append(all, n.Doc)
	case *ast.TypeSpec:
		all = append(all, n.Doc, n.Comment)
	case *ast.ValueSpec:
		all = append(all, n.Doc, n.Comment)
	case *ast.Field:
		all = append(all, n.Doc, n.Comment)
	}
	var there []*ast.CommentGroup
	for _, c := range all {
		if c != nil {
			there = append(there, c)
		}
	}
	return there
}

// unresolved is a link that the parser left as text, for it knows no such name.
var unresolved = regexp.MustCompile(`\[\*?((?:\w+\.)?[A-Z]\w*(?:\.\w+)?)\]`)

// broken returns the links of a doc comment that lead nowhere.
func (l *linker) broken(d *comment.Doc) []string {
	var broken []string
	var texts func([]comment.Text)
	texts = func(all []comment.Text) {
		var plain strings.Builder
		for _, t := range all {
			switch t := t.(type) {
			case comment.Plain:
				plain.WriteString(string(t))
			case *comment.DocLink:
				if t.ImportPath != "" && t.Name != "" && !l.known(t.ImportPath, t.Recv, t.Name) {
					broken = append(broken, t.ImportPath+strings.TrimSuffix("."+strings.TrimPrefix(t.Recv, "*"), ".")+"."+t.Name)
				}
			case *comment.Link:
				texts(t.Text)
			}
		}
		for _, m := range unresolved.FindAllStringSubmatch(plain.String(), -1) {
			broken = append(broken, m[1])
		}
	}
	var blocks func([]comment.Block)
	blocks = func(all []comment.Block) {
		for _, b := range all {
			switch b := b.(type) {
			case *comment.Paragraph:
				texts(b.Text)
			case *comment.Heading:
				texts(b.Text)
			case *comment.List:
				for _, i := range b.Items {
					blocks(i.Content)
				}
			}
		}
	}
	blocks(d.Content)
	return broken
}

// known reports whether a package has the name.
func (l *linker) known(path, recv, name string) bool {
	if p := l.packages[path]; p == nil {
		if _, err := build.Import(path, l.dir, build.FindOnly); err != nil {
			return false
		}
	}
	p, err := l.importer.Import(path)
	return err == nil && has(p, recv, name)
}

// has reports whether p has an exported name, or its type recv has a field or method of that name.
func has(p *types.Package, recv, name string) bool {
	if recv == "" {
		return token.IsExported(name) && p.Scope().Lookup(name) != nil
	}
	t, ok := p.Scope().Lookup(strings.TrimPrefix(recv, "*")).(*types.TypeName)
	if !ok {
		return false
	}
	o, _, _ := types.LookupFieldOrMethod(t.Type(), true, p, name)
	return o != nil
}
