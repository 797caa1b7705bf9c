package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A pause at the operator's request begins when nothing is in flight.
func ExampleRunner_Pause() {
	ctx := context.Background()
	r := exampleRunner(fake.Demo(fake.Instant(), 4))
	task := must(r.Create(ctx, exampleSpec()))
	check(r.Pause(ctx, task.ID, "the release manager is at lunch"))
	check(r.Run(ctx, task.ID))

	t := must(r.Get(ctx, task.ID))
	fmt.Println(t.Status, t.Pause.Why, "-", t.Pause.Text)
	fmt.Println(t.Progress.Succeeded, "of", t.Progress.Total)
	// Output:
	// batch_paused operator - the release manager is at lunch
	// 0 of 4
}

// A request ID makes a command repeatable: it is done once.
func ExampleRunner_Continue() {
	ctx := context.Background()
	r := exampleRunner(fake.Demo(fake.Instant(), 6))
	spec := exampleSpec()
	spec.Batches, spec.Pause.Mode = ru.InBatches(3), ru.PauseEveryBatch
	task := must(r.Create(ctx, spec))
	for n := 1; ; n++ {
		check(r.Run(ctx, task.ID))
		t := must(r.Get(ctx, task.ID))
		fmt.Println(t.Status, t.Batch, "of", len(t.Sizes))
		if t.Status.Ended() {
			break
		}
		id := ru.RequestID(fmt.Sprintf("continue-%d", n))
		check(r.Continue(ctx, task.ID, id))
		check(r.Continue(ctx, task.ID, id)) // sent twice by a user interface
	}
	// Output:
	// batch_paused 1 of 3
	// batch_paused 2 of 3
	// succeeded 3 of 3
}

// A failed instance is tried once more. It is the operator who asks for it, or the Failed hook.
func ExampleRunner_Retry() {
	ctx := context.Background()
	r, _, id := exampleFailure(ctx)
	t := must(r.Get(ctx, id))
	fmt.Println(t.Status, "-", t.Instances[1].Error.Text)

	check(r.Retry(ctx, id, []string{"i-0002"}))
	check(r.Run(ctx, id))
	t = must(r.Get(ctx, id))
	fmt.Println(t.Status, "in attempt", t.Instances[1].Attempt)
	// Output:
	// failure_paused - updating: the replacement of the system disk of i-0002 came to nothing: update failed
	// succeeded in attempt 2
}

// RetryFromStart begins again with Standby, where Retry goes on with the step that failed.
func ExampleRunner_RetryFromStart() {
	ctx := context.Background()
	r, _, id := exampleFailure(ctx)
	check(r.RetryFromStart(ctx, id, []string{"i-0002"}))
	check(r.Run(ctx, id))
	fmt.Println(must(r.Get(ctx, id)).Status)
	// Output:
	// succeeded
}

// The task goes on without the instance, which shows as succeeded and stays in Standby until somebody moves it out.
func ExampleRunner_Skip() {
	ctx := context.Background()
	r, _, id := exampleFailure(ctx)
	check(r.Skip(ctx, id, []string{"i-0002"}))
	check(r.Run(ctx, id))

	t := must(r.Get(ctx, id))
	fmt.Println(t.Status)
	for _, i := range t.Instances {
		fmt.Printf("%s %s %q\n", i.ID, i.Status, i.Mark)
	}
	for _, left := range t.Leftovers() {
		fmt.Println("left over:", left.Kind, left.InstanceID)
	}
	// Output:
	// succeeded
	// i-0001 succeeded ""
	// i-0002 succeeded "skipped"
	// i-0003 succeeded ""
	// i-0004 succeeded ""
	// left over: stopped i-0002
	// left over: standby i-0002
}

// The task goes on without the instance, which shows as failed, and so does the task in the end.
func ExampleRunner_CancelInstances() {
	ctx := context.Background()
	r, _, id := exampleFailure(ctx)
	check(r.CancelInstances(ctx, id, []string{"i-0002"}))
	check(r.Run(ctx, id))

	t := must(r.Get(ctx, id))
	fmt.Println(t.Status, t.Progress.Succeeded, "succeeded,", t.Progress.Failed, "failed")
	// Output:
	// failed 3 succeeded, 1 failed
}

// What a canceled task leaves behind is listed.
func ExampleRunner_Cancel() {
	ctx := context.Background()
	r, _, id := exampleFailure(ctx)
	check(r.Cancel(ctx, id, "wrong image"))

	t := must(r.Get(ctx, id))
	fmt.Println(t.Status, "-", t.Reason)
	for _, left := range t.Leftovers() {
		fmt.Printf("left over: %s %s%s\n", left.Kind, left.InstanceID, left.Process)
	}
	err := r.Continue(ctx, id)
	var illegal *ru.CommandError
	fmt.Println(errors.As(err, &illegal), illegal.Legal)
	// Output:
	// canceled - wrong image
	// left over: stopped i-0002
	// left over: standby i-0002
	// left over: process ScaleOut
	// left over: process ScaleIn
	// left over: process HealthCheck
	// left over: process AlarmNotification
	// left over: process ScheduledAction
	// true [roll back restore]
}

// Cancel and put everything back, in one step. Run or Serve does the work.
func ExampleRunner_CancelAndRestore() {
	ctx := context.Background()
	r, cloud, id := exampleFailure(ctx)
	check(r.CancelAndRestore(ctx, id, "wrong image", ru.RestoreFilter{}))
	check(r.Run(ctx, id))

	t := must(r.Get(ctx, id))
	group, _ := cloud.GroupView("asg-demo")
	fmt.Println(t.Status, len(t.Leftovers()), "left over,", len(group.Suspended), "processes suspended")
	// Output:
	// canceled 0 left over, 0 processes suspended
}

// Restore puts back what a task changed and nothing else, as often as one likes. Here the processes first, then the rest.
func ExampleRunner_Restore() {
	ctx := context.Background()
	r, _, id := exampleFailure(ctx)
	check(r.Cancel(ctx, id, "wrong image"))
	for _, filter := range []ru.RestoreFilter{{Kinds: []ru.LeftoverKind{ru.LeftoverProcess}}, {}} {
		check(r.Restore(ctx, id, filter))
		check(r.Run(ctx, id))
		left := must(r.Get(ctx, id)).Leftovers()
		fmt.Println(len(left), "left over")
	}
	// Output:
	// 2 left over
	// 0 left over
}

// A task that waits is canceled and rolled back in one step; one that has ended is rolled back if it is the group's most recent one.
func ExampleRunner_Rollback() {
	ctx := context.Background()
	cloud := fake.Demo(fake.Instant(), 4)
	r := exampleRunner(cloud)
	spec := exampleSpec()
	spec.Pause.Mode = ru.PauseFirstBatch
	task := must(r.Create(ctx, spec))
	check(r.Run(ctx, task.ID)) // until the pause after the first batch

	back := must(r.Rollback(ctx, task.ID, ru.RollbackSpec{Description: "more errors than before"}))
	check(r.Run(ctx, back.ID))
	fmt.Println(must(r.Get(ctx, task.ID)).Status, must(r.Get(ctx, back.ID)).Status)
	for _, i := range cloud.Snapshot("asg-demo") {
		fmt.Println(i.ID, i.Lifecycle, i.ImageID)
	}
	_, err := r.Rollback(ctx, back.ID, ru.RollbackSpec{})
	fmt.Println(errors.Is(err, ru.ErrIsRollback))
	// Output:
	// canceled succeeded
	// i-0001 InService img-v1
	// i-0002 InService img-v1
	// i-0003 InService img-v1
	// i-0004 InService img-v1
	// true
}
