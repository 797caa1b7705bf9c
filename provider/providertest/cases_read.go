package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

const missing = "i-providertest-none"

func readCases() []Case {
	return []Case{
		{Name: "read/group", Run: readGroup},
		{Name: "read/missing group", Run: readMissingGroup},
		{Name: "read/members", Run: readMembers},
		{Name: "read/instances in the order asked", Run: readInstances},
		{Name: "read/a released instance is absent", Needs: needVanish, Run: readReleased},
		{Name: "read/nothing changes", Run: readChangesNothing},
		{Name: "read/answers are copies", Run: readCopies},
		{Name: "read/limits", Run: readLimits},
	}
}

func needVanish(b *Bed) string {
	if b.Vanish == nil {
		return "the bed cannot make instances vanish"
	}
	return ""
}

func readGroup(ctx context.Context, b *Bed) error {
	g, err := b.Provider.Group(ctx, b.GroupID)
	if err != nil {
		return err
	}
	switch {
	case g.ID != b.GroupID:
		return fmt.Errorf("Group(%q) is of %q", b.GroupID, g.ID)
	case g.State != provider.GroupActive:
		return fmt.Errorf("group is %q, want %q", g.State, provider.GroupActive)
	case g.Total < len(b.InstanceIDs) || g.InService < len(b.InstanceIDs):
		return fmt.Errorf("group shows %d instances, %d in service; there are %d", g.Total, g.InService, len(b.InstanceIDs))
	case len(g.Suspended) != 0:
		return fmt.Errorf("group shows suspended processes %v", g.Suspended)
	}
	return nil
}

func readMissingGroup(ctx context.Context, b *Bed) error {
	const none = "asg-providertest-none"
	_, errGroup := b.Provider.Group(ctx, none)
	_, errMembers := b.Provider.Members(ctx, none)
	return errors.Join(is("Group of a missing group", errGroup, provider.ErrNotFound), is("Members of a missing group", errMembers, provider.ErrNotFound))
}

// is holds that err wraps one of want.
func is(what string, err error, want ...error) error {
	for _, w := range want {
		if errors.Is(err, w) {
			return nil
		}
	}
	return fmt.Errorf("%s: error is %q, want one that wraps %q", what, fmt.Sprint(err), want)
}

func readMembers(ctx context.Context, b *Bed) error {
	members, err := b.Provider.Members(ctx, b.GroupID)
	if err != nil {
		return err
	}
	seen := make(map[string]provider.Instance)
	for _, m := range members {
		if _, twice := seen[m.ID]; twice {
			return fmt.Errorf("Members lists %s twice", m.ID)
		}
		seen[m.ID] = m
	}
	for _, id := range b.InstanceIDs {
		m, ok := seen[id]
		switch {
		case !ok:
			return fmt.Errorf("Members lacks %s (has it read all pages?)", id)
		case m.Lifecycle != provider.InService || m.Power != provider.Running:
			return fmt.Errorf("Members shows %s as %s, %s", id, m.Lifecycle, m.Power)
		case m.ImageID == "" || m.OS == "":
			return fmt.Errorf("Members shows %s without image or OS: %+v", id, m)
		case m.ImageID == b.ImageID:
			return fmt.Errorf("Members shows %s with the new image", id)
		}
	}
	return nil
}

func readInstances(ctx context.Context, b *Bed) error {
	ids := []string{b.InstanceIDs[2], missing, b.InstanceIDs[0]}
	got, err := b.Provider.Instances(ctx, b.GroupID, ids)
	if err != nil {
		return err
	}
	if len(got) != 2 || got[0].ID != ids[0] || got[1].ID != ids[2] {
		return fmt.Errorf("Instances(%q) = %+v, want the first and the last", ids, got)
	}
	if got, err := b.Provider.Instances(ctx, b.GroupID, nil); err != nil || len(got) != 0 {
		return fmt.Errorf("Instances of no ids = %+v, %v", got, err)
	}
	if limit := b.Provider.Limits().Instances; limit > 0 && limit < len(b.InstanceIDs) {
		return nil
	}
	got, err = b.Provider.Instances(ctx, b.GroupID, b.InstanceIDs)
	if err != nil || len(got) != len(b.InstanceIDs) {
		return fmt.Errorf("Instances of %d ids has %d, %v", len(b.InstanceIDs), len(got), err)
	}
	return nil
}

func readReleased(ctx context.Context, b *Bed) error {
	id := b.InstanceIDs[1]
	if _, err := b.Provider.Instances(ctx, b.GroupID, []string{id}); err != nil {
		return err
	}
	b.Vanish(id)
	got, err := b.Provider.Instances(ctx, b.GroupID, []string{b.InstanceIDs[0], id})
	if err != nil {
		return err
	}
	if len(got) != 1 || got[0].ID != b.InstanceIDs[0] {
		return fmt.Errorf("Instances shows a released instance: %+v", got)
	}
	members, err := b.Provider.Members(ctx, b.GroupID)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.ID == id {
			return fmt.Errorf("Members shows a released instance: %+v", m)
		}
	}
	return nil
}

func readChangesNothing(ctx context.Context, b *Bed) error {
	before := b.tally()
	if _, err := b.Provider.Group(ctx, b.GroupID); err != nil {
		return err
	}
	if _, err := b.Provider.Members(ctx, b.GroupID); err != nil {
		return err
	}
	ids := slices.Clone(b.InstanceIDs[:3])
	if _, err := b.Provider.Instances(ctx, b.GroupID, ids); err != nil {
		return err
	}
	if !slices.Equal(ids, b.InstanceIDs[:3]) {
		return errors.New("Instances changed the ids that it was given")
	}
	return b.since(before, "reading")
}

func readCopies(ctx context.Context, b *Bed) error {
	first, err := b.Provider.Members(ctx, b.GroupID)
	if err != nil {
		return err
	}
	want := slices.Clone(first)
	for n := range first {
		first[n] = provider.Instance{ID: "scribbled over"}
	}
	second, err := b.Provider.Members(ctx, b.GroupID)
	if err != nil {
		return err
	}
	if len(second) != len(want) {
		return fmt.Errorf("Members has %d, then %d", len(want), len(second))
	}
	for n := range second {
		if second[n].ID != want[n].ID {
			return fmt.Errorf("Members returns a slice that it keeps: %s became %s", want[n].ID, second[n].ID)
		}
	}
	ids := b.InstanceIDs[:2]
	one, err := b.Provider.Instances(ctx, b.GroupID, ids)
	if err != nil {
		return err
	}
	for n := range one {
		one[n].ID = "scribbled over"
	}
	again, err := b.Provider.Instances(ctx, b.GroupID, ids)
	if err != nil || len(again) != 2 || again[0].ID != ids[0] {
		return fmt.Errorf("Instances returns a slice that it keeps: %+v, %v", again, err)
	}
	g, err := b.Provider.Group(ctx, b.GroupID)
	if err != nil {
		return err
	}
	was := slices.Clone(g.LoadBalancers)
	for n := range g.LoadBalancers {
		g.LoadBalancers[n] = "scribbled over"
	}
	g, err = b.Provider.Group(ctx, b.GroupID)
	if err != nil || !slices.Equal(g.LoadBalancers, was) {
		return fmt.Errorf("Group returns a slice that it keeps: %q, %v", g.LoadBalancers, err)
	}
	return nil
}

func readLimits(_ context.Context, b *Bed) error {
	l := b.Provider.Limits()
	for _, n := range []int{l.Instances, l.Standby, l.Protection, l.Start, l.Update} {
		if n < 0 {
			return fmt.Errorf("a limit is negative: %+v", l)
		}
	}
	if l != b.Provider.Limits() {
		return errors.New("Limits changes")
	}
	return nil
}
