package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// must and check end an example that goes wrong; a program handles its errors.
func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// exampleRunner returns a Runner over the cloud, which loses no time.
func exampleRunner(cloud *fake.Cloud) *ru.Runner {
	return must(ru.New(cloud, ru.NewMemoryStore(), ru.Config{MaxWait: time.Millisecond}))
}

// exampleSpec is an image update of the demonstration group in two batches.
func exampleSpec() ru.Spec {
	return ru.Spec{
		GroupID:  fake.DemoGroup,
		Update:   ru.Image(fake.DemoNewImage),
		Rollback: ru.Image(fake.DemoOldImage),
		Batches:  ru.InBatches(2),
	}
}

// exampleFailure runs a task of four instances until i-0002 has failed and it waits for a decision.
func exampleFailure(ctx context.Context) (r *ru.Runner, cloud *fake.Cloud, taskID string) {
	cloud = fake.Demo(fake.Instant(), 4)
	cloud.SetBehavior("i-0002", fake.Behavior{FailReplaces: 1}) // its new disk will not come up the first time
	r = exampleRunner(cloud)
	task := must(r.Create(ctx, exampleSpec()))
	check(r.Run(ctx, task.ID))
	return r, cloud, task.ID
}

// An upgrade with a pause after the first batch.
func Example() {
	ctx := context.Background()
	cloud := fake.Demo(fake.Instant(), 10) // ten instances; a program has its own provider.Provider here
	runner, err := ru.New(cloud, ru.NewMemoryStore(), ru.Config{MaxWait: time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	task, err := runner.Create(ctx, ru.Spec{
		GroupID:  "asg-demo",
		Update:   ru.Image("img-v2"),
		Rollback: ru.Image("img-v1"),
		Batches:  ru.InBatches(2),
		Pause:    ru.PausePolicy{Mode: ru.PauseFirstBatch},
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		if err := runner.Run(ctx, task.ID); err != nil {
			log.Fatal(err)
		}
		t, err := runner.Get(ctx, task.ID)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(t.Status, t.Progress.Succeeded, "of", t.Progress.Total)
		if t.Status == ru.StatusBatchPaused { // look at the first batch, then
			if err := runner.Continue(ctx, task.ID); err != nil {
				log.Fatal(err)
			}
		}
	}
	// Output:
	// batch_paused 5 of 10
	// succeeded 10 of 10
}

// What Create would do, without doing it. Create with the plan's hash does this or nothing.
func ExampleRunner_Plan() {
	ctx := context.Background()
	r := exampleRunner(fake.Demo(fake.Instant(), 5))
	spec := exampleSpec()
	spec.Pause.Mode = ru.PauseEveryBatch

	plan := must(r.Plan(ctx, spec))
	for _, b := range plan.Batches {
		fmt.Println("batch", b.Number, b.InstanceIDs, b.InService, "in service")
	}
	for _, f := range plan.Findings {
		fmt.Println(f)
	}
	for _, words := range plan.Policy {
		fmt.Println("-", words)
	}
	spec.PlanHash = plan.Hash
	must(r.Create(ctx, spec))
	// Output:
	// batch 1 [i-0001 i-0002] 3 in service
	// batch 2 [i-0003 i-0004 i-0005] 2 in service
	// warning configuration_image: scaling configuration asc-asg-demo gets the new image when the task has succeeded
	// - image img-v2 for the system disk of 5 instances in 2 batches (asked: 2 batches)
	// - pauses after every batch, not after the last one
	// - every failed instance waits for a decision
	// - at least 1 instances stay in service
}

// With a client token Create can be repeated. Everything that speaks against a task is reported at once.
func ExampleRunner_Create() {
	ctx := context.Background()
	r := exampleRunner(fake.Demo(fake.Instant(), 4))
	spec := exampleSpec()
	spec.ClientToken = "deploy-17"
	first := must(r.Create(ctx, spec))
	again := must(r.Create(ctx, spec)) // the answer of the first was lost, perhaps
	fmt.Println(first.Status, first.ID == again.ID)

	spec.ClientToken = "deploy-18"
	_, err := r.Create(ctx, spec)
	var busy *ru.GroupBusyError
	fmt.Println(errors.As(err, &busy) && busy.HolderID == first.ID)

	_, err = r.Create(ctx, ru.Spec{GroupID: "asg-demo", Batches: ru.InBatches(0)})
	fmt.Println(errors.Is(err, ru.ErrInvalid))
	// Output:
	// pending true
	// true
	// true
}

// Run drives one task until it has ended or waits for the operator.
func ExampleRunner_Run() {
	ctx := context.Background()
	cloud := fake.Demo(fake.Instant(), 4)
	r := exampleRunner(cloud)
	task := must(r.Create(ctx, exampleSpec()))
	check(r.Run(ctx, task.ID))

	fmt.Println(must(r.Get(ctx, task.ID)).Status)
	for _, i := range cloud.Snapshot("asg-demo") {
		fmt.Println(i.ID, i.Lifecycle, i.ImageID)
	}
	// Output:
	// succeeded
	// i-0001 InService img-v2
	// i-0002 InService img-v2
	// i-0003 InService img-v2
	// i-0004 InService img-v2
}

// Serve drives all tasks of a store, those too whose process has died. A service starts it once; commands come from anywhere.
func ExampleRunner_Serve() {
	ctx, stop := context.WithCancel(context.Background())
	r := exampleRunner(fake.Demo(fake.Instant(), 4))
	served := make(chan error)
	go func() { served <- r.Serve(ctx) }()

	task := must(r.Create(ctx, exampleSpec()))
	for e, err := range r.Watch(ctx, task.ID, 0) {
		check(err)
		if e.Kind == ru.EventStatus {
			fmt.Println(e.From, "->", e.To)
		}
	}
	stop() // calls in flight come to an end first
	fmt.Println(errors.Is(<-served, context.Canceled))
	// Output:
	// pending -> running
	// running -> succeeded
	// true
}

// A script through Cloud Assistant: the instances go on running. What it printed is kept.
func ExampleRunner_Output() {
	ctx := context.Background()
	cfg := fake.Instant()
	cfg.Script = func(run fake.ScriptRun) fake.ScriptResult {
		return fake.ScriptResult{Output: "nginx 1.29 on " + run.InstanceID}
	}
	r := exampleRunner(fake.Demo(cfg, 4))
	spec := exampleSpec()
	spec.Update = ru.Script(provider.Shell, "apt-get install -y nginx && nginx -v")
	spec.Rollback = ru.Update{} // may be named at the rollback
	task := must(r.Create(ctx, spec))
	check(r.Run(ctx, task.ID))

	out := must(r.Output(ctx, task.ID, "i-0003"))
	fmt.Println(out.ExitCode, out.Text)
	// Output:
	// 0 nginx 1.29 on i-0003
}
