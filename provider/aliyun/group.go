package aliyun

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ess"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Group implements [provider.Reader].
func (p *Provider) Group(ctx context.Context, groupID string) (provider.Group, error) {
	var group *ess.ScalingGroup
	var activities []provider.Activity
	err := together(func() (err error) {
		group, err = p.group(ctx, groupID)
		return err
	}, func() (err error) {
		if groupID != "" { // the service would list those of all groups
			activities, err = p.activities(ctx, groupID)
		}
		return err
	})
	if err != nil {
		return provider.Group{}, err
	}
	out := asGroup(group)
	out.Activities = activities
	return out, nil
}

// group reads one scaling group. One that does not exist is left out of the service's answer.
func (p *Provider) group(ctx context.Context, groupID string) (*ess.ScalingGroup, error) {
	if groupID == "" { // the service would list all
		return nil, fmt.Errorf("scaling group without an ID: %w", provider.ErrNotFound)
	}
	req := ess.CreateDescribeScalingGroupsRequest()
	req.ScalingGroupId = list([]string{groupID})
	resp := ess.CreateDescribeScalingGroupsResponse()
	if err := p.call(ctx, req, resp); err != nil {
		return nil, err
	}
	for n := range resp.ScalingGroups.ScalingGroup {
		if g := &resp.ScalingGroups.ScalingGroup[n]; g.ScalingGroupId == groupID {
			return g, nil
		}
	}
	return nil, fmt.Errorf("scaling group %s: %w", groupID, provider.ErrNotFound)
}

func asGroup(g *ess.ScalingGroup) provider.Group {
	out := provider.Group{
		ID: g.ScalingGroupId, Name: g.ScalingGroupName, State: provider.GroupState(g.LifecycleState), Type: g.GroupType,
		SystemSuspended: g.SystemSuspended, Suspended: suspended(g), InService: g.ActiveCapacity, Standby: g.StandbyCapacity,
		Total: g.TotalInstanceCount, MinSize: g.MinSize, MaxSize: g.MaxSize, DesiredCapacity: -1, LoadBalancers: loadBalancers(g),
		ConfigurationID: g.ActiveScalingConfigurationId, LaunchTemplateID: g.LaunchTemplateId,
	}
	if out.Total == 0 {
		out.Total = g.TotalCapacity // weighted where the group is
	}
	if g.EnableDesiredCapacity {
		out.DesiredCapacity = g.DesiredCapacity
	}
	if out.LaunchTemplateID != "" {
		out.ConfigurationID = ""
	}
	return out
}

// suspended are the suspended processes, each by its known name whatever its case.
func suspended(g *ess.ScalingGroup) []provider.Process {
	var out []provider.Process
	for _, name := range g.SuspendedProcesses.SuspendedProcess {
		p := provider.Process(name)
		for _, known := range provider.Processes() {
			if strings.EqualFold(name, string(known)) {
				p = known
			}
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// loadBalancers are the IDs of all kinds of load balancers and server groups.
func loadBalancers(g *ess.ScalingGroup) []string {
	ids := slices.Clone(g.LoadBalancerIds.LoadBalancerId)
	add := func(id string) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, v := range g.VServerGroups.VServerGroup {
		add(v.LoadBalancerId)
	}
	for _, a := range g.AlbServerGroups.AlbServerGroup {
		add(a.AlbServerGroupId)
	}
	for _, s := range g.ServerGroups.ServerGroup {
		add(s.ServerGroupId)
	}
	return ids
}

// activities reads the scaling activities in progress.
func (p *Provider) activities(ctx context.Context, groupID string) ([]provider.Activity, error) {
	var out []provider.Activity
	seen := make(map[string]bool)
	for page := 1; ; page++ {
		req := ess.CreateDescribeScalingActivitiesRequest()
		req.ScalingGroupId, req.StatusCode = groupID, "InProgress"
		req.PageNumber, req.PageSize = requests.NewInteger(page), requests.NewInteger(pageSize)
		resp := ess.CreateDescribeScalingActivitiesResponse()
		if err := p.call(ctx, req, resp); err != nil {
			return nil, err
		}
		for _, a := range resp.ScalingActivities.ScalingActivity {
			if (a.StatusCode == "InProgress" || a.StatusCode == "") && !seen[a.ScalingActivityId] {
				seen[a.ScalingActivityId] = true
				out = append(out, provider.Activity{ID: a.ScalingActivityId, Text: firstOf(a.Description, a.Cause)})
			}
		}
		if len(resp.ScalingActivities.ScalingActivity) == 0 || page*pageSize >= resp.TotalCount {
			return out, nil
		}
	}
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// SuspendProcesses implements [provider.ProcessSuspender].
func (p *Provider) SuspendProcesses(ctx context.Context, groupID string, processes []provider.Process, callID string) error {
	todo, token, err := p.processesTodo(ctx, groupID, processes, callID, false)
	if err != nil || len(todo) == 0 {
		return err
	}
	req := ess.CreateSuspendProcessesRequest()
	req.ScalingGroupId, req.Process, req.ClientToken = groupID, list(todo), token
	return p.call(ctx, req, ess.CreateSuspendProcessesResponse())
}

// ResumeProcesses implements [provider.ProcessSuspender].
func (p *Provider) ResumeProcesses(ctx context.Context, groupID string, processes []provider.Process, callID string) error {
	todo, token, err := p.processesTodo(ctx, groupID, processes, callID, true)
	if err != nil || len(todo) == 0 {
		return err
	}
	req := ess.CreateResumeProcessesRequest()
	req.ScalingGroupId, req.Process, req.ClientToken = groupID, list(todo), token
	return p.call(ctx, req, ess.CreateResumeProcessesResponse())
}

// processesTodo returns the processes that are not yet as wished, and the token of a call about them.
func (p *Provider) processesTodo(ctx context.Context, groupID string, processes []provider.Process, callID string, suspendedNow bool) (todo []string, token string, err error) {
	if !validCallID(callID) {
		return nil, "", fmt.Errorf("call ID %q: %w", callID, provider.ErrInvalid)
	}
	g, err := p.group(ctx, groupID)
	if err != nil {
		return nil, "", err
	}
	now := suspended(g)
	for _, process := range processes {
		if slices.Contains(now, process) == suspendedNow && !slices.Contains(todo, string(process)) {
			todo = append(todo, string(process))
		}
	}
	return todo, tokenOf(callID, append([]string{groupID}, slices.Sorted(slices.Values(todo))...)...), nil
}
