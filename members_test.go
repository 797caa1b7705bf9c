package rollingupgrade_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// wantGone demands that an instance ended as gone, with one event that says why.
func (b *bed) wantGone(task *ru.Task, instanceID, says string) {
	b.t.Helper()
	row := rowOf(task, instanceID)
	if row.Status != ru.InstanceGone || row.Mark != "" || row.EndedAt.IsZero() || row.Error != nil {
		b.t.Errorf("row: %+v, error %+v\n%s", row, row.Error, b.story(task.ID))
	}
	var gone []ru.Event
	for _, e := range b.events(task.ID, ru.EventInstance) {
		if e.InstanceID == instanceID && e.To == string(ru.InstanceGone) {
			gone = append(gone, e)
		}
	}
	if len(gone) != 1 || gone[0].Cause != ru.ByProvider || !strings.Contains(gone[0].Text, says) {
		b.t.Errorf("events %+v, want one that says %q", gone, says)
	}
}

// A moment is a point in the upgrade of i-0002.
type moment struct {
	name string
	at   func(b *bed, task *ru.Task, i fake.InstanceView) bool
	// stopped says that the instance has been stopped for the update.
	stopped bool
	// left are the effects on the instance if it leaves the group at this moment: nothing more than to bring it to run.
	left []string
}

func moments() []moment {
	power := func(p provider.Power) func(*bed, *ru.Task, fake.InstanceView) bool {
		return func(_ *bed, _ *ru.Task, i fake.InstanceView) bool {
			return i.Power == p && i.Lifecycle == provider.Standby && !i.DiskReplacing
		}
	}
	step := func(s ru.Step) func(*bed, *ru.Task, fake.InstanceView) bool {
		return func(_ *bed, task *ru.Task, _ fake.InstanceView) bool { return rowOf(task, "i-0002").Step == s }
	}
	return []moment{
		{name: "before its batch", at: func(_ *bed, task *ru.Task, _ fake.InstanceView) bool { return task.Batch == 1 }},
		{name: "on its way to Standby", at: step(ru.EnteringStandby)},
		{name: "in the drain wait", at: step(ru.Draining)},
		{name: "Stopping", at: power(provider.Stopping), stopped: true, left: []string{"EnterStandby", "StopInstances", "StartInstances"}},
		{name: "Stopped, its disk being replaced", at: func(_ *bed, _ *ru.Task, i fake.InstanceView) bool { return i.DiskReplacing }, stopped: true, left: wholeUpgrade[:4]},
		{name: "Starting", at: power(provider.Starting), stopped: true, left: wholeUpgrade[:4]},
	}
}

// goneBed runs an image upgrade in which something happens to i-0002, in batch 2 of 3, at a moment.
func goneBed(t *testing.T, m moment, change func(w *fake.World)) (*bed, *ru.Task) {
	t.Helper()
	b := demoBed(t, 5)
	spec := imageSpec(3, drain(time.Minute))
	spec.Batches = sizes(number(1), number(2))
	id := b.create(spec)
	wait := b.start(id)
	b.until(id, m.name, func(task *ru.Task) bool { return m.at(b, task, b.instance("i-0002")) })
	b.cloud.Now(change)
	return b, wait()
}

func TestS19_ReleasedEndsAsGone(t *testing.T) {
	for _, m := range moments() {
		bubbled(t, m.name, func(t *testing.T) {
			b, task := goneBed(t, m, func(w *fake.World) { w.Release("i-0002") })
			b.wantStatus(task, ru.StatusSucceeded)
			b.wantGone(task, "i-0002", "released")
			diff(t, "progress", ru.Progress{Total: 5, Succeeded: 4, Gone: 1}, task.Progress)
			diff(t, "leftovers", []string(nil), leftovers(task))
			diff(t, "its own batch went on", wholeUpgrade, b.effects("i-0003"))
		})
	}
}

// An instance that was stopped by the task and only left the group is brought to run first.
func TestS19_LeftTheGroup(t *testing.T) {
	for _, m := range moments() {
		bubbled(t, m.name, func(t *testing.T) {
			b, task := goneBed(t, m, func(w *fake.World) { w.Detach("i-0002") })
			b.wantStatus(task, ru.StatusSucceeded)
			b.wantGone(task, "i-0002", "left the group")
			diff(t, "progress", ru.Progress{Total: 5, Succeeded: 4, Gone: 1}, task.Progress)
			diff(t, "leftovers", []string(nil), leftovers(task))
			i := b.instance("i-0002")
			if i.Power != provider.Running || i.DiskReplacing || i.GroupID != "" {
				t.Errorf("instance: %+v", i)
			}
			if m.stopped {
				row := rowOf(task, "i-0002")
				if row.EndedAt.Before(i.Started) {
					t.Errorf("gone at %s, started at %s", row.EndedAt, i.Started)
				}
			}
			effects := b.effects("i-0002")
			if !m.stopped && len(effects) == 1 && effects[0] == "EnterStandby" {
				effects = nil
			}
			diff(t, "effects", m.left, effects)
		})
	}
	bubbled(t, "and cannot be started", func(t *testing.T) {
		b := demoBed(t, 3)
		id := b.create(imageSpec(3))
		wait := b.start(id)
		b.until(id, "Stopping", func(*ru.Task) bool { return b.instance("i-0002").Power == provider.Stopping })
		b.cloud.Inject(fake.Fault{Op: "Start", Target: "i-0002", Err: provider.ErrPermission})
		b.cloud.Now(func(w *fake.World) { w.Detach("i-0002") })
		task := wait()
		b.wantStatus(task, ru.StatusSucceeded)
		b.wantGone(task, "i-0002", "could not be started")
		diff(t, "leftovers", []string{"stopped i-0002"}, leftovers(task))
	})
}

func TestS19_ScriptInstances(t *testing.T) {
	for name, change := range map[string]func(w *fake.World){
		"released":       func(w *fake.World) { w.Release("i-0002") },
		"left the group": func(w *fake.World) { w.Detach("i-0002") },
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 4)
			b.cloud.SetBehavior("i-0002", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: 50 * time.Second}}})
			id := b.create(scriptSpec(2))
			wait := b.start(id)
			b.until(id, "the script runs", func(*ru.Task) bool { return b.instance("i-0002").ScriptRuns == 1 })
			time.Sleep(10 * time.Second)
			b.cloud.Now(change)
			task := wait()
			b.wantStatus(task, ru.StatusSucceeded)
			b.wantGone(task, "i-0002", name)
			diff(t, "progress", ru.Progress{Total: 4, Succeeded: 3, Gone: 1}, task.Progress)
		})
	}
}

// Absence in a list, or a call that does not find an instance, is confirmed by asking for it by its ID.
func TestS19_AbsenceIsConfirmed(t *testing.T) {
	for _, op := range []string{"EnterStandby", "Update", "ExitStandby"} {
		bubbled(t, op+" does not find it", func(t *testing.T) {
			b := demoBed(t, 4)
			b.cloud.Inject(fake.Fault{Op: op, Target: "i-0002", Nth: 1, Count: 2, Err: provider.ErrNotFound})
			task := b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
			diff(t, "status", "succeeded", shown(rowOf(task, "i-0002")))
			diff(t, "effects", wholeUpgrade, b.effects("i-0002"))
			calls := b.cloud.Calls()
			failed := slices.IndexFunc(calls, func(c fake.Call) bool { return c.Err != "" && c.Op == op })
			asked := slices.IndexFunc(calls[failed:], func(c fake.Call) bool { return c.Op == "Instances" && slices.Contains(c.Targets, "i-0002") })
			again := slices.IndexFunc(calls[failed+1:], func(c fake.Call) bool { return c.Op == op && slices.Contains(c.Targets, "i-0002") })
			if failed < 0 || asked < 0 || again < asked-1 {
				t.Errorf("not found in call %d, asked %d later, called again %d later", failed, asked, again)
			}
		})
	}
}

func TestS19_RemovedByTheGroup(t *testing.T) {
	bubbled(t, "before its batch", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Removing, "i-0003") })
		b.cloud.After(20*time.Minute, func(w *fake.World) { w.Release("i-0003") })
		task := wait()
		b.wantStatus(task, ru.StatusSucceeded)
		b.wantGone(task, "i-0003", "removed")
		diff(t, "effects", []string(nil), b.effects("i-0003"))
	})
	bubbled(t, "while it is at work", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(scriptSpec(2))
		wait := b.start(id)
		b.untilStep(id, "i-0002", ru.Updating)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Removing, "i-0002") })
		b.cloud.After(3*time.Minute, func(w *fake.World) { w.Release("i-0002") })
		task := wait()
		b.wantStatus(task, ru.StatusSucceeded)
		b.wantGone(task, "i-0002", "released")
	})
}

func TestS19_EveryInstanceGone(t *testing.T) {
	for name, test := range map[string]struct {
		change  func(w *fake.World)
		batches int
	}{
		"released at work":           {func(w *fake.World) { w.Release(idRange(1, 4)...) }, 1},
		"released, two batches":      {func(w *fake.World) { w.Release(idRange(1, 4)...) }, 2},
		"left the group at work":     {func(w *fake.World) { w.Detach(idRange(1, 4)...) }, 1},
		"some released, others left": {func(w *fake.World) { w.Detach("i-0001", "i-0004"); w.Release("i-0002", "i-0003") }, 2},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 4)
			b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: provider.Protected})
			id := b.create(imageSpec(test.batches, everything))
			wait := b.start(id)
			b.until(id, "stopped", func(*ru.Task) bool { return b.instance("i-0001").Power == provider.Stopped })
			b.cloud.Now(test.change)
			task := wait()
			b.wantStatus(task, ru.StatusFailed)
			if !strings.Contains(task.Reason, "every instance") {
				t.Errorf("reason: %q", task.Reason)
			}
			diff(t, "progress", ru.Progress{Total: 4, Gone: 4}, task.Progress)
			diff(t, "suspended", []provider.Process(nil), b.suspended())
			diff(t, "configuration", fake.DemoOldImage, b.image())
			for _, i := range idRange(1, 4) {
				if v, ok := b.cloud.InstanceView(i); ok && v.Power != provider.Running {
					t.Errorf("%s is left %s", i, v.Power)
				}
			}
		})
	}
}

func TestS19_GroupDeleted(t *testing.T) {
	deleted := func(w *fake.World) { w.DeleteGroup(fake.DemoGroup) }
	check := func(b *bed, task *ru.Task) {
		b.t.Helper()
		b.wantStatus(task, ru.StatusFailed)
		if !strings.Contains(task.Reason, "was deleted") && !strings.Contains(task.Reason, "does not exist") {
			b.t.Errorf("reason: %q", task.Reason)
		}
		diff(b.t, "leftovers", []string(nil), leftovers(task))
		if task.HoldsGroup {
			b.t.Error("it still holds the group")
		}
	}
	for _, step := range []ru.Step{ru.EnteringStandby, ru.Updating, ru.ExitingStandby} {
		for _, script := range []bool{false, true} {
			bubbled(t, fmt.Sprintf("in the first batch, %s, script %t", step, script), func(t *testing.T) {
				b := demoBed(t, 4)
				spec := imageSpec(2)
				if script {
					spec = scriptSpec(2)
				}
				id := b.create(spec)
				wait := b.start(id)
				b.untilStep(id, "i-0001", step)
				time.Sleep(2 * time.Second)
				b.cloud.Now(deleted)
				check(b, wait())
			})
		}
	}
	bubbled(t, "in a pause", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseEveryBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.cloud.Now(deleted)
		b.ok(b.r.Continue(b.ctx(), id))
		check(b, b.run(id))
	})
	bubbled(t, "after the last batch", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, keepImage, func(s *ru.Spec) { s.Pause = ru.PausePolicy{Mode: ru.PauseFirstBatch, AfterLast: true} }))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusBatchPaused)
		b.cloud.Now(deleted)
		b.ok(b.r.Continue(b.ctx(), id))
		check(b, b.run(id))
	})
	bubbled(t, "while a failure waits", func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.cloud.Now(deleted)
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		check(b, b.run(id))
	})
}

func TestS20_JoinedAreReportedAndNotTouched(t *testing.T) {
	bubbled(t, "joined after the plan was final", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		b.cloud.After(2*time.Minute, func(w *fake.World) { w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ID: "i-new"}) })
		b.cloud.After(6*time.Minute, func(w *fake.World) {
			w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ID: "i-standby", Lifecycle: provider.Standby})
			w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ID: "i-released"})
		})
		b.cloud.After(8*time.Minute, func(w *fake.World) { w.Release("i-released") })
		task := b.runTo(id, ru.StatusSucceeded)
		diff(t, "joined", []string{"i-new", "i-standby"}, task.Joined)
		diff(t, "progress", ru.Progress{Total: 4, Succeeded: 4}, task.Progress)
		for _, i := range []string{"i-new", "i-standby", "i-released"} {
			diff(t, "effects on "+i, []string(nil), b.effects(i))
		}
		diff(t, "image", fake.DemoOldImage, b.instance("i-new").ImageID)
		events := b.events(id, ru.EventJoined)
		if len(events) != 1 || !strings.Contains(events[0].Text, "i-new") || !strings.Contains(events[0].Text, "i-standby") {
			t.Errorf("events: %+v", events)
		}
	})
	bubbled(t, "before a task that fails ends", func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ID: "i-new"})
		b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0001"}))
		diff(t, "joined", []string{"i-new"}, b.runTo(id, ru.StatusFailed).Joined)
	})
	bubbled(t, "members that were there are not joined", func(t *testing.T) {
		b := demoBed(t, 3)
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: provider.Protected})
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.Targets.Exclude = []string{"i-0001"} }))
		task := b.runTo(id, ru.StatusSucceeded)
		diff(t, "joined", []string(nil), task.Joined)
		diff(t, "events", 0, len(b.events(id, ru.EventJoined)))
	})
	bubbled(t, "one that left and came back is not worked on twice", func(t *testing.T) {
		b := demoBed(t, 3)
		id := b.create(imageSpec(3))
		wait := b.start(id)
		b.untilStep(id, "i-0002", ru.Updating)
		b.cloud.Now(func(w *fake.World) { w.Release("i-0003") })
		task := wait()
		b.wantStatus(task, ru.StatusSucceeded)
		b.wantGone(task, "i-0003", "released")
	})
}

// An instance that is released while it is verified ends as gone.
func TestS19_ReleasedWhileItIsVerified(t *testing.T) {
	for name, test := range map[string]struct {
		spec  ru.Spec
		after time.Duration
	}{
		"at once":                       {scriptSpec(2), 0},
		"late":                          {scriptSpec(2), 5 * time.Minute},
		"at once, after a long update":  {imageSpec(2), 0},
		"late, after a long update too": {imageSpec(2), 5 * time.Minute},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 4)
			var asked, released time.Time
			b.r = b.runner(ru.Config{Hooks: ru.Hooks{Verify: func(_ context.Context, _ ru.Summary, ids []string) (out []ru.Verdict, _ error) {
				for _, id := range ids {
					if id == "i-0001" && asked.IsZero() {
						asked = time.Now()
					}
					if id == "i-0001" && released.IsZero() && time.Since(asked) >= test.after {
						released = time.Now()
						b.cloud.Release(id)
					}
					out = append(out, ru.Verdict{InstanceID: id, Healthy: id != "i-0001"})
				}
				return out, nil
			}}})
			task := b.runTo(b.create(test.spec), ru.StatusSucceeded)
			b.wantGone(task, "i-0001", "released")
			if late := rowOf(task, "i-0001").EndedAt.Sub(released); late > 2*time.Minute {
				t.Errorf("that it is gone was noticed %s later", late)
			}
		})
	}
}

// A stopped instance that a rollback took over and that left the group is brought to run.
func TestS19_TakenOverStoppedOneThatLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		back := b.rollback(id, ru.RollbackSpec{Scope: ru.ScopeAttempted})
		b.cloud.Now(func(w *fake.World) { w.Detach("i-0001") })
		b.run(back)
		diff(t, "power", provider.Running, b.instance("i-0001").Power)
	})
}
