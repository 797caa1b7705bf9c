package rollingupgrade_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// exampleHistory runs five upgrades, one after the other.
func exampleHistory(ctx context.Context) *ru.Runner {
	r := exampleRunner(fake.Demo(fake.Instant(), 2))
	for _, text := range []string{"first", "second", "third", "fourth", "fifth"} {
		spec := exampleSpec()
		spec.Description = text
		task := must(r.Create(ctx, spec))
		check(r.Run(ctx, task.ID))
	}
	return r
}

// Pages of two. The position of the last task is all that a client has to bring back for the next page; it survives JSON.
func ExampleFilter() {
	ctx := context.Background()
	r := exampleHistory(ctx)

	f := ru.Filter{Kind: ru.Upgrade, CreatedFrom: time.Now().Add(-24 * time.Hour), Limit: 2}
	for page := 1; ; page++ {
		n := 0
		for s, err := range r.List(ctx, f) {
			check(err)
			fmt.Println("page", page, s.Description)
			f.After = s.Position()
			n++
		}
		if n < f.Limit {
			break
		}
	}
	// Output:
	// page 1 fifth
	// page 1 fourth
	// page 2 third
	// page 2 second
	// page 3 first
}

// The newest three tasks of each group stay; so does, whatever the policy says, what a rollback could need.
func ExampleRunner_Prune() {
	ctx := context.Background()
	r := exampleHistory(ctx)
	pruned := must(r.Prune(ctx, ru.PrunePolicy{Keep: 3}))
	fmt.Println(len(pruned), "pruned")
	for s, err := range r.List(ctx, ru.Filter{}) {
		check(err)
		fmt.Println(s.Description)
	}
	// Output:
	// 2 pruned
	// fifth
	// fourth
	// third
}

// A task is archived before it is pruned.
func ExampleRunner_Export() {
	ctx := context.Background()
	r := exampleRunner(fake.Demo(fake.Instant(), 2))
	task := must(r.Create(ctx, exampleSpec()))
	check(r.Run(ctx, task.ID))

	var archive bytes.Buffer
	check(r.Export(ctx, task.ID, &archive))

	var record ru.Record
	check(json.Unmarshal(archive.Bytes(), &record))
	fmt.Println(record.Task.Status, len(record.Task.Instances), "instances")
	fmt.Println(record.Events[0].Kind, "...", record.Events[len(record.Events)-1].To)
	// Output:
	// succeeded 2 instances
	// created ... succeeded
}
