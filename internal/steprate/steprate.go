// Package steprate measures how fast tasks go on a store when the cloud takes no time at all: what remains is the library and the store.
package steprate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Rate is what was measured.
type Rate struct {
	Tasks   int
	Saves   int64
	Elapsed time.Duration
}

// Add puts two runs together.
func (r Rate) Add(o Rate) Rate {
	return Rate{r.Tasks + o.Tasks, r.Saves + o.Saves, r.Elapsed + o.Elapsed}
}

// SavesPerSecond is the rate of saves.
func (r Rate) SavesPerSecond() float64 { return float64(r.Saves) / r.Elapsed.Seconds() }

// TasksPerSecond is the rate of whole tasks.
func (r Rate) TasksPerSecond() float64 { return float64(r.Tasks) / r.Elapsed.Seconds() }

// Measure runs a task for each of so many groups, all at once, to their ends. Creating them is not measured.
func Measure(ctx context.Context, store ru.Store, tasks, instances, batches int) (Rate, error) {
	return measure(ctx, &counted{Store: store}, tasks, instances, batches)
}

// Compare runs one task, and then makes the same saves of it without a Runner: the bare store's rate.
func Compare(ctx context.Context, store ru.Store, instances, batches int) (driver, bare Rate, err error) {
	kept := &counted{Store: store, keeps: true}
	if driver, err = measure(ctx, kept, 1, instances, batches); err != nil {
		return driver, bare, err
	}
	again := *kept.created.Task
	again.ID, again.GroupID = again.ID+"-again", again.GroupID+"-again"
	kept.created.Task = &again
	if err := store.Create(ctx, kept.created); err != nil {
		return driver, bare, err
	}
	began := time.Now()
	for _, c := range kept.changes {
		h := *c.Head
		h.ID, h.GroupID = again.ID, again.GroupID
		c.Head = &h
		if err := store.Save(ctx, c); err != nil {
			return driver, bare, err
		}
	}
	return driver, Rate{Tasks: 1, Saves: int64(len(kept.changes)), Elapsed: time.Since(began)}, nil
}

func measure(ctx context.Context, kept *counted, tasks, instances, batches int) (Rate, error) {
	runner, err := ru.New(Instant{Size: instances}, kept, ru.Config{Tasks: tasks, Parallel: 8, ParallelTotal: 8 * tasks})
	if err != nil {
		return Rate{}, err
	}
	ids := make([]string, tasks)
	for n := range ids {
		task, err := runner.Create(ctx, ru.Spec{
			GroupID: fmt.Sprintf("asg-%d-%d", time.Now().UnixNano(), n), Update: ru.Script(provider.Shell, "true"),
			Batches: ru.InBatches(batches), MinInService: -1,
		})
		if err != nil {
			return Rate{}, err
		}
		ids[n] = task.ID
	}
	began := time.Now()
	errs := make(chan error, tasks)
	for _, id := range ids {
		go func() { errs <- runner.Run(ctx, id) }()
	}
	for range ids {
		if err := <-errs; err != nil {
			return Rate{}, err
		}
	}
	r := Rate{Tasks: tasks, Saves: kept.saves.Load(), Elapsed: time.Since(began)}
	for _, id := range ids {
		h, err := kept.Head(ctx, id)
		if err != nil {
			return Rate{}, err
		}
		if h.Status != ru.StatusSucceeded {
			return Rate{}, fmt.Errorf("task is %s: %s", h.Status, h.Reason)
		}
	}
	return r, nil
}

// counted counts the saves, and keeps them if it is to. It hides the store's optional abilities: nobody else saves here.
type counted struct {
	ru.Store
	saves   atomic.Int64
	keeps   bool
	created ru.Creation
	changes []ru.Change
}

// Create implements [ru.Store].
func (c *counted) Create(ctx context.Context, creation ru.Creation) error {
	if c.keeps {
		task := *creation.Task
		task.Instances = slices.Clone(task.Instances)
		c.created = creation
		c.created.Task = &task
	}
	return c.Store.Create(ctx, creation)
}

// Save implements [ru.Store].
func (c *counted) Save(ctx context.Context, change ru.Change) error {
	c.saves.Add(1)
	if c.keeps {
		h := *change.Head
		c.changes = append(c.changes, ru.Change{Head: &h, Rows: slices.Clone(change.Rows), Events: slices.Clone(change.Events), Outputs: maps.Clone(change.Outputs)})
	}
	return c.Store.Save(ctx, change)
}

// Instant is a cloud in which everything is done when it is asked for. Every group exists, with so many instances.
type Instant struct {
	Size int
	// Called, if not nil, is called with each call of Group.
	Called func(groupID string)
}

var _ provider.Provider = Instant{}

// Limits implements [provider.Provider].
func (Instant) Limits() provider.Limits {
	return provider.Limits{Instances: 100, Standby: 20, Protection: 20, Start: 100, Update: 100}
}

// Group implements [provider.Reader].
func (c Instant) Group(_ context.Context, id string) (provider.Group, error) {
	if c.Called != nil {
		c.Called(id)
	}
	return provider.Group{
		ID: id, State: provider.GroupActive, Suspended: provider.Processes(), InService: c.Size, Total: c.Size, DesiredCapacity: -1,
	}, nil
}

// Members implements [provider.Reader].
func (c Instant) Members(context.Context, string) ([]provider.Instance, error) {
	all := make([]provider.Instance, c.Size)
	for n := range all {
		all[n] = member(fmt.Sprintf("i-%06d", n))
	}
	return all, nil
}

// Instances implements [provider.Reader].
func (Instant) Instances(_ context.Context, _ string, ids []string) ([]provider.Instance, error) {
	all := make([]provider.Instance, len(ids))
	for n, id := range ids {
		all[n] = member(id)
	}
	return all, nil
}

func member(id string) provider.Instance {
	return provider.Instance{ID: id, Lifecycle: provider.InService, Power: provider.Running, OS: "linux"}
}

// EnterStandby implements [provider.StandbyMover].
func (Instant) EnterStandby(_ context.Context, _ string, targets []provider.Target) ([]provider.Progress, error) {
	return done(targets), nil
}

// ExitStandby implements [provider.StandbyMover].
func (Instant) ExitStandby(_ context.Context, _ string, targets []provider.Target) ([]provider.Progress, error) {
	return done(targets), nil
}

// SetProtection implements [provider.Protector].
func (Instant) SetProtection(_ context.Context, _ string, targets []provider.Target, _ bool) ([]provider.Progress, error) {
	return done(targets), nil
}

// Start implements [provider.Starter].
func (Instant) Start(_ context.Context, _ string, targets []provider.Target) ([]provider.Progress, error) {
	return done(targets), nil
}

// SuspendProcesses implements [provider.ProcessSuspender].
func (Instant) SuspendProcesses(context.Context, string, []provider.Process, string) error {
	return nil
}

// ResumeProcesses implements [provider.ProcessSuspender].
func (Instant) ResumeProcesses(context.Context, string, []provider.Process, string) error { return nil }

// Update implements [provider.Updater].
func (Instant) Update(_ context.Context, _ string, _ provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	all := make([]provider.Progress, len(targets))
	for n, t := range targets {
		all[n] = provider.Progress{InstanceID: t.InstanceID, Act: true}
		if t.CallID != "" {
			all[n] = provider.Progress{InstanceID: t.InstanceID, Done: true, Outcome: provider.Updated, Fit: true}
		}
	}
	return all, nil
}

func done(targets []provider.Target) []provider.Progress {
	all := make([]provider.Progress, len(targets))
	for n, t := range targets {
		all[n] = provider.Progress{InstanceID: t.InstanceID, Done: true}
	}
	return all
}
