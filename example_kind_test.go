package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"sync"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// reload is an own kind of update: it brings a version of a configuration to instances, through a channel of one's own.
type reload struct {
	mu       sync.Mutex
	versions map[string]string // by instance; stands for what the instances run
}

type reloadParams struct {
	Version string `json:"version"`
}

// Update implements provider.Updater. The Runner calls it until each instance is done. A call without a CallID only looks. One with
// a CallID acts, and may come again with the same CallID: pushing the same version twice does no harm.
func (r *reload) Update(_ context.Context, _ string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	var want reloadParams
	if err := json.Unmarshal(u.Params, &want); err != nil {
		return nil, fmt.Errorf("%w: %w", provider.ErrInvalid, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	answers := make([]provider.Progress, len(targets))
	for n, t := range targets {
		p := provider.Progress{InstanceID: t.InstanceID}
		switch {
		case r.versions[t.InstanceID] == want.Version:
			p.Done, p.Outcome = true, provider.Updated
		case t.Stop: // a safe end as early as possible: nothing has been changed
			p.Done, p.Outcome = true, provider.NotUpdated
		case t.CallID == "":
			p.Act = true // the next call shall act
		default:
			r.versions[t.InstanceID] = want.Version
			p.Done, p.Outcome = true, provider.Updated
		}
		answers[n] = p
	}
	return answers, nil
}

// An own kind of update has batches, pauses, failures and a rollback like any other.
func Example_ownKind() {
	ctx := context.Background()
	fleet := &reload{versions: map[string]string{}}
	runner, err := ru.New(fake.Demo(fake.Instant(), 3), ru.NewMemoryStore(), ru.Config{
		Kinds: map[provider.Kind]provider.Updater{"reload": fleet},
	})
	if err != nil {
		log.Fatal(err)
	}
	task, err := runner.Create(ctx, ru.Spec{
		GroupID:  "asg-demo",
		Update:   ru.Update{Kind: "reload", Params: json.RawMessage(`{"version":"v7"}`)},
		Rollback: ru.Update{Kind: "reload", Params: json.RawMessage(`{"version":"v6"}`)},
		Batches:  ru.InBatches(3),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Run(ctx, task.ID); err != nil {
		log.Fatal(err)
	}
	fmt.Println(fleet.versions)
	back, err := runner.Rollback(ctx, task.ID, ru.RollbackSpec{})
	if err != nil {
		log.Fatal(err)
	}
	if err := runner.Run(ctx, back.ID); err != nil {
		log.Fatal(err)
	}
	fmt.Println(fleet.versions)
	// Output:
	// map[i-0001:v7 i-0002:v7 i-0003:v7]
	// map[i-0001:v6 i-0002:v6 i-0003:v6]
}
