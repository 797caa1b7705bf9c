package rollingupgrade_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A pausing case is a policy, a number of batches, and what comes of them.
type pauseCase struct {
	mode      ru.PauseMode
	afterLast bool
	batches   int
	after     []int // the batches after which the task waits
	words     string
}

func pauseCases() []pauseCase {
	const (
		notLast = ", not after the last one"
		last    = ", also after the last one, before the processes are resumed"
		only    = "does not pause: after the only batch nothing is left to hold"
	)
	return []pauseCase{
		{"", false, 3, nil, "never pauses by itself"},
		{"", true, 3, nil, "never pauses by itself"},
		{ru.PauseNever, false, 1, nil, "never pauses by itself"},
		{ru.PauseNever, false, 3, nil, "never pauses by itself"},
		{ru.PauseNever, true, 3, nil, "never pauses by itself"},
		{ru.PauseFirstBatch, false, 1, nil, only},
		{ru.PauseFirstBatch, false, 2, []int{1}, "pauses after the first batch" + notLast},
		{ru.PauseFirstBatch, false, 4, []int{1}, "pauses after the first batch" + notLast},
		{ru.PauseFirstBatch, true, 1, []int{1}, "pauses after the first batch" + last},
		{ru.PauseFirstBatch, true, 3, []int{1, 3}, "pauses after the first batch" + last},
		{ru.PauseEveryBatch, false, 1, nil, only},
		{ru.PauseEveryBatch, false, 2, []int{1}, "pauses after every batch" + notLast},
		{ru.PauseEveryBatch, false, 4, []int{1, 2, 3}, "pauses after every batch" + notLast},
		{ru.PauseEveryBatch, true, 1, []int{1}, "pauses after every batch" + last},
		{ru.PauseEveryBatch, true, 3, []int{1, 2, 3}, "pauses after every batch" + last},
	}
}

func TestS12_PausePolicies(t *testing.T) {
	for _, c := range pauseCases() {
		bubbled(t, fmt.Sprintf("%s, after the last %t, %d batches", c.mode, c.afterLast, c.batches), func(t *testing.T) {
			b := demoBed(t, 2*c.batches)
			spec := scriptSpec(c.batches, everything)
			spec.Pause = ru.PausePolicy{Mode: c.mode, AfterLast: c.afterLast}
			plan, err := b.r.Plan(b.ctx(), spec)
			b.ok(err)
			if !slices.Contains(plan.Policy, c.words) {
				t.Errorf("the plan does not say %q: %q", c.words, plan.Policy)
			}

			id := b.create(spec)
			var after []int
			task := b.run(id)
			for ; task.Status == ru.StatusBatchPaused; task = b.run(id) {
				after = append(after, task.Batch)
				b.inPause(task)
				b.ok(b.r.Continue(b.ctx(), id))
			}
			b.wantStatus(task, ru.StatusSucceeded)
			diff(t, "paused after", c.after, after)
			diff(t, "suspended at the end", []provider.Process(nil), b.suspended())
		})
	}
}

// inPause demands that a pause by policy holds everything as it is, however long it lasts.
func (b *bed) inPause(task *ru.Task) {
	b.t.Helper()
	if p := task.Pause; p == nil || p.Why != ru.PausedByPolicy || !p.Until.IsZero() || p.Since.IsZero() {
		b.t.Errorf("pause: %+v", p)
	}
	effects := len(b.cloud.Effects())
	time.Sleep(48 * time.Hour)
	again := b.run(task.ID)
	b.wantStatus(again, ru.StatusBatchPaused)
	diff(b.t, "pause", task.Pause, again.Pause)
	diff(b.t, "effects in the pause", effects, len(b.cloud.Effects()))
	diff(b.t, "suspended in the pause", provider.Processes(), b.suspended())
	diff(b.t, "in Standby in the pause", []string(nil), b.inState(provider.Standby))
	done := 0
	for _, n := range task.Sizes[:task.Batch] {
		done += n
	}
	diff(b.t, "progress in the pause", ru.Progress{Total: task.Progress.Total, Succeeded: done, Pending: task.Progress.Total - done}, task.Progress)
}

func TestS12_After(t *testing.T) {
	for _, c := range pauseCases() {
		p := ru.PausePolicy{Mode: c.mode, AfterLast: c.afterLast}
		var after []int
		for n := 1; n <= c.batches; n++ {
			if p.After(n, c.batches) {
				after = append(after, n)
			}
		}
		diff(t, fmt.Sprintf("%+v of %d pauses after", p, c.batches), c.after, after)
	}
}

// A group that loses instances before the start has fewer batches; the only one that is left is the last one.
func TestS12_TheLastBatchIsTheLastOfTheFinalPlan(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		id := b.create(scriptSpec(3, everything, pausing(ru.PauseFirstBatch)))
		b.cloud.Now(func(w *fake.World) { w.Release("i-0001", "i-0002") })
		task := b.runTo(id, ru.StatusSucceeded)
		diff(t, "sizes", []int{1}, task.Sizes)
	})
}

func TestS12_LimitIsSaid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		spec := scriptSpec(2)
		spec.Pause = ru.PausePolicy{Mode: ru.PauseEveryBatch, Limit: 2 * time.Hour, OnLimit: ru.OnLimitCancel}
		plan, err := b.r.Plan(b.ctx(), spec)
		b.ok(err)
		if want := "pauses after every batch, not after the last one; a pause lasts at most 2h0m0s, then: cancel"; !slices.Contains(plan.Policy, want) {
			t.Errorf("the plan does not say %q: %q", want, plan.Policy)
		}
	})
}
