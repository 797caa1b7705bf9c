package rollingupgrade_test

import (
	"context"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// slowExit accepts ExitStandby and never gets there.
type slowExit struct{ fake.Face }

func (c slowExit) ExitStandby(_ context.Context, _ string, targets []provider.Target) (out []provider.Progress, _ error) {
	for _, t := range targets {
		out = append(out, provider.Progress{InstanceID: t.InstanceID})
	}
	return out, nil
}

// A call of a restore that is accepted and never done has a limit.
func TestS25_N6_RestoreOfAnAcceptedCallHasALimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "", ru.RestoreFilter{}))
		b.use(func(f fake.Face) provider.Provider { return slowExit{f} }, ru.Config{})
		ctx, stop := context.WithTimeout(b.ctx(), 12*time.Hour)
		defer stop()
		if err := b.r.Run(ctx, id); err != nil {
			t.Errorf("the restore did not end in half a day, and no command ends it: %v", err)
		}
	})
}

// A restore that is asked for while another is at work is done too.
func TestS25_AcceptedRestoresAreNotLost(t *testing.T) {
	one, two := ru.RestoreFilter{InstanceIDs: []string{"i-0001"}}, ru.RestoreFilter{InstanceIDs: []string{"i-0002"}}
	bubbled(t, "after the end", func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001", "i-0002")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.ok(b.r.Restore(b.ctx(), id, one))
		b.ok(b.r.Restore(b.ctx(), id, two))
		b.run(id)
		diff(t, "in Standby", []string(nil), b.inState(provider.Standby))
	})
	bubbled(t, "with the cancel", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "", one))
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "", two))
		wait()
		diff(t, "in Standby", []string(nil), b.inState(provider.Standby))
	})
}

// A script task stops nothing, so its Restore starts nothing.
func TestS25_N5_RestoreStartsOnlyWhatTheTaskStopped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, "i-0001") })
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		b.run(id)
		diff(t, "starts", 0, b.cloud.CountEffects("StartInstances", "i-0001"))
	})
}

// A rollback reports only what joined, and a canceled task reports it too.
func TestS20_JoinedOfRollbackAndCancel(t *testing.T) {
	bubbled(t, "rollback", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		diff(t, "joined", []string(nil), b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded).Joined)
	})
	bubbled(t, "canceled", func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ID: "i-new"})
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		diff(t, "joined", []string{"i-new"}, wait().Joined)
	})
}

// What the operator moved out of Standby is no leftover of a later task.
func TestS25_S26_MovedOutIsNoLeftover(t *testing.T) {
	moved := func(t *testing.T, spec, next ru.Spec) {
		b := newBed(t, fake.Demo(fake.Config{}, 3), ru.Config{Hooks: ru.Hooks{Verify: func(_ context.Context, _ ru.Summary, ids []string) (out []ru.Verdict, _ error) {
			for _, id := range ids {
				out = append(out, ru.Verdict{InstanceID: id, Healthy: id != "i-0001"})
			}
			return out, nil
		}}})
		id := b.create(spec)
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusSucceeded)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.InService, "i-0001") })
		diff(t, "leftovers", []string(nil), leftovers(b.runTo(b.create(next), ru.StatusSucceeded)))
	}
	bubbled(t, "up to date", func(t *testing.T) {
		moved(t, imageSpec(3), imageSpec(3, func(s *ru.Spec) { s.Targets.SkipUpToDate = true }))
	})
	bubbled(t, "excluded", func(t *testing.T) {
		moved(t, scriptSpec(3), scriptSpec(2, func(s *ru.Spec) { s.Targets.Exclude = []string{"i-0001"} }))
	})
}

// An instance that was protected again since is unprotected again before Standby.
func TestS2_S26_ProtectedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		protected := func(s *ru.Spec) { s.Targets.IncludeProtected = true }
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001") })
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(3, protected))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusSucceeded)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001") })
		b.runTo(b.create(scriptSpec(3, protected)), ru.StatusSucceeded)
	})
}

// Every event has a cause, also that of an instance interrupted by a cancel.
func TestS35_CancelGivesACause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		wait()
		for _, e := range b.events(id) {
			if e.Cause == "" {
				t.Errorf("no cause: %+v", e)
			}
		}
	})
}

// A restore reports only what it was asked for.
func TestS25_RestoreReportsOnlyItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001", "i-0002")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Starting, "i-0001") }) // for ever
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{InstanceIDs: []string{"i-0001"}}))
		b.run(id)
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{InstanceIDs: []string{"i-0002"}}))
		diff(t, "error", "", b.run(id).Restore.Error)
	})
}

// A failed-instance hook that answers after a cancel starts no new attempt.
func TestS25_FailedHookAfterACancel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{}, 4), ru.Config{Hooks: ru.Hooks{Failed: func(context.Context, ru.Summary, ru.InstanceFailure) (ru.Decision, error) {
			time.Sleep(30 * time.Second)
			return ru.DecideRetry, nil
		}}})
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(4))
		wait := b.start(id)
		b.until(id, "it fails", func(t *ru.Task) bool { return rowOf(t, "i-0001").Status == ru.InstanceFailed })
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		row := rowOf(wait(), "i-0001")
		diff(t, "attempts", 1, row.Attempt)
		diff(t, "how the script really ended is kept", true, row.ExitCode != nil)
	})
}

func TestS25_RestoreOfAnUnknownInstance(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		wantError(t, b.r.Restore(b.ctx(), id, ru.RestoreFilter{InstanceIDs: []string{"i-nobody"}}), ru.ErrUnknownInstance)
	})
}

// An instance that does not stay started is started again with rests that grow, until the limit.
func TestS25_N6_RestoreDoesNotStartWithoutRest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{Steps: fake.Steps{Start: -1}}, 2), ru.Config{})
		b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1, FailStarts: 1000})
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "", ru.RestoreFilter{}))
		task := b.run(id)
		diff(t, "leftovers", []string{"stopped i-0001", "standby i-0001"}, leftovers(task))
		if n := b.cloud.CountEffects("StartInstances", "i-0001"); n < 5 || n > 40 {
			t.Errorf("started %d times in 10 minutes", n)
		}
	})
}

// A leftover says why it is one.
func TestS26_WhyItIsLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{Steps: fake.Steps{Script: 10 * time.Minute}}, 6), ru.Config{})
		b.cloud.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: time.Second, ExitCode: 1}}})
		b.cloud.SetBehavior("i-0002", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: time.Second, ExitCode: 1}}})
		b.cloud.SetBehavior("i-0003", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: time.Second, ExitCode: 1}}})
		id := b.create(scriptSpec(1, everything))
		wait := b.start(id)
		why := func(task *ru.Task) map[string]string {
			all := map[string]string{}
			for _, l := range task.Leftovers() {
				if l.Kind == ru.LeftoverStandby {
					all[l.InstanceID] = l.Reason
				}
			}
			return all
		}
		b.until(id, "three have failed", func(t *ru.Task) bool { return t.Progress.Failed == 3 })
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0001"}))
		b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0002"}))
		diff(t, "while it runs", map[string]string{"i-0001": "skipped", "i-0002": "canceled", "i-0003": "failed", "i-0004": "at work", "i-0005": "at work", "i-0006": "at work"}, why(b.task(id)))
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		want := map[string]string{
			"i-0001": "skipped", "i-0002": "canceled", "i-0003": "failed", "i-0004": "at work when the task was canceled, not updated",
			"i-0005": "at work when the task was canceled, not updated", "i-0006": "at work when the task was canceled, not updated",
		}
		task := wait()
		got := why(task)
		for n := range got {
			if rowOf(task, n).Mark == ru.Interrupted && rowOf(task, n).Begun { // the script was stopped; nobody knows how far it came
				want[n] = "at work when the task was canceled, outcome unknown"
				if o := rowOf(task, n).Outcome; o != "" {
					want[n] = "at work when the task was canceled, " + strings.ReplaceAll(string(o), "_", " ")
				}
			}
		}
		diff(t, "after the cancel", want, got)
	})
}

// What a task stopped is started again even if it has left the group since.
func TestS25_N5_RestoreStartsWhatHasLeftTheGroup(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
		id := b.create(imageSpec(3))
		task := b.runTo(id, ru.StatusFailurePaused)
		diff(t, "stopped by the task", true, rowOf(task, "i-0001").Stopped)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.cloud.Now(func(w *fake.World) { w.Detach("i-0001") })
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		task = b.run(id)
		diff(t, "power", provider.Running, b.instance("i-0001").Power)
		diff(t, "leftovers", []string(nil), leftovers(task))
		diff(t, "error", "", task.Restore.Error)
	})
}

// An instance of which nobody knows whether it is in Standby is put back too.
func TestS25_N2_RestoreAfterALostEnter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		b.cloud.Inject(fake.Fault{Op: "EnterStandby", Target: "i-0001", Lost: true})
		id := b.create(imageSpec(3))
		b.runTo(id, ru.StatusFailurePaused)
		b.cloud.ClearFaults()
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "", ru.RestoreFilter{}))
		task := b.run(id)
		diff(t, "in service", idRange(1, 3), b.inState(provider.InService))
		diff(t, "leftovers", []string(nil), leftovers(task))
	})
}

// A provider that says nothing of an instance has done nothing for it: a restore asks again.
func TestS25_N6_RestoreIsNotAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(3))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.use(func(f fake.Face) provider.Provider { return &deafExit{Face: f, times: 2} }, ru.Config{})
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		diff(t, "leftovers", []string(nil), leftovers(b.run(id)))
		diff(t, "exits", 1, b.cloud.CountEffects("ExitStandby", "i-0001"))
	})
}

// deafExit does not hear the first calls of ExitStandby, and answers them with nothing.
type deafExit struct {
	fake.Face
	times int
}

func (c *deafExit) ExitStandby(ctx context.Context, g string, targets []provider.Target) ([]provider.Progress, error) {
	if c.times--; c.times >= 0 {
		return nil, nil
	}
	return c.Face.ExitStandby(ctx, g, targets)
}

// A restore that is told to come later does so with rests that grow, and gives up at its limit.
func TestS25_N6_RestoreIsToldToComeLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(3))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.cloud.Inject(fake.Fault{Op: "ExitStandby", Err: provider.ErrBusy})
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		row := rowOf(b.run(id), "i-0001")
		if !strings.HasPrefix(row.Stays, "could not be put back within 10m0s: ") || !strings.HasSuffix(row.Stays, ": busy") {
			t.Errorf("it stays because %q", row.Stays)
		}
		if n := b.calls("ExitStandby"); n < 5 || n > 40 {
			t.Errorf("%d calls of ExitStandby in 10 minutes", n)
		}
	})
}

// What the operator has protected again is not left over any more.
func TestS26_ProtectedAgainByHand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001") })
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(4, func(s *ru.Spec) { s.Targets.IncludeProtected = true }))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		for _, c := range []struct {
			is   provider.Lifecycle
			want []string
		}{
			{provider.Standby, []string{"standby i-0001", "protection i-0001"}}, {provider.InService, []string{"protection i-0001"}}, {provider.Protected, nil},
		} {
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(c.is, "i-0001") })
			spec := scriptSpec(3, func(s *ru.Spec) { s.Targets.Exclude = []string{"i-0001"} })
			diff(t, "leftovers, it is "+string(c.is), c.want, leftovers(b.runTo(b.create(spec), ru.StatusSucceeded)))
		}
	})
}

// A protection that an earlier task lifted is put back by the next one that works on the instance.
func TestS2_S26_LiftedByAnEarlierTask(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001") })
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(4, func(s *ru.Spec) { s.Targets.IncludeProtected = true }))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.InService, "i-0001") }) // out of Standby, but not protected
		diff(t, "leftovers", []string(nil), leftovers(b.runTo(b.create(scriptSpec(4)), ru.StatusSucceeded)))
		diff(t, "lifecycle", provider.Protected, b.instance("i-0001").Lifecycle)
	})
}
