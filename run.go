package rollingupgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// Run drives a task until it has ended, waits for the operator, or ctx is done; it returns nil in the first two cases and ctx's
// error in the third. Get says where the task stands. While another Runner drives the task Run waits, and takes over should
// that one fall silent. Run starts nothing that outlives the call; a later Run, in any process, goes on from the last saved step.
//
// Besides ctx's error it returns ErrTaskNotFound, ErrNewerSchema, or the store's error.
func (r *Runner) Run(ctx context.Context, taskID string) error {
	for {
		d, err := r.acquire(ctx, taskID, true)
		if err != nil {
			return &OpError{"run", clip(taskID), err}
		}
		if d == nil {
			return nil
		}
		switch err := d.drive(ctx); {
		case errors.Is(err, ErrLeaseLost):
			continue // somebody else took over: wait beside him
		case err != nil:
			return &OpError{"run", taskID, err}
		}
	}
}

// A driver owns the record of one task while it drives it. One goroutine does all its work and never waits for a call.
type driver struct {
	r     *Runner
	m     *machine
	log   *slog.Logger
	fence int64
	saves int

	results  chan *outcome
	woken    chan struct{}
	gone     chan struct{} // closed when the driver has ended; late results are dropped
	inFlight int
	stopping bool        // it was told to stop
	grace    *time.Timer // runs from when the driver was told to stop
	unsaved  []*outcome  // applied since the last save
	resaved  bool        // the record has to be loaded again
	lookedAt time.Time   // when it last saved or looked whether somebody else has
	echo     atomic.Bool // the store is about to tell of the driver's own save; see hear

	start     time.Time    // wall and monotonic clock when the driver began
	renewedAt atomic.Int64 // when the last save began, in nanoseconds after start
	observe   *observer
	callCtx   context.Context
	stopCalls context.CancelFunc
}

// now is the time of the record: the wall clock at the driver's start plus what has passed on
// the monotonic clock, so that a clock that jumps does no harm.
func (d *driver) now() time.Time {
	return d.start.Round(0).UTC().Add(time.Since(d.start))
}

// leaseLeft is how long the lease lasts if nothing renews it.
func (d *driver) leaseLeft() time.Duration {
	return d.r.cfg.Lease - time.Since(d.start) + time.Duration(d.renewedAt.Load())
}

// drive drives the task. It returns nil when nothing is left to do without the operator.
func (d *driver) drive(ctx context.Context) error {
	defer d.close()
	for {
		stopping := d.stopping
		if d.resaved {
			if err := d.reload(ctx); err != nil {
				return err
			}
		}
		now := d.now()
		d.m.slots = d.slots()
		var calls []*call
		if !stopping {
			calls = d.m.decide(now)
		}
		done := d.inFlight == 0 && (stopping || len(calls) == 0 && !d.m.t.Runnable(now))
		if done {
			d.m.t.Lease.Owner = ""
			d.m.touchHead()
		}
		if d.m.dirty() || d.leaseLeft() < d.r.cfg.Lease-d.r.cfg.Renew {
			again, err := d.save(ctx, now)
			if err != nil {
				return err
			}
			if again {
				continue // what was decided is decided again on the record as it is now
			}
		}
		if done {
			if stopping {
				return context.Cause(ctx)
			}
			return nil
		}
		for _, c := range calls {
			d.begin(c)
		}
		if d.wait(ctx, stopping) {
			d.stopping = true
		}
	}
}

// slots is how many calls about instances may be begun now.
func (d *driver) slots() int {
	return max(0, min(d.r.cfg.Parallel-d.inFlight, cap(d.r.calls)-len(d.r.calls)))
}

// gather is how long outcomes that come close together are waited for, so that they share a save.
const gather = time.Millisecond

// wait waits for outcomes and applies them, or for the time when there is something to do. It reports true when ctx is done.
func (d *driver) wait(ctx context.Context, stopping bool) (stop bool) {
	timer := time.NewTimer(d.pause(stopping))
	defer timer.Stop()
	done := ctx.Done()
	var grace <-chan time.Time
	if stopping {
		done = nil
		if d.grace == nil {
			d.grace = time.NewTimer(d.r.cfg.Grace)
		}
		grace = d.grace.C
	}
	for {
		select {
		case o := <-d.results:
			d.take(o)
			return false
		case <-d.woken:
			d.refresh(context.WithoutCancel(ctx))
			return false
		case <-timer.C:
			if !stopping && d.lookIn() <= 0 {
				d.refresh(ctx)
			}
			return false
		case <-done:
			return true
		case <-grace:
			d.stopCalls()
			grace = nil
		}
	}
}

// pause is how long to wait if nothing happens.
func (d *driver) pause(stopping bool) time.Duration {
	p := d.leaseLeft() - (d.r.cfg.Lease - d.r.cfg.Renew) + time.Millisecond
	if stopping { // nothing is begun any more
		return max(p, 0)
	}
	if !d.m.next.IsZero() {
		p = min(p, d.m.next.Sub(d.now()))
	}
	p = min(p, d.lookIn())
	if d.slots() == 0 && d.inFlight < d.r.cfg.Parallel {
		p = min(p, 50*time.Millisecond) // other tasks have taken the Runner's slots
	}
	return max(p, 0)
}

// take applies an outcome and those that come close behind it, in an order that does not depend on goroutines.
func (d *driver) take(first *outcome) {
	batch := []*outcome{first}
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for more := true; more && len(batch) < d.inFlight; {
		select {
		case o := <-d.results:
			batch = append(batch, o)
		case <-timer.C:
			more = false
		}
	}
	slices.SortStableFunc(batch, func(a, b *outcome) int {
		return cmp.Or(cmp.Compare(a.call.op, b.call.op), cmp.Compare(a.call.sortKey, b.call.sortKey), cmp.Compare(a.call.id, b.call.id))
	})
	now := d.now()
	for _, o := range batch {
		d.inFlight--
		if o.notSent {
			d.m.unsent(o.call)
			continue
		}
		d.m.ended(o.call)
		if o.call.op == opRollbackTask && o.err == nil {
			d.resaved = true
		}
		d.m.apply(o, now)
		d.unsaved = append(d.unsaved, o)
	}
}

// lookIn is how long from now the driver has to look whether somebody else has saved: never if the store tells of every save. A save
// of its own is a look too.
func (d *driver) lookIn() time.Duration {
	if _, told := d.r.store.(Notifier); told {
		return math.MaxInt64
	}
	return d.r.cfg.Poll - time.Since(d.lookedAt)
}

// refresh loads the record again if somebody else has saved it.
func (d *driver) refresh(ctx context.Context) {
	d.lookedAt = time.Now()
	h, err := d.head(ctx)
	if err != nil {
		d.log.Warn("look at task", "err", err)
		return // the next save tells
	}
	if h.Version != d.m.t.Version {
		d.resaved = true
	}
}

// save writes the changes of the turn. It reports true if the record has to be loaded again.
func (d *driver) save(ctx context.Context, now time.Time) (again bool, err error) {
	caller := ctx
	ctx = context.WithoutCancel(ctx)
	t := d.m.t
	d.saves++
	t.Lease.Renewal++
	t.SavedAt = now
	t.Nonce = fmt.Sprintf("%s/%d/%d", d.r.owner, d.fence, d.saves)
	change := d.m.change()
	began := time.Now() // of the first try: nobody knows which one the others see, and the lease must not seem longer to us than to them
	for try := 0; ; try++ {
		sctx, cancel := context.WithTimeout(ctx, d.r.cfg.CallLimit)
		d.echo.Store(true)
		err := d.r.store.Save(sctx, change)
		cancel()
		if err != nil {
			d.echo.Store(false)
		}
		if try > 0 && errors.Is(err, ErrVersionConflict) { // what was first may be an earlier try of this very save
			if h, herr := d.head(ctx); herr == nil && h.Nonce == t.Nonce {
				err = nil
			}
		}
		if err != nil && !errors.Is(err, ErrVersionConflict) && !errors.Is(err, ErrTaskNotFound) && !errors.Is(err, ErrGroupBusy) {
			// Nobody knows whether it was saved.
			h, herr := d.head(ctx)
			switch {
			case herr != nil:
				d.log.Warn("save task", "err", err)
				if err := d.backOff(caller, try, err); err != nil {
					return false, err
				}
				continue
			case h.Nonce == t.Nonce:
				err = nil
			case h.Version == change.Head.Version-1:
				if err := d.backOff(caller, try, err); err != nil {
					return false, err
				}
				continue
			case slices.Contains(h.Recent, t.Nonce): // it was, and somebody else has saved since
				d.saved(began, change)
				d.resaved = true
				return true, nil
			default:
				err = ErrVersionConflict
			}
		}
		switch {
		case err == nil:
			d.saved(began, change)
			return false, nil
		case errors.Is(err, ErrVersionConflict):
			d.resaved = true
			return true, nil
		}
		return false, err
	}
}

// saved notes that a change is in the store; the save of it began at a time.
func (d *driver) saved(began time.Time, c Change) {
	d.renewedAt.Store(int64(began.Sub(d.start)))
	d.lookedAt = began
	d.observe.saved(d.m.t.Summary(), c.Events)
	d.m.forget()
	d.unsaved = nil
}

// head reads the head as it is kept, within the time of a call.
func (d *driver) head(ctx context.Context) (*Head, error) {
	ctx, cancel := context.WithTimeout(ctx, d.r.cfg.CallLimit)
	defer cancel()
	return d.r.store.Head(ctx, d.m.t.ID)
}

// load reads the record as it is kept, within the time of a call.
func (d *driver) load(ctx context.Context) (*Task, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.r.cfg.CallLimit)
	defer cancel()
	return d.r.load(ctx, d.m.t.ID)
}

// backOff waits before the next try after err. A driver whose lease is over stops trying: somebody else may own the task. One that
// has not got the lease yet has decided nothing that must be kept: it stops when caller is done too.
func (d *driver) backOff(caller context.Context, try int, err error) error {
	taking := d.callCtx == nil
	switch {
	case taking && caller.Err() != nil:
		return fmt.Errorf("%w; the store did not take the lease: %w", context.Cause(caller), err)
	case taking && d.leaseLeft() <= 0:
		return err
	case d.leaseLeft() <= 0:
		return fmt.Errorf("%w: the store could not be reached for the time of the lease", ErrLeaseLost)
	}
	wait := min(d.r.delay(try), max(d.leaseLeft(), time.Millisecond))
	if taking {
		_ = sleep(caller, wait) // done is seen after the next try
		return nil
	}
	//nolint:forbidigo // what was decided must be saved whatever the caller's context says; the lease bounds it
	time.Sleep(wait)
	return nil
}

// reload takes the record as it is now, applies on top what has come of calls since the last save, and
// goes on from there. It returns ErrLeaseLost if the task has another owner.
func (d *driver) reload(ctx context.Context) error {
	t, err := d.load(ctx)
	for try := 0; err != nil; try++ {
		if errors.Is(err, ErrTaskNotFound) || errors.Is(err, ErrNewerSchema) {
			return err
		}
		if err := d.backOff(ctx, try, err); err != nil {
			return err
		}
		t, err = d.load(ctx)
	}
	if t.Lease.Owner != d.r.owner || t.Lease.Fence != d.fence {
		return ErrLeaseLost
	}
	d.resaved = false
	d.m.adopt(t)
	now := d.now()
	for _, o := range d.unsaved {
		d.m.apply(o, now)
	}
	return nil
}

// close ends what belongs to the driver.
func (d *driver) close() {
	d.stopCalls()
	if d.grace != nil {
		d.grace.Stop()
	}
	close(d.gone)
	d.observe.close(d.stopping)
	d.r.release(d.m.t.ID)
}
