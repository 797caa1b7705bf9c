package main

import (
	"bytes"
	"context"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
)

// A desk is a stand-in for the cloud, a store, and a person who types.
type desk struct {
	t     *testing.T
	cloud *fake.Cloud
	flags []string
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "any")
	t.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
	cloud := fake.Demo(fake.Config{Speed: 2000}, 4)
	server := httptest.NewServer(openapi.New(cloud, openapi.Config{Secret: "secret"}))
	t.Cleanup(server.Close)
	store := filepath.Join(t.TempDir(), "tasks.db")
	return &desk{t, cloud, []string{"-group", fake.DemoGroup, "-endpoint", strings.TrimPrefix(server.URL, "http://"), "-store", store}}
}

// answers types each line when the prompt for it has appeared.
type answers struct {
	mu    sync.Mutex
	text  bytes.Buffer
	lines []string
	in    *io.PipeWriter
}

func (a *answers) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.text.Write(b)
	if string(b) == "> " {
		if len(a.lines) == 0 {
			return len(b), a.in.Close()
		}
		line := a.lines[0]
		a.lines = a.lines[1:]
		go io.WriteString(a.in, line+"\n") // who does not read it is asked again
	}
	return len(b), nil
}

// run runs the program and returns what it printed.
func (d *desk) run(flags []string, lines ...string) (string, error) {
	d.t.Helper()
	in, typed := io.Pipe()
	a := &answers{lines: lines, in: typed}
	err := run(d.t.Context(), append(flags, d.flags...), in, a)
	if left := len(a.lines); err == nil && left > 0 {
		d.t.Errorf("%d answers were not asked for", left)
	}
	return a.text.String(), err
}

func (d *desk) want(text string, parts ...string) {
	d.t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			d.t.Errorf("%q is not in:\n%s", p, text)
		}
	}
}

// images says which image each instance runs.
func (d *desk) images() string {
	var all []string
	for _, i := range d.cloud.Snapshot(fake.DemoGroup) {
		all = append(all, i.ImageID)
	}
	return strings.Join(all, " ")
}

func TestPlanChangesNothing(t *testing.T) {
	d := newDesk(t)
	text, err := d.run([]string{"-image", "img-v2", "-plan"})
	if err != nil {
		t.Fatal(err)
	}
	d.want(text, "batch 1: i-0001 i-0002", "batch 2: i-0003 i-0004", "pauses after the first batch")
	text, err = d.run([]string{"-image", "img-v2"}, "no")
	if err != nil {
		t.Fatal(err)
	}
	d.want(text, "Nothing was changed.")
	if _, err := d.run([]string{"-image", "img-v2"}); err != nil { // nobody is there to agree
		t.Fatal(err)
	}
	if n := len(d.cloud.Effects()); n > 0 {
		t.Errorf("%d effects", n)
	}
}

func TestUpgradeAndRollback(t *testing.T) {
	d := newDesk(t)
	d.cloud.SetBehavior("i-0004", fake.Behavior{FailStarts: 1})
	text, err := d.run([]string{"-image", "img-v2", "-back-image", "img-v1"}, "yes", "what?", "continue", "", "retry i-0004")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	d.want(text, "batch_paused", `"what?" is no command here`, "failure_paused", "has succeeded")
	if got := d.images(); got != "img-v2 img-v2 img-v2 img-v2" {
		t.Errorf("after the upgrade: %s", got)
	}
	text, err = d.run([]string{"-rollback", "-lang", "zh", "-pause", "never"}, "yes")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	d.want(text, "成功")
	if got := d.images(); got != "img-v1 img-v1 img-v1 img-v1" {
		t.Errorf("after the rollback: %s", got)
	}
	if v := d.cloud.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// The task outlives the program: another run goes on where the first one was left.
func TestGoesOnLater(t *testing.T) {
	d := newDesk(t)
	script := filepath.Join(t.TempDir(), "fix.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nexit 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := d.run([]string{"-script", script, "-yes", "-pause", "every"}) // no answer at the pause
	if err == nil || !strings.Contains(err.Error(), "the input has ended") {
		t.Fatalf("%v\n%s", err, text)
	}
	if _, err = d.run([]string{"-script", script}); err == nil || !strings.Contains(err.Error(), "has not ended (batch_paused)") {
		t.Fatalf("a second task: %v", err)
	}
	text, err = d.run(nil, "cancel", "restore", "quit")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	d.want(text, "going on with task", "left over: process ScaleIn", "status canceled", "resumed ScaleOut")
	if group, _ := d.cloud.GroupView(fake.DemoGroup); len(group.Suspended) > 0 {
		t.Errorf("still suspended: %v", group.Suspended)
	}
}

func TestRefusals(t *testing.T) {
	d := newDesk(t)
	for want, flags := range map[string][]string{
		"exclude each other":      {"-image", "a", "-script", "b.sh"},
		"ends in .sh, .bat":       {"-script", "b.exe"},
		"says what to do":         {},
		"keeps no task of group":  {"-rollback"},
		"unexpected argument":     {"x"},
		"no such file":            {"-script", "none.sh"},
		"the plan has errors":     {"-image", "img-none", "-yes"},
		"Pause.Mode":              {"-image", "img-v2", "-pause", "sometimes"},
		"Batches.Count":           {"-image", "img-v2", "-batches", "-1"},
		"-rollback takes":         {"-rollback", "-image", "img-v1"},
		"flag provided but not d": {"-nonsense"},
	} {
		if text, err := d.run(flags); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v is not %q\n%s", flags, err, want, text)
		}
	}
	if err := run(context.Background(), nil, nil, io.Discard); err == nil || err.Error() != "-group is missing" {
		t.Errorf("without -group: %v", err)
	}
}
