package repocheck_test

import (
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/internal/repocheck"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func sortLines(lines []string) { slices.Sort(lines) }

// readmes are the files that a newcomer reads.
var readmes = []string{"README.md", "README.zh-CN.md"}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMarkdownLinksResolve(t *testing.T) {
	for _, name := range append([]string{"CHANGELOG.md", "CONTRIBUTING.md"}, readmes...) {
		broken, err := repocheck.MarkdownLinks(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range broken {
			t.Error(b)
		}
	}
}

func TestMarkdownLinksFindsBrokenOnes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.md")
	text := "# A title, here\n[x](a.md) [y](b.md)\n[z](#a-title-here) [v](#gone) [w](https://example.com/gone)\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := repocheck.MarkdownLinks(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.md:2: b.md leads nowhere", "a.md:3: #gone leads nowhere"}, got); diff != "" {
		t.Errorf("broken links (-want +got):\n%s", diff)
	}
}

// The program of each README is gofmt clean, compiles, and does what the text says.
func TestReadmeProgramsRun(t *testing.T) {
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range readmes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			programs := 0
			for _, b := range repocheck.Blocks(read(t, name)) {
				if b.Language != "go" {
					continue
				}
				programs++
				if clean, err := format.Source([]byte(b.Code)); err != nil {
					t.Fatalf("line %d: %v", b.Line, err)
				} else if diff := cmp.Diff(string(clean), b.Code); diff != "" {
					t.Errorf("line %d: gofmt (-want +got):\n%s", b.Line, diff)
				}
				if n := strings.Count(b.Code, "\n"); n > 40 {
					t.Errorf("line %d: %d lines are too many for a first program", b.Line, n)
				}
				out, err := repocheck.RunCode(dir, t.TempDir(), b.Code)
				if err != nil {
					t.Fatalf("line %d: %v\n%s", b.Line, err, out)
				}
				rest := out
				for _, want := range []string{"planned 0   10 instances in 2 batches\n", "batch_started 1 ", "status 1  batch_paused ", "command 1  continue", "batch_started 2 ", "status 2  succeeded"} {
					_, after, found := strings.Cut(rest, want)
					if !found {
						t.Fatalf("line %d: %q is missing or out of place:\n%s", b.Line, want, out)
					}
					rest = after
				}
			}
			if programs != 1 {
				t.Errorf("%d programs, want 1", programs)
			}
		})
	}
}

func TestRunCodeRefusesBrokenCode(t *testing.T) {
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := repocheck.RunCode(dir, t.TempDir(), "package main\n\nfunc main() { undefined() }\n"); err == nil {
		t.Errorf("a program that does not compile ran: %s", out)
	}
}

// offered are the commands that Explain offers for a task in a status which has instances of all kinds and something left over.
func offered(s ru.Status) map[string]bool {
	task := ru.Task{Head: ru.Head{
		ID: "task-1", Status: s, Phase: ru.Upgrading, Batch: 1, Sizes: []int{3}, Pause: &ru.Pause{},
		Ledger: ru.Ledger{Ours: provider.Processes()},
	}}
	for n, status := range []ru.InstanceStatus{ru.InstancePending, ru.InstanceRunning, ru.InstanceFailed} {
		task.Instances = append(task.Instances, ru.Instance{ID: fmt.Sprintf("i-%d", n), Pos: n, Batch: 1, Status: status})
	}
	all := map[string]bool{}
	for _, c := range task.Explain().Commands {
		all[strings.ReplaceAll(string(c.Command), " ", "")] = true
	}
	return all
}

func TestS34_ReadmeTablesOfCommands(t *testing.T) {
	statuses := []ru.Status{ru.StatusPending, ru.StatusRunning, ru.StatusBatchPaused, ru.StatusFailurePaused, ru.StatusCanceling, ru.StatusSucceeded}
	for _, s := range []ru.Status{ru.StatusFailed, ru.StatusCanceled} {
		if diff := cmp.Diff(offered(ru.StatusSucceeded), offered(s)); diff != "" {
			t.Fatalf("%s is no other column than succeeded (-succeeded +%s):\n%s", s, s, diff)
		}
	}
	for _, name := range readmes {
		t.Run(name, func(t *testing.T) {
			table := repocheck.Table(read(t, name), "<!-- commands: checked against the command table -->")
			if len(table) != 1+len(ru.Commands()) {
				t.Fatalf("%d rows, want a head and one for each of %v", len(table), ru.Commands())
			}
			for n, s := range append(statuses[:5:5], "ended") {
				if got := strings.Fields(table[0][n+1])[0]; got != string(s) {
					t.Errorf("column %d is %q, want %q", n+1, got, s)
				}
			}
			for n, c := range ru.Commands() {
				row := table[n+1]
				if got := strings.ToLower(strings.Trim(strings.Fields(row[0])[0], "`")); got != strings.ReplaceAll(string(c), " ", "") {
					t.Errorf("row %d is %q, want %q", n+1, got, c)
				}
				for k, s := range statuses {
					want := ""
					if offered(s)[strings.ReplaceAll(string(c), " ", "")] {
						want = "yes"
					}
					if row[k+1] != want {
						t.Errorf("%s while %s: the table says %q, Explain %q", c, s, row[k+1], want)
					}
				}
			}
		})
	}
}

// Both READMEs have the same parts.
func TestReadmesHaveTheSameParts(t *testing.T) {
	shape := func(name string) (parts []string) {
		for line := range strings.Lines(read(t, name)) {
			switch {
			case strings.HasPrefix(line, "#"):
				parts = append(parts, strings.Repeat("#", strings.Count(strings.Fields(line)[0], "#")))
			case strings.HasPrefix(line, "```"):
				parts = append(parts, strings.TrimSpace(line))
			case strings.HasPrefix(line, "|"):
				parts = append(parts, "row")
			}
		}
		return parts
	}
	if diff := cmp.Diff(shape(readmes[0]), shape(readmes[1])); diff != "" {
		t.Errorf("parts (-%s +%s):\n%s", readmes[0], readmes[1], diff)
	}
}

// The commands that the READMEs print are those that .ci/run executes.
func TestReadmeCommands(t *testing.T) {
	ci := read(t, ".ci/run")
	for name, want := range map[string][]string{
		readmes[0]: {"go run ./examples/quickstart", "go test ./..."},
		readmes[1]: {"go run ./examples/quickstart -lang zh", "go test ./..."},
	} {
		var got []string
		for _, b := range repocheck.Blocks(read(t, name)) {
			if b.Language == "" && strings.HasPrefix(b.Code, "go ") {
				got = append(got, strings.Split(strings.TrimSpace(b.Code), "\n")...)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: commands (-want +got):\n%s", name, diff)
		}
		for _, command := range got {
			if !strings.Contains(ci, command) {
				t.Errorf("%s: .ci/run does not execute %q", name, command)
			}
		}
	}
}
