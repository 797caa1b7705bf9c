package rollingupgrade_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

func TestS21_ContinueStartsTheNextBatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch)))
		task := b.runTo(id, ru.StatusBatchPaused)
		if task.Pause == nil || task.Pause.Why != ru.PausedByPolicy || task.Pause.Since.IsZero() || !task.Pause.Until.IsZero() {
			t.Errorf("pause is %+v, want one by policy with its beginning and no end", task.Pause)
		}
		if e := b.effects("i-0003"); len(e) > 0 {
			t.Errorf("batch 2 was touched before Continue: %v", e)
		}
		time.Sleep(48 * time.Hour) // it waits for ever
		b.wantStatus(b.run(id), ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
	})
}

func TestS21_LimitOfABatchPause(t *testing.T) {
	for _, c := range []struct {
		outcome ru.PauseOutcome
		want    ru.Status
		cause   ru.Cause
	}{
		{ru.OnLimitContinue, ru.StatusSucceeded, ru.ByPolicy},
		{ru.OnLimitCancel, ru.StatusCanceled, ru.ByPolicy},
		{ru.OnLimitRollback, ru.StatusCanceled, ru.ByPolicy},
	} {
		bubbled(t, string(c.outcome), func(t *testing.T) {
			b := demoBed(t, 4)
			id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch), func(s *ru.Spec) { s.Pause.Limit, s.Pause.OnLimit = time.Hour, c.outcome }))
			ctx, stop := context.WithCancel(b.ctx())
			served := make(chan error, 1)
			go func() { served <- b.r.Serve(ctx) }()
			paused := b.until(id, "it pauses", func(t *ru.Task) bool { return t.Status == ru.StatusBatchPaused })
			diff(t, "length of the pause", time.Hour, paused.Pause.Until.Sub(paused.Pause.Since))
			time.Sleep(time.Until(paused.Pause.Until) - time.Minute)
			b.wantStatus(b.task(id), ru.StatusBatchPaused)
			ended := b.until(id, "it ends", func(t *ru.Task) bool { return t.Status.Ended() })
			b.wantStatus(ended, c.want)
			if c.outcome == ru.OnLimitRollback {
				back := b.until(ended.NextID, "the rollback ends", func(t *ru.Task) bool { return t.Status.Ended() })
				b.wantStatus(back, ru.StatusSucceeded)
				diff(t, "rolled back", map[string]string{"i-0001": "succeeded", "i-0002": "succeeded"}, statuses(back))
				diff(t, "image", fake.DemoOldImage, b.instance("i-0001").ImageID)
			}
			stop()
			if err := <-served; !errors.Is(err, context.Canceled) {
				t.Errorf("Serve returned %v, want the context's error", err)
			}
		})
	}
}

func TestS21_OperatorPauseTakesEffectWhenNothingIsInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.MaxInFlight = 2 }))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.ok(b.r.Pause(b.ctx(), id, "lunch"))
		b.ok(b.r.Pause(b.ctx(), id, "lunch")) // asking again changes nothing
		task := wait()
		b.wantStatus(task, ru.StatusBatchPaused)
		diff(t, "why", ru.PausedByOperator, task.Pause.Why)
		diff(t, "text", "lunch", task.Pause.Text)
		diff(t, "statuses", map[string]string{"i-0001": "succeeded", "i-0002": "succeeded", "i-0003": "pending", "i-0004": "pending", "i-0005": "pending", "i-0006": "pending"}, statuses(task))
		diff(t, "in Standby", []string(nil), b.inState("Standby"))
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
	})
}

func TestS21_TimeInAPauseDoesNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch), func(s *ru.Spec) { s.Timeouts.Task = time.Hour }))
		b.runTo(id, ru.StatusBatchPaused)
		time.Sleep(10 * time.Hour)
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
	})
}

func TestS21_DeadlineOfABatchPausesOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(1, func(s *ru.Spec) { s.Timeouts.Batch, s.MaxInFlight = 2*time.Minute, 1 }))
		task := b.runTo(id, ru.StatusBatchPaused)
		diff(t, "why", ru.PausedByDeadline, task.Pause.Why)
		if task.Progress.Pending == 0 || task.Progress.Running > 0 {
			t.Errorf("progress is %+v, want some held and none at work", task.Progress)
		}
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
	})
}

func TestS21_CapacityPause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch), func(s *ru.Spec) { s.MinInService = 2 }))
		b.runTo(id, ru.StatusBatchPaused)
		b.cloud.Release("i-0001")
		b.ok(b.r.Continue(b.ctx(), id))
		task := b.runTo(id, ru.StatusBatchPaused)
		diff(t, "why", ru.PausedByCapacity, task.Pause.Why)
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{})
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
	})
}

// The deadline of a batch counts from that batch's own beginning.
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

// One Continue starts the next batch, also where operator and policy pause at the same place.
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

// The first of two wishes to pause says why.
func TestS21_SecondWishToPause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(scriptSpec(2))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.ok(b.r.Pause(b.ctx(), id, "lunch"))
		b.ok(b.r.Pause(b.ctx(), id, "dinner"))
		task := wait()
		b.wantStatus(task, ru.StatusBatchPaused)
		diff(t, "reason", "lunch", task.Pause.Text)
	})
}

// While the plan is not final, its instances are not yet known to commands.
func TestS24_CommandsBeforeThePlanIsFinal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, time.Minute, 0, 0) })
		id := b.create(scriptSpec(2))
		wait := b.start(id)
		b.until(id, "it waits for the activity", func(t *ru.Task) bool { return t.Status == ru.StatusRunning })
		wantError(t, b.r.Skip(b.ctx(), id, []string{"i-0001"}), ru.ErrUnknownInstance)
		b.wantStatus(wait(), ru.StatusSucceeded)
		wantError(t, b.r.Skip(b.ctx(), id, []string{"i-0001"}), ru.ErrIllegalCommand)

		b.cloud.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, time.Minute, 0, 0) })
		id = b.rollback(id, ru.RollbackSpec{}) // it knows its instances, but not yet which of them are still there
		wait = b.start(id)
		b.until(id, "it waits for the activity", func(t *ru.Task) bool { return t.Status == ru.StatusRunning })
		wantError(t, b.r.Skip(b.ctx(), id, []string{"i-0001"}), ru.ErrUnknownInstance)
		b.wantStatus(wait(), ru.StatusSucceeded)
	})
}

// A pause that the operator asks for comes before one that a limit asked for.
func TestS21_OperatorPauseAfterALimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.Timeouts.Batch = time.Minute }))
		wait := b.start(id)
		b.until(id, "the limit is over", func(t *ru.Task) bool { return t.PauseAsked != nil })
		b.ok(b.r.Pause(b.ctx(), id, "lunch"))
		task := wait()
		diff(t, "why", ru.PausedByOperator, task.Pause.Why)
		diff(t, "text", "lunch", task.Pause.Text)
		diff(t, "commands", 1, len(b.events(task.ID, ru.EventCommand)))
	})
}

// What a task says about its pause is gone when it goes on.
func TestS21_S32_PauseIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2, pausing(ru.PauseEveryBatch), func(s *ru.Spec) {
			s.Pause.Limit, s.Failure.Limit = time.Hour, time.Hour
			s.Pause.OnLimit, s.Failure.OnLimit = ru.OnLimitCancel, ru.OnLimitCancel
		}))
		for _, c := range []struct {
			status ru.Status
			goOn   func() error
		}{
			{ru.StatusFailurePaused, func() error { return b.r.Retry(b.ctx(), id, []string{"i-0001"}) }},
			{ru.StatusBatchPaused, func() error { return b.r.Continue(b.ctx(), id) }},
		} {
			task := b.runTo(id, c.status)
			diff(t, "pause and its limit", []bool{true, true}, []bool{task.Pause != nil, !task.WakeAt.IsZero()})
			b.ok(c.goOn())
			task = b.task(id)
			b.wantStatus(task, ru.StatusRunning)
			diff(t, "pause and its limit afterwards", []bool{false, false}, []bool{task.Pause != nil, !task.WakeAt.IsZero()})
		}
	})
}

// A rollback that a limit asks for and that is refused leaves the task waiting for the operator, who is told why.
func TestS21_RollbackByLimitIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2, pausing(ru.PauseFirstBatch), func(s *ru.Spec) { s.Pause.Limit, s.Pause.OnLimit = time.Hour, ru.OnLimitRollback }))
		ctx, stop := context.WithCancel(b.ctx())
		served := make(chan error, 1)
		go func() { served <- b.r.Serve(ctx) }()
		b.until(id, "it pauses", func(t *ru.Task) bool { return t.Status == ru.StatusBatchPaused })
		b.cloud.Now(func(w *fake.World) { w.SetRefresh(fake.DemoGroup, "refresh-1") })
		task := b.until(id, "the limit is over", func(t *ru.Task) bool { return t.WakeAt.IsZero() })
		b.wantStatus(task, ru.StatusBatchPaused)
		if p := task.Pause; p == nil || !p.Until.IsZero() || p.OnLimit != "" || !strings.Contains(p.Text, "the rollback was refused") || !strings.Contains(p.Text, "refresh-1") {
			t.Errorf("pause: %+v", p)
		}
		time.Sleep(10 * time.Hour)
		b.wantStatus(b.task(id), ru.StatusBatchPaused)
		diff(t, "events", 1, len(b.events(id, ru.EventHook)))
		b.cloud.Now(func(w *fake.World) { w.SetRefresh(fake.DemoGroup, "") })
		b.ok(b.r.Continue(b.ctx(), id))
		b.until(id, "it succeeds", func(t *ru.Task) bool { return t.Status == ru.StatusSucceeded })
		stop()
		<-served
	})
}
