package fake

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// EnterStandby implements [provider.StandbyMover].
func (c *Cloud) EnterStandby(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return c.perTarget(ctx, "EnterStandby", groupID, targets, c.Limits().Standby, func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		return c.move(ctx, groupID, targets, func(v InstanceView) bool { return v.Lifecycle == provider.Standby },
			func(ids []string) error {
				return c.API().EnterStandby(ctx, groupID, ids, token(targets[0].CallID, ids...))
			})
	})
}

// ExitStandby implements [provider.StandbyMover].
func (c *Cloud) ExitStandby(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return c.perTarget(ctx, "ExitStandby", groupID, targets, c.Limits().Standby, func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		return c.move(ctx, groupID, targets,
			func(v InstanceView) bool {
				return v.Lifecycle == provider.InService || v.Lifecycle == provider.Protected
			},
			func(ids []string) error {
				return c.API().ExitStandby(ctx, groupID, ids, token(targets[0].CallID, ids...))
			})
	})
}

// SetProtection implements [provider.Protector].
func (c *Cloud) SetProtection(ctx context.Context, groupID string, targets []provider.Target, protected bool) ([]provider.Progress, error) {
	there := provider.InService
	if protected {
		there = provider.Protected
	}
	return c.perTarget(ctx, "SetProtection", groupID, targets, c.Limits().Protection, func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		return c.move(ctx, groupID, targets, func(v InstanceView) bool { return v.Lifecycle == there },
			func(ids []string) error { return c.API().SetInstancesProtection(ctx, groupID, ids, protected) })
	})
}

// move brings members to another lifecycle state with one wire call. It reads the state first: what is there
// already is done, and after a refusal it reads again, because the cloud may have acted on a part.
func (c *Cloud) move(ctx context.Context, groupID string, targets []provider.Target, there func(InstanceView) bool, send func(ids []string) error) ([]provider.Progress, error) {
	members, err := c.membersAmong(ctx, groupID, targets)
	if err != nil {
		return nil, err
	}
	answers := make(map[string]provider.Progress, len(targets))
	var todo []provider.Target
	for _, t := range targets {
		v, member := members[t.InstanceID]
		switch {
		case member && there(v):
			answers[t.InstanceID] = provider.Progress{Done: true}
		case t.Stale && member:
			answers[t.InstanceID] = provider.Progress{Err: fmt.Errorf("%s is %s: %w", v.ID, v.Lifecycle, provider.ErrNotBegun)}
		default:
			todo = append(todo, t)
		}
	}
	if len(todo) > 0 {
		err := send(idsOf(todo))
		for _, t := range todo {
			answers[t.InstanceID] = provider.Progress{Done: true}
		}
		if err != nil {
			for _, p := range blame(todo, err) {
				answers[p.InstanceID] = p
			}
			if own := new(*APIError); len(todo) > 1 && errors.As(err, own) && len((*own).Targets) > 0 {
				if members, err = c.membersAmong(ctx, groupID, todo); err == nil {
					for _, t := range todo {
						if v, ok := members[t.InstanceID]; ok && there(v) {
							answers[t.InstanceID] = provider.Progress{Done: true}
						}
					}
				}
			}
		}
	}
	return inOrder(targets, answers), nil
}

func inOrder(targets []provider.Target, answers map[string]provider.Progress) []provider.Progress {
	out := make([]provider.Progress, 0, len(targets))
	for _, t := range targets {
		if p, ok := answers[t.InstanceID]; ok {
			p.InstanceID = t.InstanceID
			out = append(out, p)
		}
	}
	return out
}

// membersAmong reads those targets that are members of the group.
func (c *Cloud) membersAmong(ctx context.Context, groupID string, targets []provider.Target) (map[string]InstanceView, error) {
	all, err := c.API().DescribeScalingInstances(ctx, groupID, idsOf(targets))
	return byID(all), err
}

func byID(all []InstanceView) map[string]InstanceView {
	m := make(map[string]InstanceView, len(all))
	for _, v := range all {
		m[v.ID] = v
	}
	return m
}

// Start implements [provider.Starter].
func (c *Cloud) Start(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return c.perTarget(ctx, "Start", groupID, targets, c.Limits().Start, func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		all, err := c.API().DescribeInstances(ctx, groupID, idsOf(targets))
		if err != nil {
			return nil, err
		}
		found := byID(all)
		answers := make(map[string]provider.Progress, len(targets))
		var todo []provider.Target
		for _, t := range targets {
			v, ok := found[t.InstanceID]
			switch {
			case !ok:
				answers[t.InstanceID] = provider.Progress{Err: fmt.Errorf("instance %s: %w", t.InstanceID, provider.ErrNotFound)}
			case v.Power == provider.Running || v.Power == provider.Starting:
				answers[t.InstanceID] = provider.Progress{Done: true}
			case v.Power != provider.Stopped || v.DiskReplacing:
				answers[t.InstanceID] = provider.Progress{Err: fmt.Errorf("instance %s is %s: %w", v.ID, v.Power, provider.ErrBusy)}
			case t.Stale:
				answers[t.InstanceID] = provider.Progress{Err: fmt.Errorf("instance %s is %s: %w", v.ID, v.Power, provider.ErrNotBegun)}
			default:
				todo = append(todo, t)
				answers[t.InstanceID] = provider.Progress{Done: true}
			}
		}
		if len(todo) > 0 {
			if err := c.API().StartInstances(ctx, idsOf(todo)); err != nil {
				for _, p := range blame(todo, err) {
					answers[p.InstanceID] = p
				}
			}
		}
		return inOrder(targets, answers), nil
	})
}
