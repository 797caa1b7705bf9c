package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// forbidden refuses to show the group.
type forbidden struct{ fake.Face }

func (c forbidden) Group(ctx context.Context, id string) (provider.Group, error) {
	_, _ = c.Face.Group(ctx, id) // takes its time
	return provider.Group{}, provider.ErrPermission
}

// While a retried instance is at work, a batch that cannot go on does not look without rest.
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

// twisted is a provider whose answers are changed.
type twisted struct {
	fake.Face
	update func(ctx context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error)
	enter  func(out []provider.Progress, err error) ([]provider.Progress, error)
	exit   func(out []provider.Progress, err error) ([]provider.Progress, error)
	member func(out []provider.Instance) []provider.Instance
	limits *provider.Limits
}

func (c twisted) Limits() provider.Limits {
	if c.limits != nil {
		return *c.limits
	}
	return c.Face.Limits()
}

func (c twisted) Update(ctx context.Context, g string, u provider.Update, ts []provider.Target) ([]provider.Progress, error) {
	out, err := c.Face.Update(ctx, g, u, ts)
	if c.update != nil {
		return c.update(ctx, ts, out, err)
	}
	return out, err
}

func (c twisted) EnterStandby(ctx context.Context, g string, ts []provider.Target) ([]provider.Progress, error) {
	out, err := c.Face.EnterStandby(ctx, g, ts)
	if c.enter != nil {
		return c.enter(out, err)
	}
	return out, err
}

func (c twisted) ExitStandby(ctx context.Context, g string, ts []provider.Target) ([]provider.Progress, error) {
	out, err := c.Face.ExitStandby(ctx, g, ts)
	if c.exit != nil {
		return c.exit(out, err)
	}
	return out, err
}

func (c twisted) Members(ctx context.Context, g string) ([]provider.Instance, error) {
	out, err := c.Face.Members(ctx, g)
	if c.member != nil && err == nil {
		out = c.member(out)
	}
	return out, err
}

func (b *bed) twist(w twisted, cfg ru.Config) {
	b.t.Helper()
	b.use(func(f fake.Face) provider.Provider { w.Face = f; return w }, cfg)
}

func TestN6_AbsurdWait(t *testing.T) {
	for _, wait := range []time.Duration{365 * 24 * time.Hour, 1<<63 - 1, -time.Hour, -1 << 63} {
		bubbled(t, "update/"+wait.String(), func(t *testing.T) {
			b := demoBed(t, 4)
			b.twist(twisted{update: func(_ context.Context, _ []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
				for n := range out {
					if !out[n].Done && !out[n].Act {
						out[n].Wait = wait
					}
				}
				return out, err
			}}, ru.Config{})
			task := b.runFor(b.create(imageSpec(2)), 24*time.Hour)
			if task.Status == ru.StatusRunning {
				t.Errorf("after a day: %s", task.Explain().Text(ru.English))
			}
		})
		if wait < 0 {
			continue
		}
		bubbled(t, "enter/"+wait.String(), func(t *testing.T) {
			b := demoBed(t, 4)
			b.twist(twisted{enter: func(out []provider.Progress, err error) ([]provider.Progress, error) {
				for n := range out {
					out[n].Done, out[n].Wait = false, wait
				}
				return out, err
			}}, ru.Config{})
			task := b.runFor(b.create(imageSpec(2)), 24*time.Hour)
			if task.Status == ru.StatusRunning {
				t.Errorf("after a day: %s", task.Explain().Text(ru.English))
			}
		})
		bubbled(t, "restore/"+wait.String(), func(t *testing.T) {
			b := demoBed(t, 4)
			scriptsFail(b, 1, "i-0001")
			id := b.create(scriptSpec(2))
			b.runTo(id, ru.StatusFailurePaused)
			b.ok(b.r.CancelAndRestore(b.ctx(), id, "", ru.RestoreFilter{}))
			b.twist(twisted{exit: func(out []provider.Progress, err error) ([]provider.Progress, error) {
				for n := range out {
					out[n].Done, out[n].Wait = false, wait
				}
				return out, err
			}}, ru.Config{})
			task := b.runFor(id, 24*time.Hour)
			if task.Restore.Active() {
				t.Errorf("after a day the restore is at work")
			}
		})
	}
}

func TestN6_StateThatIsNoJSON(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.twist(twisted{update: func(_ context.Context, _ []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			for n := range out {
				if out[n].InstanceID == "i-0001" && out[n].State != nil {
					out[n].State = json.RawMessage("step 2")
				}
			}
			return out, err
		}}, ru.Config{})
		id := b.create(scriptSpec(4))
		task := b.runFor(id, 24*time.Hour)
		if task.Status == ru.StatusRunning {
			t.Errorf("after a day: %s, saved last %s ago, fence %d", task.Explain().Text(ru.English), time.Since(task.SavedAt), task.Lease.Fence)
		}
	})
}

type nilErr struct{ text string }

func (e *nilErr) Error() string { return e.text }

func TestN6_TypedNilError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.twist(twisted{enter: func(out []provider.Progress, err error) ([]provider.Progress, error) {
			var e *nilErr
			for n := range out {
				out[n].Err = e
			}
			return out, err
		}}, ru.Config{})
		id := b.create(scriptSpec(4))
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic in Run: %v", p)
			}
		}()
		if task := b.runFor(id, 24*time.Hour); task.Status == ru.StatusRunning {
			t.Errorf("after a day: %s", task.Explain().Text(ru.English))
		}
	})
}

func TestN2_MembersListedTwice(t *testing.T) {
	for _, n := range []int{1, 4} {
		bubbled(t, fmt.Sprint(n), func(t *testing.T) {
			b := demoBed(t, 4)
			b.twist(twisted{member: func(out []provider.Instance) []provider.Instance { return append(out, out[0]) }}, ru.Config{})
			id := b.create(scriptSpec(n, everything))
			defer func() {
				if p := recover(); p != nil {
					t.Errorf("panic in Run: %v", p)
				}
			}()
			task := b.runFor(id, time.Hour)
			if task.Status == ru.StatusRunning {
				t.Errorf("after an hour: %s", task.Explain().Text(ru.English))
			}
			diff(t, "runs", 1, b.cloud.CountEffects("RunCommand", "i-0001"))
			diff(t, "calls", true, len(b.cloud.Calls()) < 1000)
		})
	}
}

func TestN6_NegativeLimits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic in Run: %v", p)
			}
		}()
		b.twist(twisted{limits: &provider.Limits{Instances: 100, Standby: -1}}, ru.Config{})
		b.wantStatus(b.runFor(b.create(scriptSpec(2)), time.Hour), ru.StatusSucceeded)
	})
}

func TestN6_RefusedLook(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.twist(twisted{update: func(_ context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			if ts[0].CallID == "" && len(ts) > 1 {
				time.Sleep(50 * time.Millisecond)
				return nil, fmt.Errorf("the look was refused: %w", provider.ErrRefused)
			}
			return out, err
		}}, ru.Config{})
		id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Timeouts.Update = time.Minute }))
		task := b.runFor(id, 3*time.Minute)
		if task.Status != ru.StatusSucceeded { // each is asked for alone
			t.Errorf("after 3 minutes, with %d calls of Update: %s", b.calls("Update"), task.Explain().Text(ru.English))
		}
	})
}

// A provider is told when the attempt began and when the side effect was named, so that it can judge what it has learnt before.
func TestS23_ProviderIsToldTheTimes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 1)
		scriptsFail(b, 1, "i-0001")
		var since []time.Time
		b.twist(twisted{update: func(_ context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			for _, target := range ts {
				if target.Since.IsZero() || target.Since.After(time.Now()) || target.Named.IsZero() != (target.CallID == "") || target.Named.After(time.Now()) || target.CallID != "" && target.Named.Before(target.Since) {
					t.Errorf("attempt %d, call %q: since %s, named %s; it is %s", target.Attempt, target.CallID, target.Since, target.Named, time.Now())
				}
				if len(since) < target.Attempt {
					since = append(since, target.Since)
				}
				if !target.Since.Equal(since[target.Attempt-1]) {
					t.Errorf("attempt %d began at %s and at %s", target.Attempt, since[target.Attempt-1], target.Since)
				}
			}
			return out, err
		}}, ru.Config{})
		id := b.create(scriptSpec(1, everything))
		b.runTo(id, ru.StatusFailurePaused)
		time.Sleep(time.Hour)
		retried := time.Now()
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusSucceeded)
		if len(since) != 2 || since[1].Before(retried) {
			t.Errorf("attempts began at %s; the retry was at %s", since, retried)
		}
	})
}

// A provider that has looked for a lost outcome for long enough is believed.
func TestS23_OutcomeThatALookDoesNotFind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 1)
		b.twist(twisted{update: func(_ context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			if ts[0].CallID == "" && len(ts[0].State) > 0 && len(b.effects("i-0001")) > 1 {
				return []provider.Progress{{InstanceID: "i-0001", Err: fmt.Errorf("no result shows: %w", provider.ErrOutcomeUnknown)}}, nil
			}
			return out, err
		}}, ru.Config{})
		id := b.create(scriptSpec(1, everything))
		began := time.Now()
		task := b.runTo(id, ru.StatusFailurePaused)
		if d := time.Since(began); d > 2*time.Minute {
			t.Errorf("it took %s to say so", d)
		}
		diff(t, "kind", "outcome unknown", rowOf(task, "i-0001").Error.Kind)
	})
}

// Instances that share looks are looked at again soon, also if one of them was being looked at when that was planned.
func TestS16_SharedLooksGoOn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		const long = 50 * time.Second
		b.cloud.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: long}}})
		b.cloud.SetBehavior("i-0002", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: 20 * time.Second}}})
		b.twist(twisted{limits: &provider.Limits{Update: 1}, update: func(_ context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			if ts[0].InstanceID == "i-0002" {
				time.Sleep(30 * time.Millisecond) // its answer comes alone, behind that of the other one
			}
			return out, err
		}}, ru.Config{})
		id := b.create(scriptSpec(1, everything))
		b.runTo(id, ru.StatusSucceeded)
		began := b.effectTime("RunCommand", "i-0001")
		if late := b.effectTime("ExitStandby", "i-0001").Sub(began) - long; late > 20*time.Second {
			t.Errorf("the end of a script of %s was seen %s late", long, late)
		}
	})
}

// What a provider says about an instance that it was not asked about is not heard.
func TestN6_AnswerAboutAStranger(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		b.twist(twisted{update: func(_ context.Context, _ []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			return append(out, provider.Progress{InstanceID: "i-stranger", State: json.RawMessage(`{"a":1}`)}), err
		}}, ru.Config{})
		task := b.runTo(b.create(scriptSpec(2)), ru.StatusSucceeded)
		diff(t, "statuses", map[string]string{"i-0001": "succeeded", "i-0002": "succeeded"}, statuses(task))
	})
}

// No call carries more instances than the provider's limits say.
func TestS16_LimitsOfTheProvider(t *testing.T) {
	for limit, want := range map[int]int{0: 6, 2: 2} {
		bubbled(t, fmt.Sprint(limit), func(t *testing.T) {
			b := demoBed(t, 6)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, idRange(1, 6)...) })
			most := map[string]int{}
			b.twist(twisted{limits: &provider.Limits{Instances: limit, Standby: limit, Protection: limit, Start: limit, Update: limit}}, ru.Config{})
			b.runTo(b.create(scriptSpec(1, everything, func(s *ru.Spec) { s.Targets.IncludeProtected = true })), ru.StatusSucceeded)
			for _, c := range b.cloud.Calls() {
				switch c.Op {
				case "Instances", "EnterStandby", "ExitStandby", "SetProtection", "Update":
					most[c.Op] = max(most[c.Op], len(c.Targets))
				}
			}
			diff(t, "most instances in a call", map[string]int{"Instances": want, "EnterStandby": want, "ExitStandby": want, "SetProtection": want, "Update": want}, most)
		})
	}
}

// A provider whose calls have no limit can still set one for the next.
func TestS16_LimitOfTheNextCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		b.twist(twisted{limits: &provider.Limits{}, update: func(_ context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			if ts[0].CallID != "" && len(ts) > 2 {
				t.Errorf("%d instances in a call", len(ts))
			}
			for n := range out {
				out[n].MaxTargets = 2
			}
			return out, err
		}}, ru.Config{})
		b.runTo(b.create(scriptSpec(1, everything)), ru.StatusSucceeded)
	})
}

// A protection that could not be lifted is not one that was.
func TestS2_S26_ProtectionThatWasNotLifted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001") })
		b.cloud.Inject(fake.Fault{Op: "SetProtection", Err: provider.ErrInvalid})
		id := b.create(scriptSpec(3, func(s *ru.Spec) { s.Targets.IncludeProtected = true }))
		task := b.runTo(id, ru.StatusFailurePaused)
		diff(t, "lifted", false, rowOf(task, "i-0001").Lifted)
		b.ok(b.r.CancelAndRestore(b.ctx(), id, "", ru.RestoreFilter{}))
		diff(t, "leftovers", []string(nil), leftovers(b.run(id)))
	})
}

// scarce lets a page of instances through every so often, and refuses the others as a limit of calls does.
type scarce struct {
	fake.Face
	every time.Duration
	mu    *sync.Mutex
	last  *time.Time
}

func (s scarce) Limits() provider.Limits {
	l := s.Face.Limits()
	l.Instances = 5
	return l
}

func (s scarce) Instances(ctx context.Context, g string, ids []string) ([]provider.Instance, error) {
	s.mu.Lock()
	held := time.Since(*s.last) < s.every
	if !held {
		*s.last = time.Now()
	}
	s.mu.Unlock()
	if held {
		return nil, fmt.Errorf("DescribeInstances: %w", provider.ErrThrottled)
	}
	return s.Face.Instances(ctx, g, ids)
}

// TestS15_ManyInstancesUnderALowLimit holds that a look at more instances than a limit lets through at once comes to its end, since what has
// come is kept; and that one that gets nothing gives up in time for the task to say so.
func TestS15_ManyInstancesUnderALowLimit(t *testing.T) {
	scarceBed := func(t *testing.T, every time.Duration) *bed {
		b := demoBed(t, 60)
		b.use(func(f fake.Face) provider.Provider { return scarce{f, every, &sync.Mutex{}, &time.Time{}} }, ru.Config{})
		return b
	}
	bubbled(t, "slowly", func(t *testing.T) {
		b := scarceBed(t, time.Second)
		began := time.Now()
		b.runTo(b.create(scriptSpec(1, func(s *ru.Spec) { s.MinInService = -1 })), ru.StatusSucceeded)
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
	bubbled(t, "not at all", func(t *testing.T) {
		b := scarceBed(t, time.Second)
		id := b.create(scriptSpec(1, func(s *ru.Spec) { s.MinInService = -1 }))
		now := time.Now()
		b.use(func(f fake.Face) provider.Provider { return scarce{f, 1000 * time.Hour, &sync.Mutex{}, &now} }, ru.Config{})
		began := time.Now()
		task := b.runTo(id, ru.StatusBatchPaused)
		if took := time.Since(began); took > 11*time.Minute || !strings.Contains(task.Reason, "throttled") {
			t.Errorf("after %s: %s", took, task.Reason)
		}
	})
}
