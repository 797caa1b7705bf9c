package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

// child names what this test binary does instead of testing, when a test has started it as a process of its own.
const child = "BOLTSTORE_TEST_CHILD"

var children = map[string]func(path string) error{}

func TestMain(m *testing.M) {
	if do := children[os.Getenv(child)]; do != nil {
		if err := do(os.Args[1]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// process returns the command that carries out a child in a process of its own.
func process(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, path)
	cmd.Env = append(os.Environ(), child+"="+what)
	cmd.Stderr = os.Stderr
	return cmd
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "tasks.db") }

func open(t testing.TB, path string) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var created = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

// newTask returns a task with rows and its first event.
func newTask(id string, rows int) rollingupgrade.Creation {
	t := &rollingupgrade.Task{Head: rollingupgrade.Head{
		Schema: rollingupgrade.SchemaVersion, ID: id, Kind: rollingupgrade.Upgrade, GroupID: "group of " + id,
		Status: rollingupgrade.StatusRunning, CreatedAt: created, HoldsGroup: true, Version: 1, EventSeq: 1,
	}}
	for n := range rows {
		t.Instances = append(t.Instances, rollingupgrade.Instance{ID: fmt.Sprintf("i-%04d", n), Pos: n, Batch: 1, Calls: 1})
	}
	return rollingupgrade.Creation{Task: t, Events: []rollingupgrade.Event{{Seq: 1, Time: created, Text: "version 1"}}}
}

// next returns a change to a version of a task made by newTask: all its rows, an event and an output say which one it is.
func next(id string, rows int, version int64) rollingupgrade.Change {
	c := newTask(id, rows)
	c.Task.Version, c.Task.EventSeq, c.Task.Nonce = version, version, fmt.Sprint("nonce ", version)
	for n := range c.Task.Instances {
		c.Task.Instances[n].Calls = int(version)
	}
	return rollingupgrade.Change{
		Head: &c.Task.Head, Rows: c.Task.Instances,
		Events:  []rollingupgrade.Event{{Seq: version, Time: created, Text: fmt.Sprint("version ", version)}},
		Outputs: map[string]provider.Output{"i-0000": {Text: fmt.Sprint("version ", version)}},
	}
}

// whole returns the version of a task and an error if it is not of one piece.
func whole(ctx context.Context, s rollingupgrade.Store, id string, rows int) (int64, error) {
	t, err := s.Load(ctx, id)
	if err != nil {
		return 0, err
	}
	if len(t.Instances) != rows {
		return 0, fmt.Errorf("%d rows of %d", len(t.Instances), rows)
	}
	for _, i := range t.Instances {
		if int64(i.Calls) != t.Version {
			return 0, fmt.Errorf("row %s is of version %d, the head of %d", i.ID, i.Calls, t.Version)
		}
	}
	last := int64(0)
	for e, err := range s.Events(ctx, id, 0) {
		if err != nil {
			return 0, err
		}
		if last++; e.Seq != last || e.Text != fmt.Sprint("version ", last) {
			return 0, fmt.Errorf("event %d is %d %q", last, e.Seq, e.Text)
		}
	}
	if last != t.Version {
		return 0, fmt.Errorf("%d events of %d", last, t.Version)
	}
	o, err := s.Output(ctx, id, "i-0000")
	if t.Version > 1 && (err != nil || o.Text != fmt.Sprint("version ", t.Version)) || t.Version == 1 && !errors.Is(err, rollingupgrade.ErrNoOutput) {
		return 0, fmt.Errorf("output %q, %v with version %d", o.Text, err, t.Version)
	}
	return t.Version, nil
}
