package rollingupgrade

import (
	"context"
	"errors"
	"time"
)

// A watch is what a Runner has seen of another's lease, on its own monotonic clock.
type watch struct {
	fence, renewal int64
	since          time.Time
	notBefore      time.Time // Serve: when to try again to take it
}

// expired reports whether the lease has not been renewed for so long that its owner must have stopped.
func (w *watch) expired(l *Lease, margin time.Duration, life string) bool {
	switch {
	case l.Owner == "":
		return true
	case life != "" && l.Life != "" && l.Life != life:
		return true // of an earlier life of a store that excludes other processes
	case w.since.IsZero() || w.fence != l.Fence || w.renewal != l.Renewal:
		w.fence, w.renewal, w.since = l.Fence, l.Renewal, time.Now()
		return false
	}
	return time.Since(w.since) > l.Duration+margin
}

// life names the present life of an exclusive store.
func (r *Runner) life() string {
	if s, ok := r.store.(ExclusiveStore); ok {
		return s.Life()
	}
	return ""
}

// acquire takes the lease of a task as soon as nobody has it. It returns nil if the task has nothing to do.
func (r *Runner) acquire(ctx context.Context, taskID string, wait bool) (*driver, error) {
	var w watch
	for {
		h, err := r.store.Head(ctx, taskID)
		if err != nil {
			return nil, err
		}
		if !h.Runnable(time.Now()) {
			return nil, nil
		}
		if h.Schema > SchemaVersion {
			return nil, ErrNewerSchema
		}
		if r.free(&w, &h.Lease) && r.claim(taskID) {
			d, err := r.take(ctx, taskID, h.Lease)
			if err == nil {
				return d, nil
			}
			r.release(taskID)
			if !errors.Is(err, ErrVersionConflict) {
				return nil, err
			}
			continue
		}
		if !wait {
			return nil, ErrLeaseLost
		}
		if err := sleep(ctx, r.cfg.Poll); err != nil {
			return nil, err
		}
	}
}

// free reports whether a lease may be taken: nobody has it, its owner has stopped, or it is this Runner's own and the answer was lost.
func (r *Runner) free(w *watch, l *Lease) bool {
	return l.Owner == r.owner || w.expired(l, r.cfg.Margin, r.life())
}

// claim makes this Runner's only driver of a task.
func (r *Runner) claim(taskID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.driving[taskID] != nil {
		return false
	}
	r.driving[taskID] = make(chan struct{}, 1)
	return true
}

func (r *Runner) release(taskID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.driving, taskID)
}

// wake tells the driver of a task in this Runner that the task was saved by somebody.
func (r *Runner) wake(taskID string) {
	r.mu.Lock()
	woken := r.driving[taskID]
	r.mu.Unlock()
	if woken == nil {
		return
	}
	select {
	case woken <- struct{}{}:
	default:
	}
}

// take saves the lease and returns the driver. It returns ErrVersionConflict if somebody else was first: then the lease is
// not any more what it was when it was seen to be free.
func (r *Runner) take(ctx context.Context, taskID string, seen Lease) (*driver, error) {
	r.mu.Lock()
	woken := r.driving[taskID]
	r.mu.Unlock()
	start := time.Now()
	t, err := r.load(ctx, taskID)
	if err != nil {
		return nil, err
	}
	if t.Lease != seen {
		return nil, ErrVersionConflict
	}
	d := &driver{
		r: r, start: start, woken: woken, gone: make(chan struct{}), results: make(chan *outcome),
		log: r.cfg.Logger.With("task", t.ID, "group", t.GroupID),
	}
	d.m = newMachine(t, r.env, d.now())
	if !t.SavedAt.IsZero() && (t.Lease.Owner != "" || !t.Status.Waiting()) {
		d.m.credit(d.now().Sub(t.SavedAt)) // nobody drove it since: that time counts for no deadline
	}
	t.Lease = Lease{Owner: r.owner, Life: r.life(), Duration: r.cfg.Lease, Renewal: t.Lease.Renewal, Fence: t.Lease.Fence + 1}
	d.fence = t.Lease.Fence
	d.m.touchHead()
	d.observe = newObserver(r)
	again, err := d.save(ctx, d.now())
	if again {
		err = ErrVersionConflict
	}
	if err != nil {
		d.observe.close(ctx.Err() != nil)
		return nil, err
	}
	d.callCtx, d.stopCalls = context.WithCancel(context.WithoutCancel(ctx))
	if n, ok := r.store.(Notifier); ok {
		stop := d.hear(n)
		stopCalls := d.stopCalls
		d.stopCalls = func() { stop(); stopCalls() }
	}
	return d, nil
}

// hear wakes the driver when somebody else has saved the task. What the store tells first after a save of the driver's own is taken for
// that save: if it is somebody else's after all, another one follows, or that save fails. A store that leaves one out delays a command
// until the next save, and so by no more than the lease is renewed.
func (d *driver) hear(n Notifier) (stop func()) {
	id, r := d.m.t.ID, d.r
	d.echo.Store(false) // nobody listened when the lease was saved
	return n.Notify(func(written string) {
		if written == id && !d.echo.CompareAndSwap(true, false) {
			r.wake(id)
		}
	})
}
