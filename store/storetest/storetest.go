package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

// A Bed makes the stores that a case works with. New must be set.
type Bed struct {
	// New makes a store with nothing in it, another one with every call. Most cases call it once.
	New func() (rollingupgrade.Store, error)
	// Reopen opens the data of s once more: as another process sees it, or a later life of this one. Nil says that the data
	// ends with the store, as in memory; cases that need it are left out. If it is set, each case ends with a look at
	// what is kept through another opening.
	Reopen func(s rollingupgrade.Store) (rollingupgrade.Store, error)
	// Exclusive says that there can be only one opening at a time: Reopen closes s, or leaves it as a killed process
	// does, and the case does not use s any more. Otherwise both are used at once.
	Exclusive bool
	// Close is called with every store that New and Reopen returned, at the end of the case, and must
	// accept one that is closed already. Nil does nothing.
	Close func(s rollingupgrade.Store) error

	// Patience is how long a case may take before it counts as stuck; zero means a minute.
	Patience time.Duration
	// Told is how long a [rollingupgrade.Notifier] may take; zero means ten seconds.
	Told time.Duration
	// Rows, Tasks and Events are the sizes of the large cases; zero means 10,000 rows, 1,000 tasks and 1,000 events.
	Rows, Tasks, Events int
}

// A Case is one test of the suite.
type Case struct {
	// Name is the part of the contract and the case, such as "save/rows".
	Name string
	// Demands says what a store must do.
	Demands string
	// Needs returns why the case cannot run on the bed; empty if it can. Nil: it always can.
	Needs func(Bed) string
	// Check runs the case and returns what does not hold, joined. It does without package testing's T.
	Check func(context.Context, Bed) error
}

// Cases returns the suite, in order.
func Cases() []Case {
	var all []Case
	for _, part := range [][]draft{
		createCases(), priorCases(), saveCases(), groupCases(), eventCases(), outputCases(),
		listCases(), copyCases(), contextCases(), iterationCases(), raceCases(), lostCases(), abilityCases(), reopenCases(), randomCases(), edgeCases(),
		pageCases(), deleteCases(),
	} {
		for _, d := range part {
			all = append(all, d.finish())
		}
	}
	return all
}

// Run runs each case as a subtest on a store of its own. Its data need not outlive the store; see [RunBed] for durable stores.
func Run(t *testing.T, open func(t *testing.T) rollingupgrade.Store) {
	RunBed(t, func(t *testing.T) Bed {
		return Bed{New: func() (rollingupgrade.Store, error) { return open(t), nil }}
	})
}

// RunBed runs each case as a subtest on a bed of its own.
func RunBed(t *testing.T, bed func(t *testing.T) Bed) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			b := bed(t)
			if c.Needs != nil {
				if why := c.Needs(b); why != "" {
					t.Skip(why)
				}
			}
			if err := c.Check(t.Context(), b); err != nil {
				t.Errorf("%v\ndemanded: %s", err, c.Demands)
			}
		})
	}
}

// Check runs the cases that can run on the bed and returns what does not hold, by the name of the case.
func Check(ctx context.Context, b Bed) map[string]error {
	failed := map[string]error{}
	for _, c := range Cases() {
		if c.Needs != nil && c.Needs(b) != "" {
			continue
		}
		if err := c.Check(ctx, b); err != nil {
			failed[c.Name] = err
		}
	}
	return failed
}

// A draft is a case as it is written down in this package.
type draft struct {
	name, demands string
	needs         func(Bed) string
	run           func(*kit)
}

func (d draft) finish() Case {
	return Case{Name: d.name, Demands: d.demands, Needs: d.needs, Check: func(ctx context.Context, b Bed) error {
		return b.check(ctx, d.run)
	}}
}

// or returns v, or def where v is not set.
func or[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// check runs one case on a fresh store. A panic of the store is an error, and so is to get stuck.
func (b Bed) check(ctx context.Context, run func(*kit)) error {
	b.Patience, b.Told = or(b.Patience, time.Minute), or(b.Told, 10*time.Second)
	b.Rows, b.Tasks, b.Events = or(b.Rows, 10_000), or(b.Tasks, 1_000), or(b.Events, 1_000)
	if b.New == nil {
		return errors.New("test bed: no New")
	}
	ctx, cancel := context.WithTimeout(ctx, b.Patience)
	defer cancel()
	k := &kit{ctx: ctx, bed: b, board: &board{want: map[string]*record{}, clock: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)}}
	s, err := b.New()
	if err != nil {
		return fmt.Errorf("test bed: new store: %w", err)
	}
	k.s = k.opened(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer k.closeAll()
		k.guard(func() {
			run(k)
			k.lookAgain()
		})
	}()
	select {
	case <-done:
	case <-ctx.Done():
		grace := time.NewTimer(min(b.Patience, 5*time.Second)) // for stores that heed the context
		defer grace.Stop()
		select {
		case <-done:
			k.errorf("the case took longer than %s", b.Patience)
		case <-grace.C:
			k.errorf("stuck: a method has not returned after %s (the last ones begun: %s)", b.Patience, k.doing())
		}
	}
	return k.failure()
}

// failures collects what does not hold.
type failures struct {
	mu   sync.Mutex
	errs []error
	more int
}

// most is how many failures of a case are reported.
const most = 8

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) == most {
		f.more++
		return
	}
	f.errs = append(f.errs, err)
}

// enough reports whether more failures would not be reported.
func (f *failures) enough() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.more > 0
}

func (f *failures) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.more > 0 {
		return errors.Join(append(f.errs[:len(f.errs):len(f.errs)], fmt.Errorf("and %d more", f.more))...)
	}
	return errors.Join(f.errs...)
}

// stop ends a case, or one goroutine of it, whose failure has been noted.
type stop struct{}

func (k *kit) errorf(format string, args ...any) { k.add(fmt.Errorf(format, args...)) }

func (k *kit) fatalf(format string, args ...any) {
	k.errorf(format, args...)
	panic(stop{})
}

// guard runs f and notes its panic.
func (k *kit) guard(f func()) {
	defer func() {
		switch p := recover().(type) {
		case nil, stop:
		default:
			k.errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	f()
}
