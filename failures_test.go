package rollingupgrade_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// scriptsFail makes the first scripts on instances exit with 3.
func scriptsFail(b *bed, times int, ids ...string) {
	results := make([]fake.ScriptResult, times, times+1)
	for n := range results {
		results[n] = fake.ScriptResult{ExitCode: 3, Output: "no space"}
	}
	for _, id := range ids {
		b.cloud.SetBehavior(id, fake.Behavior{Scripts: append(results, fake.ScriptResult{})})
	}
}

func TestS22_StartedOnesFinishAndOthersAreHeld(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 8)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2, func(s *ru.Spec) { s.MaxInFlight = 2 }))
		task := b.runTo(id, ru.StatusFailurePaused)
		diff(t, "statuses", map[string]string{
			"i-0001": "failed", "i-0002": "succeeded", "i-0003": "pending", "i-0004": "pending",
			"i-0005": "pending", "i-0006": "pending", "i-0007": "pending", "i-0008": "pending",
		}, statuses(task))
		diff(t, "why", ru.PausedByFailure, task.Pause.Why)
		diff(t, "in Standby", []string{"i-0001"}, b.inState("Standby"))
		row := rowOf(task, "i-0001")
		if row.Error == nil || row.Error.Step != ru.Updating || row.ExitCode == nil || *row.ExitCode != 3 {
			t.Errorf("row is %+v, want the step and the exit code of the failure", row)
		}
		time.Sleep(100 * time.Hour)
		b.wantStatus(b.run(id), ru.StatusFailurePaused)
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		task = b.runTo(id, ru.StatusSucceeded)
		diff(t, "attempts", 2, rowOf(task, "i-0001").Attempt)
		diff(t, "scripts on i-0001", 2, b.cloud.CountEffects("RunCommand", "i-0001"))
		diff(t, "scripts on i-0002", 1, b.cloud.CountEffects("RunCommand", "i-0002"))
		diff(t, "Standby entered once", 1, b.cloud.CountEffects("EnterStandby", "i-0001"))
	})
}

func TestS22_RetryGoesToWorkAtOnceWhileOthersWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		scriptsFail(b, 1, "i-0001", "i-0002")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		task := b.runTo(id, ru.StatusFailurePaused) // i-0002 is still undecided
		diff(t, "i-0001", "succeeded", shown(rowOf(task, "i-0001")))
		diff(t, "batch 2", "pending", shown(rowOf(task, "i-0004")))
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0002"}))
		task = b.runTo(id, ru.StatusSucceeded)
		diff(t, "i-0002", "succeeded (skipped)", shown(rowOf(task, "i-0002")))
		diff(t, "in Standby", []string{"i-0002"}, b.inState("Standby"))
		diff(t, "leftovers", []string{"standby i-0002"}, leftovers(task))
		if rowOf(task, "i-0002").Error == nil {
			t.Error("the failure of the skipped instance was forgotten")
		}
	})
}

func TestS22_S24_CanceledInstanceMakesTheTaskFail(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0001"}))
		task := b.runTo(id, ru.StatusFailed)
		diff(t, "statuses", map[string]string{"i-0001": "failed (canceled)", "i-0002": "succeeded", "i-0003": "succeeded", "i-0004": "succeeded"}, statuses(task))
		diff(t, "leftovers", []string{"standby i-0001"}, leftovers(task))
		if s := b.suspended(); len(s) > 0 {
			t.Errorf("%v are still suspended although the task has ended", s)
		}
	})
}

func TestS22_DecisionBeforeThePause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		b.cloud.SetBehavior("i-0002", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: 5 * time.Minute}}})
		id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Update.Script.Timeout = time.Hour }))
		wait := b.start(id)
		b.until(id, "i-0001 fails", func(t *ru.Task) bool { return rowOf(t, "i-0001").Status == ru.InstanceFailed })
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0001"}))
		b.wantStatus(wait(), ru.StatusSucceeded)
		for _, e := range b.events(id, ru.EventStatus) {
			if e.To == string(ru.StatusFailurePaused) {
				t.Error("the task paused although everything was decided")
			}
		}
	})
}

func TestS22_RetryFromTheStepAndFromTheStart(t *testing.T) {
	for _, fromStart := range []bool{false, true} {
		bubbled(t, map[bool]string{false: "step", true: "start"}[fromStart], func(t *testing.T) {
			b := demoBed(t, 2)
			b.cloud.SetBehavior("i-0001", fake.Behavior{FailStarts: 1})
			id := b.create(imageSpec(2))
			task := b.runTo(id, ru.StatusFailurePaused)
			if !rowOf(task, "i-0001").Stopped {
				t.Error("that the instance is stopped is not recorded")
			}
			retry := b.r.Retry
			if fromStart {
				retry = b.r.RetryFromStart
			}
			b.ok(retry(b.ctx(), id, []string{"i-0001"}))
			b.runTo(id, ru.StatusSucceeded)
			want := 1
			if fromStart {
				want = 2 // the disk was new already, and it was asked for from the start
			}
			diff(t, "replacements", want, b.cloud.CountEffects("ReplaceSystemDisk", "i-0001"))
			diff(t, "image", fake.DemoNewImage, b.instance("i-0001").ImageID)
		})
	}
}

func TestS22_Budgets(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy ru.FailurePolicy
		fail   []string
		want   ru.Status
	}{
		{"none", ru.FailurePolicy{}, idRange(1, 1), ru.StatusFailurePaused},
		{"within per batch", ru.FailurePolicy{PerBatch: ru.Budget{Instances: 1}}, []string{"i-0001", "i-0006"}, ru.StatusFailed},
		{"over per batch", ru.FailurePolicy{PerBatch: ru.Budget{Instances: 1}}, []string{"i-0001", "i-0002"}, ru.StatusFailurePaused},
		{"within percent", ru.FailurePolicy{PerBatch: ru.Budget{Percent: 40}}, []string{"i-0001", "i-0002"}, ru.StatusFailed},
		{"over percent, rounded down", ru.FailurePolicy{PerBatch: ru.Budget{Percent: 39}}, []string{"i-0001", "i-0002"}, ru.StatusFailurePaused},
		{"within total", ru.FailurePolicy{Total: ru.Budget{Instances: 2}}, []string{"i-0001", "i-0006"}, ru.StatusFailed},
		{"over total", ru.FailurePolicy{Total: ru.Budget{Instances: 1}}, []string{"i-0001", "i-0006"}, ru.StatusFailurePaused},
		{"within total percent", ru.FailurePolicy{Total: ru.Budget{Percent: 20}}, []string{"i-0001", "i-0006"}, ru.StatusFailed},
		{"the smaller counts", ru.FailurePolicy{Total: ru.Budget{Percent: 90, Instances: 1}}, []string{"i-0001", "i-0006"}, ru.StatusFailurePaused},
		{"both must allow", ru.FailurePolicy{PerBatch: ru.Budget{Instances: 5}, Total: ru.Budget{Instances: 1}}, []string{"i-0001", "i-0002"}, ru.StatusFailurePaused},
	} {
		bubbled(t, c.name, func(t *testing.T) {
			b := demoBed(t, 10)
			scriptsFail(b, 1, c.fail...)
			id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Failure = c.policy }))
			task := b.runTo(id, c.want)
			if c.want == ru.StatusFailed {
				diff(t, "canceled by itself", len(c.fail), task.Progress.Canceled)
				diff(t, "in Standby", c.fail, b.inState("Standby"))
				diff(t, "cause", ru.ByPolicy, rowOf(task, c.fail[0]).DecidedBy)
			}
		})
	}
}

func TestS22_LimitOfAFailurePause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Failure.Limit, s.Failure.OnLimit = time.Hour, ru.OnLimitCancel }))
		task := b.runTo(id, ru.StatusFailurePaused)
		time.Sleep(time.Until(task.Pause.Until))
		b.runTo(id, ru.StatusCanceled)
	})
}

func TestS23_SkippingAnInstanceThatNeverStarted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0003"}))
		b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0004"}))
		b.ok(b.r.Continue(b.ctx(), id))
		task := b.runTo(id, ru.StatusFailed)
		diff(t, "statuses", map[string]string{"i-0001": "succeeded", "i-0002": "succeeded", "i-0003": "succeeded (skipped)", "i-0004": "failed (canceled)"}, statuses(task))
		if e := append(b.effects("i-0003"), b.effects("i-0004")...); len(e) > 0 {
			t.Errorf("instances that never started were touched: %v", e)
		}
		diff(t, "in service", idRange(1, 4), b.inState("InService"))
	})
}

func TestS23_DecidingAnInstanceAtWork(t *testing.T) {
	for _, c := range []struct {
		name   string
		spec   ru.Spec
		skip   bool
		before string // the effect after which the decision comes
		want   string
		image  string
	}{
		{"skip while it stops: started again", imageSpec(2), true, "StopInstances", "succeeded (skipped)", fake.DemoOldImage},
		{"cancel while it stops: started again", imageSpec(2), false, "StopInstances", "failed (canceled)", fake.DemoOldImage},
		{"skip while the disk is replaced: carried on", imageSpec(2), true, "ReplaceSystemDisk", "succeeded (skipped)", fake.DemoNewImage},
		{"cancel while the disk is replaced: carried on", imageSpec(2), false, "ReplaceSystemDisk", "failed (canceled)", fake.DemoNewImage},
		{"cancel while the script runs: stopped", scriptSpec(2), false, "RunCommand", "failed (canceled)", fake.DemoOldImage},
	} {
		bubbled(t, c.name, func(t *testing.T) {
			b := demoBed(t, 4)
			id := b.create(c.spec)
			wait := b.start(id)
			b.until(id, c.before, func(*ru.Task) bool { return b.cloud.CountEffects(c.before, "i-0001") > 0 })
			decide := b.r.CancelInstances
			if c.skip {
				decide = b.r.Skip
			}
			time.Sleep(time.Second)
			b.ok(decide(b.ctx(), id, []string{"i-0001"}))
			b.ok(decide(b.ctx(), id, []string{"i-0001"})) // repeating is harmless
			if row := rowOf(b.task(id), "i-0001"); row.Status != ru.InstanceRunning || row.Decision == "" {
				t.Errorf("right after the decision: %s, decision %q, want running with the decision noted", row.Status, row.Decision)
			}
			task := wait()
			diff(t, "status", c.want, shown(rowOf(task, "i-0001")))
			if rowOf(task, "i-0001").Outcome == "" {
				t.Error("the real outcome is not kept")
			}
			i := b.instance("i-0001")
			if i.Power != "Running" || i.Lifecycle != "Standby" || i.ImageID != c.image {
				t.Errorf("instance is %s, %s, runs %s; want Running, Standby, %s", i.Power, i.Lifecycle, i.ImageID, c.image)
			}
			diff(t, "others", "succeeded", shown(rowOf(task, "i-0002")))
		})
	}
}

func TestS23_FinishedInstancesTakeNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		before := b.task(id)
		for name, do := range map[string]error{
			"retry":  b.r.Retry(b.ctx(), id, []string{"i-0001"}),
			"skip":   b.r.Skip(b.ctx(), id, []string{"i-0001", "i-0003"}),
			"cancel": b.r.CancelInstances(b.ctx(), id, []string{"i-0001"}),
		} {
			if do == nil {
				t.Errorf("%s of a finished instance was accepted", name)
			}
			wantError(t, do, ru.ErrIllegalCommand)
		}
		diff(t, "task", before, b.task(id))
	})
}

// Failures that the budget tolerates must not empty the group.
func TestS7_S22_BudgetKeepsMinInService(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, idRange(1, 4)...)
		id := b.create(scriptSpec(1, func(s *ru.Spec) { s.MaxInFlight, s.MinInService, s.Failure.PerBatch.Instances = 1, 3, 4 }))
		task := b.run(id)
		if n := len(b.inState(provider.InService)); n < 3 {
			t.Errorf("%d in service, 3 must stay; task is %s (%s)", n, task.Status, task.Reason)
		}
	})
}

// A retry of an instance that was moved out of Standby since does not update it in service.
func TestS15_RetryNotOutsideOfStandby(t *testing.T) {
	for kind, spec := range map[string]ru.Spec{"image": imageSpec(2), "script": scriptSpec(2)} {
		for name, retry := range map[string]func(*ru.Runner, context.Context, string, []string, ...ru.RequestID) error{"step": (*ru.Runner).Retry, "start": (*ru.Runner).RetryFromStart} {
			bubbled(t, kind+"/"+name, func(t *testing.T) {
				b := demoBed(t, 2)
				scriptsFail(b, 1, "i-0001")
				if kind == "image" {
					b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
				}
				id := b.create(spec)
				b.runTo(id, ru.StatusFailurePaused)
				b.cloud.Now(func(w *fake.World) {
					w.SetPower(provider.Running, "i-0001")
					w.SetLifecycle(provider.InService, "i-0001")
				})
				b.ok(retry(b.r, b.ctx(), id, []string{"i-0001"}))
				b.run(id)
				for _, e := range b.cloud.Effects() {
					if slices.Contains([]string{"RunCommand", "StopInstances", "ReplaceSystemDisk"}, e.Action) && e.InstanceID == "i-0001" && e.Lifecycle != provider.Standby {
						t.Errorf("%s while it is %s", e, e.Lifecycle)
					}
				}
			})
		}
	}
}

// A pause that was asked for does not take the retry away.
func TestS22_S23_FailureUnderAPauseCanBeRetried(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.ok(b.r.Pause(b.ctx(), id, ""))
		diff(t, "status", ru.StatusFailurePaused, wait().Status)
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
	})
}

// An instance that was out of service when its batch began is looked at when it is retried: it is worked on if it is back in service.
func TestS2_S22_RetryOfOneThatWasNotInService(t *testing.T) {
	for _, c := range []struct {
		now       provider.Lifecycle
		protected bool // such are included
		want      string
	}{
		{provider.InService, false, "succeeded"},
		{provider.Protected, false, "failed"},
		{provider.Standby, false, "failed"},
		{provider.InService, true, "succeeded"},
		{provider.Protected, true, "succeeded"},
		{provider.Standby, true, "failed"},
	} {
		bubbled(t, fmt.Sprintf("%s, included %t", c.now, c.protected), func(t *testing.T) {
			b := demoBed(t, 3)
			id := b.create(scriptSpec(3, pausing(ru.PauseFirstBatch), func(s *ru.Spec) { s.Targets.IncludeProtected = c.protected }))
			b.runTo(id, ru.StatusBatchPaused)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Standby, "i-0002") })
			b.ok(b.r.Continue(b.ctx(), id))
			task := b.runTo(id, ru.StatusFailurePaused)
			diff(t, "kind of error", "not in service", rowOf(task, "i-0002").Error.Kind)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(c.now, "i-0002") })
			b.ok(b.r.Retry(b.ctx(), id, []string{"i-0002"}))
			diff(t, "i-0002", c.want, shown(rowOf(b.run(id), "i-0002")))
			diff(t, "lifecycle", c.now, b.instance("i-0002").Lifecycle)
			if c.want == "failed" {
				diff(t, "effects", []string(nil), b.effects("i-0002"))
			}
		})
	}
}

// The way to a safe end has a deadline of its own, from the first decision on; changing the decision does not put it off.
func TestS23_N6_DecisionHasADeadlineOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{Steps: fake.Steps{Replace: 20 * time.Minute}}, 2), ru.Config{})
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.Timeouts.Update = 30 * time.Minute }))
		wait := b.start(id)
		b.until(id, "its disk is being replaced", func(*ru.Task) bool { return b.cloud.CountEffects("ReplaceSystemDisk", "i-0001") > 0 })
		time.Sleep(10 * time.Minute)
		decided := time.Now()
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0001"}))
		diff(t, "since, after the first decision", decided.UTC(), rowOf(b.task(id), "i-0001").StepSince)
		time.Sleep(5 * time.Minute)
		b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0001"}))
		diff(t, "since, after the second", decided.UTC(), rowOf(b.task(id), "i-0001").StepSince)
		diff(t, "how it ended", "failed (canceled)", shown(rowOf(wait(), "i-0001")))
	})
}

// An instance that fails on its way to a safe end gets the status that was decided for it, and nobody is asked again.
func TestS23_FailureAfterTheDecision(t *testing.T) {
	for want, decide := range map[string]func(b *bed) func(context.Context, string, []string, ...ru.RequestID) error{
		"succeeded (skipped)": func(b *bed) func(context.Context, string, []string, ...ru.RequestID) error { return b.r.Skip },
		"failed (canceled)": func(b *bed) func(context.Context, string, []string, ...ru.RequestID) error {
			return b.r.CancelInstances
		},
	} {
		bubbled(t, want, func(t *testing.T) {
			asked := 0
			b := hookBed(t, 4, ru.Hooks{Failed: func(context.Context, ru.Summary, ru.InstanceFailure) (ru.Decision, error) {
				asked++
				return "", nil
			}})
			b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1, FailStarts: 1000})
			id := b.create(imageSpec(2, func(s *ru.Spec) { s.Timeouts.Update = 10 * time.Minute }))
			wait := b.start(id)
			b.until(id, "its disk is being replaced", func(*ru.Task) bool { return b.cloud.CountEffects("ReplaceSystemDisk", "i-0001") > 0 })
			b.ok(decide(b)(b.ctx(), id, []string{"i-0001"}))
			row := rowOf(wait(), "i-0001")
			diff(t, "status", want, shown(row))
			diff(t, "its error is kept", true, row.Error != nil)
			diff(t, "times asked", 0, asked)
		})
	}
}
