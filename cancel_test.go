package rollingupgrade_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// canceledAfter cancels a task of two batches right after an effect on i-0001 and returns it when it has ended.
func canceledAfter(b *bed, s ru.Spec, effect string) *ru.Task {
	id := b.create(s)
	wait := b.start(id)
	b.until(id, effect, func(*ru.Task) bool { return b.cloud.CountEffects(effect, "i-0001") > 0 })
	b.ok(b.r.Cancel(b.ctx(), id, "wrong image"))
	task := wait()
	b.wantStatus(task, ru.StatusCanceled)
	return task
}

func TestS25_CancelEndsTheAtomicUnit(t *testing.T) {
	for _, c := range []struct {
		effect, image string
	}{
		{"EnterStandby", fake.DemoOldImage},
		{"StopInstances", fake.DemoOldImage}, // the replacement was not yet sent: started again
		{"ReplaceSystemDisk", fake.DemoNewImage},
		{"StartInstances", fake.DemoNewImage},
	} {
		bubbled(t, c.effect, func(t *testing.T) {
			b := demoBed(t, 4)
			task := canceledAfter(b, imageSpec(2), c.effect)
			i := b.instance("i-0001")
			if i.Power != provider.Running || i.Lifecycle != provider.Standby || i.ImageID != c.image {
				t.Errorf("instance is %s, %s, runs %s; want Running, Standby, %s", i.Power, i.Lifecycle, i.ImageID, c.image)
			}
			diff(t, "batch 2", "pending", shown(rowOf(task, "i-0003")))
			diff(t, "processes", provider.Processes(), b.suspended())
			diff(t, "leftovers", []string{
				"standby i-0001", "standby i-0002", "process ScaleOut", "process ScaleIn", "process HealthCheck",
				"process AlarmNotification", "process ScheduledAction",
			}, leftovers(task))
			for _, l := range task.Leftovers() {
				if l.Reason == "" || l.OriginID != task.ID {
					t.Errorf("leftover %+v has no reason or another origin", l)
				}
			}
		})
	}
}

func TestS25_RestorePutsBackWhatWasChanged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cloud := fake.NewCloud(fake.Config{})
		cloud.AddImages(provider.Image{ID: fake.DemoNewImage})
		cloud.AddGroup(fake.GroupSpec{ID: fake.DemoGroup, Instances: 3, LoadBalancers: []string{"lb"}, Suspended: []provider.Process{provider.ScaleIn}})
		cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: provider.Protected})
		cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: provider.Standby}) // the user's
		b := newBed(t, cloud, ru.Config{})
		before := b.members()
		id := b.create(imageSpec(1, everything, func(s *ru.Spec) { s.Targets.IncludeProtected = true }))
		wait := b.start(id)
		b.until(id, "all are stopped", func(*ru.Task) bool { return b.cloud.CountEffects("StopInstances", "i-0004") > 0 })
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		task := wait()
		if !slices.Contains(leftovers(task), "protection i-0004") {
			t.Errorf("leftovers are %v, want the lifted protection", leftovers(task))
		}
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{})) // asked for twice is once
		task = b.run(id)
		b.wantStatus(task, ru.StatusCanceled)
		diff(t, "members", before, b.members())
		diff(t, "processes", []provider.Process{provider.ScaleIn}, b.suspended())
		diff(t, "leftovers", []string(nil), leftovers(task))
		effects := len(b.cloud.Effects())
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		b.run(id)
		diff(t, "effects of one more restore", effects, len(b.cloud.Effects()))
	})
}

func TestS25_RestoreWithAFilter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := canceledAfter(b, imageSpec(2), "EnterStandby").ID
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{InstanceIDs: []string{"i-0002"}, Kinds: []ru.LeftoverKind{ru.LeftoverStandby}}))
		b.run(id)
		diff(t, "in Standby", []string{"i-0001"}, b.inState(provider.Standby))
		diff(t, "processes", provider.Processes(), b.suspended())
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{Kinds: []ru.LeftoverKind{ru.LeftoverProcess}}))
		task := b.run(id)
		diff(t, "leftovers", []string{"standby i-0001"}, leftovers(task))
		if s := b.suspended(); len(s) > 0 {
			t.Errorf("%v are still suspended", s)
		}
	})
}

func TestS25_RestoreStartsWhatWasStoppedAndLeavesWhatCannotRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.SetBehavior("i-0001", fake.Behavior{FailStarts: 1})
		b.cloud.SetBehavior("i-0002", fake.Behavior{FailStarts: 100})
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "give up", ru.RestoreFilter{}))
		task := b.run(id)
		b.wantStatus(task, ru.StatusCanceled)
		one, two := b.instance("i-0001"), b.instance("i-0002")
		if one.Power != provider.Running || one.Lifecycle != provider.InService {
			t.Errorf("i-0001 is %s, %s; want Running in service", one.Power, one.Lifecycle)
		}
		if two.Lifecycle != provider.Standby {
			t.Errorf("i-0002 is %s; want Standby, for it does not run", two.Lifecycle)
		}
		if task.Restore == nil || task.Restore.Active() || task.Restore.Error == "" {
			t.Errorf("restore is %+v, want ended with what stayed", task.Restore)
		}
		if !slices.Contains(leftovers(task), "standby i-0002") || slices.Contains(leftovers(task), "standby i-0001") {
			t.Errorf("leftovers are %v", leftovers(task))
		}
		if s := b.suspended(); len(s) > 0 {
			t.Errorf("%v are still suspended", s)
		}
	})
}

func TestS25_CancelOfATaskThatHasNotBegun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.wantStatus(b.task(id), ru.StatusCanceled) // at once, without a Runner
		b.untouched()
		b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
	})
}

func TestS6_S25_RestoreHoldsTheGroup(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := canceledAfter(b, imageSpec(2), "EnterStandby").ID
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		_, err := b.r.Create(b.ctx(), imageSpec(2))
		wantError(t, err, ru.ErrGroupBusy)
		b.run(id)
		b.create(imageSpec(2))
		wantError(t, b.r.Restore(b.ctx(), id, ru.RestoreFilter{}), ru.ErrIllegalCommand) // what is left belongs to the later task
	})
}

func TestS26_LeftoversAreNotTheUsersOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cloud := fake.Demo(fake.Config{}, 4)
		cloud.Now(func(w *fake.World) { w.Suspend(fake.DemoGroup, provider.AlarmNotification) })
		b := newBed(t, cloud, ru.Config{})
		first := canceledAfter(b, imageSpec(2), "StopInstances")
		second := b.create(imageSpec(2))
		diff(t, "leftovers of the first", []string(nil), leftovers(b.task(first.ID)))
		plan, err := b.r.Get(b.ctx(), second)
		b.ok(err)
		if !slices.Contains(leftovers(plan), "standby i-0001") {
			t.Errorf("leftovers of the second are %v, want those of the first", leftovers(plan))
		}
		task := b.runTo(second, ru.StatusSucceeded)
		diff(t, "processes", []provider.Process{provider.AlarmNotification}, b.suspended())
		diff(t, "worked on", map[string]string{"i-0003": "succeeded", "i-0004": "succeeded"}, statuses(task))
		diff(t, "leftovers", []string{"standby i-0001", "standby i-0002"}, leftovers(task))
		for _, l := range task.Leftovers() {
			diff(t, "origin", first.ID, l.OriginID)
		}
		wantError(t, b.r.Restore(b.ctx(), first.ID, ru.RestoreFilter{}), ru.ErrNotLatest)
		b.ok(b.r.Restore(b.ctx(), second, ru.RestoreFilter{}))
		b.run(second)
		diff(t, "in service", idRange(1, 4), b.inState(provider.InService))
	})
}

// A command takes effect at once, whatever its driver is doing: saving, calling, waiting.
func TestS25_CommandsOfAnotherProcessTakeEffect(t *testing.T) {
	for after := time.Second; after < 30*time.Second; after += 370 * time.Millisecond {
		bubbled(t, after.String(), func(t *testing.T) {
			b := demoBed(t, 4)
			other := b.runner(ru.Config{})
			r, err := ru.New(b.line.face(), slowSave{b.store, 200 * time.Millisecond}, ru.Config{})
			b.ok(err)
			b.r = r
			for _, instance := range idRange(1, 4) {
				b.cloud.SetBehavior(instance, fake.Behavior{Scripts: []fake.ScriptResult{{Takes: 10 * time.Minute}}})
			}
			id := b.create(scriptSpec(2))
			wait := b.start(id)
			b.untilStep(id, "i-0001", ru.Updating)
			time.Sleep(after)
			at := time.Now()
			b.ok(other.Cancel(b.ctx(), id, "from elsewhere"))
			b.wantStatus(wait(), ru.StatusCanceled)
			if took := b.effectTime("StopInvocation", "i-0001").Sub(at); took < 0 || took > 2*time.Second {
				t.Errorf("the script was stopped %s after the cancel", took)
			}
		})
	}
}

// readHeads counts how often the head of a task is read.
type readHeads struct {
	*ru.MemoryStore
	n, saves atomic.Int64
}

func (s *readHeads) Head(ctx context.Context, id string) (*ru.Head, error) {
	s.n.Add(1)
	return s.MemoryStore.Head(ctx, id)
}

func (s *readHeads) Save(ctx context.Context, c ru.Change) error {
	s.saves.Add(1)
	return s.MemoryStore.Save(ctx, c)
}

// A driver that is told of its own saves does not look what somebody else has saved.
func TestN3_OwnSavesAreNoReasonToLook(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 10)
		store := &readHeads{MemoryStore: b.store}
		r, err := ru.New(b.line.face(), store, ru.Config{})
		b.ok(err)
		b.r = r
		b.runTo(b.create(imageSpec(5)), ru.StatusSucceeded)
		if n, saves := store.n.Load(), store.saves.Load(); n > 3 || saves < 20 {
			t.Errorf("%d looks in %d saves", n, saves)
		}
	})
}

// slowSave takes its time with every save.
type slowSave struct {
	*ru.MemoryStore
	d time.Duration
}

func (s slowSave) Save(ctx context.Context, c ru.Change) error {
	time.Sleep(s.d)
	return s.MemoryStore.Save(ctx, c)
}

// A call that was named and found no slot is not sent after a cancel.
func TestS25_NothingNewStartsAfterACancel(t *testing.T) {
	for _, c := range []struct {
		recorded, op string
		state        provider.Lifecycle
		spec         ru.Spec
	}{
		{"Unprotect", "SetProtection", provider.Protected, imageSpec(3, func(s *ru.Spec) { s.Targets.IncludeProtected = true })},
		{"EnterStandby", "EnterStandby", provider.InService, imageSpec(3)},
		{"Update", "Update", provider.InService, imageSpec(3)},
		{"Update", "Update", provider.InService, scriptSpec(3)},
	} {
		bubbled(t, c.op+" of "+string(c.spec.Update.Kind), func(t *testing.T) {
			b := groupBed(t, fake.GroupSpec{ID: "one", Instances: 3})
			b.cloud.AddGroup(fake.GroupSpec{ID: "two", Instances: 3})
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(c.state, idRange(1, 6)...) })
			b.cloud.Inject(fake.Fault{Op: c.op, Delay: 5 * time.Second})
			r, err := ru.New(b.line.face(), slowSave{b.store, 100 * time.Millisecond}, ru.Config{ParallelTotal: 1})
			b.ok(err)
			var ids []string
			var runs sync.WaitGroup
			for _, g := range []string{"one", "two"} {
				c.spec.GroupID = g
				id := b.create(c.spec)
				ids = append(ids, id)
				runs.Go(func() { _ = r.Run(b.ctx(), id) })
			}
			sent := func(c *ru.Call) bool {
				return slices.ContainsFunc(b.cloud.Calls(), func(d fake.Call) bool { return d.CallID == c.ID })
			}
			named := func(id string) bool { // and saved for longer than a save takes, and not sent: it waits for a slot
				return slices.ContainsFunc(b.task(id).Instances, func(i ru.Instance) bool {
					return i.Call != nil && i.Call.Op == c.recorded && !i.Underway && time.Since(i.Call.At) > 150*time.Millisecond && !sent(i.Call)
				})
			}
			for n := 0; !named(ids[0]) && !named(ids[1]); n++ {
				if n == 60000 {
					t.Fatal("no call has waited for a slot")
				}
				time.Sleep(10 * time.Millisecond)
			}
			at := time.Now()
			waiting := map[string]bool{}
			for _, id := range ids {
				for _, i := range b.task(id).Instances {
					if i.Call != nil && i.Call.Op == c.recorded && !i.Underway && !sent(i.Call) {
						waiting[i.Call.ID] = true
					}
				}
				b.ok(b.r.Cancel(b.ctx(), id, ""))
			}
			runs.Wait()
			for _, call := range b.cloud.Calls() {
				if waiting[call.CallID] && call.Start.After(at) {
					t.Errorf("%s after the cancel: %s %v", call.Start.Sub(at), call.Op, call.Targets)
				}
			}
		})
	}
}

// A call about the group that is in flight at a cancel is brought to its end, and what it did is known.
func TestS25_N2_CancelDuringAGroupCall(t *testing.T) {
	all := func(kind string, more ...string) (lines []string) {
		for _, p := range provider.Processes() {
			lines = append(lines, kind+" "+string(p))
		}
		return append(more, lines...)
	}
	for _, c := range []struct {
		op, outcome string
		fault       fake.Fault
		want        []string // leftovers
		done        bool     // the image
		suspended   int
	}{
		{op: "SuspendProcesses", outcome: "done", want: all("process"), suspended: 5},
		{op: "SuspendProcesses", outcome: "tried again", fault: fake.Fault{Nth: 1, Err: provider.ErrTransient}, want: all("process"), suspended: 5},
		{op: "SuspendProcesses", outcome: "answer lost", fault: fake.Fault{Nth: 1, Lost: true}, want: all("process"), suspended: 5},
		{op: "SuspendProcesses", outcome: "group gone", fault: fake.Fault{Err: provider.ErrNotFound}},
		{op: "SuspendProcesses", outcome: "refused", fault: fake.Fault{Err: provider.ErrInvalid}, want: all("process")},
		{op: "ResumeProcesses", outcome: "done", want: []string{"image asc-asg-demo"}, done: true},
		{op: "ResumeProcesses", outcome: "tried again", fault: fake.Fault{Nth: 1, Err: provider.ErrTransient}, want: []string{"image asc-asg-demo"}, done: true},
		{op: "ResumeProcesses", outcome: "group gone", fault: fake.Fault{Err: provider.ErrNotFound}, want: []string{"image asc-asg-demo"}, done: true, suspended: 5},
		{op: "ResumeProcesses", outcome: "refused", fault: fake.Fault{Err: provider.ErrInvalid}, want: all("process", "image asc-asg-demo"), done: true, suspended: 5},
		{op: "SetConfigurationImage", outcome: "done", want: all("process", "image asc-asg-demo"), done: true, suspended: 5},
		{op: "SetConfigurationImage", outcome: "tried again", fault: fake.Fault{Nth: 1, Err: provider.ErrTransient}, want: all("process", "image asc-asg-demo"), done: true, suspended: 5},
		{op: "SetConfigurationImage", outcome: "configuration gone", fault: fake.Fault{Err: provider.ErrNotFound}, want: all("process", "image asc-asg-demo"), suspended: 5},
		{op: "SetConfigurationImage", outcome: "refused", fault: fake.Fault{Err: provider.ErrInvalid}, want: all("process", "image asc-asg-demo"), suspended: 5},
	} {
		bubbled(t, c.op+" "+c.outcome, func(t *testing.T) {
			b := configuredBed(t, fake.GroupSpec{})
			c.fault.Op, c.fault.Delay = c.op, 20*time.Second
			b.cloud.Inject(c.fault)
			id := b.create(imageSpec(2))
			wait := b.start(id)
			b.until(id, "the call is in flight", func(t *ru.Task) bool { return t.Ledger.Call != nil && t.Ledger.Call.Op == c.op })
			time.Sleep(time.Second)
			b.ok(b.r.Cancel(b.ctx(), id, ""))
			task := wait()
			b.wantStatus(task, ru.StatusCanceled)
			diff(t, "leftovers", c.want, leftovers(task))
			diff(t, "suspended", c.suspended, len(b.suspended()))
			diff(t, "image is set", c.done, task.Ledger.Image != nil && task.Ledger.Image.Done)
			if task.Ledger.Call != nil {
				t.Errorf("a call is open: %+v", task.Ledger.Call)
			}
			if n := b.calls(c.op); n > 2 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// A rollback that is canceled while it puts the configuration's old image back leaves nothing of that.
func TestS25_S31_CancelWhileTheImageGoesBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := configuredBed(t, fake.GroupSpec{})
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		back := b.rollback(id, ru.RollbackSpec{})
		b.cloud.Inject(fake.Fault{Op: "SetConfigurationImage", Delay: 20 * time.Second})
		wait := b.start(back)
		b.until(back, "the image goes back", func(t *ru.Task) bool { return t.Ledger.Call != nil && t.Ledger.Call.Op == "SetConfigurationImage" })
		b.ok(b.r.Cancel(b.ctx(), back, ""))
		task := wait()
		diff(t, "image", fake.DemoOldImage, b.image())
		diff(t, "image in the ledger", (*ru.ImageChange)(nil), task.Ledger.Image)
	})
}

// The way to the safe end has a deadline of its own, which begins with the cancel.
func TestS25_N6_CancelHasADeadlineOfItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{Steps: fake.Steps{Replace: 20 * time.Minute}}, 4), ru.Config{})
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.Timeouts.Update = 30 * time.Minute }))
		wait := b.start(id)
		b.until(id, "the disk is being replaced", func(*ru.Task) bool { return b.cloud.CountEffects("ReplaceSystemDisk", "i-0001") > 0 })
		time.Sleep(10 * time.Minute)
		at := time.Now().UTC()
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		task := b.task(id)
		diff(t, "since", []time.Time{at, {}}, []time.Time{rowOf(task, "i-0001").StepSince, rowOf(task, "i-0004").StepSince})
		diff(t, "its disk is replaced to the end", ru.InstanceFailed, rowOf(wait(), "i-0001").Status)
		diff(t, "image", fake.DemoNewImage, b.instance("i-0001").ImageID)
	})
}
