package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func TestS27_WhatCanBeRolledBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		refused := func(id string, want error) {
			t.Helper()
			before := len(b.events(id))
			_, err := b.r.Rollback(b.ctx(), id, ru.RollbackSpec{})
			var c *ru.CommandError
			if !errors.As(err, &c) || !errors.Is(err, ru.ErrIllegalCommand) || want != nil && !errors.Is(err, want) {
				t.Errorf("rollback was answered with %v, want a CommandError that wraps %v", err, want)
			}
			diff(t, "events", before, len(b.events(id)))
		}
		first := b.create(imageSpec(2))
		refused(first, nil) // pending
		wait := b.start(first)
		b.untilStep(first, "i-0001", ru.Updating)
		refused(first, nil) // running
		b.wantStatus(wait(), ru.StatusSucceeded)
		second := b.create(imageSpec(2, func(s *ru.Spec) { s.Update = ru.Image("img-v1") }))
		b.ok(b.r.Cancel(b.ctx(), second, "")) // it has not touched anything: the first is still the one executed last
		third := b.rollback(first, ru.RollbackSpec{})
		b.runTo(third, ru.StatusSucceeded)
		refused(third, ru.ErrIsRollback)
		refused(first, ru.ErrNotLatest)
		fourth := b.create(imageSpec(2, pausing(ru.PauseFirstBatch)))
		b.runTo(fourth, ru.StatusBatchPaused)
		b.ok(b.r.Cancel(b.ctx(), fourth, ""))
		b.runTo(b.rollback(fourth, ru.RollbackSpec{}), ru.StatusSucceeded) // canceled ones can be
	})
}

func TestS27_NothingToRollBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		_, err := b.r.Rollback(b.ctx(), id, ru.RollbackSpec{})
		wantError(t, err, ru.ErrNothingToRollBack)
		b.wantStatus(b.task(id), ru.StatusFailurePaused)
	})
}

func TestS28_RollbackOfAWaitingTask(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 9)
		scriptsFail(b, 1, "i-0002", "i-0003")
		id := b.create(scriptSpec(3, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0002"}))
		back := b.rollback(id, ru.RollbackSpec{Description: "bad release"})
		source := b.task(id)
		b.wantStatus(source, ru.StatusCanceled) // in the same step
		diff(t, "next", back, source.NextID)
		diff(t, "leftovers of the source", []string(nil), leftovers(source))
		task := b.runTo(back, ru.StatusSucceeded)
		diff(t, "rolled back", map[string]string{"i-0001": "succeeded"}, statuses(task)) // neither the skipped nor the failed one
		diff(t, "description", "bad release", task.Spec.Description)
		diff(t, "leftovers", []string{"standby i-0002", "standby i-0003"}, leftovers(task))
		if s := b.suspended(); len(s) > 0 {
			t.Errorf("%v are suspended, none was before the upgrade", s)
		}
	})
}

func TestS28_AttemptedInstancesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 9)
		scriptsFail(b, 1, "i-0002")
		id := b.create(scriptSpec(3))
		b.runTo(id, ru.StatusFailurePaused)
		task := b.runTo(b.rollback(id, ru.RollbackSpec{Scope: ru.ScopeAttempted, Batches: ru.InBatches(3)}), ru.StatusSucceeded)
		diff(t, "batches", [][]string{{"i-0002"}, {"i-0001"}, {"i-0003"}}, batches(task))
		diff(t, "in service", idRange(1, 9), b.inState(provider.InService))
		diff(t, "scripts on i-0002", 2, b.cloud.CountEffects("RunCommand", "i-0002"))
	})
}

func TestS29_RollbackIsATaskOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(scriptSpec(2, func(s *ru.Spec) {
			s.Update, s.Rollback = ru.Script(provider.Shell, "up"), ru.Script(provider.Shell, "down")
		}))
		b.runTo(id, ru.StatusSucceeded)
		for name, u := range map[string]ru.Update{"another kind": ru.Image(fake.DemoOldImage), "another type": ru.Script(provider.PowerShell, "down")} {
			_, err := b.r.Rollback(b.ctx(), id, ru.RollbackSpec{Update: u})
			var f *ru.FieldError
			if !errors.As(err, &f) {
				t.Errorf("%s: %v, want a FieldError", name, err)
			}
		}
		back := b.rollback(id, ru.RollbackSpec{Batches: ru.InBatches(4), Pause: ru.PausePolicy{Mode: ru.PauseFirstBatch}})
		task := b.runTo(back, ru.StatusBatchPaused)
		diff(t, "default", "down", task.Spec.Update.Script.Content)
		diff(t, "batches", 4, len(task.Sizes))
		diff(t, "source", id, task.SourceID)
		b.ok(b.r.Continue(b.ctx(), back))
		b.runTo(back, ru.StatusSucceeded)
	})
}

func TestS29_CounterpartIsNeededAtTheRollback(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.Rollback = ru.Update{} }))
		b.runTo(id, ru.StatusSucceeded)
		_, err := b.r.Rollback(b.ctx(), id, ru.RollbackSpec{})
		wantError(t, err, ru.ErrInvalid)
		b.runTo(b.rollback(id, ru.RollbackSpec{Update: ru.Image(fake.DemoOldImage)}), ru.StatusSucceeded)
		diff(t, "image", fake.DemoOldImage, b.instance("i-0004").ImageID)
	})
}

func TestS30_TakenOverStandbyInstances(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cloud := fake.Demo(fake.Config{}, 12)
		cloud.Now(func(w *fake.World) { w.Suspend(fake.DemoGroup, provider.ScaleOut) })
		b := newBed(t, cloud, ru.Config{})
		b.cloud.SetBehavior("i-0004", fake.Behavior{FailReplaces: 1}) // its image is as before, and it is stopped
		b.cloud.SetBehavior("i-0005", fake.Behavior{FailStarts: 1})   // it has the new image
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.MaxInFlight = 5 }))
		failed := b.runTo(id, ru.StatusFailurePaused)
		var updated []string // the sixth, too, where failures show late
		for id, is := range statuses(failed) {
			if is == string(ru.InstanceSucceeded) {
				updated = append(updated, id)
			}
		}
		slices.Sort(updated)
		if want := []string{"i-0001", "i-0002", "i-0003"}; len(updated) < 3 || !slices.Equal(updated[:3], want) || slices.Contains(updated, "i-0004") || slices.Contains(updated, "i-0005") {
			t.Errorf("updated: %v, want %v", updated, want)
		}
		wait := b.start(b.rollback(id, ru.RollbackSpec{Batches: ru.InBatches(1)}))
		task := wait()
		b.wantStatus(task, ru.StatusSucceeded)
		diff(t, "rolled back", [][]string{updated}, batches(task))
		diff(t, "in Standby", []string{"i-0004", "i-0005"}, b.inState(provider.Standby)) // neither runs
		diff(t, "processes", []provider.Process{provider.ScaleOut}, b.suspended())
	})
}

func TestS30_UnchangedInstancesGoBackInService(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		id := b.create(imageSpec(3, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id))
		wait := b.start(id)
		b.until(id, "i-0003 is stopped", func(*ru.Task) bool { return b.cloud.CountEffects("StopInstances", "i-0003") > 0 })
		b.ok(b.r.Cancel(b.ctx(), id, "")) // they are started again with their old image
		b.wantStatus(wait(), ru.StatusCanceled)
		diff(t, "in Standby", []string{"i-0003", "i-0004"}, b.inState(provider.Standby))
		b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		diff(t, "in service", idRange(1, 6), b.inState(provider.InService))
		diff(t, "replacements of i-0003", 0, b.cloud.CountEffects("ReplaceSystemDisk", "i-0003"))
		diff(t, "image of i-0001", fake.DemoOldImage, b.instance("i-0001").ImageID)
	})
}

func TestS31_StateBeforeTheFirstChange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := groupBed(t, fake.GroupSpec{KeyPair: "key-group"})
		b.cloud.AddImages(provider.Image{ID: "img-special"})
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{})
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{
			ImageID: "img-special", Lifecycle: provider.Protected, KeyPair: "key-own", UserData: "b3du",
			Disk: provider.Disk{SizeGiB: 80, Encrypted: true, KMSKeyID: "kms-1"},
		})
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{})
		id := b.create(imageSpec(3, func(s *ru.Spec) { s.Targets.IncludeProtected = true }))
		task := b.runTo(id, ru.StatusSucceeded)
		got := rowOf(task, "i-0002").Before
		if got == nil || got.Disk == nil {
			t.Fatalf("nothing is recorded: %+v", got)
		}
		diff(t, "before", provider.Before{
			ImageID: "img-special", Lifecycle: provider.Protected, Power: provider.Running, KeyPair: "key-own", UserData: "b3du",
			Disk: &provider.Disk{ID: got.Disk.ID, SizeGiB: 80, Encrypted: true, KMSKeyID: "kms-1"},
		}, *got)
		back := b.rollback(id, ru.RollbackSpec{ToBefore: true, Batches: ru.InBatches(1), MinInService: -1}) // together, and still each to its own
		b.runTo(back, ru.StatusSucceeded)
		diff(t, "image of i-0001", fake.DemoOldImage, b.instance("i-0001").ImageID)
		diff(t, "image of i-0002", "img-special", b.instance("i-0002").ImageID)
		diff(t, "protected again", provider.Protected, b.instance("i-0002").Lifecycle)
	})
}

// A script that was begun is known to every later rollback.
func TestS30_BegunIsKnownToALaterRollback(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		first := b.rollback(id, ru.RollbackSpec{Scope: ru.ScopeAttempted})
		b.ok(b.r.Cancel(b.ctx(), first, ""))
		second := b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		diff(t, "in Standby", []string{"i-0001"}, b.inState(provider.Standby))
		diff(t, "left over", []string{"standby i-0001"}, leftovers(second))
	})
}

// The rollback that a limit asks for is not given up because of one throttled call.
func TestS21_RollbackByLimitSurvivesTrouble(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch), func(s *ru.Spec) { s.Pause.Limit, s.Pause.OnLimit = time.Hour, ru.OnLimitRollback }))
		b.runTo(id, ru.StatusBatchPaused)
		time.Sleep(time.Hour)
		b.cloud.Inject(fake.Throttle("Group", 1))
		if task := b.run(id); task.Status != ru.StatusCanceled {
			t.Errorf("task is %s, until %s: %s", task.Status, task.Pause.Until, task.Pause.Text)
		}
	})
}

// A rollback that must be possible is not refused.
func TestS27_RollbackOfAWaitingTaskIsPossible(t *testing.T) {
	bubbled(t, "an upgraded instance has crashed", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, "i-0001") })
		b.rollback(id, ru.RollbackSpec{})
	})
	bubbled(t, "one instance is left in service", func(t *testing.T) {
		b := demoBed(t, 2)
		scriptsFail(b, 1, "i-0002")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.rollback(id, ru.RollbackSpec{MinInService: -1})
	})
}

// A rollback restores the configuration's image although an instance of it failed.
func TestS18_RollbackWithAFailureRestoresTheImage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
		b.runTo(b.rollback(id, ru.RollbackSpec{Failure: ru.FailurePolicy{Total: ru.Budget{Instances: 1}}}), ru.StatusFailed)
		diff(t, "image", fake.DemoOldImage, b.image())
	})
}

// A rollback to what each instance had checks every image that it needs.
func TestS7_S31_EveryImageOfARollbackIsChecked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.Now(func(w *fake.World) { w.AddImages(provider.Image{ID: "img-other"}) })
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ImageID: "img-other"})
		id := b.create(imageSpec(3))
		b.runTo(id, ru.StatusSucceeded)
		b.cloud.Now(func(w *fake.World) { w.RemoveImage("img-other") })
		p, err := b.r.PlanRollback(b.ctx(), id, ru.RollbackSpec{ToBefore: true})
		b.ok(err)
		if p.OK() {
			t.Errorf("img-other is gone, and the plan is accepted: %v", p.Findings)
		}
	})
}

func TestS29_RollbackRefusesBadParams(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		bad := ru.Image(fake.DemoOldImage)
		bad.Params = json.RawMessage("{")
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v", p)
			}
		}()
		wantError(t, second(b.r.Rollback(b.ctx(), id, ru.RollbackSpec{Update: bad})), ru.ErrInvalid)
	})
}

// What is recorded of the state before the first change is not completed by what an instance shows after it.
func TestS31_StateBeforeIsNotTheStateAfter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		b.twist(twisted{update: func(_ context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			for n := range out {
				if b.cloud.CountEffects("StopInstances", out[n].InstanceID) > 0 && ts[0].CallID == "" {
					out[n].Before = &provider.Before{ImageID: "img-after", KeyPair: "key-after", UserData: "YWZ0ZXI=", Disk: &provider.Disk{ID: "d-after"}}
				}
			}
			return out, err
		}}, ru.Config{})
		task := b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
		got := rowOf(task, "i-0001").Before
		if got == nil || got.Disk == nil {
			t.Fatalf("nothing is recorded: %+v", got)
		}
		diff(t, "before", provider.Before{
			ImageID: fake.DemoOldImage, Lifecycle: provider.InService, Power: provider.Running, Disk: &provider.Disk{ID: got.Disk.ID, SizeGiB: 40},
		}, *got)
		if got.Disk.ID == "d-after" {
			t.Error("the disk is that of after the change")
		}
	})
}

// It is kept as soon as it is known, also where the update cannot begin yet.
func TestS31_StateBeforeIsKeptAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		said := false
		b.twist(twisted{update: func(_ context.Context, _ []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			for n := range out {
				out[n] = provider.Progress{InstanceID: out[n].InstanceID, Err: provider.ErrBusy}
				if !said {
					out[n].Before, said = &provider.Before{KeyPair: "key-own"}, true
				}
			}
			return out, err
		}}, ru.Config{})
		id := b.create(imageSpec(2))
		b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		time.Sleep(time.Minute)
		diff(t, "key pair", "key-own", rowOf(b.task(id), "i-0001").Before.KeyPair)
	})
}

// An instance on which nobody knows whether the script ran counts as changed: a rollback leaves it in Standby.
func TestS30_N2_UnknownOutcomeStaysInStandby(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.twist(twisted{update: func(_ context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			for n := range out {
				if out[n].InstanceID == "i-0001" && ts[0].CallID != "" {
					out[n] = provider.Progress{InstanceID: "i-0001", Err: provider.ErrOutcomeUnknown}
				}
			}
			return out, err
		}}, ru.Config{})
		id := b.create(scriptSpec(2))
		task := b.runTo(id, ru.StatusFailurePaused)
		diff(t, "kind of error", "outcome unknown", rowOf(task, "i-0001").Error.Kind)
		back := b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		diff(t, "rolled back", [][]string{{"i-0002"}}, batches(back))
		diff(t, "in Standby", []string{"i-0001"}, b.inState(provider.Standby))
		diff(t, "left over", []string{"standby i-0001"}, leftovers(back))
	})
}

// An instance that a rollback was just putting back in service when it was canceled is back, and no leftover.
func TestS25_S30_CancelWhileATakenOverOneGoesBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		id := b.create(imageSpec(3, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id))
		wait := b.start(id)
		b.until(id, "i-0003 is stopped", func(*ru.Task) bool { return b.cloud.CountEffects("StopInstances", "i-0003") > 0 })
		b.ok(b.r.Cancel(b.ctx(), id, "")) // it is started again with its old image
		b.wantStatus(wait(), ru.StatusCanceled)
		b.cloud.Inject(fake.Fault{Op: "ExitStandby", Delay: 20 * time.Second})
		back := b.rollback(id, ru.RollbackSpec{})
		wait = b.start(back)
		b.until(back, "i-0003 goes back", func(*ru.Task) bool { return b.cloud.CountEffects("ExitStandby", "i-0003") > 0 })
		b.ok(b.r.Cancel(b.ctx(), back, ""))
		task := wait()
		b.wantStatus(task, ru.StatusCanceled)
		diff(t, "in Standby", []string(nil), b.inState(provider.Standby))
		for _, l := range task.Leftovers() {
			if l.InstanceID != "" {
				t.Errorf("left over: %+v", l)
			}
		}
	})
}

// An instance that this or an earlier task put in Standby and whose update was never begun is as it was: a later task knows that.
func TestS30_NeverBegunIsKnown(t *testing.T) {
	bubbled(t, "a rollback puts it back", func(t *testing.T) {
		b := demoBed(t, 3)
		id := b.create(imageSpec(3))
		b.cloud.Inject(fake.Fault{Op: "EnterStandby", Target: "i-0002", Lost: true})
		row := rowOf(b.runTo(id, ru.StatusFailurePaused), "i-0002")
		if row.Call == nil || row.Begun {
			t.Fatalf("nobody should know whether it is in Standby: %+v", row)
		}
		b.cloud.ClearFaults()
		back := b.rollback(id, ru.RollbackSpec{})
		diff(t, "begun", false, rowOf(b.task(back), "i-0002").Begun)
		b.runTo(back, ru.StatusSucceeded)
		diff(t, "in service", idRange(1, 3), b.inState(provider.InService))
		diff(t, "stopped", 0, b.cloud.CountEffects("StopInstances", "i-0002"))
	})
	bubbled(t, "a rollback puts it back from Standby", func(t *testing.T) {
		b := demoBed(t, 3)
		id := b.create(imageSpec(3, drain(10*time.Minute)))
		wait := b.start(id)
		b.untilStep(id, "i-0002", ru.Draining)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		wait()
		diff(t, "in Standby", []string{"i-0002"}, b.inState(provider.Standby))
		b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		diff(t, "in service", idRange(1, 3), b.inState(provider.InService))
		diff(t, "stopped", 0, b.cloud.CountEffects("StopInstances", "i-0002"))
	})
	bubbled(t, "an upgrade without it keeps it in mind", func(t *testing.T) {
		b := demoBed(t, 3)
		id := b.create(imageSpec(3, drain(10*time.Minute)))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Draining)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		wait()
		next := b.create(imageSpec(2, func(s *ru.Spec) { s.Targets.Exclude = []string{"i-0001"} }))
		row := rowOf(b.task(next), "i-0001")
		diff(t, "status, begun and in Standby", []any{ru.InstanceLeftover, false, true}, []any{row.Status, row.Begun, row.InStandby})
		task := b.runTo(next, ru.StatusSucceeded)
		diff(t, "leftovers of the upgrade", []string{"standby i-0001"}, leftovers(task))
		diff(t, "status", ru.InstanceLeftover, rowOf(task, "i-0001").Status)
		diff(t, "whose it is", id, rowOf(task, "i-0001").OriginID)
	})
}

// What an earlier task left and is gone is not counted among the instances of the task; what it works on is.
func TestS19_S26_GoneOfAnEarlierTask(t *testing.T) {
	for scope, want := range map[ru.RollbackScope]ru.Progress{
		ru.ScopeCompleted: {Total: 1, Succeeded: 1},
		ru.ScopeAttempted: {Total: 2, Succeeded: 1, Gone: 1},
	} {
		bubbled(t, string(scope), func(t *testing.T) {
			b := demoBed(t, 4)
			scriptsFail(b, 1, "i-0002")
			id := b.create(scriptSpec(4))
			b.runTo(id, ru.StatusFailurePaused)
			back := b.rollback(id, ru.RollbackSpec{Scope: scope})
			if scope == ru.ScopeCompleted {
				b.cloud.Now(func(w *fake.World) { w.Release("i-0002") })
			}
			wait := b.start(back)
			if scope == ru.ScopeAttempted {
				b.until(back, "the plan is final", func(t *ru.Task) bool { return len(t.Sizes) > 0 })
				b.cloud.Now(func(w *fake.World) { w.Release("i-0002") })
			}
			task := wait()
			diff(t, "progress", want, task.Progress)
			diff(t, "status", ru.InstanceGone, rowOf(task, "i-0002").Status)
		})
	}
}

// What counts as completed is what the update came to, not how the instance was decided on.
func TestS28_CompletedAndAttempted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		scriptsFail(b, 1, "i-0001", "i-0002")
		id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Timeouts.Update = time.Hour }))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0001"}))
		b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0002"}))
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0006"})) // never begun
		b.runTo(id, ru.StatusFailed)
		for scope, want := range map[ru.RollbackScope][]string{
			"":                {"i-0003", "i-0004", "i-0005"},
			ru.ScopeAttempted: {"i-0001", "i-0002", "i-0003", "i-0004", "i-0005"},
		} {
			plan, err := b.r.PlanRollback(b.ctx(), id, ru.RollbackSpec{Scope: scope, Batches: ru.InBatches(1), MinInService: -1})
			b.ok(err)
			got := slices.Clone(plan.Batches[0].InstanceIDs)
			slices.Sort(got)
			diff(t, "rolled back with scope "+string(scope), want, got)
		}
	})
}

// An instance whose update came to its end although it was canceled was updated all the same.
func TestS28_UpdatedAndCanceled(t *testing.T) {
	for _, whole := range []bool{false, true} {
		bubbled(t, fmt.Sprint("the whole task: ", whole), func(t *testing.T) {
			b := demoBed(t, 4)
			id := b.create(imageSpec(4))
			wait := b.start(id)
			b.until(id, "its disk is being replaced", func(*ru.Task) bool { return b.cloud.CountEffects("ReplaceSystemDisk", "i-0002") > 0 })
			want := []string{"i-0001", "i-0003", "i-0004"} // a canceled one is the operator's
			if whole {
				b.ok(b.r.Cancel(b.ctx(), id, ""))
				want = []string{"i-0001", "i-0002"}
			} else {
				b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0002"}))
			}
			diff(t, "outcome", provider.Updated, rowOf(wait(), "i-0002").Outcome)
			plan, err := b.r.PlanRollback(b.ctx(), id, ru.RollbackSpec{Batches: ru.InBatches(1), MinInService: -1})
			b.ok(err)
			got := slices.Clone(plan.Batches[0].InstanceIDs)
			slices.Sort(got)
			diff(t, "rolled back", want, got)
		})
	}
}

// A rollback's own spec is checked like any other.
func TestS29_RollbackOfABadSpec(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		_, err := b.r.Rollback(b.ctx(), id, ru.RollbackSpec{Pause: ru.PausePolicy{Limit: time.Hour}})
		wantError(t, err, ru.ErrInvalid)
	})
}
