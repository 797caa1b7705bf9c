package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

func TestS32_WhatATaskShows(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2, func(s *ru.Spec) { s.Description = "disk check" }))
		task := b.runTo(id, ru.StatusFailurePaused)
		if task.Kind != ru.Upgrade || task.Spec.Description != "disk check" || task.Reason == "" || task.CreatedAt.IsZero() || task.StartedAt.IsZero() ||
			len(task.Sizes) != 2 || task.Spec.Update.Script.Content != "up" {
			t.Errorf("task shows %+v", task.Head)
		}
		diff(t, "progress", ru.Progress{Total: 4, Pending: 2, Succeeded: 1, Failed: 1}, task.Progress)
		row := rowOf(task, "i-0001")
		if row.Batch != 1 || row.Step != ru.Updating || row.Attempt != 1 || row.StartedAt.IsZero() || row.EndedAt.IsZero() || row.Error == nil || *row.ExitCode != 3 {
			t.Errorf("row shows %+v", row)
		}
		out, err := b.r.Output(b.ctx(), id, "i-0001")
		b.ok(err)
		diff(t, "output", "no space", out.Text)
		if out.ExitCode != 3 || !out.Exited || out.Dropped != 0 {
			t.Errorf("output is %+v", out)
		}
		_, err = b.r.Output(b.ctx(), id, "i-0004")
		wantError(t, err, ru.ErrNoOutput)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		if task = b.task(id); task.EndedAt.IsZero() {
			t.Error("an ended task has no end")
		}
		for s, err := range b.r.List(b.ctx(), ru.Filter{GroupID: fake.DemoGroup}) {
			b.ok(err)
			diff(t, "summary", task.Summary(), s)
		}
	})
}

func TestS33_StatusWords(t *testing.T) {
	for want, is := range map[string]string{
		"pending": string(ru.StatusPending), "running": string(ru.StatusRunning), "batch_paused": string(ru.StatusBatchPaused),
		"failure_paused": string(ru.StatusFailurePaused), "canceling": string(ru.StatusCanceling), "canceled": string(ru.StatusCanceled),
		"succeeded": string(ru.StatusSucceeded), "failed": string(ru.StatusFailed), "gone": string(ru.InstanceGone),
		"preparing": string(ru.Preparing), "upgrading": string(ru.Upgrading), "finishing": string(ru.Finishing),
		"entering standby": string(ru.EnteringStandby), "draining": string(ru.Draining), "updating": string(ru.Updating),
		"verifying": string(ru.Verifying), "exiting standby": string(ru.ExitingStandby),
	} {
		diff(t, "word", want, is)
	}
}

// At every moment of a task Explain says what is waited for, and what it says is legal is accepted.
func TestS34_ExplainAtEveryMoment(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2, pausing(ru.PauseFirstBatch), func(s *ru.Spec) { s.Drain = time.Minute }))
		seen := map[string]bool{}
		look := func() {
			t.Helper()
			e, err := b.r.Explain(b.ctx(), id)
			b.ok(err)
			for _, l := range []ru.Language{ru.English, ru.Chinese} {
				if text := e.Text(l); !strings.Contains(text, id) || strings.Contains(text, "%!") {
					t.Errorf("%s: %q", l, text)
				}
			}
			if e.WaitsFor == "" || e.Since.IsZero() && e.Status != ru.StatusRunning {
				t.Errorf("%s: waits for %q since %s", e.Status, e.WaitsFor, e.Since)
			}
			for _, c := range e.Commands {
				if c.Does == "" {
					t.Errorf("%s: what %s does is not said", e.Status, c.Command)
				}
			}
			if e.Status == ru.StatusRunning && e.Until.IsZero() {
				t.Errorf("running (%s): waits for %s without an end", e.Phase, e.WaitsFor)
			}
			seen[string(e.Status)] = true
		}
		look()
		wait := b.start(id)
		for range 300 {
			time.Sleep(500 * time.Millisecond)
			look()
		}
		b.wantStatus(wait(), ru.StatusFailurePaused)
		e := b.task(id).Explain()
		i := slices.IndexFunc(e.Commands, func(c ru.LegalCommand) bool { return c.Command == ru.CommandRetry })
		if i < 0 || !slices.Equal(e.Commands[i].InstanceIDs, []string{"i-0001"}) {
			t.Errorf("commands are %+v, want retry of i-0001", e.Commands)
		}
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusBatchPaused)
		look()
		b.ok(b.r.Continue(b.ctx(), id))
		wait = b.start(id)
		b.untilStep(id, "i-0003", ru.Updating)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		look()
		wait()
		look()
		for _, s := range []string{"pending", "running", "failure_paused", "batch_paused", "canceling", "canceled"} {
			if !seen[s] {
				t.Errorf("status %s was never looked at", s)
			}
		}
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		look()
		b.run(id)
		look()
		for _, c := range b.task(id).Explain().Commands {
			if c.Command == ru.CommandRestore {
				t.Error("a restore is offered although nothing is left over")
			}
		}
	})
}

func TestS34_ACommandWithARequestIDIsDoneOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		id := b.create(imageSpec(3, pausing(ru.PauseEveryBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id, "req-1"))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id, "req-1")) // a repeat: the second pause goes on
		b.wantStatus(b.task(id), ru.StatusBatchPaused)
		wantError(t, b.r.Cancel(b.ctx(), id, "", "req-1"), ru.ErrRequestMismatch)
		b.ok(b.r.Continue(b.ctx(), id, "req-2"))
		b.runTo(id, ru.StatusSucceeded)
		b.ok(b.r.Continue(b.ctx(), id, "req-2")) // even where the command would be illegal by now
	})
}

// A task remembers the newest request IDs, and only so many.
func TestS34_RequestIDsAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		id := b.create(imageSpec(3, pausing(ru.PauseEveryBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id))
		request := func(n int) ru.RequestID { return ru.RequestID(fmt.Sprint("pause-", n)) }
		for n := range 130 {
			b.ok(b.r.Pause(b.ctx(), id, "", request(n)))
		}
		diff(t, "remembered", 128, len(b.task(id).Requests))
		wantError(t, b.r.Cancel(b.ctx(), id, "", request(2)), ru.ErrRequestMismatch)
		b.ok(b.r.Cancel(b.ctx(), id, "", request(1))) // for the task it is a new one
	})
}

func TestS35_EventsAreNumberedTimedAndCaused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		scriptsFail(b, 1, "i-0001")
		id := b.create(scriptSpec(2, pausing(ru.PauseFirstBatch)))
		b.runTo(id, ru.StatusFailurePaused)
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Continue(b.ctx(), id))
		task := b.runTo(id, ru.StatusSucceeded)
		var last ru.Event
		status, rows := string(ru.StatusPending), map[string]string{}
		causes := map[ru.Cause]bool{}
		for _, e := range b.events(id) {
			if e.Seq != last.Seq+1 || e.Time.Before(last.Time) || e.Cause == "" || e.Kind == "" {
				t.Errorf("event %+v after %+v", e, last)
			}
			if e.Kind == ru.EventStatus {
				if e.From != status {
					t.Errorf("event %d leads from %s, the task was %s", e.Seq, e.From, status)
				}
				status = e.To
			}
			if e.Kind == ru.EventInstance {
				rows[e.InstanceID] = e.To
			}
			causes[e.Cause] = true
			last = e
		}
		diff(t, "number of the last event", task.EventSeq, last.Seq)
		diff(t, "status by events", string(task.Status), status)
		diff(t, "instances by events", statuses(task), rows)
		for _, c := range []ru.Cause{ru.ByOperator, ru.ByPolicy, ru.ByProvider} {
			if !causes[c] {
				t.Errorf("no event was caused by %s", c)
			}
		}
	})
}

func TestS35_WatchLosesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(2))
		other := b.runner(ru.Config{})
		var seen []ru.Event
		done := make(chan struct{})
		go func() {
			defer close(done)
			for { // a slow reader that stops and goes on again
				n := 0
				for e, err := range other.Watch(t.Context(), id, int64(len(seen))) {
					if err != nil {
						t.Error(err)
						return
					}
					seen = append(seen, e)
					time.Sleep(20 * time.Second)
					if n++; n == 5 {
						break
					}
				}
				if n < 5 {
					return
				}
			}
		}()
		b.runTo(id, ru.StatusSucceeded)
		<-done
		diff(t, "events", b.events(id), seen)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		for _, err := range b.r.Watch(ctx, id, 0) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("watching with a canceled context: %v", err)
			}
			break
		}
		for _, err := range b.r.Watch(t.Context(), "nobody", 0) {
			wantError(t, err, ru.ErrTaskNotFound)
		}
	})
}

func TestS24_S34_RollbackNotOfferedForARollback(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		task := b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		diff(t, "commands", 0, len(task.Explain().Commands))
	})
}

// A waiting task is one to work on when a hook is to be asked, or when its limit has come.
func TestS13_Runnable(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name string
		head ru.Head
		want bool
	}{
		{"running", ru.Head{Status: ru.StatusRunning}, true},
		{"ended", ru.Head{Status: ru.StatusSucceeded}, false},
		{"ended, to be restored", ru.Head{Status: ru.StatusCanceled, Restore: &ru.Restore{}}, true},
		{"waiting", ru.Head{Status: ru.StatusBatchPaused}, false},
		{"waiting, in a pause", ru.Head{Status: ru.StatusBatchPaused, Pause: &ru.Pause{}}, false},
		{"waiting, a hook is to be asked", ru.Head{Status: ru.StatusBatchPaused, Pause: &ru.Pause{AskHook: true}}, true},
		{"waiting for a limit", ru.Head{Status: ru.StatusFailurePaused, WakeAt: now.Add(1)}, false},
		{"waiting, at its limit", ru.Head{Status: ru.StatusFailurePaused, WakeAt: now}, true},
	} {
		diff(t, c.name, c.want, c.head.Runnable(now))
	}
}
