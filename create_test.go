package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// wantBusy demands that err is a refusal that names the holder of the group.
func wantBusy(t testing.TB, err error, holder string) {
	t.Helper()
	wantError(t, err, ru.ErrGroupBusy)
	busy := new(ru.GroupBusyError)
	if !errors.As(err, &busy) || busy.HolderID != holder || busy.GroupID != fake.DemoGroup || !strings.Contains(err.Error(), holder) {
		t.Errorf("error %v does not name the holder %s of group %s", err, holder, fake.DemoGroup)
	}
}

// held demands that the group is held by a task, and that nothing happens because of a second one.
func (b *bed) held(by string) {
	b.t.Helper()
	before, effects := b.tasks(), len(b.cloud.Effects())
	_, err := b.r.Create(b.ctx(), scriptSpec(1, everything))
	wantBusy(b.t, err, by)
	diff(b.t, "tasks", before, b.tasks())
	diff(b.t, "effects", effects, len(b.cloud.Effects()))
}

func TestS6_HeldFromCreateToEnd(t *testing.T) {
	bubbled(t, "paused after each batch", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2, pausing(ru.PauseEveryBatch)))
		b.held(id) // pending
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		b.held(id) // running
		b.wantStatus(wait(), ru.StatusBatchPaused)
		b.held(id)
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
		b.runTo(b.create(scriptSpec(2)), ru.StatusSucceeded)
	})
	bubbled(t, "failure pause and canceling", func(t *testing.T) {
		b := demoBed(t, 3)
		b.cloud.SetBehavior("i-0001", fake.Behavior{FailReplaces: 1})
		id := b.create(imageSpec(3))
		b.runTo(id, ru.StatusFailurePaused)
		b.held(id)
		b.ok(b.r.Skip(b.ctx(), id, []string{"i-0001"}))
		wait := b.start(id)
		b.untilStep(id, "i-0002", ru.Updating)
		time.Sleep(time.Minute)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.until(id, "canceling", func(t *ru.Task) bool { return t.Status == ru.StatusCanceling })
		b.held(id)
		b.wantStatus(wait(), ru.StatusCanceled)
		b.create(scriptSpec(2, everything)) // two instances are in Standby
	})
	bubbled(t, "a task that failed before it began", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2))
		b.cloud.Now(func(w *fake.World) {
			w.Release("i-0001", "i-0002")
			w.AddInstances(fake.DemoGroup, 2, fake.InstanceSpec{Lifecycle: provider.Protected})
		})
		b.runTo(id, ru.StatusFailed)
		b.create(scriptSpec(2, func(s *ru.Spec) { s.Targets.IncludeProtected = true }))
	})
	bubbled(t, "another group is free", func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.AddGroup(fake.GroupSpec{ID: "asg-2", Instances: 2})
		b.create(imageSpec(2))
		b.runTo(b.create(imageSpec(2, func(s *ru.Spec) { s.GroupID = "asg-2" })), ru.StatusSucceeded)
	})
}

func TestS6_RollbackHolds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		source := b.create(imageSpec(2, pausing(ru.PauseEveryBatch)))
		b.runTo(source, ru.StatusBatchPaused)
		back := b.rollback(source, ru.RollbackSpec{Pause: ru.PausePolicy{Mode: ru.PauseEveryBatch, AfterLast: true}})
		b.held(back)
		_, err := b.r.Rollback(b.ctx(), source, ru.RollbackSpec{})
		wantBusy(t, err, back)
		b.runTo(back, ru.StatusBatchPaused)
		b.held(back)
		b.ok(b.r.Continue(b.ctx(), back))
		b.runTo(back, ru.StatusSucceeded)
		b.create(imageSpec(2))
	})
}

func TestS6_RestoreHoldsWhileItRuns(t *testing.T) {
	bubbled(t, "holds from the call to its end", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2, pausing(ru.PauseEveryBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		b.ok(b.r.Restore(b.ctx(), id, ru.RestoreFilter{}))
		b.held(id)
		_, err := b.r.Rollback(b.ctx(), id, ru.RollbackSpec{})
		wantBusy(t, err, id)
		task := b.runTo(id, ru.StatusCanceled)
		diff(t, "leftovers", []string(nil), leftovers(task))
		b.create(imageSpec(2))
	})
	bubbled(t, "is refused while another task follows", func(t *testing.T) {
		b := demoBed(t, 2)
		first := b.create(imageSpec(2, pausing(ru.PauseEveryBatch)))
		b.runTo(first, ru.StatusBatchPaused)
		b.ok(b.r.Cancel(b.ctx(), first, ""))
		second := b.create(imageSpec(2))
		err := b.r.Restore(b.ctx(), first, ru.RestoreFilter{})
		wantError(t, err, ru.ErrIllegalCommand)
		if err == nil || !strings.Contains(err.Error(), second) {
			t.Errorf("error %v does not name task %s", err, second)
		}
		b.held(second)
	})
}

func TestS6_RacingCreates(t *testing.T) {
	const racers = 8
	for name, earlier := range map[string]bool{"on a fresh group": false, "after an earlier task": true} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 3)
			if earlier {
				b.runTo(b.create(scriptSpec(3)), ru.StatusSucceeded)
			}
			before := b.tasks()
			won, errs := race(b, racers, func(int) ru.Spec { return imageSpec(3) })
			if len(won) != 1 {
				t.Fatalf("%d creates won: %v", len(won), won)
			}
			for _, err := range errs {
				wantBusy(t, err, won[0])
			}
			diff(t, "losers", racers-1, len(errs))
			diff(t, "tasks", before+1, b.tasks())
			b.runTo(won[0], ru.StatusSucceeded)
		})
	}
	bubbled(t, "with a Restore", func(t *testing.T) {
		b := demoBed(t, 3)
		id := b.create(imageSpec(3, pausing(ru.PauseEveryBatch)))
		b.runTo(id, ru.StatusBatchPaused)
		b.ok(b.r.Cancel(b.ctx(), id, ""))
		restored := make(chan error)
		go func() {
			time.Sleep(100 * time.Millisecond) // while the others look at the cloud
			restored <- b.runner(ru.Config{}).Restore(context.WithoutCancel(b.ctx()), id, ru.RestoreFilter{})
		}()
		won, errs := race(b, racers, func(int) ru.Spec { return imageSpec(3) })
		b.ok(<-restored)
		diff(t, "winners", []string(nil), won)
		for _, err := range errs {
			wantBusy(t, err, id)
		}
	})
}

// race creates tasks by so many Runners at once, and returns the IDs of those created and the errors.
func race(b *bed, racers int, spec func(n int) ru.Spec) (won []string, errs []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for n := range racers {
		all.Go(func() {
			s, err := b.runner(ru.Config{}).Create(b.ctx(), spec(n))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			} else {
				won = append(won, s.ID)
			}
		})
	}
	all.Wait()
	return won, errs
}

func TestS9_DescriptionUpdateBatchesAndPausePolicy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 3)
		spec := scriptSpec(2)
		spec.Description = "ticket 4711: 升级 <b>\"quoted\"</b>\nsecond line"
		spec.Update.Script.Parameters = map[string]string{"version": "2"}
		spec.Pause = ru.PausePolicy{Mode: ru.PauseFirstBatch, Limit: time.Hour, OnLimit: ru.OnLimitContinue}
		id := b.create(spec)
		diff(t, "spec", spec, b.task(id).Spec)
		for s, err := range b.r.List(b.ctx(), ru.Filter{GroupID: fake.DemoGroup}) {
			b.ok(err)
			diff(t, "description in a list", spec.Description, s.Description)
		}
		task := b.runTo(id, ru.StatusBatchPaused)
		diff(t, "spec, later", spec, task.Spec)
	})
	for name, test := range map[string]struct {
		change func(*ru.Spec)
		field  string
	}{
		"no group":               {func(s *ru.Spec) { s.GroupID = "" }, "Spec.GroupID"},
		"no update":              {func(s *ru.Spec) { s.Update = ru.Update{} }, "Spec.Update.Kind"},
		"no image":               {image(""), "Spec.Update.Image.ImageID"},
		"no batches":             {func(s *ru.Spec) { s.Batches = ru.BatchSpec{} }, "Spec.Batches.Count"},
		"unknown pause mode":     {pausing("sometimes"), "Spec.Pause.Mode"},
		"limit without outcome":  {func(s *ru.Spec) { s.Pause.Limit = time.Hour }, "Spec.Pause.OnLimit"},
		"outcome without limit":  {func(s *ru.Spec) { s.Pause.OnLimit = ru.OnLimitCancel }, "Spec.Pause.OnLimit"},
		"description too long":   {func(s *ru.Spec) { s.Description = strings.Repeat("d", ru.MaxDescription+1) }, "Spec.Description"},
		"description of no text": {func(s *ru.Spec) { s.Description = "\xff\xfe" }, "Spec.Description"},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 3)
			_, err := b.r.Create(b.ctx(), imageSpec(2, test.change))
			wantField(t, err, test.field)
			b.untouched()
			diff(t, "tasks", 0, b.tasks())
		})
	}
	bubbled(t, "description as long as it may be", func(t *testing.T) {
		b := demoBed(t, 3)
		long := strings.Repeat("d", ru.MaxDescription)
		id := b.create(imageSpec(2, func(s *ru.Spec) { s.Description = long }))
		diff(t, "description", long, b.task(id).Spec.Description)
	})
}

func TestS10_RollbackCounterpart(t *testing.T) {
	bubbled(t, "is the default of a later rollback", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2))
		diff(t, "counterpart", ru.Image(fake.DemoOldImage), b.runTo(id, ru.StatusSucceeded).Spec.Rollback)
		back := b.runTo(b.rollback(id, ru.RollbackSpec{}), ru.StatusSucceeded)
		diff(t, "update of the rollback", ru.Image(fake.DemoOldImage), back.Spec.Update)
		diff(t, "image", fake.DemoOldImage, b.instance("i-0001").ImageID)
	})
	bubbled(t, "can be replaced at the rollback", func(t *testing.T) {
		b := demoBed(t, 2)
		addImage(provider.Image{})(b)
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		b.runTo(b.rollback(id, ru.RollbackSpec{Update: ru.Image("img-x")}), ru.StatusSucceeded)
		diff(t, "image", "img-x", b.instance("i-0001").ImageID)
		diff(t, "counterpart of the source", ru.Image(fake.DemoOldImage), b.task(id).Spec.Rollback)
	})
	bubbled(t, "may be empty at creation, not at rollback", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(scriptSpec(2, noRollback)) // the plan warns: see S7
		b.runTo(id, ru.StatusSucceeded)
		for _, spec := range []ru.RollbackSpec{{}, {Description: "back"}, {Scope: ru.ScopeAttempted}} {
			_, err := b.r.Rollback(b.ctx(), id, spec)
			wantField(t, err, "RollbackSpec.Update")
		}
		diff(t, "tasks", 1, b.tasks())
		b.runTo(b.rollback(id, ru.RollbackSpec{Update: ru.Script(provider.Shell, "down")}), ru.StatusSucceeded)
	})
	for name, test := range map[string]struct {
		spec  ru.Spec
		field string
	}{
		"of another kind":              {imageSpec(2, func(s *ru.Spec) { s.Rollback = ru.Script(provider.Shell, "x") }), "Spec.Rollback.Kind"},
		"of another type of script":    {scriptSpec(2, func(s *ru.Spec) { s.Rollback = ru.Script(provider.PowerShell, "x") }), "Spec.Rollback.Script.Type"},
		"without an image":             {imageSpec(2, func(s *ru.Spec) { s.Rollback = ru.Image("") }), "Spec.Rollback.Image.ImageID"},
		"with an image and a script":   {imageSpec(2, func(s *ru.Spec) { s.Rollback.Script = &provider.ScriptSpec{} }), "Spec.Rollback.Script"},
		"with parameters and no kind":  {imageSpec(2, func(s *ru.Spec) { s.Rollback = ru.Update{Params: json.RawMessage("1")} }), "Spec.Rollback.Kind"},
		"without its image altogether": {imageSpec(2, func(s *ru.Spec) { s.Rollback = ru.Update{Kind: provider.ImageUpdate} }), "Spec.Rollback.Image"},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 2)
			_, err := b.r.Create(b.ctx(), test.spec)
			wantField(t, err, test.field)
			b.untouched()
		})
	}
}

func TestS13_ClientToken(t *testing.T) {
	token := func(s *ru.Spec) { s.ClientToken = "order-1" }
	bubbled(t, "same spec, same task, at any time", func(t *testing.T) {
		b := demoBed(t, 2)
		spec := imageSpec(2, token, pausing(ru.PauseFirstBatch))
		id := b.create(spec)
		again := func() {
			t.Helper()
			diff(t, "task", id, b.create(spec))
			diff(t, "tasks", 1, b.tasks())
		}
		again() // pending
		b.runTo(id, ru.StatusBatchPaused)
		again()
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
		again()
		b.cloud.Now(func(w *fake.World) { w.DeleteGroup(fake.DemoGroup) }) // what the cloud shows now does not matter
		again()
	})
	for name, change := range map[string]func(*ru.Spec){
		"update":      image(fake.DemoOldImage),
		"rollback":    noRollback,
		"batches":     func(s *ru.Spec) { s.Batches.Count = 1 },
		"pause":       pausing(ru.PauseEveryBatch),
		"description": func(s *ru.Spec) { s.Description = "other" },
		"group":       func(s *ru.Spec) { s.GroupID = "asg-2" },
		"targets":     func(s *ru.Spec) { s.Targets.Exclude = []string{"i-0001"} },
	} {
		bubbled(t, "another "+name, func(t *testing.T) {
			b := demoBed(t, 3)
			b.cloud.AddGroup(fake.GroupSpec{ID: "asg-2", Instances: 2})
			id := b.create(imageSpec(2, token))
			_, err := b.r.Create(b.ctx(), imageSpec(2, token, change))
			wantError(t, err, ru.ErrClientTokenMismatch)
			if err == nil || !strings.Contains(err.Error(), id) {
				t.Errorf("error %v does not name task %s", err, id)
			}
			diff(t, "tasks", 1, b.tasks())
		})
	}
	bubbled(t, "another token, another task", func(t *testing.T) {
		b := demoBed(t, 2)
		first := b.create(imageSpec(2, token))
		b.runTo(first, ru.StatusSucceeded)
		if second := b.create(imageSpec(2, func(s *ru.Spec) { s.ClientToken = "order-2" })); second == first {
			t.Error("two tokens made one task")
		}
	})
	bubbled(t, "racing", func(t *testing.T) {
		b := demoBed(t, 2)
		won, errs := race(b, 8, func(int) ru.Spec { return imageSpec(2, token) })
		diff(t, "errors", []error(nil), errs)
		diff(t, "tasks", 1, b.tasks())
		diff(t, "answers", 1, len(slices.Compact(slices.Sorted(slices.Values(won)))))
	})
	bubbled(t, "of a rollback", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(imageSpec(2))
		b.runTo(id, ru.StatusSucceeded)
		back := b.rollback(id, ru.RollbackSpec{ClientToken: "back-1"})
		diff(t, "task", back, b.rollback(id, ru.RollbackSpec{ClientToken: "back-1"}))
		b.runTo(back, ru.StatusSucceeded)
		diff(t, "task, after its end", back, b.rollback(id, ru.RollbackSpec{ClientToken: "back-1"}))
		_, err := b.r.Rollback(b.ctx(), id, ru.RollbackSpec{ClientToken: "back-1", Batches: ru.InBatches(1)})
		wantError(t, err, ru.ErrClientTokenMismatch)
		diff(t, "tasks", 2, b.tasks())
	})
}

// Create is the confirmation: nothing more is asked of anybody.
func TestS13_ServeDoesTheWork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		ctx, stop := context.WithCancel(b.ctx())
		served := make(chan error, 1)
		go func() { served <- b.runner(ru.Config{}).Serve(ctx) }()
		id := b.create(imageSpec(2))
		task := b.until(id, "ended", func(t *ru.Task) bool { return t.Status.Ended() })
		b.wantStatus(task, ru.StatusSucceeded)
		diff(t, "effects", wholeUpgrade, b.effects("i-0004"))
		stop()
		wantError(t, <-served, context.Canceled)
	})
}
