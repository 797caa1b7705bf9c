package providertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

func scriptCases() []Case {
	var cases []Case
	for _, c := range []Case{
		{Name: "script/looking changes nothing", Run: scriptLook},
		{Name: "script/acts only as the saved state says", Run: scriptNoState},
		{Name: "script/run", Run: scriptRun},
		{Name: "script/exit code", Needs: func(b *Bed) string {
			if b.FailingScript.Content == "" {
				return "the bed has no failing script"
			}
			return ""
		}, Run: scriptFails},
		{Name: "script/every answer lost once", Run: func(ctx context.Context, b *Bed) error { return scriptLost(ctx, b, false) }},
		{Name: "script/every answer lost once, tokens forgotten", Run: func(ctx context.Context, b *Bed) error { return scriptLost(ctx, b, true) }},
		{Name: "script/stale and never sent", Run: scriptStale},
		{Name: "script/sent twice at once", Run: scriptTwice},
		{Name: "script/stop", Run: scriptStop},
		{Name: "script/one bad instance", Needs: needVanish, Run: scriptOneBad},
	} {
		needs := c.Needs
		c.Needs = func(b *Bed) string {
			if b.NoScripts {
				return "no scripts"
			}
			if needs != nil {
				return needs(b)
			}
			return ""
		}
		cases = append(cases, c)
	}
	return cases
}

func (b *Bed) scriptUpdate() provider.Update {
	s := b.Script
	return provider.Update{Kind: provider.ScriptUpdate, Script: &s}
}

func scriptLook(ctx context.Context, b *Bed) error {
	d := b.drive(b.scriptUpdate(), b.InstanceIDs[:3]...)
	for range 2 {
		if err := d.look(ctx, d.rows); err != nil {
			return err
		}
		for _, r := range d.rows {
			if r.ended != nil || !r.act {
				return fmt.Errorf("the first look at %s does not ask to act: %+v", r.id, r.ended)
			}
		}
	}
	return nil
}

func scriptNoState(ctx context.Context, b *Bed) error {
	before := b.tally()
	if _, err := b.Provider.Update(ctx, b.GroupID, b.scriptUpdate(), targets("act", b.InstanceIDs[0])); err != nil {
		return fmt.Errorf("Update without a state: %w", err)
	}
	return b.since(before, "a call of Update whose target has no state")
}

func scriptRun(ctx context.Context, b *Bed) error {
	ids := b.InstanceIDs[:3]
	d := b.drive(b.scriptUpdate(), ids...)
	if err := d.run(ctx); err != nil {
		return err
	}
	if err := errors.Join(d.outcomes(provider.Updated), b.exactly(1, Ran, ids...), b.exactly(0, Stopped, ids...)); err != nil {
		return err
	}
	for _, r := range d.rows {
		if o := r.ended.Output; o == nil || !o.Exited || o.ExitCode != 0 || !strings.Contains(o.Text, b.ScriptOutput) {
			return fmt.Errorf("script on %s: output %+v, want exit code 0 and %q", r.id, o, b.ScriptOutput)
		}
	}
	return nil
}

func scriptFails(ctx context.Context, b *Bed) error {
	u := b.scriptUpdate()
	u.Script = &b.FailingScript
	d := b.drive(u, b.InstanceIDs[0])
	if err := d.run(ctx); err != nil {
		return err
	}
	end := d.rows[0].ended
	if err := is("a script that fails", end.Err, provider.ErrFailed); err != nil {
		return err
	}
	if o := end.Output; o == nil || !o.Exited || o.ExitCode != b.FailingExitCode {
		return fmt.Errorf("a script that fails: output %+v, want exit code %d", o, b.FailingExitCode)
	}
	return b.exactly(1, Ran, b.InstanceIDs[0])
}

func scriptLost(ctx context.Context, b *Bed, stale bool) error {
	ids := b.InstanceIDs[:3]
	d := b.drive(b.scriptUpdate(), ids...)
	d.drop, d.stale = true, stale
	if err := d.run(ctx); err != nil {
		return err
	}
	if err := b.exactly(1, Ran, ids...); err != nil {
		return err
	}
	if !stale {
		return d.outcomes(provider.Updated)
	}
	for _, r := range d.rows { // a cloud that cannot be asked leaves it open
		if err := r.ended.Err; err != nil && !errors.Is(err, provider.ErrOutcomeUnknown) {
			return fmt.Errorf("script on %s, sent long ago: %w", r.id, err)
		}
	}
	return nil
}

func scriptStale(ctx context.Context, b *Bed) error {
	return b.drive(b.scriptUpdate(), b.InstanceIDs[:2]...).staleNeverSent(ctx)
}

func scriptTwice(ctx context.Context, b *Bed) error {
	ids := b.InstanceIDs[:2]
	d := b.drive(b.scriptUpdate(), ids...)
	if err := d.look(ctx, d.rows); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for range 2 {
		ts := d.targets(d.rows, "act", false)
		wg.Go(func() {
			// One of the two may be refused. What counts is what happens.
			_, _ = b.Provider.Update(ctx, b.GroupID, d.u, ts)
		})
	}
	wg.Wait()
	return b.exactly(1, Ran, ids...)
}

func scriptStop(ctx context.Context, b *Bed) error {
	for n := range 2 {
		id := b.InstanceIDs[n]
		d := b.drive(b.scriptUpdate(), id)
		d.stopAfter = n
		if err := d.run(ctx); err != nil {
			return fmt.Errorf("stop after %d side effects: %w", n, err)
		}
		end := d.rows[0].ended
		ran := b.Effects(Ran, id)
		switch {
		case end.Err != nil:
			return fmt.Errorf("stop after %d side effects: %w", n, end.Err)
		case ran > 1:
			return fmt.Errorf("stop after %d side effects: the script ran %d times", n, ran)
		case ran == 0 && end.Outcome != provider.NotUpdated:
			return fmt.Errorf("stop after %d side effects: the script never ran, the outcome is %q", n, end.Outcome)
		case end.Outcome == provider.Updated && (end.Output == nil || !end.Output.Exited || end.Output.ExitCode != 0):
			return fmt.Errorf("stop after %d side effects: %q without exit code 0: %+v", n, end.Outcome, end.Output)
		}
	}
	return nil
}

func scriptOneBad(ctx context.Context, b *Bed) error {
	good, bad := []string{b.InstanceIDs[0], b.InstanceIDs[2]}, b.InstanceIDs[1]
	d := b.drive(b.scriptUpdate(), good[0], bad, good[1])
	if err := d.look(ctx, d.rows); err != nil {
		return err
	}
	b.Vanish(bad)
	if err := d.run(ctx); err != nil {
		return err
	}
	for _, r := range d.rows {
		if r.id == bad {
			if err := is("script on a released instance", r.ended.Err, provider.ErrNotFound); err != nil {
				return err
			}
		} else if r.ended.Err != nil {
			return fmt.Errorf("script on %s beside a released instance: %w", r.id, r.ended.Err)
		}
	}
	return b.exactly(1, Ran, good...)
}
