package aliyun

import (
	"context"
	"fmt"
	"slices"

	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Start implements [provider.Starter].
func (p *Provider) Start(ctx context.Context, _ string, targets []provider.Target) ([]provider.Progress, error) {
	return perTarget(ctx, opStart, targets, maxInstances, func(targets []provider.Target) (answers, error) {
		found, err := p.describe(ctx, idsOf(targets))
		if err != nil {
			return nil, err
		}
		var stopped []diskQuery
		for _, t := range targets {
			if i, ok := found[t.InstanceID]; ok && i.Status == string(provider.Stopped) {
				stopped = append(stopped, diskQuery{instanceID: t.InstanceID})
			}
		}
		disks, err := p.systemDisks(ctx, stopped)
		if err != nil {
			return nil, err
		}
		got := make(answers, len(targets))
		var todo []string
		for _, t := range targets {
			id := t.InstanceID
			i, ok := found[id]
			switch {
			case !ok:
				got.fail(id, ofInstance(id, provider.ErrNotFound))
			case i.Status == string(provider.Running) || i.Status == string(provider.Starting):
				got[id] = provider.Progress{Done: true}
			case i.Status != string(provider.Stopped) || !disks[id].inUse:
				got.fail(id, fmt.Errorf("instance %s is %s, system disk in use: %t: %w", id, i.Status, disks[id].inUse, provider.ErrBusy))
			case t.Stale:
				got.fail(id, fmt.Errorf("instance %s is %s: %w", id, i.Status, provider.ErrNotBegun))
			default:
				todo = append(todo, id)
			}
		}
		for id, err := range p.power(ctx, powerOn, todo) {
			got[id] = provider.Progress{Done: err == nil, Err: err}
		}
		return got, nil
	})
}

// The two orders about power.
const (
	powerOn  = "StartInstances"
	powerOff = "StopInstances"
)

// power orders instances to start or stop, 100 at most, and returns what came of it for each. Every item of the answer is
// looked at: with SuccessFirst a call that succeeds can hold refusals.
func (p *Provider) power(ctx context.Context, order string, ids []string) map[string]error {
	out := make(map[string]error, len(ids))
	if len(ids) == 0 {
		return out
	}
	items, err := p.powerCall(ctx, order, ids)
	if err != nil && len(ids) > 1 && aboutInstances(err) {
		return p.powerApart(ctx, order, ids, err)
	}
	for _, id := range ids {
		if err != nil {
			out[id] = ofInstance(id, err)
			continue
		}
		out[id] = unanswered(order, id)
		for _, item := range items {
			if item.InstanceId == id {
				out[id] = itemError(order, item)
			}
		}
	}
	return out
}

func unanswered(order, id string) error {
	return ofInstance(id, &Error{Action: order, Code: "Unreadable", Message: "the answer does not mention it", class: provider.ErrTransient})
}

// powerCall makes one call.
func (p *Provider) powerCall(ctx context.Context, order string, ids []string) ([]ecs.InstanceResponse, error) {
	if order == powerOn {
		req := ecs.CreateStartInstancesRequest()
		req.InstanceId, req.BatchOptimization = list(ids), "SuccessFirst"
		resp := ecs.CreateStartInstancesResponse()
		err := p.call(ctx, req, resp)
		return resp.InstanceResponses.InstanceResponse, err
	}
	req := ecs.CreateStopInstancesRequest()
	// Without KeepCharging an account may be set to give the capacity of stopped instances back: then the disk cannot be
	// replaced, and the start may find no stock.
	req.InstanceId, req.BatchOptimization, req.StoppedMode = list(ids), "SuccessFirst", "KeepCharging"
	resp := ecs.CreateStopInstancesResponse()
	err := p.call(ctx, req, resp)
	return resp.InstanceResponses.InstanceResponse, err
}

// powerApart finds out who caused the refusal of a whole call.
func (p *Provider) powerApart(ctx context.Context, order string, ids []string, err error) map[string]error {
	out := make(map[string]error, len(ids))
	found, readErr := p.describe(ctx, ids)
	for _, id := range ids {
		i, ok := found[id]
		switch {
		case readErr != nil:
			out[id] = ofInstance(id, refused(err)) // each alone tells
		case !ok:
			out[id] = ofInstance(id, provider.ErrNotFound)
		case len(i.OperationLocks.LockReason) > 0 || expired(i):
			out[id] = fmt.Errorf("instance %s is locked or has expired (%w): %w", id, asText(err), provider.ErrInvalidState)
		case slices.Contains(poweredAs(order), i.Status):
			out[id] = nil
		default:
			out[id] = ofInstance(id, refused(err))
		}
	}
	return out
}

// poweredAs are the states of an instance for which an order has been accepted already.
func poweredAs(order string) []string {
	if order == powerOn {
		return []string{string(provider.Starting), string(provider.Running)}
	}
	return []string{string(provider.Stopping), string(provider.Stopped)}
}

// itemError is what one item of an answer says.
func itemError(order string, item ecs.InstanceResponse) error {
	if item.Code == "" || item.Code == "200" {
		return nil
	}
	class := classify(order, 0, item.Code)
	if item.Code == "IncorrectInstanceStatus" && slices.Contains(poweredAs(order), item.CurrentStatus) {
		return nil // it is on its way, or there
	}
	return ofInstance(item.InstanceId, &Error{Action: order, Code: clip(item.Code, 100), Message: clean(item.Message, nil), class: class})
}
