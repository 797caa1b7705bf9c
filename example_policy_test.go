package rollingupgrade_test

import (
	"testing"
	"testing/synctest"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// rolloutPolicy is the policy of a program that embeds the library: small batches after a canary, one failure in ten tolerated, and a
// pause that nobody answers for an hour ends in a rollback.
func rolloutPolicy(image, old string) ru.Spec {
	return ru.Spec{
		GroupID: fake.DemoGroup, Update: ru.Image(image), Rollback: ru.Image(old),
		Batches: ru.BatchSpec{Sizes: []ru.Size{{Instances: 1}, {Percent: 30}}},
		Pause:   ru.PausePolicy{Mode: ru.PauseFirstBatch, Limit: time.Hour, OnLimit: ru.OnLimitRollback},
		Failure: ru.FailurePolicy{Total: ru.Budget{Percent: 10}},
	}
}

// How a program tests its policy: on a cloud in memory, in a bubble in which hours pass in milliseconds.
func TestS12_S21_ExampleOfATestOfOnesOwnPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		cloud := fake.Demo(fake.Config{}, 10)
		r, err := ru.New(cloud, ru.NewMemoryStore(), ru.Config{})
		if err != nil {
			t.Fatal(err)
		}
		task, err := r.Create(ctx, rolloutPolicy("img-v2", "img-v1"))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx, task.ID); err != nil {
			t.Fatal(err)
		}
		paused, err := r.Get(ctx, task.ID)
		if err != nil {
			t.Fatal(err)
		}
		if paused.Status != ru.StatusBatchPaused || paused.Progress.Succeeded != 1 {
			t.Fatalf("the canary is followed by %s with %+v, want a pause after one instance", paused.Status, paused.Progress)
		}

		time.Sleep(time.Hour) // nobody answers
		if err := r.Run(ctx, task.ID); err != nil {
			t.Fatal(err)
		}
		canceled, err := r.Get(ctx, task.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx, canceled.NextID); err != nil {
			t.Fatal(err)
		}
		for _, i := range cloud.Snapshot(fake.DemoGroup) {
			if i.ImageID != "img-v1" || i.Lifecycle != "InService" {
				t.Errorf("%s is %s with %s, want all as before", i.ID, i.Lifecycle, i.ImageID)
			}
		}
		if v := cloud.Violations(); len(v) > 0 {
			t.Errorf("violations: %v", v)
		}
	})
}
