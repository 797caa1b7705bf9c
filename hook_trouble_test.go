package rollingupgrade_test

import (
	"context"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// deaf hides that the store tells about saves.
type deaf struct{ ru.Store }

// hangs answers EnterStandby only when it is given up.
type hangs struct{ fake.Face }

func (c hangs) EnterStandby(ctx context.Context, _ string, _ []provider.Target) ([]provider.Progress, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Grace bounds the end of Run, also with a store that is looked at every 2 s.
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

// So it does when something was due meanwhile. Real time: the spinning would stop a bubble's clock.
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

// A hanging Transition hook does not hold Run for a minute per event.
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
