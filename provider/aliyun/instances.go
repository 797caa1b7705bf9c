package aliyun

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ess"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Members implements [provider.Reader]. It reads the pages of the group's list, then the instances themselves. The list has page numbers over
// a changing set: it is read again when pages do not fit together.
func (p *Provider) Members(ctx context.Context, groupID string) ([]provider.Instance, error) {
	members, err := p.members(ctx, groupID)
	if err != nil {
		return nil, err
	}
	if len(members) == 0 { // or no group
		_, err := p.group(ctx, groupID)
		return nil, err
	}
	ids := make([]string, len(members))
	for n, m := range members {
		ids[n] = m.InstanceId
	}
	found, err := p.describe(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]provider.Instance, 0, len(members))
	for _, m := range members {
		if i, ok := found[m.InstanceId]; ok {
			out = append(out, asInstance(i, m.LifecycleState))
		}
	}
	if err := p.replacements(ctx, out); err != nil {
		return nil, err
	}
	return out, p.architectures(ctx, out)
}

// listings is how often a list of members is read until its pages fit together.
const listings = 3

// members lists the members of a group, all pages, each one once.
func (p *Provider) members(ctx context.Context, groupID string) ([]ess.ScalingInstance, error) {
	if groupID == "" { // the service would list the members of all
		return nil, fmt.Errorf("scaling group without an ID: %w", provider.ErrNotFound)
	}
	for range listings {
		all, whole, err := p.listMembers(ctx, groupID)
		if err != nil || whole {
			return all, err
		}
	}
	return nil, &Error{Action: "DescribeScalingInstances", Message: "the members changed while they were listed", class: provider.ErrTransient}
}

func (p *Provider) listMembers(ctx context.Context, groupID string) (all []ess.ScalingInstance, whole bool, err error) {
	page := func(ctx context.Context, n int) (*ess.DescribeScalingInstancesResponse, error) {
		req := ess.CreateDescribeScalingInstancesRequest()
		req.ScalingGroupId, req.PageNumber, req.PageSize = groupID, requests.NewInteger(n), requests.NewInteger(membersPage)
		resp := ess.CreateDescribeScalingInstancesResponse()
		return resp, p.send(ctx, req, resp)
	}
	if err := p.ask(ctx, "DescribeScalingInstances", 1); err != nil {
		return nil, false, err
	}
	first, err := page(ctx, 1)
	if err != nil {
		return nil, false, err
	}
	pages := make([]*ess.DescribeScalingInstancesResponse, max(1, chunks(first.TotalCount, membersPage)))
	pages[0] = first
	if err := p.askMore(ctx, "DescribeScalingInstances", len(pages)-1); err != nil {
		return nil, false, err
	}
	err = each(ctx, len(pages)-1, func(ctx context.Context, i int) (err error) {
		pages[i+1], err = page(ctx, i+2)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	seen := make(map[string]bool, first.TotalCount)
	whole = true
	others := 0 // rows that name no instance of the group, such as one that is only being made
	for _, resp := range pages {
		whole = whole && resp.TotalCount == first.TotalCount
		for _, m := range resp.ScalingInstances.ScalingInstance {
			switch {
			case m.InstanceId == "" || m.ScalingGroupId != groupID && m.ScalingGroupId != "":
				others++
			case !seen[m.InstanceId]:
				seen[m.InstanceId] = true
				all = append(all, m)
			}
		}
	}
	return all, whole && len(all)+others >= first.TotalCount, nil
}

// lifecycles reads the lifecycle states of those of ids that are members of the group.
func (p *Provider) lifecycles(ctx context.Context, groupID string, ids []string) (map[string]provider.Lifecycle, error) {
	if groupID == "" || len(ids) == 0 {
		return nil, ctx.Err()
	}
	const action = "DescribeScalingInstances"
	if err := p.ask(ctx, action, chunks(len(ids), maxStandby)); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	out := make(map[string]provider.Lifecycle, len(ids))
	err := each(ctx, chunks(len(ids), maxStandby), func(ctx context.Context, i int) error {
		req := ess.CreateDescribeScalingInstancesRequest()
		req.ScalingGroupId, req.InstanceId = groupID, list(part(ids, i, maxStandby))
		req.PageNumber, req.PageSize = requests.NewInteger(1), requests.NewInteger(membersPage)
		resp := ess.CreateDescribeScalingInstancesResponse()
		if err := p.send(ctx, req, resp); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, m := range resp.ScalingInstances.ScalingInstance {
			if m.ScalingGroupId == groupID || m.ScalingGroupId == "" {
				out[m.InstanceId] = provider.Lifecycle(m.LifecycleState)
			}
		}
		return nil
	})
	return out, err
}

// Instances implements [provider.Reader].
func (p *Provider) Instances(ctx context.Context, groupID string, ids []string) ([]provider.Instance, error) {
	if len(ids) == 0 {
		return nil, ctx.Err()
	}
	if len(ids) > maxInstances {
		return nil, fmt.Errorf("%d instances, at most %d are allowed: %w", len(ids), maxInstances, provider.ErrInvalid)
	}
	var states map[string]provider.Lifecycle
	var found map[string]*ecs.Instance
	err := together(func() (err error) {
		states, err = p.lifecycles(ctx, groupID, ids)
		return err
	}, func() (err error) {
		found, err = p.describe(ctx, ids)
		return err
	})
	if err != nil {
		return nil, err
	}
	p.recent.keepStates(groupID, states)
	out := make([]provider.Instance, 0, len(ids))
	for _, id := range ids {
		if i, ok := found[id]; ok {
			out = append(out, asInstance(i, string(states[id])))
		}
	}
	return out, p.replacements(ctx, out)
}

// describe reads those of ids that exist, 100 a call.
func (p *Provider) describe(ctx context.Context, ids []string) (map[string]*ecs.Instance, error) {
	const action = "DescribeInstances"
	if err := p.ask(ctx, action, chunks(len(ids), maxInstances)); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	out := make(map[string]*ecs.Instance, len(ids))
	err := each(ctx, chunks(len(ids), maxInstances), func(ctx context.Context, i int) error {
		return byToken(action, func(token string) (string, error) {
			if token != "" { // 100 fit on a page; a second one is not expected
				if err := p.askMore(ctx, action, 1); err != nil {
					return "", err
				}
			}
			req := ecs.CreateDescribeInstancesRequest()
			req.InstanceIds, req.MaxResults, req.NextToken = text(part(ids, i, maxInstances)), requests.NewInteger(maxInstances), token
			resp := ecs.CreateDescribeInstancesResponse()
			if err := p.send(ctx, req, resp); err != nil {
				return "", err
			}
			mu.Lock()
			defer mu.Unlock()
			for n := range resp.Instances.Instance {
				out[resp.Instances.Instance[n].InstanceId] = &resp.Instances.Instance[n]
			}
			return resp.NextToken, nil
		})
	})
	return out, err
}

func asInstance(i *ecs.Instance, state string) provider.Instance {
	return provider.Instance{
		ID: i.InstanceId, Lifecycle: provider.Lifecycle(state), Power: provider.Power(i.Status), ImageID: i.ImageId,
		OS: firstOf(i.OSType, i.OsType), KeyPair: i.KeyPairName, Locks: locksOf(i), Expired: expired(i),
	}
}

func locksOf(i *ecs.Instance) []string {
	var locks []string
	for _, l := range i.OperationLocks.LockReason {
		locks = append(locks, l.LockReason)
	}
	return locks
}

// expired reports whether a subscription has ended.
func expired(i *ecs.Instance) bool {
	end, ok := parseTime(i.ExpiredTime)
	return ok && i.InstanceChargeType == "PrePaid" && end.Before(time.Now())
}

// parseTime reads the service's forms of time.
func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{"2006-01-02T15:04Z", "2006-01-02T15:04:05Z"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// replacements notes which instances have an open replacement of their system disk. A disk is only replaced on an
// instance that is Stopped, so that the disks of these are read.
func (p *Provider) replacements(ctx context.Context, all []provider.Instance) error {
	var wanted []diskQuery
	for _, i := range all {
		if i.Power == provider.Stopped {
			wanted = append(wanted, diskQuery{instanceID: i.ID})
		}
	}
	disks, err := p.systemDisks(ctx, wanted)
	if err != nil {
		return err
	}
	for n := range all {
		if all[n].Power == provider.Stopped {
			d, ok := disks[all[n].ID]
			all[n].DiskReplacing = !ok || !d.inUse
		}
	}
	return nil
}

// architectures notes the architecture of the instances: that of their images, as far as these still exist. It
// is for a check only, so that it may come to nothing.
func (p *Provider) architectures(ctx context.Context, all []provider.Instance) error {
	var ids []string
	for _, i := range all {
		if i.ImageID != "" && !slices.Contains(ids, i.ImageID) {
			ids = append(ids, i.ImageID)
		}
	}
	const most = 10 // the number of IDs that one call takes is not documented
	if len(ids) == 0 || len(ids) > most {
		return ctx.Err()
	}
	images, err := p.images(ctx, ids...)
	if err != nil {
		return ctx.Err()
	}
	for n := range all {
		all[n].Architecture = images[all[n].ImageID].Architecture
	}
	return nil
}
