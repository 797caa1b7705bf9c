package rollingupgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// errHook marks a hook that panicked or hung.
var errHook = errors.New("hook did not return properly")

// begin starts a call. It goes on in a goroutine of its own, which ends with an outcome.
func (d *driver) begin(c *call) {
	slot := c.subject == ofRows
	if slot {
		select {
		case d.r.calls <- struct{}{}:
		default:
			return // another task was faster; the call is named and goes out next time
		}
	}
	d.m.started(c)
	d.inFlight++
	go func() {
		o := &outcome{call: c}
		switch {
		case d.leaseLeft() < d.r.cfg.CallLimit+d.r.cfg.Margin:
			o.notSent = true
		case c.subject == ofHook:
			d.hook(c, o)
		default:
			d.ask(c, o)
		}
		if slot {
			<-d.r.calls
		}
		select {
		case d.results <- o:
		case <-d.gone:
		}
	}()
}

// ask makes a provider call. One that does not return within its time is given up: its outcome is unknown.
func (d *driver) ask(c *call, o *outcome) {
	began := time.Now()
	limit := min(d.r.cfg.CallLimit, d.leaseLeft()-d.r.cfg.Margin)
	got, err := bounded(d.callCtx, limit, d.r.cfg.Margin, func(ctx context.Context) (*outcome, error) {
		got := &outcome{}
		d.r.call(ctx, c, got)
		return got, nil
	})
	if err != nil {
		o.err = fmt.Errorf("%w: %s: %w", provider.ErrTransient, c.op, err)
	} else {
		*o = *got
		o.call = c
	}
	d.log.Debug("call", "op", c.op, "instances", len(c.targets), "call", c.id, "took", time.Since(began), "err", o.err)
}

// bounded calls f with a limit. A panic is an error, and so is not to return within grace after the limit.
func bounded[T any](parent context.Context, limit, grace time.Duration, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	ch := make(chan result, 1)
	go func() {
		var res result
		returned := false
		defer func() {
			if p := recover(); p != nil {
				res.err = fmt.Errorf("%w: panic: %v", errHook, p)
			} else if !returned {
				return // the goroutine is being ended from inside; nobody waits for a result any more
			}
			ch <- res
		}()
		res.v, res.err = f(ctx)
		returned = true
	}()
	timer := time.NewTimer(limit + grace)
	defer timer.Stop()
	canceled := parent.Done()
	for {
		select {
		case res := <-ch:
			return res.v, res.err
		case <-canceled: // nobody wants it any more
			canceled = nil
			timer.Reset(max(grace, lastMoment))
		case <-timer.C:
			var none T
			return none, fmt.Errorf("%w: still at work after its time", errHook)
		}
	}
}

// lastMoment is how long something that was canceled may take to come to an end.
const lastMoment = 500 * time.Millisecond

// call makes a provider call.
func (r *Runner) call(ctx context.Context, c *call, o *outcome) {
	group := c.summary.GroupID
	switch c.op {
	case opLook:
		r.look(ctx, group, c, o)
	case opSuspend:
		o.err = r.provider.SuspendProcesses(ctx, group, c.processes, c.id)
	case opResume:
		o.err = r.provider.ResumeProcesses(ctx, group, c.processes, c.id)
	case opUnprotect:
		o.progress, o.err = r.provider.SetProtection(ctx, group, c.targets, false)
	case opProtect:
		o.progress, o.err = r.provider.SetProtection(ctx, group, c.targets, true)
	case opEnter:
		o.progress, o.err = r.provider.EnterStandby(ctx, group, c.targets)
	case opExit:
		o.progress, o.err = r.provider.ExitStandby(ctx, group, c.targets)
	case opStart:
		o.progress, o.err = r.provider.Start(ctx, group, c.targets)
	case opUpdate:
		o.progress, o.err = r.updater(c.update.Kind).Update(ctx, group, c.update, c.targets)
	case opReadImage:
		if s, ok := r.provider.(provider.ConfigurationSetter); ok {
			o.config, o.err = s.Configuration(ctx, group)
		}
	case opSetImage:
		if s, ok := r.provider.(provider.ConfigurationSetter); ok {
			o.err = s.SetConfigurationImage(ctx, group, c.configuration)
		}
	default:
		panic("rollingupgrade: unknown call " + c.op)
	}
}

const (
	looks       = 8 // so many pages of instances one look reads at once
	looksInVain = 5 // and so often in a row it asks for those that were throttled if none comes, 13 s in all
)

// look reads what is asked for.
func (r *Runner) look(ctx context.Context, group string, c *call, o *outcome) {
	// All at the same time; of several errors that about the group counts.
	var errs [3]error
	var ended [3]bool
	var wait sync.WaitGroup
	part := func(n int, wanted bool, read func() error) {
		if ended[n] = !wanted; ended[n] {
			return
		}
		wait.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[n], ended[n] = fmt.Errorf("panic: %v", p), true
				}
			}()
			errs[n] = read()
			ended[n] = true
		})
	}
	part(0, c.wantGroup, func() error {
		g, err := r.provider.Group(ctx, group)
		o.group = &g
		return err
	})
	part(1, c.wantMembers, func() (err error) {
		o.members, err = r.provider.Members(ctx, group)
		o.members = unique(o.members)
		return err
	})
	part(2, len(c.ids) > 0, func() (err error) {
		o.instances, err = r.instances(ctx, group, c.ids)
		return err
	})
	wait.Wait()
	if ended != [3]bool{true, true, true} {
		runtime.Goexit() // a part was ended from inside, and so is the whole
	}
	o.err = cmp.Or(errs[0], errs[1], errs[2])
}

// instances reads instances by ID, in as many pages as it takes. Pages that are throttled are asked for again and those that came are
// kept: begun from the start each time, a look at many instances would never come to its end under a low limit.
func (r *Runner) instances(ctx context.Context, group string, ids []string) (all []provider.Instance, err error) {
	size := or(r.env.limits.Instances, len(ids))
	pages := make([]page, (len(ids)-1)/size+1)
	for n := range pages {
		pages[n].ids = ids[n*size : min((n+1)*size, len(ids))]
	}
	for before, vain := 0, 0; ; vain++ {
		came, err := r.readPages(ctx, group, pages)
		if err == nil {
			break
		}
		if came > before {
			before, vain = came, 0
		}
		if !errors.Is(err, provider.ErrThrottled) || len(pages) == 1 || vain == looksInVain || sleep(ctx, r.delay(vain)) != nil {
			return nil, err
		}
	}
	for _, p := range pages {
		all = append(all, p.instances...)
	}
	return all, nil
}

// A page is a part of the instances that one look reads.
type page struct {
	ids       []string
	read      bool
	instances []provider.Instance
}

// readPages reads the pages that have not been read, and returns how many are by now. Errors other than of throttling come first.
func (r *Runner) readPages(ctx context.Context, group string, pages []page) (came int, err error) {
	errs := make([]error, len(pages))
	var g errgroup.Group
	g.SetLimit(looks)
	for n := range pages {
		p := &pages[n]
		if p.read {
			continue
		}
		g.Go(func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v", p)
				}
				errs[n] = err
			}()
			p.instances, err = r.provider.Instances(ctx, group, p.ids)
			p.read = err == nil
			return err
		})
	}
	_ = g.Wait() // errs has all of them
	for n, e := range errs {
		switch {
		case e == nil && !pages[n].read:
			runtime.Goexit() // this one was ended from inside, and so is the whole
		case e == nil:
			came++
		case err == nil || errors.Is(err, provider.ErrThrottled):
			err = e
		}
	}
	return came, err
}

// hook calls a hook.
func (d *driver) hook(c *call, o *outcome) {
	h := &d.r.cfg.Hooks
	if c.op == opRollbackTask {
		by := ByPolicy // the limit of a pause
		if p := c.summary.Pause; p != nil && p.Why == PausedByHook {
			by = ByHook
		}
		_, o.err = bounded(d.callCtx, 10*d.r.cfg.CallLimit, 0, func(ctx context.Context) (Summary, error) {
			return d.r.rollback(ctx, c.summary.ID, RollbackSpec{Description: "rolled back by itself: " + c.summary.Reason}, by)
		})
		return
	}
	d.observe.lock()
	defer d.observe.unlock()
	got, err := bounded(d.callCtx, d.r.cfg.HookTimeout, 0, func(ctx context.Context) (outcome, error) {
		var got outcome
		var err error
		switch c.op {
		case opBeforeBatch:
			err = h.BeforeBatch(ctx, c.summary, c.batch)
		case opAfterBatch:
			got.decision, err = h.AfterBatch(ctx, c.summary, c.batch)
		case opPaused:
			got.decision, err = h.Paused(ctx, c.summary, c.pause)
		case opFailed:
			got.decision, err = h.Failed(ctx, c.summary, c.failure)
		case opVerify:
			if h.Verify == nil {
				return got, fmt.Errorf("%w: this Runner has no Verify hook, and the task was begun with one", errHook)
			}
			got.verdicts, err = h.Verify(ctx, c.summary, c.ids)
		}
		if err == nil {
			err = legalDecision(c.op, got.decision)
		}
		return got, err
	})
	o.decision, o.verdicts, o.err = got.decision, got.verdicts, err
	d.log.Debug("hook", "op", c.op, "decision", o.decision, "err", err)
}

// legalDecision refuses decisions that a hook cannot make.
func legalDecision(op string, d Decision) error {
	ok := d == "" || d == DecidePause || d == DecideCancel
	switch op {
	case opAfterBatch, opPaused:
		ok = ok || d == DecideContinue || d == DecideRollback
	case opFailed:
		ok = ok || d == DecideRetry || d == DecideSkip
	}
	if ok {
		return nil
	}
	return fmt.Errorf("%w: hook %s cannot decide %q", ErrInvalid, op, clip(string(d)))
}

// An observer calls the Transition hook with saved events, one after the other, so that the driver does not wait for it.
type observer struct {
	r     *Runner
	turn  chan struct{} // held while a hook of the task runs
	mu    sync.Mutex
	queue []observed
	more  chan struct{}
	done  chan struct{}
	ctx   context.Context // done when nobody waits for the hook any more
	drop  context.CancelFunc
}

type observed struct {
	summary Summary
	events  []Event
}

func newObserver(r *Runner) *observer {
	//nolint:forbidigo // events already saved are observed even if the caller's context is done
	ctx, drop := context.WithCancel(context.Background())
	o := &observer{ctx: ctx, drop: drop, r: r, turn: make(chan struct{}, 1), more: make(chan struct{}, 1), done: make(chan struct{})}
	if r.cfg.Hooks.Transition == nil {
		close(o.done)
		return o
	}
	go o.work()
	return o
}

func (o *observer) lock()   { o.turn <- struct{}{} }
func (o *observer) unlock() { <-o.turn }

// saved logs events and queues them for the hook.
func (o *observer) saved(s Summary, events []Event) {
	for _, e := range events {
		o.r.cfg.Logger.Info(string(e.Kind), "task", s.ID, "group", s.GroupID, "batch", e.Batch, "instance", e.InstanceID, "state", e.To, "text", e.Text)
	}
	if o.r.cfg.Hooks.Transition == nil || len(events) == 0 {
		return
	}
	o.mu.Lock()
	o.queue = append(o.queue, observed{s, events})
	o.mu.Unlock()
	o.poke()
}

func (o *observer) poke() {
	select {
	case o.more <- struct{}{}:
	default:
	}
}

func (o *observer) work() {
	defer close(o.done)
	for range o.more {
		for {
			o.mu.Lock()
			queue := o.queue
			o.queue = nil
			o.mu.Unlock()
			if len(queue) == 0 {
				break
			}
			for _, q := range queue {
				for _, e := range q.events {
					if o.ctx.Err() != nil {
						return
					}
					o.call(q.summary, e)
				}
			}
		}
	}
}

func (o *observer) call(s Summary, e Event) {
	o.lock()
	defer o.unlock()
	_, err := bounded(o.ctx, o.r.cfg.HookTimeout, 0, func(ctx context.Context) (struct{}, error) {
		o.r.cfg.Hooks.Transition(ctx, s, e)
		return struct{}{}, nil
	})
	if err != nil {
		o.r.cfg.Logger.Warn("transition hook", "task", s.ID, "err", err)
	}
}

// close waits until all events have been observed. If the Runner was told to stop, it does not wait longer than its grace: then
// the rest is dropped.
func (o *observer) close(stopping bool) {
	defer o.drop()
	if o.r.cfg.Hooks.Transition == nil {
		return
	}
	o.poke()
	close(o.more)
	if !stopping {
		<-o.done
		return
	}
	timer := time.NewTimer(o.r.cfg.Grace)
	defer timer.Stop()
	select {
	case <-o.done:
	case <-timer.C:
		o.r.cfg.Logger.Warn("transition hook hangs: events are not observed")
		o.drop()
	}
}
