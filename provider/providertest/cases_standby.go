package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

func standbyCases() []Case {
	return []Case{
		{Name: "standby/enter and exit", Run: enterAndExit},
		{Name: "standby/already there is done", Run: alreadyThere},
		{Name: "standby/sent again after a lost answer", Run: sentAgain},
		{Name: "standby/sent again after tokens are forgotten", Run: sentAgainStale},
		{Name: "standby/stale and never sent", Run: staleNeverSent},
		{Name: "standby/one bad instance", Needs: needVanish, Run: oneBad},
		{Name: "standby/missing instance", Run: missingInstance},
		{Name: "standby/more targets than the limit", Needs: needMany, Run: tooManyTargets},
	}
}

// callID is as long as call IDs get.
func callID(name string) string {
	const pad = "-0123456789-abcdefghijkl-MNOPQRSTUVWXYZ-"
	return (name + pad)[:40]
}

func targets(call string, ids ...string) []provider.Target {
	out := make([]provider.Target, len(ids))
	for n, id := range ids {
		out[n] = provider.Target{InstanceID: id, CallID: callID(call), Attempt: 1}
	}
	return out
}

// mover is one of the methods that answer per target.
type mover func(context.Context, string, []provider.Target) ([]provider.Progress, error)

// move calls a method and holds its answers against the contract: one for each target, in any order.
func (b *Bed) move(ctx context.Context, what string, f mover, ts []provider.Target) (map[string]provider.Progress, error) {
	sent := slices.Clone(ts)
	answers, err := f(ctx, b.GroupID, ts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	for n := range ts {
		if ts[n].InstanceID != sent[n].InstanceID || ts[n].CallID != sent[n].CallID {
			return nil, fmt.Errorf("%s changed the targets that it was given", what)
		}
	}
	by, err := index(what, ts, answers)
	if err != nil {
		return nil, err
	}
	for _, t := range ts {
		p, ok := by[t.InstanceID]
		switch {
		case !ok:
			return nil, fmt.Errorf("%s has no answer for %s", what, t.InstanceID)
		case !p.Done && p.Err == nil:
			return nil, fmt.Errorf("%s: the answer for %s has neither Done nor Err", what, t.InstanceID)
		case p.Done && p.Err != nil:
			return nil, fmt.Errorf("%s: the answer for %s has both Done and Err: %w", what, t.InstanceID, p.Err)
		}
	}
	return by, nil
}

// index holds that answers are for targets, one each at most.
func index(what string, ts []provider.Target, answers []provider.Progress) (map[string]provider.Progress, error) {
	by := make(map[string]provider.Progress, len(answers))
	for _, p := range answers {
		if !slices.ContainsFunc(ts, func(t provider.Target) bool { return t.InstanceID == p.InstanceID }) {
			return nil, fmt.Errorf("%s answers for %q, which was no target", what, p.InstanceID)
		}
		if _, twice := by[p.InstanceID]; twice {
			return nil, fmt.Errorf("%s answers twice for %s", what, p.InstanceID)
		}
		by[p.InstanceID] = p
	}
	return by, nil
}

// allDone calls a method and holds that each answer is Done.
func (b *Bed) allDone(ctx context.Context, what string, f mover, ts []provider.Target) error {
	by, err := b.move(ctx, what, f, ts)
	if err != nil {
		return err
	}
	for _, t := range ts {
		if p := by[t.InstanceID]; p.Err != nil {
			return fmt.Errorf("%s: %s: %w", what, t.InstanceID, p.Err)
		}
	}
	return nil
}

// show holds that instances are in a lifecycle state.
func (b *Bed) show(ctx context.Context, want provider.Lifecycle, ids ...string) error {
	got, err := b.Provider.Instances(ctx, b.GroupID, ids)
	if err != nil {
		return err
	}
	if len(got) != len(ids) {
		return fmt.Errorf("Instances(%q) has %d", ids, len(got))
	}
	for _, i := range got {
		if i.Lifecycle != want {
			return fmt.Errorf("%s is %q, want %q", i.ID, i.Lifecycle, want)
		}
	}
	return nil
}

func enterAndExit(ctx context.Context, b *Bed) error {
	ids, p := b.InstanceIDs[:3], b.Provider
	if err := b.allDone(ctx, "EnterStandby", p.EnterStandby, targets("enter", ids...)); err != nil {
		return err
	}
	if err := b.show(ctx, provider.Standby, ids...); err != nil {
		return err
	}
	if err := b.show(ctx, provider.InService, b.InstanceIDs[3]); err != nil {
		return err
	}
	if err := b.allDone(ctx, "ExitStandby", p.ExitStandby, targets("exit", ids[:2]...)); err != nil {
		return err
	}
	return errors.Join(
		b.show(ctx, provider.InService, ids[:2]...), b.show(ctx, provider.Standby, ids[2]),
		b.exactly(1, Entered, ids...), b.exactly(1, Exited, ids[:2]...), b.exactly(0, Exited, ids[2]))
}

func alreadyThere(ctx context.Context, b *Bed) error {
	ids, p := b.InstanceIDs[:2], b.Provider
	if err := b.allDone(ctx, "ExitStandby of what is in service", p.ExitStandby, targets("exit", ids...)); err != nil {
		return err
	}
	if err := b.allDone(ctx, "EnterStandby", p.EnterStandby, targets("enter-1", ids[0])); err != nil {
		return err
	}
	if err := b.allDone(ctx, "EnterStandby of what is there in part", p.EnterStandby, targets("enter-2", ids...)); err != nil {
		return err
	}
	return errors.Join(b.exactly(1, Entered, ids...), b.exactly(0, Exited, ids...), b.show(ctx, provider.Standby, ids...))
}

// again sends EnterStandby and ExitStandby twice each; the second sending is changed by mark.
func again(ctx context.Context, b *Bed, mark func([]provider.Target) error) error {
	ids := b.InstanceIDs[:2]
	for _, m := range []struct {
		name string
		f    mover
		want provider.Lifecycle
		e    Effect
	}{{"EnterStandby", b.Provider.EnterStandby, provider.Standby, Entered}, {"ExitStandby", b.Provider.ExitStandby, provider.InService, Exited}} {
		ts := targets(m.name, ids...)
		if err := b.allDone(ctx, m.name, m.f, ts); err != nil {
			return err
		}
		if err := mark(ts); err != nil {
			return err
		}
		if err := b.allDone(ctx, m.name+" sent again", m.f, ts); err != nil {
			return err
		}
		if err := errors.Join(b.exactly(1, m.e, ids...), b.show(ctx, m.want, ids...)); err != nil {
			return err
		}
	}
	return nil
}

func sentAgain(ctx context.Context, b *Bed) error {
	return again(ctx, b, func(ts []provider.Target) error {
		for n := range ts {
			ts[n].Resent = true
		}
		return nil
	})
}

func sentAgainStale(ctx context.Context, b *Bed) error {
	return again(ctx, b, func(ts []provider.Target) error {
		for n := range ts {
			ts[n].Resent, ts[n].Stale = true, true
		}
		return b.forget(ctx)
	})
}

func staleNeverSent(ctx context.Context, b *Bed) error {
	before := b.tally()
	ts := targets("enter", b.InstanceIDs[:2]...)
	for n := range ts {
		ts[n].Resent, ts[n].Stale = true, true
	}
	by, err := b.move(ctx, "stale EnterStandby", b.Provider.EnterStandby, ts)
	if err != nil {
		return err
	}
	for _, t := range ts {
		if err := is("stale EnterStandby of "+t.InstanceID, by[t.InstanceID].Err, provider.ErrNotBegun, provider.ErrOutcomeUnknown); err != nil {
			return err
		}
	}
	return b.since(before, "a stale EnterStandby that was never sent before")
}

func oneBad(ctx context.Context, b *Bed) error {
	good, bad := []string{b.InstanceIDs[0], b.InstanceIDs[2]}, b.InstanceIDs[1]
	b.Vanish(bad)
	by, err := b.move(ctx, "EnterStandby with a released instance", b.Provider.EnterStandby, targets("enter", good[0], bad, good[1]))
	if err != nil {
		return err
	}
	if err := is("EnterStandby of the released instance", by[bad].Err, provider.ErrNotFound); err != nil {
		return err
	}
	for _, id := range good {
		if err := by[id].Err; err != nil && !errors.Is(err, provider.ErrRefused) {
			return fmt.Errorf("EnterStandby of %s beside a released instance: %w, want none or one that wraps %q", id, err, provider.ErrRefused)
		}
	}
	if err := b.allDone(ctx, "EnterStandby of the good ones alone", b.Provider.EnterStandby, targets("enter-again", good...)); err != nil {
		return err
	}
	return errors.Join(b.exactly(1, Entered, good...), b.show(ctx, provider.Standby, good...))
}

func missingInstance(ctx context.Context, b *Bed) error {
	movers := map[string]mover{
		"EnterStandby": b.Provider.EnterStandby, "ExitStandby": b.Provider.ExitStandby, "Start": b.Provider.Start,
	}
	if !b.NoProtection {
		movers["SetProtection"] = func(ctx context.Context, g string, ts []provider.Target) ([]provider.Progress, error) {
			return b.Provider.SetProtection(ctx, g, ts, true)
		}
	}
	for _, name := range []string{"EnterStandby", "ExitStandby", "Start", "SetProtection"} {
		f := movers[name]
		if f == nil {
			continue
		}
		by, err := b.move(ctx, name, f, targets(name, missing))
		if err != nil {
			return err
		}
		if err := is(name+" of a missing instance", by[missing].Err, provider.ErrNotFound); err != nil {
			return err
		}
	}
	return nil
}

func needMany(b *Bed) string {
	if l := b.Provider.Limits().Standby; l == 0 || l >= len(b.InstanceIDs) {
		return "the bed has no more instances than one call may carry"
	}
	return ""
}

func tooManyTargets(ctx context.Context, b *Bed) error {
	answers, err := b.Provider.EnterStandby(ctx, b.GroupID, targets("enter", b.InstanceIDs...))
	if err != nil {
		return err
	}
	by, err := index("EnterStandby", targets("", b.InstanceIDs...), answers)
	if err != nil {
		return err
	}
	var rest []string
	for _, id := range b.InstanceIDs {
		if p, answered := by[id]; !answered {
			rest = append(rest, id)
		} else if p.Err != nil {
			return p.Err
		}
	}
	if done := len(b.InstanceIDs) - len(rest); done == 0 || done > b.Provider.Limits().Standby {
		return fmt.Errorf("EnterStandby answers for %d of %d targets, the limit is %d", done, len(b.InstanceIDs), b.Provider.Limits().Standby)
	}
	return errors.Join(b.exactly(0, Entered, rest...), b.show(ctx, provider.InService, rest...))
}
