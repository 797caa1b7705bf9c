package rollingupgrade

import (
	"context"
	"iter"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Store keeps tasks. All methods are safe for concurrent use; what they take and return shares no
// memory with what is kept. A write is durable when the method returns nil.
//
// An error that is none of the sentinels named at a method leaves open whether the write took place.
// The Runner then loads the head and looks at Version and Nonce.
//
// Package store/storetest holds the suite for implementers.
type Store interface {
	// Create adds a task, with its first events, and in the same transaction applies c.Prior, a change
	// of one other task. It returns ErrTaskExists if a task with that ID is there, a *[GroupBusyError] (ErrGroupBusy)
	// if the task holds its group and another task does too after c.Prior is applied, and ErrVersionConflict
	// if c.Prior does not fit its task. On any of them nothing is changed.
	Create(ctx context.Context, c Creation) error

	// Load returns head and rows of a task, or ErrTaskNotFound. Rows are sorted by their Pos.
	Load(ctx context.Context, id string) (*Task, error)

	// Head returns only the head, or ErrTaskNotFound.
	Head(ctx context.Context, id string) (*Head, error)

	// Save replaces the head if the kept one has version c.Head.Version-1, else it returns ErrVersionConflict. With
	// the head it replaces or appends c.Rows, appends c.Events and replaces c.Outputs: all or nothing. It
	// returns a *GroupBusyError if the head begins to hold the group and another task does, and ErrTaskNotFound.
	Save(ctx context.Context, c Change) error

	// Events yields the events of a task whose Seq is greater than after, in order, and ends
	// with the last one kept at that time. It yields ErrTaskNotFound for an unknown task and stops after an error.
	Events(ctx context.Context, id string, after int64) iter.Seq2[Event, error]

	// Output returns the kept output of an instance, or ErrNoOutput.
	Output(ctx context.Context, id, instanceID string) (provider.Output, error)

	// List yields the heads that fit f, newest first (by CreatedAt, then ID), and stops after an error.
	List(ctx context.Context, f Filter) iter.Seq2[*Head, error]
}

// Creation is what [Store.Create] takes.
type Creation struct {
	Task   *Task
	Events []Event
	// Prior changes another task in the same transaction: the one whose place this one takes.
	Prior *Change
}

// Change is what one save writes.
type Change struct {
	// Head is the new head. Its Version is one more than that of the head it replaces.
	Head *Head
	// Rows are the rows that are new or changed. A row replaces the kept one with the same ID.
	Rows []Instance
	// Events follow the kept ones without a gap.
	Events []Event
	// Outputs are kept by instance.
	Outputs map[string]provider.Output
}

// Filter selects tasks. The zero Filter selects all.
type Filter struct {
	GroupID string
	// Status selects tasks with one of these statuses.
	Status []Status
	// Runnable, if not zero, selects tasks with something to do at that time, see [Head.Runnable].
	Runnable time.Time
	// HoldsGroup selects tasks that hold their group.
	HoldsGroup bool
	// Limit ends the listing after so many; zero means no limit.
	Limit int
}

// Match reports whether f selects h, its Limit aside. For stores that have no index.
func (f *Filter) Match(h *Head) bool {
	if f.GroupID != "" && f.GroupID != h.GroupID || f.HoldsGroup && !h.HoldsGroup {
		return false
	}
	if !f.Runnable.IsZero() && !h.Runnable(f.Runnable) {
		return false
	}
	if len(f.Status) == 0 {
		return true
	}
	for _, s := range f.Status {
		if s == h.Status {
			return true
		}
	}
	return false
}

// An ExclusiveStore keeps other processes out by itself (memory; a locked file). Leases of an earlier
// life of the store are then taken at once, for their owners cannot be alive. It is an optional ability of a Store.
type ExclusiveStore interface {
	// Life names this opening of the store. It is different after every restart.
	Life() string
}

// A Notifier tells about saves, so that other users of the store need not wait for their next look.
// It is an optional ability of a Store.
type Notifier interface {
	// Notify calls f with a task's ID after each save of it until stop is called. f must not block.
	Notify(f func(taskID string)) (stop func())
}
