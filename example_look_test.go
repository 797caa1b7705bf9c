package rollingupgrade_test

import (
	"context"
	"fmt"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// What a task waits for and what the operator can do. Text says the same for people, in English or Chinese.
func ExampleRunner_Explain() {
	ctx := context.Background()
	r, _, id := exampleFailure(ctx)
	e := must(r.Explain(ctx, id))
	fmt.Println("waits for", e.WaitsFor)
	for _, c := range e.Commands {
		fmt.Println(c.Command, c.InstanceIDs)
	}
	// Output:
	// waits for decisions about failed instances: instance i-0002 failed: updating: the replacement of the system disk of i-0002 came to nothing: update failed; retry, skip or cancel it
	// retry [i-0002]
	// skip [i-0002 i-0003 i-0004]
	// cancel instances [i-0002 i-0003 i-0004]
	// cancel []
	// roll back []
}

// Get returns the whole task: a row for each instance, with its batch.
func ExampleRunner_Get() {
	ctx := context.Background()
	r, _, id := exampleFailure(ctx)
	t := must(r.Get(ctx, id))
	fmt.Println(t.Kind, t.Status, "batch", t.Batch, "of", len(t.Sizes))
	for _, i := range t.Instances {
		fmt.Println(i.Batch, i.ID, i.Status)
	}
	// Output:
	// upgrade failure_paused batch 1 of 2
	// 1 i-0001 succeeded
	// 1 i-0002 failed
	// 2 i-0003 pending
	// 2 i-0004 pending
}

// The tasks of a group, newest first.
func ExampleRunner_List() {
	ctx := context.Background()
	r := exampleRunner(fake.Demo(fake.Instant(), 4))
	for _, text := range []string{"first", "second"} {
		spec := exampleSpec()
		spec.Description = text
		task := must(r.Create(ctx, spec))
		check(r.Run(ctx, task.ID))
	}
	for s, err := range r.List(ctx, ru.Filter{GroupID: "asg-demo", Limit: 10}) {
		check(err)
		fmt.Println(s.Description, s.Status, s.Progress.Succeeded)
	}
	// Output:
	// second succeeded 4
	// first succeeded 4
}

// Events come in order and without gaps. With the number of the last one seen, a reader goes on where it stopped, in any process.
func ExampleRunner_Watch() {
	ctx := context.Background()
	r := exampleRunner(fake.Demo(fake.Instant(), 2))
	task := must(r.Create(ctx, exampleSpec()))
	check(r.Run(ctx, task.ID))

	var last int64
	for e, err := range r.Watch(ctx, task.ID, 0) {
		check(err)
		last = e.Seq
		if e.Kind == ru.EventPlanned {
			fmt.Println(e.Kind, e.Text)
			break // the reader dies here
		}
	}
	for e, err := range r.Watch(ctx, task.ID, last) { // ends when the task has ended
		check(err)
		switch e.Kind {
		case ru.EventBatchStarted:
			fmt.Println(e.Kind, e.Batch)
		case ru.EventStatus:
			fmt.Println(e.Kind, e.To)
		}
	}
	// Output:
	// planned 2 instances in 2 batches
	// batch_started 1
	// batch_started 2
	// status succeeded
}

// Sizes differ by at most one, and the larger batches come last.
func ExampleSplitBatches() {
	fmt.Println(must(ru.SplitBatches(10, ru.InBatches(2))))
	fmt.Println(must(ru.SplitBatches(10, ru.InBatches(3))))
	fmt.Println(must(ru.SplitBatches(10, ru.BatchSpec{MaxSize: 4})))
	fmt.Println(must(ru.SplitBatches(10, ru.BatchSpec{Sizes: []ru.Size{{Instances: 1}, {Percent: 30}}})))
	_, err := ru.SplitBatches(10, ru.InBatches(0))
	fmt.Println(err)
	// Output:
	// [5 5]
	// [3 3 4]
	// [3 3 4]
	// [1 3 3 3]
	// Batches.Count: 0 batches; must be at least 1 (or set Sizes or MaxSize)
}

// Hooks are put together: each does one thing.
func ExampleJoinHooks() {
	count := map[ru.EventKind]int{}
	metrics := ru.Hooks{Transition: func(_ context.Context, _ ru.Summary, e ru.Event) { count[e.Kind]++ }}
	retryOnce := ru.Hooks{Failed: func(_ context.Context, _ ru.Summary, f ru.InstanceFailure) (ru.Decision, error) {
		if f.Failure.Attempt == 1 {
			return ru.DecideRetry, nil
		}
		return "", nil // the operator decides
	}}

	ctx := context.Background()
	cloud := fake.Demo(fake.Instant(), 4)
	cloud.SetBehavior("i-0002", fake.Behavior{FailReplaces: 1})
	r := must(ru.New(cloud, ru.NewMemoryStore(), ru.Config{Hooks: ru.JoinHooks(metrics, retryOnce), MaxWait: time.Millisecond}))
	task := must(r.Create(ctx, exampleSpec()))
	check(r.Run(ctx, task.ID))
	fmt.Println(must(r.Get(ctx, task.ID)).Status, count[ru.EventBatchEnded], "batches,", count[ru.EventDecision], "decision")
	// Output:
	// succeeded 2 batches, 1 decision
}
