package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// hookBed is a demo bed whose Runner has hooks.
func hookBed(t testing.TB, n int, h ru.Hooks) *bed {
	return newBed(t, fake.Demo(fake.Config{}, n), ru.Config{Hooks: h})
}

func TestS15_VerifyHook(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		asked, most := map[string]int{}, 0
		b := hookBed(t, 4, ru.Hooks{Verify: func(_ context.Context, _ ru.Summary, ids []string) ([]ru.Verdict, error) {
			most = max(most, len(ids))
			var vs []ru.Verdict
			for _, id := range ids {
				asked[id]++
				vs = append(vs, ru.Verdict{InstanceID: id, Healthy: id != "i-0002" && asked[id] != 2, Text: "HTTP 503"})
			}
			return vs, nil
		}})
		id := b.create(scriptSpec(1, everything, func(s *ru.Spec) {
			s.Verify = ru.VerifyPolicy{Successes: 2, Timeout: time.Minute, Interval: 5 * time.Second}
		}))
		task := b.runTo(id, ru.StatusFailurePaused)
		diff(t, "asked about at once", 4, most)
		diff(t, "statuses", map[string]string{"i-0001": "succeeded", "i-0002": "failed", "i-0003": "succeeded", "i-0004": "succeeded"}, statuses(task))
		diff(t, "looks: healthy, not, healthy, healthy", 4, asked["i-0001"])
		row := rowOf(task, "i-0002")
		if row.Error.Step != ru.Verifying || !strings.Contains(row.Error.Text, "HTTP 503") {
			t.Errorf("error is %+v, want the text of the verdict", row.Error)
		}
		diff(t, "never back in service unverified", "Standby", string(b.instance("i-0002").Lifecycle))
		diff(t, "outcome", "updated", string(row.Outcome))
	})
}

func TestS22_FailedHookDecides(t *testing.T) {
	for _, c := range []struct {
		decision ru.Decision
		want     ru.Status
		shown    string
	}{
		{ru.DecideRetry, ru.StatusSucceeded, "succeeded"},
		{ru.DecideSkip, ru.StatusSucceeded, "succeeded (skipped)"},
		{ru.DecideCancel, ru.StatusFailed, "failed (canceled)"},
		{ru.DecidePause, ru.StatusFailurePaused, "failed"},
		{"", ru.StatusFailed, "failed (canceled)"}, // left to the policy, which tolerates one
	} {
		bubbled(t, "decide "+string(c.decision), func(t *testing.T) {
			calls := 0
			b := hookBed(t, 4, ru.Hooks{Failed: func(_ context.Context, _ ru.Summary, f ru.InstanceFailure) (ru.Decision, error) {
				calls++
				if f.InstanceID != "i-0001" || f.Failure.Text == "" || f.Batch != 1 {
					t.Errorf("hook was told %+v", f)
				}
				return c.decision, nil
			}})
			scriptsFail(b, 1, "i-0001")
			id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Failure.Total = ru.Budget{Instances: 1} }))
			task := b.runTo(id, c.want)
			diff(t, "i-0001", c.shown, shown(rowOf(task, "i-0001")))
			diff(t, "calls", 1, calls)
		})
	}
}

func TestS12_S21_AfterBatchAndPausedDecide(t *testing.T) {
	for _, c := range []struct {
		name  string
		hooks ru.Hooks
		want  ru.Status
	}{
		{"pause", ru.Hooks{AfterBatch: afterBatch(ru.DecidePause)}, ru.StatusBatchPaused},
		{"continue overrules the policy", ru.Hooks{AfterBatch: afterBatch(ru.DecideContinue)}, ru.StatusSucceeded},
		{"cancel", ru.Hooks{AfterBatch: afterBatch(ru.DecideCancel)}, ru.StatusCanceled},
		{"roll back", ru.Hooks{AfterBatch: afterBatch(ru.DecideRollback)}, ru.StatusCanceled},
		{"paused: continue", ru.Hooks{Paused: onPause(ru.DecideContinue)}, ru.StatusSucceeded},
		{"paused: cancel", ru.Hooks{Paused: onPause(ru.DecideCancel)}, ru.StatusCanceled},
		{"paused: roll back", ru.Hooks{Paused: onPause(ru.DecideRollback)}, ru.StatusCanceled},
		{"paused: keep waiting", ru.Hooks{Paused: onPause("")}, ru.StatusBatchPaused},
		{"paused: error keeps waiting", ru.Hooks{Paused: func(context.Context, ru.Summary, ru.Pause) (ru.Decision, error) { return "", errors.New("x") }}, ru.StatusBatchPaused},
		{"paused: illegal keeps waiting", ru.Hooks{Paused: onPause(ru.DecideRetry)}, ru.StatusBatchPaused},
	} {
		bubbled(t, c.name, func(t *testing.T) {
			b := hookBed(t, 4, c.hooks)
			id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch)))
			task := b.runTo(id, c.want)
			if strings.Contains(c.name, "roll back") {
				b.runTo(task.NextID, ru.StatusSucceeded)
				diff(t, "image", fake.DemoOldImage, b.instance("i-0001").ImageID)
			}
		})
	}
}

func afterBatch(d ru.Decision) func(context.Context, ru.Summary, ru.Batch) (ru.Decision, error) {
	return func(_ context.Context, s ru.Summary, _ ru.Batch) (ru.Decision, error) {
		if s.Kind == ru.Rollback {
			return "", nil
		}
		return d, nil
	}
}

func onPause(d ru.Decision) func(context.Context, ru.Summary, ru.Pause) (ru.Decision, error) {
	return func(context.Context, ru.Summary, ru.Pause) (ru.Decision, error) { return d, nil }
}

// A hook that vetoes, panics or hangs pauses the task with the reason; it never loses it.
func TestS21_S22_HookTrouble(t *testing.T) {
	trouble := map[string]func(ctx context.Context) error{
		"error": func(context.Context) error { return errors.New("red light") },
		"panic": func(context.Context) error { panic("red light") },
		"hang": func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			return fmt.Errorf("red light: %w", ctx.Err())
		},
	}
	for name, f := range trouble {
		first := func() func(context.Context) error {
			calls := 0
			return func(ctx context.Context) error {
				if calls++; calls == 1 {
					return f(ctx)
				}
				return nil
			}
		}
		text := map[string]string{"hang": "still at work"}[name]
		if text == "" {
			text = "red light"
		}
		bubbled(t, "before batch "+name, func(t *testing.T) {
			once := first()
			b := hookBed(t, 4, ru.Hooks{BeforeBatch: func(ctx context.Context, _ ru.Summary, _ ru.Batch) error { return once(ctx) }})
			id := b.create(imageSpec(2))
			task := b.runTo(id, ru.StatusBatchPaused)
			if task.Pause.Why != ru.PausedByHook || !strings.Contains(task.Pause.Text, text) {
				t.Errorf("pause is %+v, want the hook's reason", task.Pause)
			}
			diff(t, "in service", idRange(1, 4), b.inState("InService"))
			time.Sleep(time.Minute) // the hung one ends
			b.ok(b.r.Continue(b.ctx(), id))
			b.runTo(id, ru.StatusSucceeded)
		})
		bubbled(t, "after batch "+name, func(t *testing.T) {
			once := first()
			b := hookBed(t, 4, ru.Hooks{AfterBatch: func(ctx context.Context, _ ru.Summary, _ ru.Batch) (ru.Decision, error) { return "", once(ctx) }})
			id := b.create(imageSpec(2))
			task := b.runTo(id, ru.StatusBatchPaused)
			if task.Pause.Why != ru.PausedByHook || !strings.Contains(task.Pause.Text, text) {
				t.Errorf("pause is %+v, want the hook's reason", task.Pause)
			}
			time.Sleep(time.Minute)
			b.ok(b.r.Continue(b.ctx(), id))
			b.runTo(id, ru.StatusSucceeded)
		})
		bubbled(t, "failed "+name, func(t *testing.T) {
			once := first()
			b := hookBed(t, 4, ru.Hooks{Failed: func(ctx context.Context, _ ru.Summary, _ ru.InstanceFailure) (ru.Decision, error) {
				return "", once(ctx)
			}})
			scriptsFail(b, 1, "i-0001")
			id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Failure.Total = ru.Budget{Instances: 3} }))
			task := b.runTo(id, ru.StatusFailurePaused) // the budget is not used: nobody knows what the hook would have said
			if !strings.Contains(rowOf(task, "i-0001").Error.Text, text) {
				t.Errorf("error is %q, want the hook's reason", rowOf(task, "i-0001").Error.Text)
			}
			time.Sleep(time.Minute)
			b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
			b.runTo(id, ru.StatusSucceeded)
		})
		if name == "error" { // a verdict like any other
			continue
		}
		bubbled(t, "verify "+name, func(t *testing.T) {
			once := first()
			b := hookBed(t, 4, ru.Hooks{Verify: func(ctx context.Context, _ ru.Summary, ids []string) (vs []ru.Verdict, err error) {
				for _, id := range ids {
					vs = append(vs, ru.Verdict{InstanceID: id, Healthy: true})
				}
				return vs, once(ctx)
			}})
			id := b.create(imageSpec(2))
			task := b.runTo(id, ru.StatusFailurePaused)
			if !strings.Contains(rowOf(task, "i-0001").Error.Text, text) {
				t.Errorf("error is %q, want the hook's reason", rowOf(task, "i-0001").Error.Text)
			}
			time.Sleep(time.Minute)
			var failed []string // those that were asked about together
			for id, is := range statuses(task) {
				if is == string(ru.InstanceFailed) {
					failed = append(failed, id)
				}
			}
			b.ok(b.r.Retry(b.ctx(), id, failed))
			b.runTo(id, ru.StatusSucceeded)
		})
	}
}

func TestS35_TransitionSeesEverySavedEventOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var seen []int64
		b := hookBed(t, 4, ru.Hooks{Transition: func(_ context.Context, s ru.Summary, e ru.Event) {
			seen = append(seen, e.Seq)
			if e.Seq == 5 {
				panic("observers do no harm")
			}
		}})
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		var all []int64
		for _, e := range b.events(id)[1:] { // the first is Create's
			all = append(all, e.Seq)
		}
		diff(t, "events", all, seen)
	})
}

func TestS12_S15_S22_JoinHooks(t *testing.T) {
	var order []string
	mk := func(name string, d ru.Decision, healthy bool, err error) ru.Hooks {
		return ru.Hooks{
			BeforeBatch: func(context.Context, ru.Summary, ru.Batch) error { order = append(order, name); return err },
			AfterBatch: func(context.Context, ru.Summary, ru.Batch) (ru.Decision, error) {
				order = append(order, name)
				return d, nil
			},
			Verify: func(_ context.Context, _ ru.Summary, ids []string) ([]ru.Verdict, error) {
				return []ru.Verdict{{InstanceID: ids[0], Healthy: healthy, Text: name}}, nil
			},
			Transition: func(context.Context, ru.Summary, ru.Event) { order = append(order, name) },
		}
	}
	ctx := t.Context()
	j := ru.JoinHooks(ru.Hooks{}, mk("a", "", true, nil), mk("b", ru.DecidePause, false, errors.New("no")), mk("c", ru.DecideCancel, true, nil))
	if err := j.BeforeBatch(ctx, ru.Summary{}, ru.Batch{}); err == nil || !slices.Equal(order, []string{"a", "b"}) {
		t.Errorf("before: %v, asked %v", err, order)
	}
	order = nil
	if d, _ := j.AfterBatch(ctx, ru.Summary{}, ru.Batch{}); d != ru.DecidePause || !slices.Equal(order, []string{"a", "b"}) {
		t.Errorf("after: %s, asked %v", d, order)
	}
	order = nil
	j.Transition(ctx, ru.Summary{}, ru.Event{})
	diff(t, "observers", []string{"a", "b", "c"}, order)
	vs, err := j.Verify(ctx, ru.Summary{}, []string{"i"})
	if err != nil || len(vs) != 1 || vs[0].Healthy || vs[0].Text != "b" {
		t.Errorf("verdicts %+v, %v, want b's", vs, err)
	}
	if j.Failed != nil || j.Paused != nil {
		t.Error("hooks that nobody has are not nil")
	}
}
