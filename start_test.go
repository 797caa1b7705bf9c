package rollingupgrade_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// ops are the calls that the cloud has seen since the log was cleared.
func (b *bed) ops() []string {
	var all []string
	for _, c := range b.cloud.Calls() {
		all = append(all, c.Op)
	}
	return all
}

// instanceEffects are all changes that the client made to instances.
func (b *bed) instanceEffects() []string {
	var all []string
	for _, e := range b.cloud.Effects() {
		if e.InstanceID != "" {
			all = append(all, e.Action+" "+e.InstanceID)
		}
	}
	return all
}

// endedUntouched demands that a task ended failed for a reason, with its suspension undone and no instance touched.
func (b *bed) endedUntouched(task *ru.Task, reason string, suspended ...provider.Process) {
	b.t.Helper()
	b.wantStatus(task, ru.StatusFailed)
	if !strings.Contains(task.Reason, reason) {
		b.t.Errorf("reason %q does not say %q", task.Reason, reason)
	}
	diff(b.t, "instances touched", []string(nil), b.instanceEffects())
	if _, ok := b.cloud.GroupView(fake.DemoGroup); ok {
		diff(b.t, "suspended at the end", suspended, b.suspended())
	}
	diff(b.t, "leftovers", []string(nil), leftovers(task))
	if task.HoldsGroup || task.EndedAt.IsZero() {
		b.t.Errorf("it holds its group: %t; ended at %s", task.HoldsGroup, task.EndedAt)
	}
}

func TestS5_SuspendThenWaitThenList(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, 3*time.Minute, 1, 0) })
		over := time.Now().Add(3 * time.Minute)
		b.cloud.After(time.Minute, func(w *fake.World) { w.Release("i-0001") })
		id := b.create(imageSpec(2))
		b.untouched()
		b.cloud.ClearLog()
		task := b.runTo(id, ru.StatusSucceeded)

		// The instance that the activity added is part of the plan, the one that was released meanwhile is not.
		diff(t, "batches", [][]string{{"i-0002"}, {"i-0003"}}, batches(task))
		ops := b.ops()
		suspend, list, enter := slices.Index(ops, "SuspendProcesses"), slices.Index(ops, "Members"), slices.Index(ops, "EnterStandby")
		if suspend < 0 || list < suspend || enter < list {
			t.Fatalf("suspended at call %d, listed at %d, first in Standby at %d: %v", suspend, list, enter, ops)
		}
		calls := b.cloud.Calls()
		if at := calls[suspend].Start; at.After(over.Add(-2 * time.Minute)) {
			t.Errorf("the processes were suspended at %s; the activity ended at %s", at, over)
		}
		if at := calls[list].Start; at.Before(over) {
			t.Errorf("the members were listed at %s; the activity ended at %s", at, over)
		}
		if at := calls[list].Start; at.After(over.Add(30 * time.Second)) {
			t.Errorf("the members were listed at %s only; the activity ended at %s", at, over)
		}
	})
}

func TestS5_WaitRunsOut(t *testing.T) {
	for _, test := range []struct {
		name   string
		settle time.Duration
		want   time.Duration
	}{
		{"by default after 10 minutes", 0, 10 * time.Minute},
		{"after the time of the spec", 90 * time.Second, 90 * time.Second},
	} {
		bubbled(t, test.name, func(t *testing.T) {
			b := groupBed(t, fake.GroupSpec{Instances: 2, Suspended: []provider.Process{provider.AlarmNotification}})
			b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, 5*time.Hour, 0, 0) })
			id := b.create(imageSpec(2, func(s *ru.Spec) { s.Timeouts.Settle = test.settle }))
			began := time.Now()
			task := b.run(id)
			b.endedUntouched(task, "scaling activity asa-0001 is still in progress after "+test.want.String(), provider.AlarmNotification)
			if took := time.Since(began); took < test.want || took > test.want+time.Minute {
				t.Errorf("gave up after %s", took)
			}
			diff(t, "calls that change", []string{"SuspendProcesses", "ResumeProcesses"}, b.effects(""))
		})
	}
	bubbled(t, "an activity that ends in time", func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, 9*time.Minute+50*time.Second, 0, 0) })
		b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
	})
}

func TestS5_NoMemberLeft(t *testing.T) {
	for name, change := range map[string]func(w *fake.World){
		"released":          func(w *fake.World) { w.Release("i-0001", "i-0002") },
		"left the group":    func(w *fake.World) { w.Detach("i-0001", "i-0002") },
		"all in Standby":    func(w *fake.World) { w.SetLifecycle(provider.Standby, "i-0001", "i-0002") },
		"all being removed": func(w *fake.World) { w.SetLifecycle(provider.Removing, "i-0001", "i-0002") },
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 2)
			id := b.create(imageSpec(2))
			b.cloud.Now(change)
			b.endedUntouched(b.run(id), "no instance is left")
		})
	}
}

func TestS5_PlanHash(t *testing.T) {
	insist := func(b *bed, s ru.Spec) ru.Spec {
		plan, err := b.r.Plan(b.ctx(), s)
		b.ok(err)
		s.PlanHash = plan.Hash
		return s
	}
	bubbled(t, "matches", func(t *testing.T) {
		b := demoBed(t, 3)
		b.runTo(b.create(insist(b, imageSpec(2))), ru.StatusSucceeded)
	})
	changes := map[string]func(w *fake.World){
		"an instance joined":            func(w *fake.World) { w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{}) },
		"an instance left":              func(w *fake.World) { w.Detach("i-0003") },
		"an instance is protected now":  func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0002") },
		"one left and another one came": func(w *fake.World) { w.Release("i-0003"); w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{}) },
		"the last one changes its position": func(w *fake.World) {
			w.Release("i-0001")
			w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ID: "i-0001"})
		},
	}
	for name, change := range changes {
		bubbled(t, name+" before Create", func(t *testing.T) {
			b := demoBed(t, 3)
			spec := insist(b, imageSpec(2))
			b.cloud.Now(change)
			_, err := b.r.Create(b.ctx(), spec)
			wantError(t, err, ru.ErrPlanChanged)
			wantError(t, err, ru.ErrPrecheck)
			refused := new(ru.PrecheckError)
			if !errors.As(err, &refused) || !refused.Changed {
				t.Fatalf("Create: %v", err)
			}
			spec.PlanHash = refused.Plan.Hash
			b.create(spec)
			b.untouched()
		})
		bubbled(t, name+" before the start", func(t *testing.T) {
			b := demoBed(t, 3)
			id := b.create(insist(b, imageSpec(2)))
			b.cloud.Now(change)
			b.endedUntouched(b.run(id), "do not match the plan")
		})
		bubbled(t, name+" while it waits for activities", func(t *testing.T) {
			b := demoBed(t, 3)
			id := b.create(insist(b, imageSpec(2)))
			b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, 2*time.Minute, 0, 0) })
			b.cloud.After(time.Minute, change)
			b.endedUntouched(b.run(id), "do not match the plan")
		})
		bubbled(t, name+" and nobody insists", func(t *testing.T) {
			b := demoBed(t, 3)
			id := b.create(imageSpec(2))
			b.cloud.Now(change)
			b.runTo(id, ru.StatusSucceeded)
		})
	}
	bubbled(t, "names the batches and the update", func(t *testing.T) {
		b := demoBed(t, 4)
		seen := map[string]string{}
		for name, spec := range map[string]ru.Spec{
			"two": imageSpec(2), "three": imageSpec(3), "another image": imageSpec(2, image(fake.DemoOldImage)), "script": scriptSpec(2),
			"one less": imageSpec(2, func(s *ru.Spec) { s.Targets.Exclude = []string{"i-0004"} }),
		} {
			plan, err := b.r.Plan(b.ctx(), spec)
			b.ok(err)
			if other, ok := seen[plan.Hash]; ok || plan.Hash == "" {
				t.Errorf("the plans %q and %q have the same hash %q", name, other, plan.Hash)
			}
			seen[plan.Hash] = name
		}
	})
}

func TestS5_MembersChangeBetweenCreateAndStart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		b.cloud.Now(func(w *fake.World) {
			w.Release("i-0002")
			w.SetLifecycle(provider.Standby, "i-0003")
			w.AddInstances(fake.DemoGroup, 2, fake.InstanceSpec{}) // i-0005, i-0006
		})
		task := b.runTo(id, ru.StatusSucceeded)
		diff(t, "batches", [][]string{{"i-0001", "i-0004"}, {"i-0005", "i-0006"}}, batches(task))
		diff(t, "left alone", []string(nil), b.effects("i-0003"))
	})
}

func TestS5_GroupChangesBetweenCreateAndStart(t *testing.T) {
	for name, test := range map[string]struct {
		change func(w *fake.World)
		reason string
	}{
		"deleted":  {func(w *fake.World) { w.DeleteGroup(fake.DemoGroup) }, "does not exist"},
		"disabled": {func(w *fake.World) { w.SetGroupState(fake.DemoGroup, provider.GroupInactive, false) }, "is Inactive"},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 2)
			id := b.create(imageSpec(2))
			b.cloud.Now(test.change)
			b.endedUntouched(b.run(id), test.reason)
		})
		bubbled(t, name+" while it waits for activities", func(t *testing.T) {
			b := demoBed(t, 2)
			id := b.create(imageSpec(2))
			b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, 2*time.Minute, 0, 0) })
			b.cloud.After(time.Minute, test.change)
			b.endedUntouched(b.run(id), test.reason)
		})
	}
}

// A call that goes wrong for a while does not end the preparation, one that is forbidden does.
func TestS5_TroubleWhilePreparing(t *testing.T) {
	for _, op := range []string{"Group", "SuspendProcesses", "Members"} {
		bubbled(t, op+" throttled", func(t *testing.T) {
			b := demoBed(t, 2)
			id := b.create(imageSpec(2))
			b.cloud.Inject(fake.Throttle(op, 3))
			b.runTo(id, ru.StatusSucceeded)
			diff(t, "faults left", []fake.Fault(nil), b.cloud.PendingFaults())
		})
		bubbled(t, op+" forbidden", func(t *testing.T) {
			b := demoBed(t, 2)
			id := b.create(imageSpec(2))
			b.cloud.Inject(fake.Fault{Op: op, Nth: 1, Err: provider.ErrPermission})
			b.endedUntouched(b.run(id), provider.ErrPermission.Error())
		})
	}
}

// A task that takes over suspended processes of an earlier one and finds that it cannot begin leaves none suspended.
func TestS5_S26_TakenOverProcessesAreResumed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(4))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		diff(t, "suspended", 5, len(b.suspended()))
		next := b.create(scriptSpec(2))
		b.cloud.Now(func(w *fake.World) { w.SetGroupState(fake.DemoGroup, provider.GroupInactive, false) })
		b.runTo(next, ru.StatusFailed)
		diff(t, "suspended", []provider.Process(nil), b.suspended())
	})
}

// stateless is a provider that does not know in which state a group is.
type stateless struct{ fake.Face }

func (c stateless) Group(ctx context.Context, id string) (provider.Group, error) {
	g, err := c.Face.Group(ctx, id)
	g.State = ""
	return g, err
}

func TestS5_GroupOfUnknownState(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.use(func(f fake.Face) provider.Provider { return stateless{f} }, ru.Config{})
		b.runTo(b.create(scriptSpec(2)), ru.StatusSucceeded)
	})
}

// While an activity is in progress the group is looked at now and then.
func TestS5_N6_ActivityIsWaitedForWithRests(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, 9*time.Minute, 0, 0) })
		id := b.create(scriptSpec(2))
		b.cloud.ClearLog()
		wait := b.start(id)
		b.until(id, "the plan is final", func(t *ru.Task) bool { return len(t.Sizes) > 0 })
		if n := b.calls("Group"); n < 50 || n > 150 {
			t.Errorf("%d looks at the group in 9 minutes", n)
		}
		wait()
	})
}
