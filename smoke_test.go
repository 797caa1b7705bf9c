package rollingupgrade_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		cloud := fake.Demo(fake.Config{}, 10)
		store := ru.NewMemoryStore()
		r, err := ru.New(cloud, store, ru.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Create(ctx, ru.Spec{GroupID: fake.DemoGroup, Update: ru.Image("img-v2"), Rollback: ru.Image("img-v1"), Batches: ru.InBatches(2), Pause: ru.PausePolicy{Mode: ru.PauseFirstBatch}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 3 {
			if err := r.Run(ctx, s.ID); err != nil {
				t.Fatal(err)
			}
			task, _ := r.Get(ctx, s.ID)
			fmt.Println(task.Status, task.Reason, task.Progress, time.Since(start))
			if task.Status.Ended() {
				break
			}
			if err := r.Continue(ctx, s.ID); err != nil {
				t.Fatal(err)
			}
		}
		for e, err := range r.Watch(ctx, s.ID, 0) {
			if err != nil {
				t.Fatal(err)
			}
			if e.InstanceID == "" || e.InstanceID == "i-0001" {
				fmt.Println(e.Seq, e.Time.Format("15:04:05"), e.Kind, e.InstanceID, e.From, e.To, e.Text)
			}
		}
		for _, c := range cloud.Calls() {
			fmt.Println(c)
		}
		fmt.Println(cloud.Violations())
	})
}
