package rollingupgrade_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A rollback names who brought it about: in the source's end and in its own beginning.
func TestS35_CauseOfARollback(t *testing.T) {
	back := func(context.Context, ru.Summary, ru.Batch) (ru.Decision, error) { return ru.DecideRollback, nil }
	for _, tc := range []struct {
		name  string
		pause ru.PausePolicy
		hooks ru.Hooks
		want  ru.Cause
	}{
		{name: "the operator", pause: ru.PausePolicy{Mode: ru.PauseFirstBatch}, want: ru.ByOperator},
		{name: "the limit of a pause", pause: ru.PausePolicy{Mode: ru.PauseFirstBatch, Limit: time.Hour, OnLimit: ru.OnLimitRollback}, want: ru.ByPolicy},
		{name: "the after-batch hook", hooks: ru.Hooks{AfterBatch: back}, want: ru.ByHook},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				r, err := ru.New(face(t, fake.Demo(fake.Config{}, 4)), ru.NewMemoryStore(), ru.Config{Hooks: tc.hooks})
				if err != nil {
					t.Fatal(err)
				}
				task, err := r.Create(ctx, ru.Spec{
					GroupID: fake.DemoGroup, Update: ru.Image(fake.DemoNewImage), Rollback: ru.Image(fake.DemoOldImage),
					Batches: ru.InBatches(2), Pause: tc.pause,
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Run(ctx, task.ID); err != nil {
					t.Fatal(err)
				}
				switch tc.want {
				case ru.ByOperator:
					_, err = r.Rollback(ctx, task.ID, ru.RollbackSpec{})
				case ru.ByPolicy:
					time.Sleep(time.Hour)
					err = r.Run(ctx, task.ID)
				}
				if err != nil {
					t.Fatal(err)
				}
				source, err := r.Get(ctx, task.ID)
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]ru.Cause{}
				for id, kinds := range map[string][]ru.EventKind{task.ID: {ru.EventStatus, ru.EventTakenOver}, source.NextID: {ru.EventCreated}} {
					wctx, cancel := context.WithTimeout(ctx, time.Minute)
					for e, err := range r.Watch(wctx, id, 0) {
						if err != nil {
							break // the rollback has not ended: its events so far have been read
						}
						for _, k := range kinds {
							if e.Kind == k && (k != ru.EventStatus || e.To == string(ru.StatusCanceled)) {
								got[string(k)] = e.Cause
							}
						}
					}
					cancel()
				}
				if diff := cmp.Diff(map[string]ru.Cause{"status": tc.want, "taken_over": tc.want, "created": tc.want}, got); diff != "" {
					t.Errorf("causes (-want +got):\n%s", diff)
				}
			})
		})
	}
}
