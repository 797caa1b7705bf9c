package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// The policy under test drives a task on a cloud in memory. In a synctest bubble the ten minutes that an
// upgrade takes pass in a millisecond.
func TestS12_S22_OnesOwnPolicy(t *testing.T) {
	well := func(context.Context, []string) (bool, error) { return true, nil }
	unwell := func(context.Context, []string) (bool, error) { return false, nil }
	broken := func(context.Context, []string) (bool, error) { return false, errors.New("metrics are down") }
	day, night := between(1, 2), between(22, 6) // a bubble begins at midnight UTC
	for _, tc := range []struct {
		name    string
		hooks   ru.Hooks
		fails   int // how often the new disk of i-0004 does not come up
		status  ru.Status
		batch   int
		attempt int // of i-0004
		why     ru.PauseWhy
		next    bool // a rollback follows
	}{
		{name: "no hooks: the pause is kept", status: ru.StatusBatchPaused, batch: 1, why: ru.PausedByPolicy},
		{name: "a canary that is well needs nobody", hooks: canary(well), status: ru.StatusSucceeded, batch: 2, attempt: 1},
		{name: "a canary that is not well is rolled back", hooks: canary(unwell), status: ru.StatusCanceled, batch: 1, next: true},
		{name: "a canary that cannot be judged waits", hooks: canary(broken), status: ru.StatusBatchPaused, batch: 1, why: ru.PausedByHook},
		{name: "two failures are retried", hooks: ru.JoinHooks(canary(well), retries(3)), fails: 2, status: ru.StatusSucceeded, batch: 2, attempt: 3},
		{name: "three failures wait", hooks: ru.JoinHooks(canary(well), retries(3)), fails: 3, status: ru.StatusFailurePaused, batch: 2, attempt: 3, why: ru.PausedByFailure},
		{name: "by night nobody waits", hooks: ru.JoinHooks(canary(well), nobodyAwake(night)), fails: 1, status: ru.StatusCanceled, batch: 2, attempt: 1},
		{name: "by day somebody is there", hooks: ru.JoinHooks(canary(well), nobodyAwake(day)), fails: 1, status: ru.StatusFailurePaused, batch: 2, attempt: 1, why: ru.PausedByFailure},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cloud := fake.Demo(fake.Config{}, 4)
				cloud.SetBehavior("i-0004", fake.Behavior{FailReplaces: tc.fails})
				r, err := ru.New(cloud, ru.NewMemoryStore(), ru.Config{Hooks: tc.hooks})
				if err != nil {
					t.Fatal(err)
				}
				s, err := r.Create(t.Context(), ru.Spec{
					GroupID: fake.DemoGroup, Update: ru.Image(fake.DemoNewImage), Rollback: ru.Image(fake.DemoOldImage),
					Batches: ru.InBatches(2), Pause: ru.PausePolicy{Mode: ru.PauseFirstBatch},
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Run(t.Context(), s.ID); err != nil {
					t.Fatal(err)
				}
				task, err := r.Get(t.Context(), s.ID)
				if err != nil {
					t.Fatal(err)
				}
				type end struct {
					Status  ru.Status
					Batch   int
					Attempt int
					Why     ru.PauseWhy
					Next    bool
				}
				got := end{Status: task.Status, Batch: task.Batch, Next: task.NextID != ""}
				if task.Pause != nil {
					got.Why = task.Pause.Why
				}
				for _, i := range task.Instances {
					if i.ID == "i-0004" {
						got.Attempt = i.Attempt
					}
				}
				if diff := cmp.Diff(end{tc.status, tc.batch, tc.attempt, tc.why, tc.next}, got); diff != "" {
					t.Errorf("end (-want +got):\n%s", diff)
				}
				if v := cloud.Violations(); len(v) > 0 {
					t.Errorf("violations: %v", v)
				}
			})
		})
	}
}

func TestBetween(t *testing.T) {
	for _, tc := range []struct {
		from, to, hour int
		want           bool
	}{
		{9, 17, 8, false},
		{9, 17, 9, true},
		{9, 17, 16, true},
		{9, 17, 17, false},
		{22, 6, 21, false},
		{22, 6, 22, true},
		{22, 6, 0, true},
		{22, 6, 5, true},
		{22, 6, 6, false},
	} {
		at := time.Date(2026, 1, 1, tc.hour, 59, 0, 0, time.UTC)
		if got := between(tc.from, tc.to)(at); got != tc.want {
			t.Errorf("between(%d, %d) at %d h = %t, want %t", tc.from, tc.to, tc.hour, got, tc.want)
		}
	}
}

func TestStories(t *testing.T) {
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		if err := run(t.Context(), &out); err != nil {
			t.Error(err)
		}
	})
	rest := out.String()
	for _, want := range []string{
		"nobody is asked.\n", "i-0004 retry (hook)\n", "batch 2 is done\n", "running -> succeeded",
		"rolled back.\n", "running -> batch_paused (hook)", "batch_paused -> canceled", "running -> succeeded",
		"and restored in the morning.\n", "i-0004 retry (hook)\n", "running -> failure_paused (provider)", "failure_paused -> canceled (hook)", "7 leftovers, 0 after Restore\n",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing or out of place:\n%s", want, out.String())
		}
		rest = after
	}
}
