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

// A look that lags 5 s behind is no foreign change, and what is in Standby is a leftover.
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

// What was suspended a moment ago is resumed even if a look does not show it yet.
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

// A look that lags is waited for, not answered with calls without rest.
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

// Processes that do not stay suspended end the preparation.
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

// A suspension that is refused while instances are at work is not made under no name: it is made anew when the task goes on.
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

// Nor is it one for a process that takes the task over a moment later.
func TestS15_LateStandbyAfterATakeover(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		entered := map[string]time.Time{}
		late := func(f fake.Face) provider.Provider { return lateStandby{f, 50 * time.Second, &sync.Mutex{}, entered} }
		b.use(late, ru.Config{})
		id := b.create(scriptSpec(2, drain(30*time.Second)))
		diff(t, "step", ru.Draining, rowOf(b.runFor(id, 15*time.Second), "i-0001").Step)
		b.use(late, ru.Config{})
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "effects", []string{"EnterStandby", "RunCommand", "ExitStandby"}, b.effects("i-0001"))
		diff(t, "foreign changes", 0, len(b.events(id, ru.EventForeignChange)))
	})
}

// Once the update of an instance has begun it is not looked at again before each of its steps; and each step is one call.
func TestS16_NoLookBetweenTheSteps(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{Steps: fake.Steps{Stop: time.Minute, Replace: 4 * time.Minute, Start: time.Minute}}, 2), ru.Config{})
		id := b.create(imageSpec(2))
		wait := b.start(id)
		b.until(id, "it is being stopped", func(*ru.Task) bool { return b.cloud.CountEffects("StopInstances", "i-0001") > 0 })
		b.cloud.ClearLog()
		b.until(id, "it is updated", func(t *ru.Task) bool { return rowOf(t, "i-0001").Outcome != "" })
		diff(t, "looks at the instance", 0, b.calls("Instances"))
		diff(t, "calls that act: enter, stop, replace, start, exit", 5, rowOf(wait(), "i-0001").Calls)
	})
}
