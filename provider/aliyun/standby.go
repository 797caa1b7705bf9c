package aliyun

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ess"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A move brings members from one lifecycle state to another.
type move struct {
	op       string
	from, to []provider.Lifecycle
	send     func(ctx context.Context, ids []string, token string) error
}

// EnterStandby implements [provider.StandbyMover]. The call returns when the service has done it (Async=false). What it
// does with a Protected instance, or with one that is there already, is unverified: states are read first.
func (p *Provider) EnterStandby(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return p.move(ctx, groupID, targets, move{
		op: opEnter, from: []provider.Lifecycle{provider.InService, provider.Protected}, to: []provider.Lifecycle{provider.Standby},
		send: func(ctx context.Context, ids []string, token string) error {
			req := ess.CreateEnterStandbyRequest()
			req.ScalingGroupId, req.InstanceId, req.ClientToken, req.Async = groupID, list(ids), token, requests.NewBoolean(false)
			return p.call(ctx, req, ess.CreateEnterStandbyResponse())
		},
	})
}

// ExitStandby implements [provider.StandbyMover].
func (p *Provider) ExitStandby(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return p.move(ctx, groupID, targets, move{
		op: opExit, from: []provider.Lifecycle{provider.Standby}, to: []provider.Lifecycle{provider.InService, provider.Protected},
		send: func(ctx context.Context, ids []string, token string) error {
			req := ess.CreateExitStandbyRequest()
			req.ScalingGroupId, req.InstanceId, req.ClientToken, req.Async = groupID, list(ids), token, requests.NewBoolean(false)
			return p.call(ctx, req, ess.CreateExitStandbyResponse())
		},
	})
}

// SetProtection implements [provider.Protector].
func (p *Provider) SetProtection(ctx context.Context, groupID string, targets []provider.Target, protected bool) ([]provider.Progress, error) {
	from, to := provider.Protected, provider.InService
	if protected {
		from, to = to, from
	}
	return p.move(ctx, groupID, targets, move{
		op: opProtect, from: []provider.Lifecycle{from}, to: []provider.Lifecycle{to},
		send: func(ctx context.Context, ids []string, _ string) error { // takes no token; setting it twice is the same
			req := ess.CreateSetInstancesProtectionRequest()
			req.ScalingGroupId, req.InstanceId, req.ProtectedFromScaleIn = groupID, list(ids), requests.NewBoolean(protected)
			return p.call(ctx, req, ess.CreateSetInstancesProtectionResponse())
		},
	})
}

// move makes one call for all targets that are not there yet. Whether the service acts on a part of a call is unverified: after a
// refusal the states are read again.
func (p *Provider) move(ctx context.Context, groupID string, targets []provider.Target, m move) ([]provider.Progress, error) {
	return perTarget(ctx, m.op, targets, maxStandby, func(targets []provider.Target) (answers, error) {
		states, known, err := p.statesFor(ctx, groupID, targets, m)
		if err != nil {
			return nil, err
		}
		got := make(answers, len(targets))
		var todo []string
		for _, t := range targets {
			state, member := states[t.InstanceID]
			switch {
			case known && !member:
				got.fail(t.InstanceID, notMember(t.InstanceID, groupID))
			case slices.Contains(m.to, state):
				got[t.InstanceID] = provider.Progress{Done: true}
			case t.Stale: // what was sent long ago has not happened
				got.fail(t.InstanceID, fmt.Errorf("instance %s is %s: %w", t.InstanceID, state, provider.ErrNotBegun))
			default:
				todo = append(todo, t.InstanceID)
			}
		}
		if len(todo) == 0 {
			return got, nil
		}
		slices.Sort(todo) // the same set is the same call
		if err := m.send(ctx, todo, tokenOf(targets[0].CallID, append([]string{m.op, groupID}, todo...)...)); err != nil {
			p.blameStates(ctx, groupID, m, todo, err, got)
			return got, nil
		}
		for _, id := range todo {
			got[id] = provider.Progress{Done: true}
		}
		return got, nil
	})
}

// statesFor reads the targets' lifecycle states. They need not be read if that was done just now, or to take them out of Standby for the
// first time: that is where the task has put them, and a refusal tells if somebody else was faster.
func (p *Provider) statesFor(ctx context.Context, groupID string, targets []provider.Target, m move) (states map[string]provider.Lifecycle, known bool, err error) {
	ids := idsOf(targets)
	seen, just := p.recent.takeStates(groupID, ids)
	switch {
	case fresh(targets) && just:
		return seen, true, nil
	case fresh(targets) && m.op == opExit:
		return nil, false, nil
	}
	states, err = p.lifecycles(ctx, groupID, ids)
	return states, true, err
}

func notMember(id, groupID string) error {
	return fmt.Errorf("instance %s is no member of %s: %w", id, groupID, provider.ErrNotFound)
}

// blameStates turns the error of a call into answers: the instances that caused it get it, the others ErrRefused. One
// that concerns nobody in particular goes to all.
func (p *Provider) blameStates(ctx context.Context, groupID string, m move, ids []string, err error, got answers) {
	for _, id := range ids {
		got.fail(id, ofInstance(id, err))
	}
	if !aboutInstances(err) {
		return
	}
	states, readErr := p.lifecycles(ctx, groupID, ids)
	if readErr != nil {
		readErr = asText(readErr)
		if ended := over(ctx); ended != nil {
			readErr = fmt.Errorf("%w (%w)", readErr, ended)
		}
		for _, id := range ids { // whether the call acted on a part is not known
			got.fail(id, ofInstance(id, fmt.Errorf("%w: %w, then %w", provider.ErrOutcomeUnknown, asText(err), readErr)))
		}
		return
	}
	guilty := 0
	for _, id := range ids {
		switch state, member := states[id]; {
		case !member:
			got.fail(id, notMember(id, groupID))
			guilty++
		case slices.Contains(m.to, state):
			got[id] = provider.Progress{Done: true}
		case !slices.Contains(m.from, state):
			got.fail(id, fmt.Errorf("instance %s is %s (%w): %w", id, state, asText(err), provider.ErrInvalidState))
			guilty++
		case len(ids) > 1:
			got.fail(id, ofInstance(id, refused(err)))
		}
	}
	if guilty == 0 && errors.Is(err, provider.ErrInvalid) { // the call itself is wrong
		for _, id := range ids {
			if !got[id].Done {
				got.fail(id, ofInstance(id, err))
			}
		}
	}
}

// asText keeps the text of an error and drops its class, which says too much.
func asText(err error) error { return errors.New(err.Error()) }
