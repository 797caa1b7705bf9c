package rollingupgrade_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// use makes another provider, on the same cloud and store, the one of the bed's Runner.
func (b *bed) use(other func(f fake.Face) provider.Provider, cfg ru.Config) {
	b.t.Helper()
	r, err := ru.New(other(b.line.face()), b.store, cfg)
	b.ok(err)
	b.r = r
}

// calls is how often a method of the provider was called.
func (b *bed) calls(op string) (n int) {
	for _, c := range b.cloud.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

// 1. Failures that the budget tolerates must not empty the group.
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

// 2. A retry of an instance that was moved out of Standby since does not update it in service.
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

// lateStandby shows Standby only some time after EnterStandby.
type lateStandby struct {
	fake.Face
	by time.Duration
	mu *sync.Mutex
	at map[string]time.Time
}

func (c lateStandby) EnterStandby(ctx context.Context, g string, ts []provider.Target) ([]provider.Progress, error) {
	out, err := c.Face.EnterStandby(ctx, g, ts)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range ts {
		c.at[t.InstanceID] = time.Now()
	}
	return out, err
}

func (c lateStandby) Instances(ctx context.Context, g string, ids []string) ([]provider.Instance, error) {
	out, err := c.Face.Instances(ctx, g, ids)
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range out {
		if at := c.at[out[n].ID]; !at.IsZero() && time.Since(at) < c.by && out[n].Lifecycle == provider.Standby {
			out[n].Lifecycle = provider.InService
		}
	}
	return out, err
}

// 3. A look that lags 5 s behind is no foreign change, and what is in Standby is a leftover.
func TestS25_N4_LateStandby(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.use(func(f fake.Face) provider.Provider {
			return lateStandby{f, 5 * time.Second, &sync.Mutex{}, map[string]time.Time{}}
		}, ru.Config{})
		task := b.run(b.create(scriptSpec(2, everything, func(s *ru.Spec) { s.Failure.PerBatch.Instances = 2 })))
		diff(t, "status", ru.StatusSucceeded, task.Status)
		diff(t, "in Standby, and listed", len(b.inState(provider.Standby)), len(leftovers(task)))
	})
}

// lateProcesses shows suspended processes as they were some time ago.
type lateProcesses struct {
	fake.Face
	by  time.Duration
	mu  *sync.Mutex
	log *[]suspension

	cloud *fake.Cloud
}

type suspension struct {
	at time.Time
	ps []provider.Process
}

func (c lateProcesses) Group(ctx context.Context, id string) (provider.Group, error) {
	g, err := c.Face.Group(ctx, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	g.Suspended = nil
	for _, s := range *c.log {
		if time.Since(s.at) >= c.by {
			g.Suspended = s.ps
		}
	}
	return g, err
}

func (c lateProcesses) note(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, _ := c.cloud.GroupView(id)
	*c.log = append(*c.log, suspension{time.Now(), slices.Clone(g.Suspended)})
}

func (c lateProcesses) SuspendProcesses(ctx context.Context, id string, ps []provider.Process, callID string) error {
	defer c.note(id)
	return c.Face.SuspendProcesses(ctx, id, ps, callID)
}

func (c lateProcesses) ResumeProcesses(ctx context.Context, id string, ps []provider.Process, callID string) error {
	defer c.note(id)
	return c.Face.ResumeProcesses(ctx, id, ps, callID)
}

func lateBed(t *testing.T, by time.Duration) *bed {
	b := demoBed(t, 2)
	b.use(func(f fake.Face) provider.Provider {
		return lateProcesses{f, by, &sync.Mutex{}, &[]suspension{}, b.cloud}
	}, ru.Config{})
	return b
}

// 4a. What was suspended a moment ago is resumed even if a look does not show it yet.
func TestS14_S25_LateProcessesAreResumed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := lateBed(t, 20*time.Second)
		id := b.create(imageSpec(2))
		wait := b.start(id)
		b.until(id, "the processes are suspended", func(*ru.Task) bool { return len(b.suspended()) > 0 })
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "", ru.RestoreFilter{}))
		diff(t, "left over", []string(nil), leftovers(wait()))
		diff(t, "suspended for ever", 0, len(b.suspended()))
	})
}

// 4b. A look that lags is waited for, not answered with calls without rest.
func TestS14_LateProcessesAreNoForeignChange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := lateBed(t, 20*time.Second)
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		if n := b.calls("SuspendProcesses"); n > 5 {
			t.Errorf("%d calls of SuspendProcesses, %d foreign changes", n, len(b.events(id, ru.EventForeignChange)))
		}
	})
}

// 4c. Processes that do not stay suspended end the preparation.
func TestS5_N6_SuspendingHasALimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := lateBed(t, 1000*time.Hour)
		id := b.create(imageSpec(2))
		ctx, stop := context.WithTimeout(b.ctx(), 15*time.Minute)
		defer stop()
		if err := b.r.Run(ctx, id); err != nil {
			t.Errorf("still %s after 15 minutes: %v", b.task(id).Stage, err)
		}
	})
}

// 5. A script that was begun is known to every later rollback.
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

// slowExit accepts ExitStandby and never gets there.
type slowExit struct{ fake.Face }

func (c slowExit) ExitStandby(_ context.Context, _ string, targets []provider.Target) (out []provider.Progress, _ error) {
	for _, t := range targets {
		out = append(out, provider.Progress{InstanceID: t.InstanceID})
	}
	return out, nil
}

// 6. A call of a restore that is accepted and never done has a limit.
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

// 7. The rollback that a limit asks for is not given up because of one throttled call.
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

// 8. The deadline of a batch counts from that batch's own beginning.
func TestS21_N6_DeadlineOfABatchIsItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.Timeouts.Batch = 2 * time.Minute }))
		b.runTo(id, ru.StatusBatchPaused) // batch 1 took longer
		b.ok(b.r.Continue(b.ctx(), id))
		task := b.runTo(id, ru.StatusBatchPaused)
		if task.Opened != 2 {
			t.Errorf("paused with %q, and batch 2 had not begun", task.Pause.Text)
		}
	})
}

// 9. A restore that is asked for while another is at work is done too.
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

// forbidden refuses to show the group.
type forbidden struct{ fake.Face }

func (c forbidden) Group(ctx context.Context, id string) (provider.Group, error) {
	_, _ = c.Face.Group(ctx, id) // takes its time
	return provider.Group{}, provider.ErrPermission
}

// 10. While a retried instance is at work, a batch that cannot go on does not look without rest.
func TestS22_N6_OpeningDoesNotSpin(t *testing.T) {
	bubbled(t, "too few in service", func(t *testing.T) {
		b := demoBed(t, 6)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(1, func(s *ru.Spec) { s.MaxInFlight, s.MinInService = 2, 3 }))
		b.runTo(id, ru.StatusFailurePaused)
		b.cloud.Release("i-0005")
		b.cloud.Release("i-0006")
		b.cloud.ClearLog()
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusBatchPaused)
		if n := b.calls("Group"); n > 40 {
			t.Errorf("%d looks at the group while one script ran for 30 s", n)
		}
	})
	bubbled(t, "no permission", func(t *testing.T) {
		b := demoBed(t, 6)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.use(func(f fake.Face) provider.Provider { return forbidden{f} }, ru.Config{})
		b.cloud.ClearLog()
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusBatchPaused)
		if n := b.calls("Group"); n > 40 {
			t.Errorf("%d looks at the group while one script ran for 30 s", n)
		}
	})
}

// deaf hides that the store tells about saves.
type deaf struct{ ru.Store }

// hangs answers EnterStandby only when it is given up.
type hangs struct{ fake.Face }

func (c hangs) EnterStandby(ctx context.Context, _ string, _ []provider.Target) ([]provider.Progress, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// 11a. Grace bounds the end of Run, also with a store that is looked at every 2 s.
func TestN6_GraceBoundsTheEndOfRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		r, err := ru.New(hangs{b.line.face()}, deaf{b.store}, ru.Config{})
		b.ok(err)
		ctx, stop := context.WithTimeout(b.ctx(), 10*time.Second)
		defer stop()
		began := time.Now()
		_ = r.Run(ctx, b.create(imageSpec(2)))
		if d := time.Since(began) - 10*time.Second; d > 11*time.Second {
			t.Errorf("Run returned %s after its context was done; grace is 10s", d)
		}
	})
}

// 11b. So it does when something was due meanwhile. Real time: the spinning would stop a bubble's clock.
func TestN6_GraceBoundsTheEndOfRunWhileSomethingIsDue(t *testing.T) {
	b := newBed(t, fake.Demo(fake.Instant(), 2), ru.Config{})
	b.use(func(f fake.Face) provider.Provider { return hangs{f} }, ru.Config{CallLimit: 3 * time.Second, Grace: 500 * time.Millisecond})
	id := b.create(imageSpec(2, func(s *ru.Spec) { s.Timeouts.Task = 300 * time.Millisecond }))
	ctx, stop := context.WithTimeout(b.ctx(), 200*time.Millisecond)
	defer stop()
	began := time.Now()
	_ = b.r.Run(ctx, id)
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("Run returned after %s; its context lasted 200ms, grace is 500ms", d)
	}
}

// 12. An instance that is released while it is verified ends as gone.
func TestS19_ReleasedWhileItIsVerified(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		released := false
		b.r = b.runner(ru.Config{Hooks: ru.Hooks{Verify: func(_ context.Context, _ ru.Summary, ids []string) (out []ru.Verdict, _ error) {
			for _, id := range ids {
				if id == "i-0001" && !released {
					released = true
					b.cloud.Release(id)
				}
				out = append(out, ru.Verdict{InstanceID: id, Healthy: id != "i-0001"})
			}
			return out, nil
		}}})
		task := b.runTo(b.create(scriptSpec(2)), ru.StatusSucceeded)
		b.wantGone(task, "i-0001", "released")
	})
}

// 13. A pause that was asked for does not take the retry away.
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

// 14. A rollback that must be possible is not refused.
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

// 15. A script task stops nothing, so its Restore starts nothing.
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

// 16. A rollback reports only what joined, and a canceled task reports it too.
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

// 17. A rollback restores the configuration's image although an instance of it failed.
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

// 18. A stopped instance that a rollback took over and that left the group is brought to run.
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

// 19. What the operator moved out of Standby is no leftover of a later task.
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

// 20. An instance that was protected again since is unprotected again before Standby.
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

// 21. One Continue starts the next batch, also where operator and policy pause at the same place.
func TestS21_OneContinueStartsTheNextBatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseEveryBatch)))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.ok(b.r.Pause(b.ctx(), id, ""))
		b.wantStatus(wait(), ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
	})
}

// 22. A rollback to what each instance had checks every image that it needs.
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

// 23. A hanging Transition hook does not hold Run for a minute per event.
func TestN6_HangingTransitionHook(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{}, 4), ru.Config{Hooks: ru.Hooks{Transition: func(ctx context.Context, _ ru.Summary, _ ru.Event) { <-ctx.Done() }}})
		id := b.create(imageSpec(2))
		ctx, stop := context.WithTimeout(b.ctx(), time.Minute)
		defer stop()
		began := time.Now()
		_ = b.r.Run(ctx, id)
		if d := time.Since(began) - time.Minute; d > 2*time.Minute {
			t.Errorf("Run returned %s after its context was done", d)
		}
	})
}

// 24. Every event has a cause, also that of an instance interrupted by a cancel.
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

// 25. A restore reports only what it was asked for.
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

// 26. A failed-instance hook that answers after a cancel starts no new attempt.
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

// 27. A suspension that is refused while instances are at work is not made under no name: it is made anew when the task goes on.
func TestS14_N2_SuspensionRefusedWhileAtWork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(1, everything))
		b.runTo(id, ru.StatusFailurePaused)
		b.cloud.Now(func(w *fake.World) { w.Resume(fake.DemoGroup, provider.ScheduledAction) })
		time.Sleep(2 * time.Minute) // until then a look may be late
		b.cloud.Inject(fake.Fault{Op: "SuspendProcesses", Nth: 1, Err: provider.ErrPermission})
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		task := b.runTo(id, ru.StatusBatchPaused)
		if task.Pause.Why != ru.PausedByError || task.Ledger.Call != nil {
			t.Errorf("paused by %s with the call %v", task.Pause.Why, task.Ledger.Call)
		}
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
		for _, c := range b.cloud.Calls() {
			if c.Op == "SuspendProcesses" && c.CallID == "" {
				t.Errorf("%s has no name", c)
			}
		}
		diff(t, "suspended", []provider.Process(nil), b.suspended())
	})
}
