package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// runFor drives a task for at most d.
func (b *bed) runFor(id string, d time.Duration) *ru.Task {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx(), d)
	defer stop()
	_ = b.r.Run(ctx, id)
	return b.task(id)
}

func sick(_ context.Context, _ ru.Summary, ids []string) (out []ru.Verdict, _ error) {
	for _, id := range ids {
		out = append(out, ru.Verdict{InstanceID: id, Text: "HTTP 503"})
	}
	return out, nil
}

func TestS15_N6_VerifyTimeoutHoldsForAnyInterval(t *testing.T) {
	bubbled(t, "an interval of two minutes", func(t *testing.T) {
		b := hookBed(t, 4, ru.Hooks{Verify: sick})
		id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Verify = ru.VerifyPolicy{Timeout: 10 * time.Minute, Interval: 2 * time.Minute} }))
		task := b.runFor(id, 12*time.Hour)
		diff(t, "status", ru.StatusFailurePaused, task.Status)
	})
	bubbled(t, "a hook that takes its time", func(t *testing.T) {
		b := hookBed(t, 4, ru.Hooks{Verify: func(ctx context.Context, s ru.Summary, ids []string) ([]ru.Verdict, error) {
			time.Sleep(58 * time.Second)
			return sick(ctx, s, ids)
		}})
		task := b.runFor(b.create(scriptSpec(2)), 12*time.Hour)
		diff(t, "status", ru.StatusFailurePaused, task.Status)
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

// A blackHole is a store that from some time on answers nothing, as a database behind a dead network does: its methods
// return when their context is done.
type blackHole struct {
	*ru.MemoryStore
	dead, back chan struct{}
}

func (s blackHole) gone(ctx context.Context) error {
	select {
	case <-s.dead:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.back:
			return nil
		}
	default:
		return nil
	}
}

func (s blackHole) Save(ctx context.Context, c ru.Change) error {
	if err := s.gone(ctx); err != nil {
		return err
	}
	return s.MemoryStore.Save(ctx, c)
}

func (s blackHole) Head(ctx context.Context, id string) (*ru.Head, error) {
	if err := s.gone(ctx); err != nil {
		return nil, err
	}
	return s.MemoryStore.Head(ctx, id)
}

func (s blackHole) Load(ctx context.Context, id string) (*ru.Task, error) {
	if err := s.gone(ctx); err != nil {
		return nil, err
	}
	return s.MemoryStore.Load(ctx, id)
}

func TestN6_StoreThatDoesNotAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		store := blackHole{b.store, make(chan struct{}), make(chan struct{})}
		r, err := ru.New(b.line.face(), store, ru.Config{})
		b.ok(err)
		id := b.create(imageSpec(2))
		ctx, stop := context.WithCancel(b.ctx())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, id) }()
		b.untilStep(id, "i-0001", ru.Updating)
		close(store.dead)
		time.Sleep(10 * time.Minute)
		stop()
		select {
		case err := <-done:
			if err == nil {
				t.Error("Run returned no error")
			}
		case <-time.After(time.Hour):
			t.Error("Run has not returned an hour after its context was done, with a lease of three minutes")
			close(store.back)
			<-done
		}
	})
}

// tardy carries a creation out, and answers only later, with an error.
type tardy struct {
	*ru.MemoryStore
	by time.Duration
}

func (s tardy) Create(ctx context.Context, c ru.Creation) error {
	if err := s.MemoryStore.Create(ctx, c); err != nil {
		return err
	}
	time.Sleep(s.by)
	return errors.New("connection lost")
}

func TestS13_CreateWhoseAnswerIsLost(t *testing.T) {
	for _, serve := range []bool{false, true} {
		bubbled(t, fmt.Sprint("served ", serve), func(t *testing.T) {
			b := demoBed(t, 4)
			r, err := ru.New(b.line.face(), tardy{b.store, 5 * time.Second}, ru.Config{})
			b.ok(err)
			ctx, stop := context.WithCancel(b.ctx())
			done := make(chan error, 1)
			if serve {
				go func() { done <- b.r.Serve(ctx) }()
			} else {
				done <- nil
			}
			s, err := r.Create(ctx, imageSpec(2))
			var tasks int
			for range b.r.List(ctx, ru.Filter{}) {
				tasks++
			}
			if err != nil {
				t.Errorf("%d tasks, %q: %v", tasks, s.ID, err)
			}
			stop()
			<-done
		})
	}
}

// lostOnce carries a save out, has something else saved, and answers with an error, once.
type lostOnce struct {
	*ru.MemoryStore
	when func(c ru.Change) bool
	then func()
	done *bool
}

func (s lostOnce) Save(ctx context.Context, c ru.Change) error {
	lose := !*s.done && s.when(c)
	if err := s.MemoryStore.Save(ctx, c); err != nil || !lose {
		return err
	}
	*s.done = true
	s.then()
	return errors.New("connection lost")
}

func TestS15_VerdictCountsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		asked := 0
		done := false
		var id string
		seen := map[int64]int{}
		store := lostOnce{b.store, func(c ru.Change) bool {
			return slices.ContainsFunc(c.Rows, func(i ru.Instance) bool { return i.ID == "i-0001" && i.Step == ru.Verifying && i.Healthy == 1 })
		}, func() { b.ok(b.r.Pause(b.ctx(), id, "")) }, &done}
		r, err := ru.New(b.line.face(), store, ru.Config{Hooks: ru.Hooks{
			Transition: func(_ context.Context, _ ru.Summary, e ru.Event) { seen[e.Seq]++ },
			Verify: func(_ context.Context, _ ru.Summary, ids []string) (out []ru.Verdict, _ error) {
				for _, id := range ids {
					if id == "i-0001" {
						asked++
					}
					out = append(out, ru.Verdict{InstanceID: id, Healthy: true})
				}
				return out, nil
			},
		}})
		b.ok(err)
		id = b.create(scriptSpec(4, func(s *ru.Spec) { s.Verify.Successes = 2 }))
		b.ok(r.Run(b.ctx(), id))
		diff(t, "was lost", true, done)
		diff(t, "looks at i-0001", 2, asked)
		for _, e := range b.events(id)[1:] {
			if seen[e.Seq] != 1 && e.Kind != ru.EventCommand {
				t.Errorf("transition %d (%s %s %s %s->%s) was seen %d times", e.Seq, e.Kind, e.Cause, e.InstanceID, e.From, e.To, seen[e.Seq])
			}
		}
	})
}

func TestN2_RetryWhileTheFailedHookIsAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		looks := 0
		b := demoBed(t, 4)
		cfg := ru.Config{Hooks: ru.Hooks{Failed: func(context.Context, ru.Summary, ru.InstanceFailure) (ru.Decision, error) {
			time.Sleep(20 * time.Second)
			return "", nil
		}}}
		w := twisted{}
		w.update = func(_ context.Context, ts []provider.Target, out []provider.Progress, err error) ([]provider.Progress, error) {
			if ts[0].Attempt == 2 && ts[0].CallID == "" {
				mu.Lock()
				looks++
				n := looks
				mu.Unlock()
				switch n {
				case 1:
					time.Sleep(time.Second)
				case 2:
					time.Sleep(5 * time.Second)
				}
			}
			return out, err
		}
		b.twist(w, cfg)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(4))
		wait := b.start(id)
		b.until(id, "it fails", func(t *ru.Task) bool { return rowOf(t, "i-0001").Status == ru.InstanceFailed })
		time.Sleep(19 * time.Second)
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		wait()
		diff(t, "runs of the script on i-0001", 2, b.cloud.CountEffects("RunCommand", "i-0001"))
	})
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
		task := b.runFor(id, 2*time.Minute)
		if task.Status == ru.StatusRunning {
			t.Errorf("after 2 minutes, with %d calls of Update: %s", b.calls("Update"), task.Explain().Text(ru.English))
		}
	})
}

func TestS35_SlowTransitionHookSeesAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var seen []int64
		at, overlap := 0, 0
		b := hookBed(t, 10, ru.Hooks{Transition: func(_ context.Context, _ ru.Summary, e ru.Event) {
			at++
			if at > 1 {
				overlap++
			}
			time.Sleep(2 * time.Second)
			at--
			seen = append(seen, e.Seq)
		}})
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		time.Sleep(time.Hour)
		diff(t, "events observed", len(b.events(id))-1, len(seen))
		diff(t, "overlaps", 0, overlap)
	})
}

func TestS35_TransitionHooksDoNotOverlap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		at, overlap := 0, 0
		b := hookBed(t, 4, ru.Hooks{Transition: func(_ context.Context, _ ru.Summary, e ru.Event) {
			at++
			if at > 1 {
				overlap++
			}
			time.Sleep(50 * time.Second) // shorter than HookTimeout
			at--
		}})
		id := b.create(scriptSpec(2, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id))
		b.run(id)
		time.Sleep(time.Hour)
		diff(t, "overlaps", 0, overlap)
	})
}

func TestWatchTwice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(scriptSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		events := b.r.Watch(b.ctx(), id, 0)
		count := func() (n int) {
			for _, err := range events {
				b.ok(err)
				n++
			}
			return n
		}
		diff(t, "events the first and the second time", count(), count())
	})
}

func TestN6_GraceAndAHookThatIgnoresItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{}, 4), ru.Config{HookTimeout: time.Hour, Hooks: ru.Hooks{BeforeBatch: func(context.Context, ru.Summary, ru.Batch) error {
			time.Sleep(30 * time.Minute)
			return nil
		}}})
		id := b.create(scriptSpec(2))
		ctx, stop := context.WithTimeout(b.ctx(), time.Minute)
		defer stop()
		began := time.Now()
		_ = b.r.Run(ctx, id)
		if d := time.Since(began) - time.Minute; d > 11*time.Second {
			t.Errorf("Run returned %s after its context was done; grace is 10s", d)
		}
		time.Sleep(time.Hour)
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

// newer shows tasks as if a later version of the library had written them.
type newer struct {
	*ru.MemoryStore
	loads *int
	err   error
}

func (s newer) Load(ctx context.Context, id string) (*ru.Task, error) {
	time.Sleep(time.Millisecond)
	*s.loads++
	if s.err != nil {
		return nil, s.err
	}
	t, err := s.MemoryStore.Load(ctx, id)
	if err == nil {
		t.Schema++
	}
	return t, err
}

func TestN6_ServeDoesNotSpin(t *testing.T) {
	for name, e := range map[string]error{"newer": nil, "error": errors.New("disk error")} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 4)
			loads := 0
			r, err := ru.New(b.line.face(), newer{b.store, &loads, e}, ru.Config{})
			b.ok(err)
			b.create(imageSpec(2))
			ctx, stop := context.WithTimeout(b.ctx(), time.Minute)
			defer stop()
			_ = r.Serve(ctx)
			if loads > 60 {
				t.Errorf("%d loads of one task in a minute; Poll is 2s", loads)
			}
		})
	}
}

func TestS35_TransitionsOfASaveWhoseAnswerIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		done := false
		var id string
		seen := map[int64]int{}
		store := lostOnce{b.store, func(c ru.Change) bool {
			return slices.ContainsFunc(c.Rows, func(i ru.Instance) bool { return i.ID == "i-0001" && i.Step == ru.Updating })
		}, func() { b.ok(b.r.Pause(b.ctx(), id, "")) }, &done}
		r, err := ru.New(b.line.face(), store, ru.Config{Hooks: ru.Hooks{
			Transition: func(_ context.Context, _ ru.Summary, e ru.Event) { seen[e.Seq]++ },
		}})
		b.ok(err)
		id = b.create(scriptSpec(4))
		b.ok(r.Run(b.ctx(), id))
		for _, e := range b.events(id)[1:] {
			if seen[e.Seq] != 1 && e.Kind != ru.EventCommand {
				t.Errorf("transition %d (%s %s %s %s->%s) was seen %d times", e.Seq, e.Kind, e.Cause, e.InstanceID, e.From, e.To, seen[e.Seq])
			}
		}
	})
}

func TestN3_LostTake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		done := false
		var id string
		store := lostOnce{b.store, func(c ru.Change) bool { return c.Head.Lease.Fence == 1 }, func() { b.ok(b.r.Pause(b.ctx(), id, "")) }, &done}
		r, err := ru.New(b.line.face(), store, ru.Config{})
		b.ok(err)
		id = b.create(scriptSpec(4))
		began := time.Now()
		b.ok(r.Run(b.ctx(), id))
		if d := time.Since(began); d > time.Minute {
			t.Errorf("the first pause took %s", d)
		}
	})
}

// deafToSaves is a store that can be read and takes no save.
type deafToSaves struct{ *ru.MemoryStore }

var errDiskFull = errors.New("disk full")

func (deafToSaves) Save(context.Context, ru.Change) error { return errDiskFull }

func TestN3_LeaseThatCannotBeTaken(t *testing.T) {
	for name, stopAfter := range map[string]time.Duration{"stopped": 10 * time.Second, "not stopped": time.Hour} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 4)
			r, err := ru.New(b.line.face(), deafToSaves{b.store}, ru.Config{})
			b.ok(err)
			id := b.create(scriptSpec(2))
			ctx, stop := context.WithTimeout(b.ctx(), stopAfter)
			defer stop()
			began := time.Now()
			err = r.Run(ctx, id)
			wantError(t, err, errDiskFull)
			if errors.Is(err, ru.ErrLeaseLost) {
				t.Errorf("%v: nobody else has the lease", err)
			}
			if name == "stopped" {
				wantError(t, err, context.DeadlineExceeded)
				if d := time.Since(began) - stopAfter; d > time.Second {
					t.Errorf("Run came back %s after its context was done", d)
				}
			}
			b.untouched()
		})
	}
}

// A hook that always says "continue" to a reason that does not pass is asked less and less often.
func TestS35_N6_PauseHookThatAlwaysContinues(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		asked := 0
		b.r = b.runner(ru.Config{Hooks: ru.Hooks{Paused: func(context.Context, ru.Summary, ru.Pause) (ru.Decision, error) {
			asked++
			return ru.DecideContinue, nil
		}}})
		id := b.create(scriptSpec(2, pausing(ru.PauseNever), func(s *ru.Spec) { s.MinInService = 2 }))
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Standby, "i-0003", "i-0004") })
		ctx, stop := context.WithTimeout(b.ctx(), time.Hour)
		defer stop()
		wantError(t, b.r.Run(ctx, id), context.DeadlineExceeded)
		if asked < 10 || asked > 200 {
			t.Errorf("asked %d times in an hour", asked)
		}
		began := time.Now()
		b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.InService, "i-0003", "i-0004") })
		b.runTo(id, ru.StatusSucceeded)
		t.Logf("asked %d times; done %s after there was room", asked, time.Since(began))
	})
}
