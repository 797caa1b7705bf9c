package rollingupgrade

import (
	"cmp"
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
// What was written comes back equal; only nil and empty may change places. Times come back in UTC, to the nanosecond and without a
// monotonic part, so that they are equal to == where the ones given were such. Texts may hold any bytes: valid UTF-8, NUL included, comes
// back byte for byte, and what is not valid UTF-8 is no error but comes back with U+FFFD in its place. IDs
// are compared byte for byte, without folding of any kind.
//
// Package store/storetest holds the suite for implementers.
type Store interface {
	// Create adds a task, with its first events, and in the same transaction applies c.Prior, a change
	// of one other task. It returns ErrTaskExists if a task with that ID is there, whatever else speaks against the creation: repeated
	// creations with a client token rely on it. It returns ErrTaskNotFound or ErrVersionConflict if c.Prior does not fit its task, and
	// a *[GroupBusyError] (ErrGroupBusy) if the task holds its group and another task does too after c.Prior is applied, or if
	// c.Prior begins to hold a group that another task holds. On any of them nothing is changed.
	Create(ctx context.Context, c Creation) error

	// Load returns head and rows of a task, or ErrTaskNotFound. Rows are sorted by their Pos.
	Load(ctx context.Context, id string) (*Task, error)

	// Head returns only the head, or ErrTaskNotFound.
	Head(ctx context.Context, id string) (*Head, error)

	// Save replaces the head if the kept one has version c.Head.Version-1, else it returns ErrVersionConflict. With
	// the head it replaces or appends c.Rows, appends c.Events and replaces c.Outputs: all or nothing. It
	// returns a *[GroupBusyError] if the head begins to hold the group and another task does, ErrTaskNotFound, and ErrVersionConflict
	// if c.Events leave a gap behind the kept ones.
	Save(ctx context.Context, c Change) error

	// Events yields the events of a task whose Seq is greater than after, in order, and ends
	// with the last one kept at that time. It yields ErrTaskNotFound for an unknown task, the rest or ErrTaskNotFound of one that is
	// deleted meanwhile, and stops after an error.
	Events(ctx context.Context, id string, after int64) iter.Seq2[Event, error]

	// Output returns the kept output of an instance, ErrNoOutput, or ErrTaskNotFound.
	Output(ctx context.Context, id, instanceID string) (provider.Output, error)

	// List yields the heads that fit f, newest first: by CreatedAt, to the nanosecond, then by ID, both descending. A task that is there
	// from the beginning of the listing to its end, and fits all the time, comes exactly once, as it was at some moment in between; one that is
	// created or deleted meanwhile may come or not. It stops after an error.
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

// Filter selects tasks: those that fit every field that is set. The zero Filter selects all.
type Filter struct {
	// GroupID selects the tasks of one scaling group; empty selects those of all.
	GroupID string
	// Kind selects tasks of one kind; empty selects all kinds.
	Kind TaskKind
	// Status selects tasks with one of these statuses; none selects all. Those that have ended are StatusSucceeded, StatusFailed and
	// StatusCanceled.
	Status []Status
	// CreatedFrom and CreatedBefore select tasks that were created at the one or later and before the other; zero means
	// no bound.
	CreatedFrom, CreatedBefore time.Time
	// Runnable, if not zero, selects tasks with something to do at that time, see [Head.Runnable].
	Runnable time.Time
	// HoldsGroup selects tasks that hold their group.
	HoldsGroup bool
	// After begins the listing behind a place in it: with the Position of the last task of a page it lists the next page. Tasks that are
	// created meanwhile belong before the first page and move nothing, and the task at the place may be gone. The
	// zero Position begins with the newest task.
	After Position
	// Limit ends the listing after so many; zero means no limit.
	Limit int
}

// A Position is a task's place in the order of [Store.List], which it keeps for life. It is plain data and survives JSON, so that it can be
// handed to a client and back. The zero Position is before all tasks.
type Position struct {
	CreatedAt time.Time `json:"created_at,omitzero"`
	ID        string    `json:"id,omitempty"`
}

// IsZero reports whether p is the zero Position.
func (p Position) IsZero() bool { return p.ID == "" && p.CreatedAt.IsZero() }

// compare returns a negative number if p is listed before o, and a positive one if it is listed after it.
func (p Position) compare(o Position) int {
	return cmp.Or(o.CreatedAt.Compare(p.CreatedAt), cmp.Compare(o.ID, p.ID))
}

// Position returns the task's place in listings, see [Filter.After].
func (h *Head) Position() Position { return Position{h.CreatedAt, h.ID} }

// Position returns the task's place in listings, see [Filter.After].
func (s Summary) Position() Position { return Position{s.CreatedAt, s.ID} }

// Match reports whether f selects h, After included and Limit aside. For stores that have no index.
func (f *Filter) Match(h *Head) bool {
	switch {
	case f.GroupID != "" && f.GroupID != h.GroupID,
		f.Kind != "" && f.Kind != h.Kind,
		f.HoldsGroup && !h.HoldsGroup,
		!f.CreatedFrom.IsZero() && h.CreatedAt.Before(f.CreatedFrom),
		!f.CreatedBefore.IsZero() && !h.CreatedAt.Before(f.CreatedBefore),
		!f.After.IsZero() && h.Position().compare(f.After) <= 0:
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

// A Pruner forgets tasks. It is an optional ability of a Store; [Runner.Prune] needs it and decides which tasks may go.
type Pruner interface {
	// Delete removes a task with its rows, events and outputs, all or nothing, if the kept head has that version; else it returns
	// ErrVersionConflict, so that a command that was saved in between is never lost. It returns ErrTaskNotFound if there is no such task. On
	// either nothing is changed.
	//
	// It does not ask what the task is or whether others name it. A group that the task held is free afterwards, and its ID may be
	// created again, with nothing of the old task in it.
	Delete(ctx context.Context, taskID string, version int64) error
}

// A Notifier tells about writes, so that other users of the store need not wait for their next look.
// It is an optional ability of a Store.
type Notifier interface {
	// Notify calls f with a task's ID after each write of it until stop is called: Create, Save and Delete, and for the task of the Prior of
	// a Create too. What was written can be read by then. It tells of the writes of all processes, and after a gap
	// of everything that may have changed. f must not block. stop may be called twice.
	Notify(f func(taskID string)) (stop func())
}
