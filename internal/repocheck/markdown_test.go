package repocheck_test

import (
	"fmt"
	"go/format"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
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

// The first program of each README needs nothing: it is gofmt clean, compiles, and does what the text says.
func TestReadmeFirstProgramRuns(t *testing.T) {
	for _, name := range readmes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code := programs(t, name)[0]
			if n := strings.Count(code, "\n"); n > 40 {
				t.Errorf("%d lines are too many for a first program", n)
			}
			wantOutput(t, runIn(t, t.TempDir(), code),
				"planned 0   10 instances in 2 batches\n", "batch_started 1 ", "status 1  batch_paused ", "command 1  continue", "batch_started 2 ", "status 2  succeeded")
		})
	}
}

// The second one, with its file and a stand-in for Alibaba Cloud, is killed, goes on when it is run again, and has nothing to do the third time.
func TestReadmeSecondProgramRuns(t *testing.T) {
	for name, succeeded := range map[string]string{readmes[0]: "succeeded", readmes[1]: "成功"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cloud := fake.Demo(fake.Config{Speed: 100}, 10)
			server := httptest.NewServer(openapi.New(cloud, openapi.Config{Secret: "secret", NoLog: true}))
			t.Cleanup(server.Close)
			code, dir := programs(t, name)[1], t.TempDir()
			if n := strings.Count(code, "\n"); n > 55 {
				t.Errorf("%d lines are too many", n)
			}
			const real = `aliyun.Config{Region: "cn-hangzhou"}`
			if !strings.Contains(code, real) {
				t.Fatalf("it does not say %s", real)
			}
			code = strings.Replace(code, real, fmt.Sprintf(`aliyun.Config{
				Region: "cn-hangzhou", Credential: credentials.NewAccessKeyCredential("any", "secret"), Poll: 50 * time.Millisecond,
				Endpoints: aliyun.Endpoints{ESS: %[1]q, ECS: %[1]q},
			}`, server.URL), 1)
			code = strings.Replace(code, "import (", "import (\n\"time\"\n\"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials\"", 1)
			program := build(t, code)

			cmd := exec.CommandContext(t.Context(), program)
			cmd.Dir = dir
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for began := time.Now(); replaced(cloud) == 0; time.Sleep(10 * time.Millisecond) { // then it is in the middle of the first batch
				if time.Since(began) > 2*time.Minute {
					_ = cmd.Process.Kill()
					t.Fatal("it has not come to replace a disk")
				}
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			for range 2 {
				cmd := exec.CommandContext(t.Context(), program)
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				wantOutput(t, string(out), succeeded)
			}
			if n := replaced(cloud); n != 10 {
				t.Errorf("%d disks were replaced, of 10 instances", n)
			}
		})
	}
}

// replaced is how many system disks were replaced.
func replaced(cloud *fake.Cloud) (n int) {
	for _, e := range cloud.Effects() {
		if e.Action == "ReplaceSystemDisk" {
			n++
		}
	}
	return n
}

// programs are the two programs of a README.
func programs(t *testing.T, name string) []string {
	t.Helper()
	var all []string
	for _, b := range repocheck.Blocks(read(t, name)) {
		if b.Language != "go" {
			continue
		}
		if clean, err := format.Source([]byte(b.Code)); err != nil {
			t.Fatalf("line %d: %v", b.Line, err)
		} else if diff := cmp.Diff(string(clean), b.Code); diff != "" {
			t.Errorf("line %d: gofmt (-want +got):\n%s", b.Line, diff)
		}
		all = append(all, b.Code)
	}
	if len(all) != 2 {
		t.Fatalf("%d programs, want 2", len(all))
	}
	return all
}

// build builds a program that uses this module, after a look by go vet.
func build(t *testing.T, code string) (program string) {
	t.Helper()
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(t.TempDir(), "program")
	if out, err := repocheck.Build(dir, program, code); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// runIn builds a program, runs it in a folder and returns what it prints.
func runIn(t *testing.T, dir, code string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), build(t, code))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// wantOutput demands pieces of an output in order.
func wantOutput(t *testing.T, out string, want ...string) {
	t.Helper()
	rest := out
	for _, w := range want {
		_, after, found := strings.Cut(rest, w)
		if !found {
			t.Fatalf("%q is missing or out of place:\n%s", w, out)
		}
		rest = after
	}
}

func TestBuildRefusesBrokenCode(t *testing.T) {
	dir, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := repocheck.Build(dir, filepath.Join(t.TempDir(), "program"), "package main\n\nfunc main() { undefined() }\n"); err == nil {
		t.Errorf("a program that does not compile was built: %s", out)
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
