package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// An operator leads tasks to their end by what Get shows, through processes that may die at any moment. Every command carries
// a request ID and is repeated until it is answered.
type operator struct {
	g        *rig
	ctx      context.Context
	clerk    *process
	commands int
	accepted []accepted

	mu       sync.Mutex
	triggers []*trigger
	racing   sync.WaitGroup

	late     atomic.Bool    // the next driver comes late
	failures map[string]int // known failures of instances, by task and instance

	// decide says what becomes of an instance that has failed again after a retry; nil means skip.
	decide func(i *ru.Instance) ru.Command
}

// accepted is a command that the store has taken.
type accepted struct {
	taskID    string
	command   ru.Command
	instances []string
}

// A trigger is a command that is given as soon as the record shows something.
type trigger struct {
	when  func(t *shownTask) bool
	do    func(taskID string)
	fired bool
}

func newOperator(g *rig) *operator {
	o := &operator{g: g, ctx: context.Background(), failures: map[string]int{}}
	g.inv.onSave = o.saved
	return o
}

// within calls f in a goroutine of a process. It reports false if the process died meanwhile.
func within(p *process, f func()) bool {
	done := make(chan bool, 1)
	go func() {
		ok := false
		defer func() { done <- ok }()
		f()
		ok = true
	}()
	select {
	case ok := <-done:
		return ok
	case <-p.ctx.Done():
		return false
	case <-time.After(3 * 24 * time.Hour):
		fmt.Fprintf(os.Stderr, "HANG at %s\n", p.g.strike)
		p.kill()
		p.g.t.Errorf("%s: still at work after 3 days", p.g.strike)
		return true
	}
}

// asClerk calls f with the Runner of the operator's own process until it is not struck.
func (o *operator) asClerk(f func(r *ru.Runner) error) error {
	var last error
	for range 100 {
		o.mu.Lock()
		if o.clerk == nil || o.clerk.dead.Load() {
			o.clerk = o.g.start(false, false)
		}
		p := o.clerk
		o.mu.Unlock()
		err := error(nil)
		if !within(p, func() { err = f(p.r) }) {
			continue
		}
		last = err
		if errors.Is(err, errStore) || errors.Is(err, errLost) || err != nil && strings.Contains(err.Error(), errCut.Error()) {
			continue // the operator tries again
		}
		if errors.Is(err, provider.ErrThrottled) { // later, as the error says
			time.Sleep(time.Minute)
			continue
		}
		return err
	}
	return fmt.Errorf("100 tries in vain: %w", last)
}

// must fails the test if a command of the scenario is refused.
func (o *operator) must(what string, err error) {
	if err != nil {
		o.g.inv.problem("operator: %s: %v", what, err)
	}
}

func (o *operator) create(spec ru.Spec) string {
	var s ru.Summary
	o.must("create", o.asClerk(func(r *ru.Runner) (err error) {
		s, err = r.Create(o.ctx, spec)
		return err
	}))
	return s.ID
}

func (o *operator) rollback(id string, spec ru.RollbackSpec) string {
	var s ru.Summary
	o.must("roll back", o.asClerk(func(r *ru.Runner) (err error) {
		s, err = r.Rollback(o.ctx, id, spec)
		return err
	}))
	return s.ID
}

// command gives a command until it is answered, always under the same request ID.
func (o *operator) command(id string, c ru.Command, instances ...string) error {
	o.mu.Lock()
	o.commands++
	req := ru.RequestID(fmt.Sprintf("request-%d", o.commands))
	o.mu.Unlock()
	err := o.asClerk(func(r *ru.Runner) error {
		switch c {
		case ru.CommandPause:
			return r.Pause(o.ctx, id, "", req)
		case ru.CommandContinue:
			return r.Continue(o.ctx, id, req)
		case ru.CommandRetry:
			return r.Retry(o.ctx, id, instances, req)
		case ru.CommandSkip:
			return r.Skip(o.ctx, id, instances, req)
		case ru.CommandCancelInstances:
			return r.CancelInstances(o.ctx, id, instances, req)
		case ru.CommandCancel:
			return r.Cancel(o.ctx, id, "", req)
		case ru.CommandRestore:
			return r.Restore(o.ctx, id, ru.RestoreFilter{}, req)
		case cancelAndRestore:
			return r.CancelAndRestore(o.ctx, id, "", ru.RestoreFilter{Kinds: []ru.LeftoverKind{
				ru.LeftoverImage, ru.LeftoverProcess, ru.LeftoverStandby, ru.LeftoverStopped, ru.LeftoverProtection,
			}}, req)
		}
		panic("unknown command " + string(c))
	})
	if err == nil {
		o.mu.Lock()
		o.accepted = append(o.accepted, accepted{id, c, instances})
		o.mu.Unlock()
	}
	return err
}

// cancelAndRestore is Runner.CancelAndRestore.
const cancelAndRestore ru.Command = "cancel and restore"

// when gives a command as soon as a save shows what is asked for, beside everything else.
func (o *operator) when(cond func(t *shownTask) bool, do func(taskID string)) {
	o.triggers = append(o.triggers, &trigger{when: cond, do: do})
}

func (o *operator) saved(t *shownTask) {
	for _, tr := range o.triggers {
		if !tr.fired && tr.when(t) {
			tr.fired = true
			id := t.head.ID
			o.racing.Go(func() {
				time.Sleep(3*time.Millisecond + 1)
				tr.do(id)
			})
		}
	}
}

// run drives a task until it waits or has ended, by as many processes as it takes, and returns it.
func (o *operator) run(id string) *ru.Task {
	for range 1000 {
		p := o.g.driver
		if p == nil || p.dead.Load() {
			late := o.g.strike.mode == diesLate || o.late.Load()
			if p != nil && late {
				time.Sleep(2 * time.Hour) // longer than any deadline: time in which nobody drives counts for none
				o.g.cloud.ForgetTokens()
			}
			p = o.g.start(true, late)
			o.g.driver = p
		}
		var err error
		if !within(p, func() { err = p.r.Run(o.ctx, id) }) {
			continue
		}
		if err != nil {
			if errors.Is(err, errStore) {
				continue
			}
			o.g.inv.problem("run: %v", err)
			return o.get(id)
		}
		return o.get(id)
	}
	o.g.inv.problem("run: 1000 processes in vain")
	return o.get(id)
}

// runToPause runs a task until it waits, for more than a retry of what has an unknown outcome.
func (o *operator) runToPause(id string) {
	for range 20 {
		var unknown []string
		for _, i := range o.run(id).Instances {
			if i.Status == ru.InstanceFailed && i.Mark == "" && i.Error.Kind == "outcome unknown" {
				unknown = append(unknown, i.ID)
			}
		}
		if len(unknown) == 0 {
			return
		}
		o.must("retry", o.command(id, ru.CommandRetry, unknown...))
	}
	o.g.inv.problem("task %s does not come to a pause", id)
}

func (o *operator) get(id string) *ru.Task {
	t, err := o.g.store.Load(o.ctx, id)
	if err != nil {
		o.g.t.Fatal(err, o.g.inv.problems)
	}
	return t
}

// lead runs a task to its end: it continues after pauses, retries each failed instance once, and then decides.
func (o *operator) lead(id string) *ru.Task {
	for range 200 {
		o.run(id)
		o.racing.Wait() // what is being commanded is done before somebody looks
		t := o.get(id)
		if t.Restore.Active() || !t.Status.Ended() && !t.Status.Waiting() {
			continue
		}
		switch t.Status {
		case ru.StatusBatchPaused:
			o.must("continue", o.command(id, ru.CommandContinue))
		case ru.StatusFailurePaused:
			o.decideFailures(t)
		default:
			return t
		}
	}
	o.g.inv.problem("task %s does not end", id)
	return o.get(id)
}

// decideFailures retries what failed once, and decides what failed again.
func (o *operator) decideFailures(t *ru.Task) {
	var retry []string
	for n := range t.Instances {
		i := &t.Instances[n]
		if i.Status != ru.InstanceFailed || i.Mark != "" {
			continue
		}
		known := i.Error.Kind != "outcome unknown"
		if known {
			o.failures[t.ID+i.ID]++
		}
		if !known || o.failures[t.ID+i.ID] < 2 {
			retry = append(retry, i.ID)
			continue
		}
		c := ru.CommandSkip
		if o.decide != nil {
			c = o.decide(i)
		}
		o.must(string(c), o.command(t.ID, c, i.ID))
	}
	if len(retry) > 0 {
		o.must("retry", o.command(t.ID, ru.CommandRetry, retry...))
	}
}

// checkCommands holds I8: each accepted command is in the history once.
func (o *operator) checkCommands() {
	type key struct{ task, what, instance string }
	want, got := map[key]int{}, map[key]int{}
	tasks := map[string]bool{}
	for _, a := range o.accepted {
		tasks[a.taskID] = true
		what := map[ru.Command]string{ru.CommandRetry: "retry", ru.CommandSkip: "skip", ru.CommandCancelInstances: "cancel", cancelAndRestore: "cancel"}[a.command]
		if len(a.instances) == 0 {
			if a.command == cancelAndRestore || what == "" {
				what = "task " + string(a.command)
			}
			if a.command == cancelAndRestore {
				what = "task cancel"
			}
			want[key{a.taskID, what, ""}]++
		}
		for _, i := range a.instances {
			want[key{a.taskID, what, i}]++
		}
	}
	for id := range tasks {
		for e, err := range o.g.store.Events(o.ctx, id, 0) {
			switch {
			case err != nil:
				o.g.t.Fatal(err)
			case e.Kind == ru.EventCommand:
				got[key{id, "task " + e.To, ""}]++
			case e.Kind == ru.EventDecision && e.Cause == ru.ByOperator:
				got[key{id, e.To, e.InstanceID}]++
			}
		}
	}
	var keys []key
	for k := range want {
		keys = append(keys, k)
	}
	for k := range got {
		if want[k] == 0 {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return compareStrings(a.task+a.what+a.instance, b.task+b.what+b.instance) })
	for _, k := range keys {
		repeats := k.what == "task pause" || k.instance != "" // what is noted already is not noted again
		if got[k] > want[k] || got[k] < want[k] && (got[k] == 0 || !repeats) {
			o.g.inv.problem("I8: %s of %s %s was accepted %d times and is in the history %d times", k.what, k.task, k.instance, want[k], got[k])
		}
	}
}

func compareStrings(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
