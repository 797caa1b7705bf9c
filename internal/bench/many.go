package main

import (
	"context"
	"fmt"
	"sync"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A world is a thin cloud with many groups.
type world map[string]*thin

func (w world) Group(ctx context.Context, id string) (provider.Group, error) {
	return w[id].Group(ctx, id)
}

func (w world) Members(ctx context.Context, id string) ([]provider.Instance, error) {
	return w[id].Members(ctx, id)
}

func (w world) Instances(ctx context.Context, id string, ids []string) ([]provider.Instance, error) {
	return w[id].Instances(ctx, id, ids)
}

func (world) Limits() provider.Limits { return (*thin)(nil).Limits() }

func (w world) EnterStandby(ctx context.Context, id string, targets []provider.Target) ([]provider.Progress, error) {
	return w[id].EnterStandby(ctx, id, targets)
}

func (w world) ExitStandby(ctx context.Context, id string, targets []provider.Target) ([]provider.Progress, error) {
	return w[id].ExitStandby(ctx, id, targets)
}

func (w world) SetProtection(ctx context.Context, id string, targets []provider.Target, protected bool) ([]provider.Progress, error) {
	return w[id].SetProtection(ctx, id, targets, protected)
}

func (w world) Start(ctx context.Context, id string, targets []provider.Target) ([]provider.Progress, error) {
	return w[id].Start(ctx, id, targets)
}

func (w world) SuspendProcesses(ctx context.Context, id string, all []provider.Process, callID string) error {
	return w[id].SuspendProcesses(ctx, id, all, callID)
}

func (w world) ResumeProcesses(ctx context.Context, id string, all []provider.Process, callID string) error {
	return w[id].ResumeProcesses(ctx, id, all, callID)
}

func (w world) Update(ctx context.Context, id string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	return w[id].Update(ctx, id, u, targets)
}

// many runs so many tasks at once on a thin cloud and returns the memory that is live when half of the batches have ended, the memory store's
// included. It must run in a testing/synctest bubble.
func many(ctx context.Context, s scenario, tasks int, seed uint64) (live int64, err error) {
	w := world{}
	for n := range tasks {
		w[fmt.Sprintf("asg-%04d", n)] = newThin(s, seed+uint64(n)) //nolint:gosec // a number of tasks
	}
	empty := heap()
	var mu sync.Mutex
	batches := 0
	runner, err := ru.New(w, ru.NewMemoryStore(), ru.Config{Parallel: 16, ParallelTotal: 16 * tasks, Tasks: tasks, Hooks: ru.Hooks{
		AfterBatch: func(context.Context, ru.Summary, ru.Batch) (ru.Decision, error) {
			mu.Lock()
			defer mu.Unlock()
			if batches++; batches == tasks*s.Batches/2 {
				live = heap() - empty
			}
			return "", nil
		},
	}})
	if err != nil {
		return 0, err
	}
	errs := make(chan error, tasks)
	for id := range w {
		go func() {
			_, _, err := s.run(ctx, runner, id)
			errs <- err
		}()
	}
	for range w {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return live, err
}
