package main

import (
	"context"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// canary asks after the first batch whether the service is well: if so the task goes on without its pause, if not it is rolled back.
func canary(healthy func(ctx context.Context, instanceIDs []string) (bool, error)) ru.Hooks {
	return ru.Hooks{AfterBatch: func(ctx context.Context, t ru.Summary, b ru.Batch) (ru.Decision, error) {
		if b.Number > 1 || t.Kind == ru.Rollback {
			return "", nil // the task's own policy decides
		}
		ok, err := healthy(ctx, b.InstanceIDs)
		switch {
		case err != nil:
			return "", err // the task waits for the operator, with this error as the reason
		case ok:
			return ru.DecideContinue, nil
		default:
			return ru.DecideRollback, nil
		}
	}}
}

// retries tries a failed instance again until it has had so many attempts; then the operator decides.
func retries(attempts int) ru.Hooks {
	return ru.Hooks{Failed: func(_ context.Context, _ ru.Summary, f ru.InstanceFailure) (ru.Decision, error) {
		if f.Failure.Attempt < attempts {
			return ru.DecideRetry, nil
		}
		return "", nil
	}}
}

// nobodyAwake cancels a task that begins to wait for the operator at a time when there is none.
func nobodyAwake(asleep func(time.Time) bool) ru.Hooks {
	return ru.Hooks{Paused: func(_ context.Context, _ ru.Summary, p ru.Pause) (ru.Decision, error) {
		if asleep(p.Since) {
			return ru.DecideCancel, nil
		}
		return "", nil
	}}
}

// between reports whether a time of day is at or after the hour from and before the hour to, over midnight if need be.
func between(from, to int) func(time.Time) bool {
	return func(t time.Time) bool {
		h := t.Hour()
		if from <= to {
			return from <= h && h < to
		}
		return h >= from || h < to
	}
}
