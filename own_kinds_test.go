package rollingupgrade_test

import (
	"context"
	"encoding/json"
	"testing"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// narrowing is an own kind of update in two acts. The first is for any number of instances, and says that the second is for one at a time.
type narrowing struct {
	acts [][]string
	seen map[string]int
}

func (k *narrowing) Update(_ context.Context, _ string, _ provider.Update, targets []provider.Target) (all []provider.Progress, err error) {
	if targets[0].CallID != "" {
		k.acts = append(k.acts, nil)
	}
	for _, t := range targets {
		p := provider.Progress{InstanceID: t.InstanceID, Act: true, State: json.RawMessage(`"same"`)}
		if t.CallID != "" {
			k.acts[len(k.acts)-1] = append(k.acts[len(k.acts)-1], t.InstanceID)
			k.seen[t.InstanceID]++
			p.MaxTargets = 1
		}
		if k.seen[t.InstanceID] == 2 {
			p = provider.Progress{InstanceID: t.InstanceID, Done: true, Outcome: provider.Updated}
		}
		all = append(all, p)
	}
	return all, nil
}

// How many instances the next call may carry is for the own kind to say in each answer, also where nothing else changes.
func TestS4_OwnKindLimitsTheNextCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		k := &narrowing{seen: map[string]int{}}
		b := newBed(t, fake.Demo(fake.Config{}, 3), ru.Config{Kinds: map[provider.Kind]provider.Updater{tagKind: k}, Parallel: 1})
		spec := tagSpec("new")
		spec.Batches, spec.MinInService = ru.InBatches(1), -1
		b.runTo(b.create(spec), ru.StatusSucceeded)
		diff(t, "acts", [][]string{idRange(1, 3), {"i-0001"}, {"i-0002"}, {"i-0003"}}, k.acts)
	})
}
