package rollingupgrade_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A recording is all that a run shows of itself.
type recording struct{ calls, effects, events []string }

// record plays an upgrade with failures, faults and a rollback through plain Runners, and writes down what it did.
func record(t *testing.T, script bool) (rec recording) {
	synctest.Test(t, func(t *testing.T) {
		cloud := fake.Demo(fake.Config{Seed: 7, Jitter: 0.3, Tail: 0.05}, 12)
		cloud.SetBehavior("i-0004", fake.Behavior{FailReplaces: 1, Scripts: []fake.ScriptResult{{ExitCode: 1}, {}}})
		cloud.Inject(fake.Throttle("EnterStandby", 2), fake.LoseAnswer("Update", 5), fake.LoseAnswer("ExitStandby", 2),
			fake.Fault{Op: "Update", Target: "i-0007", Nth: 3, Err: provider.ErrBusy})
		cloud.After(4*time.Minute, func(w *fake.World) { w.Release("i-0011") })
		store := ru.NewMemoryStore()
		r, err := ru.New(face(t, cloud), store, ru.Config{Parallel: 4})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		spec := sweepSpec(script, 3)
		spec.MaxInFlight, spec.Pause.Mode = 3, ru.PauseEveryBatch
		sum, err := r.Create(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{sum.ID}
		lead(t, r, sum.ID)
		if sum, err = r.Rollback(ctx, sum.ID, ru.RollbackSpec{ClientToken: "back", Batches: ru.InBatches(2)}); err != nil {
			t.Fatal(err)
		}
		lead(t, r, sum.ID)
		for _, c := range cloud.Calls() {
			rec.calls = append(rec.calls, c.String())
		}
		for _, e := range cloud.Effects() {
			rec.effects = append(rec.effects, e.String())
		}
		for _, id := range append(ids, sum.ID) {
			for e, err := range store.Events(ctx, id, 0) {
				if err != nil {
					t.Fatal(err)
				}
				rec.events = append(rec.events, fmt.Sprintf("%+v", e))
			}
		}
	})
	return rec
}

// lead leads a task to its end: it continues, and retries what failed.
func lead(t *testing.T, r *ru.Runner, id string) {
	ctx := t.Context()
	for range 50 {
		if err := r.Run(ctx, id); err != nil {
			t.Fatal(err)
		}
		task, err := r.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		switch task.Status {
		case ru.StatusBatchPaused:
			err = r.Continue(ctx, id)
		case ru.StatusFailurePaused:
			var failed []string
			for _, i := range task.Instances {
				if i.Status == ru.InstanceFailed && i.Mark == "" {
					failed = append(failed, i.ID)
				}
			}
			err = r.Retry(ctx, id, failed)
		default:
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("task %s does not end", id)
}

// TestDeterminism_SameCallLog plays the same again and again: every call, effect and event is the same, byte for byte.
func TestDeterminism_SameCallLog(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, script := range []bool{false, true} {
		t.Run(map[bool]string{false: "image", true: "script"}[script], func(t *testing.T) {
			var want recording
			runs := 20
			if testing.Short() || raceEnabled {
				runs = 3
			}
			for n := range runs {
				runtime.GOMAXPROCS([]int{1, 2, 8}[n%3])
				got := record(t, script)
				if n == 0 {
					want = got
					if len(got.calls) < 100 || !strings.Contains(strings.Join(got.calls, "\n"), "EnterStandby") {
						t.Fatalf("%d calls", len(got.calls))
					}
					continue
				}
				for _, d := range []string{cmp.Diff(want.calls, got.calls), cmp.Diff(want.effects, got.effects), cmp.Diff(want.events, got.events)} {
					if d != "" {
						t.Fatalf("run %d differs (-first +this):\n%s", n+1, d)
					}
				}
			}
		})
	}
}
