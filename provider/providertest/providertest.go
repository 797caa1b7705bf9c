// Package providertest is the suite for implementers of [provider.Provider].
//
// Offer a [Bed] (a provider with a group that is ready to be worked on, and a few hooks) and run the suite on it:
//
//	func TestProvider(t *testing.T) {
//		providertest.Run(t, providertest.Harness{Bubble: true, New: newBed})
//	}
//
// What a provider or its test bed cannot do is a field whose zero value means that it can. The cases
// take the part of a Runner: they look, act, lose answers, send again, stop, and count what came of it.
package providertest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Harness makes test beds.
type Harness struct {
	// New returns a fresh bed. It is called once for each case, inside the case's bubble.
	New func() (*Bed, error)
	// Bubble runs each case in a testing/synctest bubble, where waiting costs no time. It
	// is for beds that do without sockets and without goroutines started elsewhere.
	Bubble bool
	// Skip names cases that are known not to hold, with the reason.
	Skip map[string]string
}

// A Bed is a provider with a scaling group to work on.
type Bed struct {
	Provider provider.Provider
	GroupID  string
	// InstanceIDs are members of the group: at least 4, in service, Running, not protected, with an agent that answers. With
	// more than Limits.Standby of them (and more than an Act's MaxTargets), the limits are tested too.
	// No process of the group is suspended.
	InstanceIDs []string
	// ImageID is an image that the instances do not run and could.
	ImageID string
	// Script ends with exit code 0 and prints ScriptOutput among other things.
	Script       provider.ScriptSpec
	ScriptOutput string
	// FailingScript ends with FailingExitCode, which is not zero. Empty content skips what needs it.
	FailingScript   provider.ScriptSpec
	FailingExitCode int

	// Effects counts how often the cloud has accepted a side effect for an instance.
	// For Suspended and Resumed the instance is empty.
	Effects func(e Effect, instanceID string) int
	// ForgetTokens makes the cloud forget all client tokens. Nil: waiting for Long is enough.
	ForgetTokens func()
	// Vanish releases an instance. Nil skips what needs it.
	Vanish func(instanceID string)
	// PowerOff makes an instance Stopped, behind the provider's back. Nil skips what needs it.
	PowerOff func(instanceID string)
	// Close is called at the end of the case. Nil does nothing.
	Close func()

	// Interval is how long to wait between looks where the provider does not say; zero means 5 s.
	Interval time.Duration
	// Patience is how long an update may take; zero means 1 hour.
	Patience time.Duration
	// Long is how long it takes until the cloud has done all that it was told; zero means 15 min.
	Long time.Duration
	// Grace is how much later than its context a call may return; zero means 2 s.
	Grace time.Duration

	// NoImages, NoScripts, NoProtection and NoProcesses say what the provider has not.
	NoImages, NoScripts, NoProtection, NoProcesses bool
}

// Effect is a side effect that a [Bed] counts. The values are the cloud's own actions.
type Effect string

// The side effects.
const (
	Entered   Effect = "EnterStandby"
	Exited    Effect = "ExitStandby"
	Protected Effect = "SetInstancesProtection" // protection set or lifted
	Stopped   Effect = "StopInstances"
	Replaced  Effect = "ReplaceSystemDisk"
	Started   Effect = "StartInstances"
	Ran       Effect = "RunCommand"
	Halted    Effect = "StopInvocation"
	Suspended Effect = "SuspendProcesses"
	Resumed   Effect = "ResumeProcesses"
)

// A Case is one test of the suite.
type Case struct {
	Name string
	// Needs returns why the case cannot run on the bed; empty if it can.
	Needs func(b *Bed) string
	// Run returns what does not hold.
	Run func(ctx context.Context, b *Bed) error
}

// Cases returns the suite, in order.
func Cases() []Case {
	var all []Case
	for _, part := range [][]Case{readCases(), standbyCases(), groupCases(), contextCases(), imageCases(), scriptCases()} {
		all = append(all, part...)
	}
	return all
}

// Run runs each case as a subtest.
func Run(t *testing.T, h Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			if why := h.Skip[c.Name]; why != "" {
				t.Skip(why)
			}
			one := func(t *testing.T) {
				skipped, err := h.run(t.Context(), c)
				if skipped != "" {
					t.Skip(skipped)
				}
				if err != nil {
					t.Error(err)
				}
			}
			if h.Bubble {
				synctest.Test(t, one)
			} else {
				one(t)
			}
		})
	}
}

// Check runs each case and returns what does not hold, by the name of the case. It
// does without package testing's T and ignores Bubble: call it inside a bubble for that.
func Check(ctx context.Context, h Harness) map[string]error {
	failed := make(map[string]error)
	for _, c := range Cases() {
		if h.Skip[c.Name] != "" {
			continue
		}
		if _, err := h.run(ctx, c); err != nil {
			failed[c.Name] = err
		}
	}
	return failed
}

// run runs one case on a fresh bed. A panic of the provider is an error.
func (h Harness) run(ctx context.Context, c Case) (skipped string, err error) {
	b, err := h.New()
	if err != nil {
		return "", fmt.Errorf("test bed: %w", err)
	}
	if b.Close != nil {
		defer b.Close()
	}
	if err := b.complete(); err != nil {
		return "", fmt.Errorf("test bed: %w", err)
	}
	if c.Needs != nil {
		if why := c.Needs(b); why != "" {
			return why, nil
		}
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return "", c.Run(ctx, b)
}

func (b *Bed) complete() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New(what))
		}
	}
	need(b.Provider != nil, "no Provider")
	need(b.GroupID != "", "no GroupID")
	need(len(b.InstanceIDs) >= 4, "fewer than 4 InstanceIDs")
	need(b.ImageID != "" || b.NoImages, "no ImageID")
	need(b.Script.Content != "" || b.NoScripts, "no Script")
	need(b.Effects != nil, "no Effects")
	if b.Interval <= 0 {
		b.Interval = 5 * time.Second
	}
	if b.Patience <= 0 {
		b.Patience = time.Hour
	}
	if b.Long <= 0 {
		b.Long = 15 * time.Minute
	}
	if b.Grace <= 0 {
		b.Grace = 2 * time.Second
	}
	return errors.Join(errs...)
}

// forget waits until the first sending of a call is long ago and its client token forgotten.
func (b *Bed) forget(ctx context.Context) error {
	if b.ForgetTokens != nil {
		b.ForgetTokens()
	}
	return wait(ctx, b.Long)
}

// wait waits for d or until ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// effects is what the cloud has accepted so far.
type effects map[string]int

var allEffects = []Effect{Entered, Exited, Protected, Stopped, Replaced, Started, Ran, Halted}

// tally counts all effects.
func (b *Bed) tally() effects {
	n := make(effects)
	for _, e := range allEffects {
		for _, id := range b.InstanceIDs {
			if k := b.Effects(e, id); k != 0 {
				n[string(e)+" "+id] = k
			}
		}
	}
	for _, e := range []Effect{Suspended, Resumed} {
		if k := b.Effects(e, ""); k != 0 {
			n[string(e)] = k
		}
	}
	return n
}

// since says which effects came up since before; nil if none.
func (b *Bed) since(before effects, what string) error {
	var errs []error
	now := b.tally()
	for _, e := range allEffects {
		for _, id := range b.InstanceIDs {
			key := string(e) + " " + id
			if now[key] != before[key] {
				errs = append(errs, fmt.Errorf("%s had the effect %s", what, key))
			}
		}
	}
	for _, e := range []Effect{Suspended, Resumed} {
		if now[string(e)] != before[string(e)] {
			errs = append(errs, fmt.Errorf("%s had the effect %s", what, e))
		}
	}
	return errors.Join(errs...)
}

// atMost holds that no effect happened more often than n times on any of ids.
func (b *Bed) atMost(n int, ids []string, which ...Effect) error {
	var errs []error
	for _, id := range ids {
		for _, e := range which {
			if got := b.Effects(e, id); got > n {
				errs = append(errs, fmt.Errorf("%d times %s on %s, at most %d are right", got, e, id, n))
			}
		}
	}
	return errors.Join(errs...)
}

// exactly holds that an effect happened n times on each of ids.
func (b *Bed) exactly(n int, e Effect, ids ...string) error {
	var errs []error
	for _, id := range ids {
		if got := b.Effects(e, id); got != n {
			errs = append(errs, fmt.Errorf("%d times %s on %s, want %d", got, e, id, n))
		}
	}
	return errors.Join(errs...)
}
