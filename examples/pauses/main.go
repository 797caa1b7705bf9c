// Command pauses shows hooks that decide in the operator's place, each on a small cloud in memory:
//
//	go run ./examples/pauses
//
// The hooks are in hooks.go, and main_test.go shows how to test one's own.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pauses:", err)
		os.Exit(1)
	}
}

// run tells three stories.
func run(ctx context.Context, w io.Writer) error {
	well := func(context.Context, []string) (bool, error) { return true, nil }
	unwell := func(context.Context, []string) (bool, error) { return false, nil }
	night := between(0, 24) // in this story it is always night

	for _, s := range []story{
		{
			title: "The first batch is well, and i-0004 needs a second try: nobody is asked.",
			hooks: ru.JoinHooks(canary(well), retries(3)), fails: "i-0004", times: 1,
		},
		{
			title: "The first batch is not well: the task is rolled back.",
			hooks: canary(unwell),
		},
		{
			title: "i-0004 fails for good, and it is night: the task is canceled, and restored in the morning.",
			hooks: ru.JoinHooks(canary(well), retries(2), nobodyAwake(night)), fails: "i-0004", times: 100,
		},
	} {
		fmt.Fprintln(w, s.title)
		if err := s.tell(ctx, w); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	return nil
}

// A story is one task on a group of four instances.
type story struct {
	title string
	hooks ru.Hooks
	fails string // the instance whose new disk does not come up
	times int    // how often
}

func (s story) tell(ctx context.Context, w io.Writer) error {
	cloud := fake.Demo(fake.Instant(), 4)
	if s.fails != "" {
		cloud.SetBehavior(s.fails, fake.Behavior{FailReplaces: s.times})
	}
	r, err := ru.New(cloud, ru.NewMemoryStore(), ru.Config{Hooks: s.hooks, MaxWait: 10 * time.Millisecond})
	if err != nil {
		return err
	}
	task, err := r.Create(ctx, ru.Spec{
		GroupID: fake.DemoGroup, Update: ru.Image(fake.DemoNewImage), Rollback: ru.Image(fake.DemoOldImage),
		Batches: ru.InBatches(2), Pause: ru.PausePolicy{Mode: ru.PauseFirstBatch},
	})
	if err != nil {
		return err
	}
	for id := task.ID; id != ""; { // a task that was rolled back is followed by its rollback
		if err := r.Run(ctx, id); err != nil {
			return err
		}
		t, err := r.Get(ctx, id)
		if err != nil {
			return err
		}
		if err := events(ctx, w, r, id); err != nil {
			return err
		}
		if left := t.Leftovers(); len(left) > 0 {
			if t, err = restore(ctx, r, id); err != nil {
				return err
			}
			fmt.Fprintf(w, "  in the morning: %d leftovers, %d after Restore\n", len(left), len(t.Leftovers()))
		}
		id = t.NextID
	}
	return nil
}

// restore puts back what a canceled task has left behind.
func restore(ctx context.Context, r *ru.Runner, taskID string) (*ru.Task, error) {
	if err := r.Restore(ctx, taskID, ru.RestoreFilter{}); err != nil {
		return nil, err
	}
	if err := r.Run(ctx, taskID); err != nil {
		return nil, err
	}
	return r.Get(ctx, taskID)
}

// events writes what happened to a task that has ended and who brought it about.
func events(ctx context.Context, w io.Writer, r *ru.Runner, taskID string) error {
	for e, err := range r.Watch(ctx, taskID, 0) {
		if err != nil {
			return err
		}
		switch e.Kind {
		case ru.EventDecision:
			fmt.Fprintf(w, "  %s %s (%s)\n", e.InstanceID, e.To, e.Cause)
		case ru.EventStatus:
			fmt.Fprintf(w, "  %s -> %s (%s) %s\n", e.From, e.To, e.Cause, e.Text)
		case ru.EventBatchEnded:
			fmt.Fprintf(w, "  batch %d is done\n", e.Batch)
		}
	}
	return nil
}
