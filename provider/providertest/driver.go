package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// driver updates instances as a Runner does: it looks, saves, acts on what was saved, and looks again.
type driver struct {
	*Bed
	u    provider.Update
	rows []*row
	acts int // acting calls answered so far
	end  time.Time

	// drop throws the first answer to every call away, as a process does that dies: the call is
	// sent again with the state that was saved before.
	drop bool
	// stale has the cloud forget its tokens before an acting call is sent again, and marks it Stale.
	stale bool
	// stopAfter sets Stop once so many acting calls have been answered; negative means never.
	stopAfter int
	// acted is called after each acting call.
	acted func(acts int)
}

// row is what a Runner keeps of an instance.
type row struct {
	id     string
	state  []byte
	before *provider.Before
	act    bool
	max    int
	wait   time.Duration
	ended  *provider.Progress
}

func (b *Bed) drive(u provider.Update, ids ...string) *driver {
	d := &driver{Bed: b, u: u, stopAfter: -1}
	for _, id := range ids {
		d.rows = append(d.rows, &row{id: id})
	}
	return d
}

// run drives until each instance is done or failed.
func (d *driver) run(ctx context.Context) error {
	for d.end = time.Now().Add(d.Patience); ; {
		var look, act []*row
		for _, r := range d.rows {
			if r.ended == nil && !r.act {
				look = append(look, r)
			}
		}
		if err := d.look(ctx, look); err != nil {
			return err
		}
		for _, r := range d.rows {
			if r.ended == nil && r.act {
				act = append(act, r)
			}
		}
		for len(act) > 0 {
			limit := d.Provider.Limits().Update
			for _, r := range act {
				if r.max > 0 && (limit == 0 || r.max < limit) {
					limit = r.max
				}
			}
			if limit == 0 {
				limit = len(act)
			}
			some := act[:min(limit, len(act))]
			act = act[len(some):]
			if err := d.send(ctx, some); err != nil {
				return err
			}
		}
		pause, open := time.Duration(0), false
		for _, r := range d.rows {
			if r.ended == nil {
				open = true
				if !r.act && (pause == 0 || r.wait < pause) {
					pause = r.wait
				}
			}
		}
		if !open {
			return nil
		}
		if time.Now().After(d.end) {
			return fmt.Errorf("the update has not ended after %v", d.Patience)
		}
		if pause <= 0 {
			pause = d.Interval
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// targets are the rows as targets.
func (d *driver) targets(rows []*row, call string, resent bool) []provider.Target {
	ts := make([]provider.Target, len(rows))
	for n, r := range rows {
		ts[n] = provider.Target{
			InstanceID: r.id, Attempt: 1, State: bytes.Clone(r.state), Before: r.before,
			Stop: d.stopAfter >= 0 && d.acts >= d.stopAfter,
		}
		if call != "" {
			ts[n].CallID, ts[n].Resent, ts[n].Stale = callID(call), resent, resent && d.stale
		}
	}
	return ts
}

// look calls Update without a call ID. Nothing may happen.
func (d *driver) look(ctx context.Context, rows []*row) error {
	limit := d.Provider.Limits().Update
	for len(rows) > 0 {
		some := rows
		if limit > 0 {
			some = rows[:min(limit, len(rows))]
		}
		rows = rows[len(some):]
		before := d.tally()
		if d.drop {
			if _, err := d.update(ctx, d.targets(some, "", false)); err != nil {
				return err
			}
		}
		by, err := d.update(ctx, d.targets(some, "", false))
		if err != nil {
			return err
		}
		if err := d.since(before, "a call of Update without a call ID"); err != nil {
			return err
		}
		for _, r := range some {
			p, ok := by[r.id]
			if !ok {
				return fmt.Errorf("looking, Update has no answer for %s", r.id)
			}
			if err := d.apply(r, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// send makes an acting call for rows, twice if answers are dropped.
func (d *driver) send(ctx context.Context, rows []*row) error {
	call := fmt.Sprintf("act-%d-%s", d.acts, rows[0].id)
	before := d.tally()
	if d.drop {
		if _, err := d.update(ctx, d.targets(rows, call, false)); err != nil {
			return err
		}
		if d.stale {
			if err := d.forget(ctx); err != nil {
				return err
			}
			d.end = d.end.Add(d.Long) // does not count
		}
	}
	by, err := d.update(ctx, d.targets(rows, call, d.drop))
	if err != nil {
		return err
	}
	d.acts++
	now := d.tally()
	for _, r := range rows {
		happened := ""
		for _, e := range allEffects {
			if key := string(e) + " " + r.id; now[key] != before[key] {
				happened = string(e)
			}
		}
		p, ok := by[r.id]
		switch {
		case !ok && happened != "":
			return fmt.Errorf("acting, Update has no answer for %s, but %s happened", r.id, happened)
		case !ok:
			continue // not begun: its turn comes again
		case p.Err != nil && happened != "" && !provider.Unknown(p.Err) && !errors.Is(p.Err, provider.ErrFailed):
			return fmt.Errorf("acting, Update answers for %s that nothing happened (%w), but %s did", r.id, p.Err, happened)
		}
		if err := d.apply(r, p); err != nil {
			return err
		}
	}
	if d.acted != nil {
		d.acted(d.acts)
	}
	return nil
}

// update calls Update and holds that targets and their states stay as they are.
func (d *driver) update(ctx context.Context, ts []provider.Target) (map[string]provider.Progress, error) {
	states := make([][]byte, len(ts))
	for n, t := range ts {
		states[n] = bytes.Clone(t.State)
	}
	answers, err := d.Provider.Update(ctx, d.GroupID, d.u, ts)
	if err != nil {
		return nil, fmt.Errorf("Update: %w", err)
	}
	by, err := index("Update", ts, answers)
	if err != nil {
		return nil, err
	}
	for n, t := range ts {
		if !bytes.Equal(t.State, states[n]) {
			return nil, fmt.Errorf("Update changed the state of %s that it was given", t.InstanceID)
		}
		p, ok := by[t.InstanceID]
		if ok {
			p.State = bytes.Clone(p.State)
			by[t.InstanceID] = p
		}
		for k := range t.State { // what the provider keeps of it must be a copy
			t.State[k] = '#'
		}
	}
	return by, nil
}

// apply takes an answer into the row.
func (d *driver) apply(r *row, p provider.Progress) error {
	r.act, r.max, r.wait = p.Act, p.MaxTargets, 4*p.Wait // a Runner looks when it is worth it, not whenever it may
	if r.before == nil {
		r.before = p.Before
	}
	switch {
	case p.Done && p.Err != nil, p.Done && p.Act, p.Act && p.Err != nil:
		return fmt.Errorf("Update: the answer for %s contradicts itself: %+v", r.id, p)
	case p.Done && p.Outcome != provider.Updated && p.Outcome != provider.NotUpdated:
		return fmt.Errorf("Update: %s is done with the outcome %q", r.id, p.Outcome)
	case p.Act && len(p.State) == 0:
		return fmt.Errorf("Update: the next call for %s is to act, but no state names what it does", r.id)
	case p.Done, p.Err != nil && !d.passes(p.Err):
		r.ended = &p
		return nil
	case p.Err != nil && len(p.State) == 0:
		return nil // try again from the same state
	}
	r.state = p.State
	return nil
}

// passes reports whether a Runner would try again.
func (d *driver) passes(err error) bool {
	if errors.Is(err, provider.ErrOutcomeUnknown) {
		return false
	}
	return provider.Retryable(err) || errors.Is(err, provider.ErrRefused) || errors.Is(err, provider.ErrNotBegun)
}

// outcomes holds that each instance ended with an outcome.
func (d *driver) outcomes(want provider.Outcome) error {
	for _, r := range d.rows {
		if r.ended.Err != nil {
			return fmt.Errorf("update of %s: %w", r.id, r.ended.Err)
		}
		if r.ended.Outcome != want {
			return fmt.Errorf("update of %s: outcome %q, want %q", r.id, r.ended.Outcome, want)
		}
	}
	return nil
}
