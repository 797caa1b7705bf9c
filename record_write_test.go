package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// TestWriteRecords writes the records of the present schema that are not there; see TestRecordsHoldEveryField. Without the flag it
// holds that all of them can still be made.
func TestWriteRecords(t *testing.T) {
	made := map[string]*kept{"every-field": everyField(t)}
	for name, script := range map[string]bool{"image": false, "script": true} {
		synctest.Test(t, func(t *testing.T) { makeRecords(t, script, made) })
		if len(made) < 2 {
			t.Errorf("%s: no records", name)
		}
	}
	dir := fmt.Sprintf("testdata/records/schema-%d", ru.SchemaVersion)
	for name, k := range made {
		path := filepath.Join(dir, name+".json")
		switch _, err := os.Stat(path); {
		case err == nil:
		case !errors.Is(err, os.ErrNotExist) || !*updateRecords:
			t.Errorf("%v; write it with -update-records", err)
		default:
			b, err := json.MarshalIndent(k, "", "  ")
			if err := errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(path, append(b, '\n'), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// makeRecords drives tasks and keeps them as they are at certain moments.
func makeRecords(t *testing.T, script bool, made map[string]*kept) {
	ctx := t.Context()
	cloud := fake.Demo(fake.Config{}, 6)
	store := ru.NewMemoryStore()
	r, err := ru.New(cloud, store, ru.Config{Owner: "runner-1"})
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, id string) {
		t.Helper()
		k, err := keep(ctx, store, id)
		if err != nil {
			t.Fatal(err)
		}
		made[name] = k
	}
	spec := ru.Spec{
		GroupID: fake.DemoGroup, Description: "release 42", Update: ru.Image(fake.DemoNewImage), Rollback: ru.Image(fake.DemoOldImage),
		Batches: ru.InBatches(3), Pause: ru.PausePolicy{Mode: ru.PauseFirstBatch}, ClientToken: "token-1",
	}
	if script {
		spec.Update, spec.Rollback, spec.Pause.Mode = ru.Script(provider.Shell, "echo up"), ru.Script(provider.Shell, "echo down"), ru.PauseNever
		s := must(r.Create(ctx, spec))
		check(r.Run(ctx, s.ID))
		put("script-succeeded", s.ID)
		return
	}
	s := must(r.Create(ctx, spec))
	put("pending", s.ID)
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(working, s.ID) }()
	for k := 0; ; k++ {
		time.Sleep(time.Second)
		task := must(r.Get(ctx, s.ID))
		if task.Progress.Running > 0 && task.Instances[0].Step == ru.Updating && task.Instances[0].Stopped {
			break
		}
		if k > 3600 {
			t.Fatal("no instance was ever being updated")
		}
	}
	put("at-work", s.ID)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	stop()
	put("batch-paused", s.ID)
	cloud.Inject(fake.Fault{Op: "ReplaceSystemDisk", Target: "i-0003", Count: -1, Err: provider.ErrPermission})
	check(r.Continue(ctx, s.ID, "request-1"))
	check(r.Run(ctx, s.ID))
	put("failure-paused", s.ID)
	check(r.Cancel(ctx, s.ID, "enough"))
	check(r.Run(ctx, s.ID))
	put("canceled-with-leftovers", s.ID)
	back := must(r.Rollback(ctx, s.ID, ru.RollbackSpec{Description: "back"}))
	check(r.Run(ctx, back.ID))
	put("rolled-back", s.ID)
	put("rollback", back.ID)
}
