package repocheck_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/internal/repocheck"
)

// root is the module's folder, seen from here.
const root = "../.."

func TestDocLinksResolve(t *testing.T) {
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	broken, err := repocheck.DocLinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range broken {
		t.Error(b)
	}
}

func TestDocLinksFindsBrokenOnes(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/m\n\ngo 1.25\n",
		"m.go": `// Package m links to [T], [*T], [T.F], [T.M], [m.T], [errors.Is], [os.File.Close], [testing.T] and [example.com/m/sub.S].
//
// It does not link to [Vanished], [T.Vanished], [os.Vanished], [Vanished.F] or [bytes.Buffer.Vanished].
//
//	code[Vanished] is not a link
//
// A list:
//
//   - nor is x[i], [0,1), [lower case] or [this text].
//   - but [Lost] is one
//
// [this text]: https://example.com
package m

import "os"

// T has a field that comes from [E].
type T struct {
	E
	F int // see [T.Gone]
	G int // see [T.H]
}

// E is embedded: [T.H] is [E.H].
type E struct{ H *os.File }

// M is a method; [I.N] is one of an interface.
func (T) M() {
	_ = 0 // not a doc comment: [Vanished]
}

// I is an interface; see [I.O].
type I interface{ N() }
`,
		"sub/s.go": "// Package sub has [S].\npackage sub\n\n// S is not [m.T], for m is not imported here.\ntype S int\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := repocheck.DocLinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"sub/s.go:4: [m.T] leads nowhere",
		"m.go:1: [os.Vanished] leads nowhere",
		"m.go:1: [bytes.Buffer.Vanished] leads nowhere",
		"m.go:1: [Vanished] leads nowhere",
		"m.go:1: [T.Vanished] leads nowhere",
		"m.go:1: [Vanished.F] leads nowhere",
		"m.go:1: [Lost] leads nowhere",
		"m.go:20: [T.Gone] leads nowhere",
		"m.go:32: [I.O] leads nowhere",
	}
	sortLines(want)
	sortLines(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("broken links (-want +got):\n%s", diff)
	}
}
