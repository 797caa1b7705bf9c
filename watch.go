package rollingupgrade

import (
	"context"
	"iter"
)

// Watch yields the events of a task whose number is greater than after, in order and without gaps, and then those
// that happen, in this process or another, until ctx is done or the task has ended with no restore at work. A
// slow reader loses nothing: events wait in the store. It yields ErrTaskNotFound, ctx's error or the store's, and stops after it.
func (r *Runner) Watch(ctx context.Context, taskID string, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		after := after // each use begins anew
		saved := make(chan struct{}, 1)
		if n, ok := r.store.(Notifier); ok {
			defer n.Notify(func(id string) {
				if id == taskID {
					select {
					case saved <- struct{}{}:
					default:
					}
				}
			})()
		}
		for {
			h, err := r.store.Head(ctx, taskID) // before the events: what it says has ended has all its events kept
			if err != nil {
				yield(Event{}, &OpError{"watch", clip(taskID), err})
				return
			}
			for e, err := range r.store.Events(ctx, taskID, after) {
				if err != nil {
					yield(Event{}, &OpError{"watch", clip(taskID), err})
					return
				}
				after = e.Seq
				if !yield(e, nil) {
					return
				}
			}
			if h.Status.Ended() && !h.Restore.Active() {
				return
			}
			if err := r.nextSave(ctx, saved); err != nil {
				yield(Event{}, &OpError{"watch", clip(taskID), err})
				return
			}
		}
	}
}

// nextSave waits until a save was told of, or it is time to look.
func (r *Runner) nextSave(ctx context.Context, saved <-chan struct{}) error {
	if _, ok := r.store.(Notifier); !ok {
		return sleep(ctx, r.cfg.Poll)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-saved:
		return nil
	}
}
