package rollingupgrade_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A slowReader is a store whose first Load comes late: between it and the look at the lease something happens.
type slowReader struct {
	ru.Store
	once sync.Once
	then func()
}

func (s *slowReader) Load(ctx context.Context, id string) (*ru.Task, error) {
	s.once.Do(s.then)
	return s.Store.Load(ctx, id)
}

// TestN3_LeaseTakenMeanwhile: a Runner that found a task free, and finds on loading it that another has taken it since, leaves it to him.
func TestN3_LeaseTakenMeanwhile(t *testing.T) {
	for name, drive := range map[string]func(context.Context, *ru.Runner, string) error{
		"Serve": func(ctx context.Context, r *ru.Runner, _ string) error { return r.Serve(ctx) },
		"Run":   func(ctx context.Context, r *ru.Runner, id string) error { return r.Run(ctx, id) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				cloud := fake.Demo(fake.Config{}, 4)
				store := ru.NewMemoryStore()
				newRunner := func(owner string, s ru.Store) *ru.Runner {
					r, err := ru.New(cloud, s, ru.Config{Owner: owner})
					if err != nil {
						t.Fatal(err)
					}
					return r
				}
				first := newRunner("first", store)
				task, err := first.Create(ctx, ru.Spec{GroupID: fake.DemoGroup, Update: ru.Image("img-v2"), Batches: ru.InBatches(2)})
				if err != nil {
					t.Fatal(err)
				}
				var all sync.WaitGroup
				second := newRunner("second", &slowReader{Store: store, then: func() {
					all.Go(func() { _ = drive(ctx, first, task.ID) })
					time.Sleep(10 * time.Millisecond)
				}})
				all.Go(func() { _ = drive(ctx, second, task.ID) })
				for range 3600 {
					time.Sleep(time.Second)
					h, err := store.Head(ctx, task.ID)
					if err != nil {
						t.Fatal(err)
					}
					if got := fmt.Sprint(h.Lease.Owner, " ", h.Lease.Fence); got != "first 1" && !h.Status.Ended() {
						t.Fatalf("the lease is that of %s", got)
					}
					if h.Status.Ended() {
						break
					}
				}
				cancel()
				all.Wait()
				h, err := store.Head(t.Context(), task.ID)
				if err != nil || h.Status != ru.StatusSucceeded || h.Lease.Fence != 1 {
					t.Errorf("the task is %s after %d leases, %v", h.Status, h.Lease.Fence, err)
				}
			})
		})
	}
}
