package rollingupgrade

import (
	"fmt"
	"time"
)

// PauseMode says after which batches a task waits for the operator.
type PauseMode string

// The pause modes. The zero PauseMode is PauseNever.
const (
	PauseNever      PauseMode = "never"
	PauseFirstBatch PauseMode = "first_batch"
	PauseEveryBatch PauseMode = "every_batch"
)

// PauseOutcome is what happens when the limit of a pause has passed.
type PauseOutcome string

// The outcomes of a limit.
const (
	// OnLimitContinue goes on with the next batch. It is not for failure pauses.
	OnLimitContinue PauseOutcome = "continue"
	// OnLimitCancel cancels the task.
	OnLimitCancel PauseOutcome = "cancel"
	// OnLimitRollback rolls the task back to Spec.Rollback.
	OnLimitRollback PauseOutcome = "roll_back"
)

// PausePolicy says where a task waits for Continue.
type PausePolicy struct {
	// Mode is after which batches; the zero Mode is PauseNever.
	Mode PauseMode `json:"mode,omitempty"`
	// AfterLast pauses after the last batch too, where Mode pauses at all, before the processes
	// are resumed. By default nothing is left to hold there and there is no pause.
	AfterLast bool `json:"after_last,omitempty"`
	// Limit is how long a pause may last, nanoseconds in JSON; zero waits for ever. OnLimit is what
	// happens then and must be set with Limit. A limit takes effect while a Runner serves the store.
	Limit   time.Duration `json:"limit,omitempty"`
	OnLimit PauseOutcome  `json:"on_limit,omitempty"`
}

// After reports whether the policy pauses after batch done, counted from 1, of total.
func (p PausePolicy) After(done, total int) bool {
	if done == total {
		return p.AfterLast && p.mode() != PauseNever
	}
	switch p.mode() {
	case PauseFirstBatch:
		return done == 1
	case PauseEveryBatch:
		return true
	}
	return false
}

func (p PausePolicy) mode() PauseMode {
	if p.Mode == "" {
		return PauseNever
	}
	return p.Mode
}

// words says the policy for a person.
func (p PausePolicy) words(total int) string {
	var at string
	switch p.mode() {
	case PauseFirstBatch:
		at = "pauses after the first batch"
	case PauseEveryBatch:
		at = "pauses after every batch"
	default:
		return "never pauses by itself"
	}
	switch {
	case p.AfterLast:
		at += ", also after the last one, before the processes are resumed"
	case total == 1:
		at = "does not pause: after the only batch nothing is left to hold"
	default:
		at += ", not after the last one"
	}
	if p.Limit > 0 {
		at += fmt.Sprintf("; a pause lasts at most %s, then: %s", p.Limit, p.OnLimit)
	}
	return at
}

// Budget is how many failed instances are tolerated: a number, or a percentage of the batch or of all
// instances, rounded down. If both are set the smaller counts. The zero Budget is not set.
type Budget struct {
	Instances int `json:"instances,omitempty"`
	Percent   int `json:"percent,omitempty"`
}

// IsZero reports whether the budget is not set.
func (b Budget) IsZero() bool { return b == Budget{} }

// allows reports how many failures of n instances are within the budget.
func (b Budget) allows(n int) int {
	switch p := n * b.Percent / 100; {
	case b.Percent == 0:
		return b.Instances
	case b.Instances == 0:
		return p
	default:
		return min(p, b.Instances)
	}
}

func (b Budget) words() string {
	switch {
	case b.Percent == 0:
		return fmt.Sprintf("%d", b.Instances)
	case b.Instances == 0:
		return fmt.Sprintf("%d %%", b.Percent)
	}
	return fmt.Sprintf("%d %%, at most %d", b.Percent, b.Instances)
}

// FailurePolicy says what failed instances mean. The zero policy waits for a
// decision about every failed instance.
type FailurePolicy struct {
	// PerBatch and Total are failure budgets: a failure within the budget is canceled by itself (the instance
	// stays failed, in Standby) and the task goes on; one more waits for the operator. Where both are set a
	// failure must be within both; where none is, every failure waits. Decisions of the operator do not count.
	PerBatch Budget `json:"per_batch,omitzero"`
	Total    Budget `json:"total,omitzero"`
	// Limit is how long the task waits for decisions; zero waits for ever. OnLimit is what happens
	// then (OnLimitCancel or OnLimitRollback) and must be set with Limit.
	Limit   time.Duration `json:"limit,omitempty"`
	OnLimit PauseOutcome  `json:"on_limit,omitempty"`
}

// tolerates reports whether one more failure is within the budget.
func (p FailurePolicy) tolerates(inBatch, batchSize, inTotal, total int) bool {
	if p.PerBatch.IsZero() && p.Total.IsZero() {
		return false
	}
	if !p.PerBatch.IsZero() && inBatch >= p.PerBatch.allows(batchSize) {
		return false
	}
	return p.Total.IsZero() || inTotal < p.Total.allows(total)
}

func (p FailurePolicy) words() string {
	var s string
	switch {
	case p.PerBatch.IsZero() && p.Total.IsZero():
		s = "every failed instance waits for a decision"
	case p.Total.IsZero():
		s = "tolerates " + p.PerBatch.words() + " failed per batch, then waits for decisions"
	case p.PerBatch.IsZero():
		s = "tolerates " + p.Total.words() + " failed in total, then waits for decisions"
	default:
		s = "tolerates " + p.PerBatch.words() + " failed per batch and " + p.Total.words() + " in total, then waits for decisions"
	}
	if p.Limit > 0 {
		s += fmt.Sprintf("; waits at most %s, then: %s", p.Limit, p.OnLimit)
	}
	return s
}

// VerifyPolicy says how the Verify hook is used. It has no effect without that hook.
type VerifyPolicy struct {
	// Timeout is how long an instance may take to be called healthy; zero means 10 minutes.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Interval is the time between two looks at an instance; zero means 5 seconds.
	Interval time.Duration `json:"interval,omitempty"`
	// Successes is how often in a row the hook must say healthy; zero means once.
	Successes int `json:"successes,omitempty"`
}

// Timeouts bound every wait. Time in a pause does not count.
type Timeouts struct {
	// Settle is how long the start waits until no scaling activity is in progress; zero means 10 minutes.
	Settle time.Duration `json:"settle,omitempty"`
	// Group bounds each other step that concerns the whole group; zero means 10 minutes.
	Group time.Duration `json:"group,omitempty"`
	// EnterStandby and ExitStandby bound these steps of an instance, protection included; zero means 10 minutes.
	EnterStandby time.Duration `json:"enter_standby,omitempty"`
	ExitStandby  time.Duration `json:"exit_standby,omitempty"`
	// Update bounds the update of an instance. Zero means one hour for images, and for scripts their own
	// timeout plus 10 minutes.
	Update time.Duration `json:"update,omitempty"`
	// Instance bounds one attempt of an instance as a whole; zero means the sum of its steps.
	Instance time.Duration `json:"instance,omitempty"`
	// Batch and Task pause the task when they have passed, once each; zero means the sum of their parts.
	Batch time.Duration `json:"batch,omitempty"`
	Task  time.Duration `json:"task,omitempty"`
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
