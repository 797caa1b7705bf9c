package rollingupgrade

import (
	"context"
)

// Decision is what a hook or an operator decides.
type Decision string

// The decisions. The zero Decision leaves it to the task's policy.
const (
	// DecidePause waits for the operator.
	DecidePause Decision = "pause"
	// DecideContinue goes on, where the policy would pause.
	DecideContinue Decision = "continue"
	// DecideCancel cancels: the task after a batch or on a pause, the instance on a failure.
	DecideCancel Decision = "cancel"
	// DecideRollback rolls the task back to Spec.Rollback.
	DecideRollback Decision = "roll_back"
	// DecideRetry tries a failed instance again, from the step that failed.
	DecideRetry Decision = "retry"
	// DecideSkip goes on; the instance shows as succeeded, marked skipped.
	DecideSkip Decision = "skip"
)

// Hooks are called by a Runner as it drives a task. Any field may be nil. Hooks that decide are called
// after the state that they decide about was saved, and once for each such state as long as the process lives; a
// Runner that takes over asks again if the answer was not saved. Calls for one task never overlap, unless one
// hangs past [Config.HookTimeout]; calls for different tasks may. A hook must not call commands of its own task and wait
// for their effect; its return value is its command. A hook that panics, hangs or returns an error pauses the task with the
// reason.
type Hooks struct {
	// BeforeBatch is called before a batch begins. An error vetoes: the task pauses with it, and Continue asks again.
	BeforeBatch func(ctx context.Context, t Summary, b Batch) error
	// AfterBatch is called when no instance of the batch is undecided. DecidePause, DecideContinue, DecideCancel and
	// DecideRollback overrule the pause policy.
	AfterBatch func(ctx context.Context, t Summary, b Batch) (Decision, error)
	// Paused is called once when a task has begun to wait for the operator. It may decide DecideContinue (batch pauses only),
	// DecideCancel or DecideRollback; DecidePause and zero keep waiting.
	Paused func(ctx context.Context, t Summary, p Pause) (Decision, error)
	// Verify is asked whether updated instances are healthy, many at once, before they go back in service. It is
	// called again until each is healthy, often enough in a row, or Spec.Verify.Timeout has passed; then the
	// text of the last verdict is the instance's error. An instance without a verdict is not healthy yet. An error
	// counts as that verdict for all.
	Verify func(ctx context.Context, t Summary, instanceIDs []string) ([]Verdict, error)
	// Failed is called once for each failed attempt of an instance. DecideRetry, DecideSkip and DecideCancel
	// decide, DecidePause waits for the operator, zero leaves it to the failure policy.
	Failed func(ctx context.Context, t Summary, f InstanceFailure) (Decision, error)
	// Transition observes an event already saved. It is lost if the process dies first, and may be called
	// by several Runners of a task one after the other, never twice for an event. Its failure is ignored.
	Transition func(ctx context.Context, t Summary, e Event)
}

// Verdict is what the Verify hook says of one instance.
type Verdict struct {
	InstanceID string
	Healthy    bool
	// Text says why not; it is the instance's error if the deadline passes.
	Text string
}

// InstanceFailure is what the Failed hook is told.
type InstanceFailure struct {
	InstanceID string
	Batch      int
	Failure    Failure
}

// JoinHooks returns hooks that call a and then b and so on. The first error and the first decision that is not zero
// count, and the later hooks are not asked then; an instance is healthy if all say so; Transition reaches all.
func JoinHooks(hooks ...Hooks) Hooks {
	var j Hooks
	for _, h := range hooks {
		j.BeforeBatch = joinBefore(j.BeforeBatch, h.BeforeBatch)
		j.AfterBatch = joinDeciders(j.AfterBatch, h.AfterBatch)
		j.Paused = joinDeciders(j.Paused, h.Paused)
		j.Failed = joinDeciders(j.Failed, h.Failed)
		j.Verify = joinVerify(j.Verify, h.Verify)
		j.Transition = joinTransition(j.Transition, h.Transition)
	}
	return j
}

func joinBefore(a, b func(context.Context, Summary, Batch) error) func(context.Context, Summary, Batch) error {
	if a == nil || b == nil {
		return orFunc(a, b, a == nil)
	}
	return func(ctx context.Context, t Summary, x Batch) error {
		if err := a(ctx, t, x); err != nil {
			return err
		}
		return b(ctx, t, x)
	}
}

func joinDeciders[T any](a, b func(context.Context, Summary, T) (Decision, error)) func(context.Context, Summary, T) (Decision, error) {
	if a == nil || b == nil {
		return orFunc(a, b, a == nil)
	}
	return func(ctx context.Context, t Summary, x T) (Decision, error) {
		if d, err := a(ctx, t, x); err != nil || d != "" {
			return d, err
		}
		return b(ctx, t, x)
	}
}

func joinVerify(a, b func(context.Context, Summary, []string) ([]Verdict, error)) func(context.Context, Summary, []string) ([]Verdict, error) {
	if a == nil || b == nil {
		return orFunc(a, b, a == nil)
	}
	return func(ctx context.Context, t Summary, ids []string) ([]Verdict, error) {
		va, err := a(ctx, t, ids)
		if err != nil {
			return nil, err
		}
		vb, err := b(ctx, t, ids)
		if err != nil {
			return nil, err
		}
		second := make(map[string]Verdict, len(vb))
		for _, v := range vb {
			second[v.InstanceID] = v
		}
		var both []Verdict
		for _, v := range va {
			if w, ok := second[v.InstanceID]; v.Healthy && ok {
				v = w
			} else if v.Healthy {
				continue // without a verdict of both it is not healthy yet
			}
			both = append(both, v)
		}
		return both, nil
	}
}

func joinTransition(a, b func(context.Context, Summary, Event)) func(context.Context, Summary, Event) {
	if a == nil || b == nil {
		return orFunc(a, b, a == nil)
	}
	return func(ctx context.Context, t Summary, e Event) {
		a(ctx, t, e)
		b(ctx, t, e)
	}
}

func orFunc[F any](a, b F, second bool) F {
	if second {
		return b
	}
	return a
}
