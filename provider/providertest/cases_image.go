package providertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

func imageCases() []Case {
	var cases []Case
	for _, c := range []Case{
		{Name: "image/looking changes nothing", Run: imageLook},
		{Name: "image/acts only as the saved state says", Run: imageNoState},
		{Name: "image/update", Run: imageUpdate},
		{Name: "image/update of many", Run: imageMany},
		{Name: "image/every answer lost once", Run: func(ctx context.Context, b *Bed) error { return imageLost(ctx, b, false) }},
		{Name: "image/every answer lost once, tokens forgotten", Run: func(ctx context.Context, b *Bed) error { return imageLost(ctx, b, true) }},
		{Name: "image/stale and never sent", Run: imageStale},
		{Name: "image/stop at every step", Run: imageStop},
		{Name: "image/vanishing instance", Needs: needVanish, Run: imageVanish},
		{Name: "image/unknown kind", Run: unknownKind},
	} {
		needs := c.Needs
		c.Needs = func(b *Bed) string {
			if b.NoImages {
				return "no image updates"
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

func (b *Bed) imageUpdate() provider.Update {
	return provider.Update{Kind: provider.ImageUpdate, Image: &provider.ImageSpec{ImageID: b.ImageID}}
}

// prepare takes instances out of service.
func (b *Bed) prepare(ctx context.Context, ids ...string) error {
	limit := b.Provider.Limits().Standby
	if limit == 0 {
		limit = len(ids)
	}
	for n := 0; n < len(ids); n += limit {
		some := ids[n:min(n+limit, len(ids))]
		if err := b.allDone(ctx, "EnterStandby", b.Provider.EnterStandby, targets("enter-"+some[0], some...)); err != nil {
			return err
		}
	}
	return nil
}

// runs holds that instances are Running with the new image (or the old one), in Standby.
func (b *Bed) runs(ctx context.Context, updated bool, ids ...string) error {
	for len(ids) > 0 {
		some := ids
		if limit := b.Provider.Limits().Instances; limit > 0 {
			some = ids[:min(limit, len(ids))]
		}
		ids = ids[len(some):]
		got, err := b.Provider.Instances(ctx, b.GroupID, some)
		if err != nil {
			return err
		}
		if len(got) != len(some) {
			return fmt.Errorf("Instances(%q) has %d", some, len(got))
		}
		for _, i := range got {
			if i.Power != provider.Running || (i.ImageID == b.ImageID) != updated || i.DiskReplacing || i.Lifecycle != provider.Standby {
				return fmt.Errorf("after the update (updated: %v): %+v", updated, i)
			}
		}
	}
	return nil
}

func imageLook(ctx context.Context, b *Bed) error {
	ids := b.InstanceIDs[:3]
	if err := b.prepare(ctx, ids...); err != nil {
		return err
	}
	d := b.drive(b.imageUpdate(), ids...)
	for range 2 {
		if err := d.look(ctx, d.rows); err != nil {
			return err
		}
		for _, r := range d.rows {
			switch {
			case r.ended != nil:
				return fmt.Errorf("the first look ends the update of %s: %+v", r.id, r.ended)
			case !r.act:
				return fmt.Errorf("the first look at %s, which runs, does not ask to act", r.id)
			case r.before == nil || r.before.ImageID == "" || r.before.Disk == nil || r.before.Disk.ID == "":
				return fmt.Errorf("the first look at %s does not record image and disk: %+v", r.id, r.before)
			}
		}
	}
	return nil
}

func imageNoState(ctx context.Context, b *Bed) error {
	id := b.InstanceIDs[0]
	if err := b.prepare(ctx, id); err != nil {
		return err
	}
	before := b.tally()
	if _, err := b.Provider.Update(ctx, b.GroupID, b.imageUpdate(), targets("act", id)); err != nil {
		return fmt.Errorf("Update without a state: %w", err)
	}
	return b.since(before, "a call of Update whose target has no state")
}

func imageUpdate(ctx context.Context, b *Bed) error {
	ids := b.InstanceIDs[:3]
	if err := b.prepare(ctx, ids...); err != nil {
		return err
	}
	d := b.drive(b.imageUpdate(), ids...)
	if err := d.run(ctx); err != nil {
		return err
	}
	return errors.Join(d.outcomes(provider.Updated), b.runs(ctx, true, ids...), b.exactly(1, Replaced, ids...), b.atMost(1, ids, Stopped, Started))
}

func imageMany(ctx context.Context, b *Bed) error {
	if err := b.prepare(ctx, b.InstanceIDs...); err != nil {
		return err
	}
	d := b.drive(b.imageUpdate(), b.InstanceIDs...)
	d.acted = func(int) { // whatever an Act's MaxTargets says, send more
		for _, r := range d.rows {
			r.max = 0
		}
	}
	if err := d.run(ctx); err != nil {
		return err
	}
	return errors.Join(d.outcomes(provider.Updated), b.runs(ctx, true, b.InstanceIDs...), b.exactly(1, Replaced, b.InstanceIDs...))
}

func imageLost(ctx context.Context, b *Bed, stale bool) error {
	ids := b.InstanceIDs[:2]
	if err := b.prepare(ctx, ids...); err != nil {
		return err
	}
	d := b.drive(b.imageUpdate(), ids...)
	d.drop, d.stale = true, stale
	if err := d.run(ctx); err != nil {
		return err
	}
	return errors.Join(d.outcomes(provider.Updated), b.runs(ctx, true, ids...), b.atMost(1, ids, Stopped, Replaced, Started), b.exactly(1, Replaced, ids...))
}

func imageStale(ctx context.Context, b *Bed) error {
	id := b.InstanceIDs[0]
	if err := b.prepare(ctx, id); err != nil {
		return err
	}
	d := b.drive(b.imageUpdate(), id)
	return d.staleNeverSent(ctx)
}

// staleNeverSent looks, and then asks what came of a call that was never sent.
func (d *driver) staleNeverSent(ctx context.Context) error {
	if err := d.look(ctx, d.rows); err != nil {
		return err
	}
	before := d.tally()
	d.stale = true
	by, err := d.update(ctx, d.targets(d.rows, "act", true))
	if err != nil {
		return err
	}
	for _, r := range d.rows {
		if err := is("stale Update of "+r.id, by[r.id].Err, provider.ErrNotBegun, provider.ErrOutcomeUnknown); err != nil {
			return err
		}
	}
	return d.since(before, "a stale call that was never sent before")
}

// imageStop stops after 0, 1, 2, ... side effects, each on an instance of its own.
func imageStop(ctx context.Context, b *Bed) error {
	for n := range min(5, len(b.InstanceIDs)) {
		id := b.InstanceIDs[n]
		if err := b.prepare(ctx, id); err != nil {
			return err
		}
		d := b.drive(b.imageUpdate(), id)
		d.stopAfter = n
		if err := d.run(ctx); err != nil {
			return fmt.Errorf("stop after %d side effects: %w", n, err)
		}
		replaced := b.Effects(Replaced, id) > 0
		want := provider.NotUpdated
		if replaced {
			want = provider.Updated
		}
		if err := errors.Join(d.outcomes(want), b.runs(ctx, replaced, id), b.atMost(1, []string{id}, Stopped, Replaced, Started)); err != nil {
			return fmt.Errorf("stop after %d side effects: %w", n, err)
		}
	}
	return nil
}

func imageVanish(ctx context.Context, b *Bed) error {
	ids := b.InstanceIDs[:2]
	if err := b.prepare(ctx, ids...); err != nil {
		return err
	}
	d := b.drive(b.imageUpdate(), ids...)
	d.acted = func(acts int) {
		if acts == 1 {
			b.Vanish(ids[0])
		}
	}
	if err := d.run(ctx); err != nil {
		return err
	}
	if err := is("update of the released instance", d.rows[0].ended.Err, provider.ErrNotFound); err != nil {
		return err
	}
	d.rows = d.rows[1:]
	return errors.Join(d.outcomes(provider.Updated), b.runs(ctx, true, ids[1]))
}

func unknownKind(ctx context.Context, b *Bed) error {
	before := b.tally()
	ts := targets("", b.InstanceIDs[0])
	ts[0].CallID = ""
	_, err := b.Provider.Update(ctx, b.GroupID, provider.Update{Kind: "providertest-none"}, ts)
	return errors.Join(is("Update of an unknown kind", err, provider.ErrInvalid), b.since(before, "Update of an unknown kind"))
}
