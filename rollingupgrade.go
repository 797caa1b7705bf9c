package rollingupgrade

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Runner creates tasks, takes commands for them and drives them. Its methods are safe for concurrent
// use. Any number of Runners, in any number of processes, may share a store: each task is driven by one at
// a time, and commands may be given to any.
type Runner struct {
	provider provider.Provider
	store    Store
	cfg      Config
	env      env
	owner    string
	calls    chan struct{} // a slot for each call in flight

	mu      sync.Mutex
	driving map[string]chan struct{} // wakes the driver of a task in this Runner
}

// Config tunes a Runner. The zero Config is ready to use.
type Config struct {
	// Logger receives state changes (Info), retries (Warn) and calls (Debug), without scripts or credentials. Nil discards.
	Logger *slog.Logger
	// Hooks are called as tasks are driven.
	Hooks Hooks
	// HookTimeout is how long a hook may take; zero means one minute.
	HookTimeout time.Duration
	// Kinds are own kinds of update, by their name in Update.Kind. Every Runner that may drive a task of such a kind needs it.
	Kinds map[provider.Kind]provider.Updater
	// Parallel is how many calls of one task may be in flight, and ParallelTotal how many of the Runner; zero means 16 and 64.
	Parallel, ParallelTotal int
	// Tasks is how many tasks Serve drives at a time; zero means 100.
	Tasks int
	// Backoff makes the delays between the tries of a call; nil means exponential from 1 s, by half more each, up to 30 s.
	// Its delays are used in order; Stop counts as the last delay again.
	Backoff func() backoff.BackOff
	// Poll is how often the store is looked at for commands of other processes, where the store is no
	// [Notifier], and how often Serve looks for tasks; zero means 2 s.
	Poll time.Duration
	// MaxWait is the longest time between two looks at an instance; zero means 2 minutes.
	MaxWait time.Duration
	// CallLimit is how long one provider call may take; zero means 60 s.
	CallLimit time.Duration
	// Lease is how long a Runner that has fallen silent still owns its tasks; zero means 180 s. It is renewed every Renew, zero
	// means 45 s, and a call is begun only if CallLimit and Margin, zero means 15 s, are left of it.
	Lease, Renew, Margin time.Duration
	// TokenTrust is how long after its first sending a call is sent again under the same client token; zero means 5 minutes. How
	// long the cloud remembers tokens is not documented.
	TokenTrust time.Duration
	// Lookup is how long after that a lost call is looked for before its outcome counts as unknown; zero means 2 minutes.
	Lookup time.Duration
	// Grace is how long calls in flight may take to end when Run's or Serve's context is done; zero means 10 s.
	Grace time.Duration
	// Owner names the Runner in leases; empty means a random name. No two living Runners may share one.
	Owner string
}

func (c Config) withDefaults() Config {
	c.Logger = or(c.Logger, slog.New(slog.DiscardHandler))
	c.HookTimeout = or(c.HookTimeout, time.Minute)
	c.Parallel, c.ParallelTotal, c.Tasks = or(c.Parallel, 16), or(c.ParallelTotal, 64), or(c.Tasks, 100)
	c.Poll, c.MaxWait = or(c.Poll, 2*time.Second), or(c.MaxWait, 2*time.Minute)
	c.CallLimit, c.Lease, c.Renew, c.Margin = or(c.CallLimit, time.Minute), or(c.Lease, 3*time.Minute), or(c.Renew, 45*time.Second), or(c.Margin, 15*time.Second)
	c.TokenTrust, c.Lookup, c.Grace = or(c.TokenTrust, 5*time.Minute), or(c.Lookup, 2*time.Minute), or(c.Grace, 10*time.Second)
	c.Owner = or(c.Owner, "runner-"+rand.Text())
	if c.Backoff == nil {
		c.Backoff = func() backoff.BackOff {
			return backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Second), backoff.WithMultiplier(1.5),
				backoff.WithRandomizationFactor(0), backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))
		}
	}
	return c
}

func (c *Config) validate() error {
	check := &checker{}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"Config.HookTimeout", c.HookTimeout},
		{"Config.Poll", c.Poll},
		{"Config.MaxWait", c.MaxWait},
		{"Config.CallLimit", c.CallLimit},
		{"Config.Lease", c.Lease},
		{"Config.Renew", c.Renew},
		{"Config.Margin", c.Margin},
		{"Config.TokenTrust", c.TokenTrust},
		{"Config.Lookup", c.Lookup},
		{"Config.Grace", c.Grace},
	} {
		check.duration(d.name, d.d)
	}
	for _, n := range []struct {
		name string
		n    int
	}{{"Config.Parallel", c.Parallel}, {"Config.ParallelTotal", c.ParallelTotal}, {"Config.Tasks", c.Tasks}} {
		check.count(n.name, n.n, 1)
	}
	if need := c.Renew + c.CallLimit + 2*c.Margin; c.Lease < need {
		check.field("Config.Lease", fmt.Sprintf("%s; must be at least Renew + CallLimit + 2 Margin = %s", c.Lease, need))
	}
	check.text("Config.Owner", c.Owner, maxText)
	for k, u := range c.Kinds {
		check.id("Config.Kinds", string(k))
		if k == provider.ImageUpdate || k == provider.ScriptUpdate {
			check.field("Config.Kinds", fmt.Sprintf("%s is the provider's own kind", k))
		}
		if u == nil {
			check.field("Config.Kinds", fmt.Sprintf("%s has no Updater", clip(string(k))))
		}
	}
	return errors.Join(check.errs...)
}

// New returns a Runner. The zero Config is ready to use. New reports every problem with its arguments at once, each as a *[FieldError]
// (ErrInvalid). It starts nothing.
func New(p provider.Provider, s Store, cfg Config) (*Runner, error) {
	cfg = cfg.withDefaults()
	err := cfg.validate()
	if p == nil {
		err = errors.Join(err, &FieldError{"p", "the provider must not be nil"})
	}
	if s == nil {
		err = errors.Join(err, &FieldError{"s", "the store must not be nil"})
	}
	if err != nil {
		return nil, &OpError{"new", "runner", err}
	}
	r := &Runner{provider: p, store: s, cfg: cfg, owner: cfg.Owner, calls: make(chan struct{}, cfg.ParallelTotal), driving: map[string]chan struct{}{}}
	_, sets := p.(provider.ConfigurationSetter)
	r.env = env{
		limits: sane(p.Limits()), hooks: &r.cfg.Hooks, setsImage: sets, tokenTrust: cfg.TokenTrust, lookup: cfg.Lookup,
		backoff: r.delay, poll: cfg.MaxWait,
	}
	if pacer, ok := p.(provider.Pacer); ok {
		r.env.pace = func(u provider.Update, n int) (now int, wait time.Duration) {
			defer func() {
				if p := recover(); p != nil {
					cfg.Logger.Error("Pace", "panic", p)
					now, wait = n, 0
				}
			}()
			return pacer.Pace(u, n)
		}
	}
	return r, nil
}

// delay is how long to wait after so many tries in vain.
func (r *Runner) delay(tries int) time.Duration {
	b, last := r.cfg.Backoff(), time.Second
	for range min(tries, 32) + 1 {
		d := b.NextBackOff()
		if d == backoff.Stop {
			break
		}
		last = d
	}
	return last
}

// updater returns what carries out updates of a kind.
func (r *Runner) updater(k provider.Kind) provider.Updater {
	if u := r.cfg.Kinds[k]; u != nil {
		return u
	}
	return r.provider
}

// known reports whether the Runner can carry out updates of a kind.
func (r *Runner) known(name string, k provider.Kind) error {
	if k == provider.ImageUpdate || k == provider.ScriptUpdate || r.cfg.Kinds[k] != nil {
		return nil
	}
	return &FieldError{name, fmt.Sprintf("unknown kind %q: neither %s nor %s nor in Config.Kinds", clip(string(k)), provider.ImageUpdate, provider.ScriptUpdate)}
}

// commandTries is how often a command is tried again when others save the same task at the same time.
const commandTries = 50

// do carries out a command: load, apply, save.
func (r *Runner) do(ctx context.Context, taskID string, c command, req []RequestID) error {
	wrap := func(err error) error { return &OpError{string(c.name), clip(taskID), err} }
	var id RequestID
	switch {
	case len(req) > 1:
		return wrap(&FieldError{"req", "at most one request ID"})
	case len(req) == 1:
		id = req[0]
		check := &checker{}
		check.id("RequestID", string(id))
		if len(check.errs) > 0 {
			return wrap(check.errs[0])
		}
	}
	words := &checker{}
	if words.text("reason", c.reason, MaxDescription); len(words.errs) > 0 {
		return wrap(words.errs[0])
	}
	for try := range commandTries {
		t, err := r.load(ctx, taskID)
		if err != nil {
			return wrap(err)
		}
		m := newMachine(t, r.env, time.Now().UTC().Round(0))
		if done, err := m.repeated(id, c.hash()); done || err != nil {
			if err != nil {
				return wrap(err)
			}
			return nil
		}
		if err := m.applyCommand(c); err != nil {
			return wrap(err)
		}
		m.rememberRequest(id, c.hash())
		if !m.dirty() {
			return nil
		}
		m.t.Nonce = newNonce()
		err = r.store.Save(ctx, m.change())
		switch {
		case err == nil:
			r.wake(taskID)
			return nil
		case errors.Is(err, ErrVersionConflict):
			if err := sleep(ctx, time.Duration(try)*5*time.Millisecond); err != nil {
				return wrap(err)
			}
			continue
		case errors.Is(err, ErrGroupBusy), errors.Is(err, ErrTaskNotFound):
			return wrap(err)
		}
		// Nobody knows whether it was saved.
		if h, herr := r.store.Head(context.WithoutCancel(ctx), taskID); herr != nil {
			return wrap(err)
		} else if h.Nonce == m.t.Nonce {
			r.wake(taskID)
			return nil
		} else if h.Version >= m.t.Version { // the driver may have saved on top of it
			saved, serr := r.saved(ctx, taskID, m)
			if serr != nil || !saved {
				return wrap(errors.Join(err, serr))
			}
			r.wake(taskID)
			return nil
		}
		return wrap(err)
	}
	return wrap(ErrVersionConflict)
}

// saved reports whether the events of a command whose save went unanswered are kept.
func (r *Runner) saved(ctx context.Context, taskID string, m *machine) (bool, error) {
	if len(m.events) == 0 {
		return false, nil
	}
	want := m.events[0]
	for e, err := range r.store.Events(context.WithoutCancel(ctx), taskID, want.Seq-1) {
		return err == nil && e == want, err
	}
	return false, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Pause asks a task to wait for Continue as soon as nothing is in flight. The reason is free text. The errors of all commands:
// ErrTaskNotFound, ErrInvalid, a *[CommandError] (ErrIllegalCommand), ErrUnknownInstance, ErrRequestMismatch, or the store's.
func (r *Runner) Pause(ctx context.Context, taskID, reason string, req ...RequestID) error {
	return r.do(ctx, taskID, command{name: CommandPause, reason: reason}, req)
}

// Continue ends a batch pause.
func (r *Runner) Continue(ctx context.Context, taskID string, req ...RequestID) error {
	return r.do(ctx, taskID, command{name: CommandContinue}, req)
}

// Retry tries failed instances once more, from the step that failed. They go to work at once.
func (r *Runner) Retry(ctx context.Context, taskID string, instanceIDs []string, req ...RequestID) error {
	return r.do(ctx, taskID, command{name: CommandRetry, instances: instanceIDs}, req)
}

// RetryFromStart tries failed instances once more, from the beginning of their update.
func (r *Runner) RetryFromStart(ctx context.Context, taskID string, instanceIDs []string, req ...RequestID) error {
	return r.do(ctx, taskID, command{name: CommandRetry, instances: instanceIDs, fromStart: true}, req)
}

// Skip goes on without instances that are not finished: they show as succeeded, marked skipped. Those
// in Standby stay there, and the operator moves them out. An instance at work is first brought to a safe end.
func (r *Runner) Skip(ctx context.Context, taskID string, instanceIDs []string, req ...RequestID) error {
	return r.do(ctx, taskID, command{name: CommandSkip, instances: instanceIDs}, req)
}

// CancelInstances goes on without instances that are not finished: they show as failed, marked canceled. Those
// in Standby stay there. An instance at work is first brought to a safe end.
func (r *Runner) CancelInstances(ctx context.Context, taskID string, instanceIDs []string, req ...RequestID) error {
	return r.do(ctx, taskID, command{name: CommandCancelInstances, instances: instanceIDs}, req)
}

// Cancel ends a task: nothing new starts, and what is in flight comes to a safe end. What is left over is listed by [Task.Leftovers];
// Restore puts it back.
func (r *Runner) Cancel(ctx context.Context, taskID, reason string, req ...RequestID) error {
	return r.do(ctx, taskID, command{name: CommandCancel, reason: reason}, req)
}

// CancelAndRestore is Cancel and Restore in one step.
func (r *Runner) CancelAndRestore(ctx context.Context, taskID, reason string, filter RestoreFilter, req ...RequestID) error {
	if err := filter.validate(); err != nil {
		return &OpError{string(CommandCancel), clip(taskID), err}
	}
	return r.do(ctx, taskID, command{name: CommandCancel, reason: reason, filter: &filter}, req)
}

// Restore puts back what an ended task changed and left behind, and nothing else: it starts what the task stopped, takes out of Standby what
// can run, protects again and resumes processes. Run or Serve does the work; until then the task holds its group again. It may
// be asked for any number of times. Besides the errors of all commands it returns a *[GroupBusyError] (ErrGroupBusy).
func (r *Runner) Restore(ctx context.Context, taskID string, filter RestoreFilter, req ...RequestID) error {
	if err := filter.validate(); err != nil {
		return &OpError{string(CommandRestore), clip(taskID), err}
	}
	return r.do(ctx, taskID, command{name: CommandRestore, filter: &filter}, req)
}

func (f *RestoreFilter) validate() error {
	check := &checker{}
	for i, id := range f.InstanceIDs {
		check.id(fmt.Sprintf("RestoreFilter.InstanceIDs[%d]", i), id)
	}
	for i, k := range f.Kinds {
		switch k {
		case LeftoverProcess, LeftoverStandby, LeftoverStopped, LeftoverProtection, LeftoverImage:
		default:
			check.field(fmt.Sprintf("RestoreFilter.Kinds[%d]", i), fmt.Sprintf("unknown kind %q", clip(string(k))))
		}
	}
	return errors.Join(check.errs...)
}

// Get returns a copy of a task, or ErrTaskNotFound.
func (r *Runner) Get(ctx context.Context, taskID string) (*Task, error) {
	t, err := r.load(ctx, taskID)
	if err != nil {
		return nil, &OpError{"get", clip(taskID), err}
	}
	return t, nil
}

// Output returns what the last script run on an instance printed, or ErrNoOutput.
func (r *Runner) Output(ctx context.Context, taskID, instanceID string) (provider.Output, error) {
	o, err := r.store.Output(ctx, taskID, instanceID)
	if err != nil {
		return o, &OpError{"output", clip(taskID) + " " + clip(instanceID), err}
	}
	return o, nil
}

// List yields the tasks that fit f, newest first, and stops after an error, which is the store's. See [Filter.After] for pages.
func (r *Runner) List(ctx context.Context, f Filter) iter.Seq2[Summary, error] {
	return func(yield func(Summary, error) bool) {
		for h, err := range r.store.List(ctx, f) {
			if err != nil {
				yield(Summary{}, &OpError{"list", "tasks", err})
				return
			}
			if !yield(h.Summary(), nil) {
				return
			}
		}
	}
}

// sane returns limits without negative ones.
func sane(l provider.Limits) provider.Limits {
	for _, n := range []*int{&l.Instances, &l.Standby, &l.Protection, &l.Start, &l.Update} {
		*n = max(0, *n)
	}
	return l
}
