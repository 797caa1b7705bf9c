package rollingupgrade

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Prune forgets ended tasks with their events and outputs, as the policy says, and returns the IDs of those that are gone, also with an error. It
// needs a store that is a [Pruner]. It may be called at any time, in any number of processes; nothing calls it by itself.
//
// Whatever the policy says, it spares a task that has not ended, restores or holds its group, that a rollback could still need (the last task of a group that
// has touched instances and all that came after it), that an unfinished rollback rolls back, and the newest task of each group, which
// owns its leftovers. Tasks of a group go from the oldest on; behind one that stays nothing goes. Tasks that stay may name ones
// that are gone, in PriorID, SourceID and OriginID. The client token of a task that is gone is forgotten with
// it: Create with that token makes a new task.
//
// It returns ErrInvalid for a policy that is not acceptable, [errors.ErrUnsupported] if the store is no Pruner, and the store's error. A
// task that is saved by somebody else meanwhile is no error and stays.
func (r *Runner) Prune(ctx context.Context, p PrunePolicy) (pruned []string, err error) {
	fail := func(err error) ([]string, error) { return pruned, &OpError{"prune", "tasks", err} }
	if err := p.validate(); err != nil {
		return fail(err)
	}
	store, ok := r.store.(Pruner)
	if !ok {
		return fail(fmt.Errorf("store %T: %w", r.store, errors.ErrUnsupported))
	}
	var tasks []*trace
	for h, err := range r.store.List(ctx, Filter{GroupID: p.GroupID}) {
		if err != nil {
			return fail(err)
		}
		tasks = append(tasks, traceOf(h))
	}
	for _, chain := range prunable(tasks, &p, time.Now()) {
		for _, t := range chain {
			gone, err := r.forget(ctx, store, t)
			if err != nil {
				return fail(err)
			}
			if !gone {
				break // it was saved meanwhile
			}
			pruned = append(pruned, t.id)
		}
	}
	return pruned, nil
}

// forget deletes a task, and reports whether it is gone.
func (r *Runner) forget(ctx context.Context, s Pruner, t *trace) (gone bool, err error) {
	err = s.Delete(ctx, t.id, t.version)
	switch {
	case err == nil:
	case errors.Is(err, ErrVersionConflict):
		return false, nil
	case errors.Is(err, ErrTaskNotFound): // somebody else was quicker
	default: // nobody knows whether it was deleted
		if _, herr := r.store.Head(context.WithoutCancel(ctx), t.id); !errors.Is(herr, ErrTaskNotFound) {
			return false, err
		}
	}
	r.cfg.Logger.Info("pruned", "task", t.id, "group", t.group)
	return true, nil
}

// ExportVersion is the number of the form in which [Runner.Export] writes. It grows when old readers could misread
// a new form; fields that are only added leave it.
const ExportVersion = 1

// A Record is all that is kept of a task, as [Runner.Export] writes it: decode its JSON into one. It is plain data.
type Record struct {
	// Export is the form, see [ExportVersion]; the form of the task within it is Task.Schema.
	Export int `json:"export"`
	// Task is the task with its instances.
	Task *Task `json:"task"`
	// Events are all events of the task, in order.
	Events []Event `json:"events"`
	// Outputs are the outputs of scripts, by instance.
	Outputs map[string]provider.Output `json:"outputs,omitempty"`
}

// Export writes all that is kept of a task to w: one JSON document on one line, which decodes into a [Record], so that several make a
// file of JSON lines. Events and outputs are read as they are written; memory is needed for the task and its instances only.
//
// The document is the record as it is. It holds scripts with their parameters and what they printed: keep it as you keep these.
// The events are those up to the version of the task that is written. Of a task at work an output may be a newer one.
//
// It returns ErrTaskNotFound, also when the task is pruned meanwhile, ErrNewerSchema, and the errors of the store and of w. After an error what was
// written is no whole document.
func (r *Runner) Export(ctx context.Context, taskID string, w io.Writer) error {
	t, err := r.load(ctx, taskID)
	if err == nil {
		e := exporter{w: bufio.NewWriterSize(w, 64<<10)}
		if err = r.export(ctx, t, &e); err == nil {
			err = e.w.Flush()
		}
	}
	if err != nil {
		return &OpError{"export", clip(taskID), err}
	}
	return nil
}

func (r *Runner) export(ctx context.Context, t *Task, e *exporter) error {
	e.text(fmt.Sprintf(`{"export":%d,"task":`, ExportVersion))
	e.value(t)
	e.text(`,"events":[`)
	separator := ""
	for event, err := range r.store.Events(ctx, t.ID, 0) {
		if err != nil {
			return err
		}
		if event.Seq > t.EventSeq {
			break // of a later version
		}
		e.text(separator)
		e.value(event)
		if separator = ","; e.err != nil {
			return e.err
		}
	}
	e.text(`],"outputs":{`)
	separator = ""
	for n := range t.Instances {
		id := t.Instances[n].ID
		o, err := r.store.Output(ctx, t.ID, id)
		if errors.Is(err, ErrNoOutput) {
			continue
		}
		if err != nil {
			return err
		}
		e.text(separator)
		e.value(id)
		e.text(":")
		e.value(o)
		if separator = ","; e.err != nil {
			return e.err
		}
	}
	e.text("}}\n")
	return e.err
}

// An exporter writes parts of a document until the first error.
type exporter struct {
	w   *bufio.Writer
	err error
}

func (e *exporter) text(s string) {
	if e.err == nil {
		_, e.err = e.w.WriteString(s)
	}
}

func (e *exporter) value(v any) {
	b, err := json.Marshal(v)
	if e.err == nil {
		e.err = err
	}
	if e.err == nil {
		_, e.err = e.w.Write(b)
	}
}
