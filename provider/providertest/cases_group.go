package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

func groupCases() []Case {
	needProcesses := func(b *Bed) string {
		if b.NoProcesses {
			return "no processes"
		}
		return ""
	}
	return []Case{
		{Name: "protection/set and lifted", Needs: func(b *Bed) string {
			if b.NoProtection {
				return "no protection"
			}
			return ""
		}, Run: protection},
		{Name: "processes/suspended and resumed", Needs: needProcesses, Run: processes},
		{Name: "processes/missing group", Needs: needProcesses, Run: processesMissing},
		{Name: "start/running is done", Run: startRunning},
		{Name: "start/stopped", Needs: func(b *Bed) string {
			if b.PowerOff == nil {
				return "the bed cannot power instances off"
			}
			return ""
		}, Run: startStopped},
	}
}

func protection(ctx context.Context, b *Bed) error {
	ids := b.InstanceIDs[:2]
	set := func(on bool) mover {
		return func(ctx context.Context, g string, ts []provider.Target) ([]provider.Progress, error) {
			return b.Provider.SetProtection(ctx, g, ts, on)
		}
	}
	for n, s := range []struct {
		on    bool
		ids   []string
		want  provider.Lifecycle
		times int
	}{
		{on: true, ids: ids[:1], want: provider.Protected, times: 1},
		{on: true, ids: ids, want: provider.Protected, times: 1},
		{on: false, ids: ids, want: provider.InService, times: 2},
		{on: false, ids: ids, want: provider.InService, times: 2},
	} {
		if err := b.allDone(ctx, "SetProtection", set(s.on), targets(fmt.Sprint("protect-", n), s.ids...)); err != nil {
			return err
		}
		if err := errors.Join(b.show(ctx, s.want, s.ids...), b.exactly(s.times, Protected, s.ids...)); err != nil {
			return err
		}
	}
	return nil
}

func processes(ctx context.Context, b *Bed) error {
	p := b.Provider
	for n, s := range []struct {
		do   string
		what []provider.Process
		want []provider.Process
		// how often the cloud accepted a change so far
		suspended, resumed int
	}{
		{do: "suspend", want: nil},
		{do: "resume", want: nil},
		{do: "resume", what: []provider.Process{provider.ScaleIn}, want: nil},
		{do: "suspend", what: []provider.Process{provider.ScaleIn, provider.HealthCheck}, want: []provider.Process{provider.HealthCheck, provider.ScaleIn}, suspended: 1},
		{do: "suspend", what: []provider.Process{provider.HealthCheck, provider.ScaleIn}, want: []provider.Process{provider.HealthCheck, provider.ScaleIn}, suspended: 1},
		{do: "resume", what: []provider.Process{provider.ScaleIn}, want: []provider.Process{provider.HealthCheck}, suspended: 1, resumed: 1},
		{do: "suspend", what: []provider.Process{provider.ScaleIn, provider.ScaleOut, provider.HealthCheck}, want: []provider.Process{provider.HealthCheck, provider.ScaleIn, provider.ScaleOut}, suspended: 2, resumed: 1},
		{do: "resume", what: provider.Processes(), want: nil, suspended: 2, resumed: 2},
	} {
		f := p.SuspendProcesses
		if s.do == "resume" {
			f = p.ResumeProcesses
		}
		what := fmt.Sprintf("%s %v (call %d)", s.do, s.what, n)
		if err := f(ctx, b.GroupID, s.what, callID(fmt.Sprint("processes-", n))); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		g, err := p.Group(ctx, b.GroupID)
		if err != nil {
			return err
		}
		if got := slices.Sorted(slices.Values(g.Suspended)); !slices.Equal(got, s.want) {
			return fmt.Errorf("%s: suspended are %v, want %v", what, got, s.want)
		}
		if k := b.Effects(Suspended, ""); k != s.suspended {
			return fmt.Errorf("%s: %d changes by SuspendProcesses, want %d", what, k, s.suspended)
		}
		if k := b.Effects(Resumed, ""); k != s.resumed {
			return fmt.Errorf("%s: %d changes by ResumeProcesses, want %d", what, k, s.resumed)
		}
	}
	return nil
}

func processesMissing(ctx context.Context, b *Bed) error {
	const none = "asg-providertest-none"
	some := []provider.Process{provider.ScaleIn}
	return errors.Join(
		is("SuspendProcesses of a missing group", b.Provider.SuspendProcesses(ctx, none, some, callID("s")), provider.ErrNotFound),
		is("ResumeProcesses of a missing group", b.Provider.ResumeProcesses(ctx, none, some, callID("r")), provider.ErrNotFound))
}

func startRunning(ctx context.Context, b *Bed) error {
	before := b.tally()
	if err := b.allDone(ctx, "Start of what runs", b.Provider.Start, targets("start", b.InstanceIDs[:2]...)); err != nil {
		return err
	}
	return b.since(before, "Start of what runs")
}

func startStopped(ctx context.Context, b *Bed) error {
	ids := b.InstanceIDs[:2]
	if err := b.allDone(ctx, "EnterStandby", b.Provider.EnterStandby, targets("enter", ids...)); err != nil {
		return err
	}
	for _, id := range ids {
		b.PowerOff(id)
	}
	ts := targets("start", ids...)
	if err := b.allDone(ctx, "Start", b.Provider.Start, ts); err != nil {
		return err
	}
	for n := range ts {
		ts[n].Resent = true
	}
	if err := b.allDone(ctx, "Start sent again", b.Provider.Start, ts); err != nil {
		return err
	}
	if err := b.exactly(1, Started, ids...); err != nil {
		return err
	}
	for end := time.Now().Add(b.Patience); ; {
		got, err := b.Provider.Instances(ctx, b.GroupID, ids)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(got, func(i provider.Instance) bool { return i.Power != provider.Running }) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not Running after %v: %+v", b.Patience, got)
		}
		if err := wait(ctx, b.Interval); err != nil {
			return err
		}
	}
}

func contextCases() []Case {
	return []Case{
		{Name: "context/over before the call", Run: contextOver},
		{Name: "context/ends during the call", Run: contextEnds},
		{Name: "concurrent calls", Run: concurrent},
		{Name: "pace", Needs: needPacer, Run: pace},
	}
}

func needPacer(b *Bed) string {
	if _, ok := b.Provider.(provider.Pacer); !ok {
		return "the provider is no Pacer"
	}
	return ""
}

// pace holds that a Pacer lets everybody in sooner or later, and nobody twice.
func pace(ctx context.Context, b *Bed) error {
	var updates []provider.Update
	if !b.NoImages {
		updates = append(updates, b.imageUpdate())
	}
	if !b.NoScripts {
		updates = append(updates, b.scriptUpdate())
	}
	before := b.tally()
	for _, u := range updates {
		end := time.Now().Add(b.Patience)
		for left := 10 * len(b.InstanceIDs); left > 0; {
			now, rest := b.Provider.(provider.Pacer).Pace(u, left)
			switch {
			case now < 0 || now > left:
				return fmt.Errorf("Pace of %d %s updates is %d", left, u.Kind, now)
			case now < left && rest <= 0:
				return fmt.Errorf("Pace of %d %s updates is %d, and does not say when to ask again: %s", left, u.Kind, now, rest)
			case time.Now().After(end):
				return fmt.Errorf("Pace has not let %d %s updates begin within %s", left, u.Kind, b.Patience)
			}
			if left -= now; left > 0 {
				if err := wait(ctx, rest); err != nil {
					return err
				}
			}
		}
	}
	return b.since(before, "Pace")
}

// call is a harmless call of one method; its error joins those of single targets.
type call struct {
	name string
	do   func(ctx context.Context) error
}

// calls has a call of each method that the bed has. EnterStandby comes last, because it changes the most.
func (b *Bed) calls() []call {
	p, ids := b.Provider, b.InstanceIDs[:2]
	per := func(answers []provider.Progress, err error) error {
		for _, a := range answers {
			err = errors.Join(err, a.Err)
		}
		return err
	}
	all := []call{
		{"Group", func(ctx context.Context) error { _, err := p.Group(ctx, b.GroupID); return err }},
		{"Members", func(ctx context.Context) error { _, err := p.Members(ctx, b.GroupID); return err }},
		{"Instances", func(ctx context.Context) error { _, err := p.Instances(ctx, b.GroupID, ids); return err }},
		{"ExitStandby", func(ctx context.Context) error { return per(p.ExitStandby(ctx, b.GroupID, targets("x", ids...))) }},
		{"Start", func(ctx context.Context) error { return per(p.Start(ctx, b.GroupID, targets("s", ids...))) }},
	}
	if !b.NoProtection {
		all = append(all, call{"SetProtection", func(ctx context.Context) error {
			return per(p.SetProtection(ctx, b.GroupID, targets("p", ids...), false))
		}})
	}
	if !b.NoProcesses {
		some := []provider.Process{provider.ScaleIn}
		all = append(all,
			call{"SuspendProcesses", func(ctx context.Context) error { return p.SuspendProcesses(ctx, b.GroupID, some, callID("p")) }},
			call{"ResumeProcesses", func(ctx context.Context) error { return p.ResumeProcesses(ctx, b.GroupID, some, callID("r")) }})
	}
	if !b.NoImages {
		all = append(all, call{"Update", func(ctx context.Context) error {
			ts := targets("u", ids...)
			ts[0].CallID, ts[1].CallID = "", ""
			return per(p.Update(ctx, b.GroupID, b.imageUpdate(), ts))
		}})
	}
	return append(all, call{"EnterStandby", func(ctx context.Context) error {
		return per(p.EnterStandby(ctx, b.GroupID, targets("e", ids...)))
	}})
}

func contextOver(ctx context.Context, b *Bed) error {
	over, cancel := context.WithCancel(ctx)
	cancel()
	before := b.tally()
	var errs []error
	for _, c := range b.calls() {
		if err := b.prompt(over, c); !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s with a context that is over: error is %v, want one that wraps %w", c.name, err, context.Canceled))
		}
	}
	return errors.Join(append(errs, b.since(before, "a call with a context that is over"))...)
}

// errSlow says that a call outlasted its context.
var errSlow = errors.New("does not return although its context is over")

// prompt makes a call and waits for it no longer than Grace after its context's end.
func (b *Bed) prompt(ctx context.Context, c call) error {
	done := make(chan error, 1)
	go func() { done <- c.do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(b.Grace)
	defer late.Stop()
	select {
	case err := <-done:
		return err
	case <-late.C:
		return fmt.Errorf("%s %w", c.name, errSlow)
	}
}

func contextEnds(ctx context.Context, b *Bed) error {
	var errs []error
	for _, c := range b.calls() {
		// Whether the call is over by then depends on the bed. What counts is that it
		// returns, and that an error which the context brought about says so.
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		err := b.prompt(short, c)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			errs = append(errs, fmt.Errorf("%s with a context that ends: %w", c.name, err))
		}
	}
	return errors.Join(errs...)
}

func concurrent(ctx context.Context, b *Bed) error {
	var wg sync.WaitGroup
	errs := make([]error, len(b.InstanceIDs))
	for n, id := range b.InstanceIDs {
		wg.Go(func() {
			errs[n] = func() error {
				if err := b.allDone(ctx, "EnterStandby", b.Provider.EnterStandby, targets("enter-"+id, id)); err != nil {
					return err
				}
				if _, err := b.Provider.Members(ctx, b.GroupID); err != nil {
					return err
				}
				if _, err := b.Provider.Group(ctx, b.GroupID); err != nil {
					return err
				}
				if err := b.show(ctx, provider.Standby, id); err != nil {
					return err
				}
				return b.allDone(ctx, "ExitStandby", b.Provider.ExitStandby, targets("exit-"+id, id))
			}()
		})
	}
	wg.Wait()
	return errors.Join(append(errs, b.exactly(1, Entered, b.InstanceIDs...), b.exactly(1, Exited, b.InstanceIDs...))...)
}
