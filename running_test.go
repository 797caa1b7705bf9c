package rollingupgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// groupEffects are the changes that the client made to the group, with what they named.
func (b *bed) groupEffects() []string {
	var all []string
	for _, e := range b.cloud.Effects() {
		if e.InstanceID == "" {
			all = append(all, e.Action+" "+e.Detail)
		}
	}
	return all
}

func minus(all []provider.Process, some ...provider.Process) []provider.Process {
	return slices.DeleteFunc(slices.Clone(all), func(p provider.Process) bool { return slices.Contains(some, p) })
}

// The state after the task is the state before it, whatever the user had suspended.
func TestS14_StateBeforeIsStateAfter(t *testing.T) {
	all := provider.Processes()
	for set := range 1 << len(all) {
		var user []provider.Process
		for n, p := range all {
			if set>>n&1 == 1 {
				user = append(user, p)
			}
		}
		bubbled(t, fmt.Sprint(user), func(t *testing.T) {
			b := groupBed(t, fake.GroupSpec{Instances: 2, Suspended: user})
			ours := minus(all, user...)
			id := b.create(scriptSpec(2, pausing(ru.PauseEveryBatch)))
			diff(t, "suspended after Create", user, b.suspended())
			task := b.runTo(id, ru.StatusBatchPaused)
			diff(t, "suspended in the pause", all, b.suspended())
			diff(t, "the user's, in the ledger", user, task.Ledger.Suspended)
			b.ok(b.r.Continue(b.ctx(), id))
			b.runTo(id, ru.StatusSucceeded)
			diff(t, "suspended at the end", user, b.suspended())
			if len(ours) == 0 {
				diff(t, "changes of the group", []string(nil), b.groupEffects())
				if ops := b.ops(); slices.Contains(ops, "SuspendProcesses") || slices.Contains(ops, "ResumeProcesses") {
					t.Errorf("an empty set made a call: %v", ops)
				}
				return
			}
			diff(t, "changes of the group", []string{fmt.Sprint("SuspendProcesses ", ours), fmt.Sprint("ResumeProcesses ", ours)}, b.groupEffects())
		})
	}
}

func TestS14_SuspendedForTheWholeTask(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0004") })
		id := b.create(imageSpec(2, pausing(ru.PauseEveryBatch), func(s *ru.Spec) { s.Targets.IncludeProtected = true }))
		wait := b.start(id)
		b.until(id, "planned", func(t *ru.Task) bool { return t.Phase == ru.Upgrading })
		b.until(id, "waits", func(task *ru.Task) bool {
			diff(t, "suspended", provider.Processes(), b.suspended())
			return task.Status.Waiting()
		})
		wait()
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)

		effects := b.cloud.Effects()
		diff(t, "first and last effect", []string{"SuspendProcesses", "ResumeProcesses"}, []string{effects[0].Action, effects[len(effects)-1].Action})
		var events []string
		for _, e := range b.events(id, ru.EventProcesses) {
			events = append(events, e.Text)
		}
		names := strings.Trim(strings.ReplaceAll(fmt.Sprint(provider.Processes()), " ", ", "), "[]")
		diff(t, "events", []string{"suspended " + names, "resumed " + names}, events)
	})
}

// What was suspended by the user when the task starts counts, not what was when it was created.
func TestS14_StateAtTheStartCounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := groupBed(t, fake.GroupSpec{Instances: 2, Suspended: []provider.Process{provider.ScaleOut}})
		id := b.create(scriptSpec(2))
		b.cloud.Now(func(w *fake.World) {
			w.Resume(fake.DemoGroup, provider.ScaleOut)
			w.Suspend(fake.DemoGroup, provider.HealthCheck)
		})
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "suspended at the end", []provider.Process{provider.HealthCheck}, b.suspended())
	})
}

func TestS14_ResumedBySomebodyElse(t *testing.T) {
	resume := func(ps ...provider.Process) func(w *fake.World) {
		return func(w *fake.World) { w.Resume(fake.DemoGroup, ps...) }
	}
	// again demands one event for somebody else's change, and that the process was suspended before batch 2 began.
	again := func(b *bed, id string, ps ...provider.Process) {
		b.t.Helper()
		events := b.events(id, ru.EventForeignChange)
		if len(events) != 1 || events[0].Cause != ru.ByProvider {
			b.t.Fatalf("events: %+v\n%s", events, b.story(id))
		}
		for _, p := range ps {
			if !strings.Contains(events[0].Text, string(p)) {
				b.t.Errorf("event %q does not name %s", events[0].Text, p)
			}
		}
		all := provider.Processes()
		diff(b.t, "changes of the group", []string{fmt.Sprint("SuspendProcesses ", all), fmt.Sprint("SuspendProcesses ", ps), fmt.Sprint("ResumeProcesses ", all)}, b.groupEffects())
		if at, next := b.effectTime("SuspendProcesses", ""), b.effectTime("EnterStandby", "i-0002"); !at.Before(next) {
			b.t.Errorf("suspended again at %s, batch 2 began at %s", at, next)
		}
	}
	bubbled(t, "while a batch is at work", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2, keepImage))
		b.cloud.After(2*time.Minute, resume(provider.ScaleOut))
		b.runTo(id, ru.StatusSucceeded)
		again(b, id, provider.ScaleOut)
		diff(t, "suspended at the end", []provider.Process(nil), b.suspended())
	})
	bubbled(t, "several in a pause", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2, keepImage, pausing(ru.PauseEveryBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.cloud.Now(resume(provider.ScaleIn, provider.AlarmNotification))
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
		again(b, id, provider.ScaleIn, provider.AlarmNotification)
	})
	bubbled(t, "while the start waits for activities", func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, 4*time.Minute, 0, 0) })
		b.cloud.After(time.Minute, resume(provider.ScaleOut))
		id := b.create(imageSpec(2, keepImage))
		b.runTo(id, ru.StatusSucceeded)
		again(b, id, provider.ScaleOut)
	})
	bubbled(t, "in the last batch: only what is still suspended is resumed", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(1, everything, keepImage))
		b.cloud.After(2*time.Minute, resume(provider.ScaleIn))
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "changes of the group", []string{
			fmt.Sprint("SuspendProcesses ", provider.Processes()), fmt.Sprint("ResumeProcesses ", minus(provider.Processes(), provider.ScaleIn)),
		}, b.groupEffects())
		found := b.events(id, ru.EventProcesses)[1]
		if found.Cause != ru.ByProvider || found.Text != "found not suspended, nothing to resume: ScaleIn" {
			t.Errorf("event: %+v", found)
		}
		diff(t, "suspended at the end", []provider.Process(nil), b.suspended())
	})
	bubbled(t, "in the last batch, all of them: no call", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(scriptSpec(1, everything))
		b.cloud.After(20*time.Second, resume(provider.Processes()...))
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "changes of the group", []string{fmt.Sprint("SuspendProcesses ", provider.Processes())}, b.groupEffects())
	})
	bubbled(t, "one that the user had suspended is not ours", func(t *testing.T) {
		b := groupBed(t, fake.GroupSpec{Instances: 2, Suspended: []provider.Process{provider.ScaleOut, provider.HealthCheck}})
		id := b.create(imageSpec(2, keepImage))
		b.cloud.After(2*time.Minute, resume(provider.ScaleOut))
		b.runTo(id, ru.StatusSucceeded)
		ours := minus(provider.Processes(), provider.ScaleOut, provider.HealthCheck)
		diff(t, "changes of the group", []string{fmt.Sprint("SuspendProcesses ", ours), fmt.Sprint("ResumeProcesses ", ours)}, b.groupEffects())
		diff(t, "suspended at the end", []provider.Process{provider.HealthCheck}, b.suspended())
		diff(t, "events", 0, len(b.events(id, ru.EventForeignChange)))
	})
}

// A batch of which one instance is slow, and a batch after it.
func slowBed(t *testing.T) (b *bed, id string) {
	b = demoBed(t, 6)
	b.cloud.SetBehavior("i-0002", fake.Behavior{ReplaceTakes: 40 * time.Minute})
	return b, b.create(imageSpec(2))
}

func TestS16_DoneGoesBackWithoutTheRest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, id := slowBed(t)
		b.runTo(id, ru.StatusSucceeded)
		slow := b.effectTime("ExitStandby", "i-0002")
		for _, i := range []string{"i-0001", "i-0003"} {
			if at := b.effectTime("ExitStandby", i); slow.Sub(at) < 30*time.Minute {
				t.Errorf("%s went back at %s, with the slow one at %s", i, at, slow)
			}
		}
	})
}

func TestS16_NextBatchWaitsForTheSlowest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, id := slowBed(t)
		b.runTo(id, ru.StatusSucceeded)
		slow := b.effectTime("ExitStandby", "i-0002")
		for _, i := range idRange(4, 6) {
			at := b.effectTime("EnterStandby", i)
			if at.Before(slow) {
				t.Errorf("%s of batch 2 began at %s, batch 1 ended at %s", i, at, slow)
			}
			if at.After(slow.Add(time.Minute)) {
				t.Errorf("%s of batch 2 began at %s only, batch 1 ended at %s", i, at, slow)
			}
		}
	})
}

func TestS16_NextBatchWaitsForDecisions(t *testing.T) {
	for _, test := range []struct {
		name   string
		decide func(b *bed, id string) error
		want   string // of the failed instance
	}{
		{"skip", func(b *bed, id string) error { return b.r.Skip(b.ctx(), id, []string{"i-0001"}) }, "succeeded (skipped)"},
		{"cancel", func(b *bed, id string) error { return b.r.CancelInstances(b.ctx(), id, []string{"i-0001"}) }, "failed (canceled)"},
		{"retry", func(b *bed, id string) error { return b.r.Retry(b.ctx(), id, []string{"i-0001"}) }, "succeeded"},
	} {
		undecided := func(t *testing.T) (*bed, string) {
			b, id := slowBed(t)
			b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
			return b, id
		}
		bubbled(t, test.name+" in the pause", func(t *testing.T) {
			b, id := undecided(t)
			task := b.runTo(id, ru.StatusFailurePaused)
			diff(t, "batch", 1, task.Batch)
			time.Sleep(24 * time.Hour)
			b.run(id)
			for _, i := range idRange(4, 6) {
				diff(t, "effects on "+i, []string(nil), b.effects(i))
			}
			decided := time.Now()
			b.ok(test.decide(b, id))
			task = b.run(id)
			diff(t, "failed instance", test.want, shown(rowOf(task, "i-0001")))
			diff(t, "next batch", "succeeded", shown(rowOf(task, "i-0006")))
			at := b.effectTime("EnterStandby", "i-0004")
			if at.Before(decided) || test.name == "retry" && at.Before(b.effectTime("ExitStandby", "i-0001")) {
				t.Errorf("batch 2 began at %s, it was decided at %s", at, decided)
			}
		})
		bubbled(t, test.name+" while another instance is at work", func(t *testing.T) {
			b, id := undecided(t)
			wait := b.start(id)
			b.until(id, "i-0001 failed", func(t *ru.Task) bool { return rowOf(t, "i-0001").Status == ru.InstanceFailed })
			b.ok(test.decide(b, id))
			task := wait()
			diff(t, "failed instance", test.want, shown(rowOf(task, "i-0001")))
			diff(t, "next batch", "succeeded", shown(rowOf(task, "i-0006")))
			if at, slow := b.effectTime("EnterStandby", "i-0004"), b.effectTime("ExitStandby", "i-0002"); at.Before(slow) {
				t.Errorf("batch 2 began at %s, the slow one was done at %s", at, slow)
			}
			for _, e := range b.events(id, ru.EventStatus) {
				if e.To == string(ru.StatusFailurePaused) {
					t.Error("there was a failure pause although all was decided")
				}
			}
		})
	}
}
