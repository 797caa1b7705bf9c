package fake

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// DescribeScalingGroups reports the groups among ids that exist, all of them without ids.
func (a API) DescribeScalingGroups(ctx context.Context, ids []string) (out []GroupView, err error) {
	err = a.c.wire(ctx, "DescribeScalingGroups", first(ids, ""), nil, "", func(time.Time, caller) error {
		for _, g := range a.c.groupOrder {
			if len(ids) == 0 || slices.Contains(ids, g.id) {
				out = append(out, a.c.viewGroup(g))
			}
		}
		return nil
	})
	return clean(out, err)
}

// DescribeScalingInstances reports the members of a group, of those among ids only if there are any.
func (a API) DescribeScalingInstances(ctx context.Context, groupID string, ids []string) (out []InstanceView, err error) {
	err = a.c.wire(ctx, "DescribeScalingInstances", groupID, ids, "", func(time.Time, caller) error {
		if a.c.groups[groupID] == nil {
			return nil
		}
		for _, v := range a.c.views(groupID, ids) {
			if v.GroupID == groupID {
				out = append(out, v)
			}
		}
		return nil
	})
	return clean(out, err)
}

// DescribeScalingActivities reports the activities in progress of a group.
func (a API) DescribeScalingActivities(ctx context.Context, groupID string) (out []ActivityView, err error) {
	err = a.c.wire(ctx, "DescribeScalingActivities", groupID, nil, "", func(time.Time, caller) error {
		g, err := a.c.findGroup("DescribeScalingActivities", groupID)
		if err != nil {
			return err
		}
		out = a.c.viewGroup(g).Activities
		return nil
	})
	return clean(out, err)
}

// DescribeScalingConfigurations reports the scaling configurations and launch templates of a group,
// active and inactive ones, in the order in which they were made. With ids it reports those among them, of any group if groupID is empty.
func (a API) DescribeScalingConfigurations(ctx context.Context, groupID string, ids []string) (out []ConfigurationView, err error) {
	c := a.c
	err = c.wire(ctx, "DescribeScalingConfigurations", groupID, ids, "", func(time.Time, caller) error {
		for _, id := range c.configIDs {
			cfg := c.configs[id]
			if (groupID == "" || cfg.groupID == groupID) && (len(ids) == 0 || slices.Contains(ids, id)) {
				out = append(out, c.viewConfiguration(cfg))
			}
		}
		return nil
	})
	return clean(out, err)
}

// EnterStandby moves members from InService to Standby: their load balancer weight becomes zero.
func (a API) EnterStandby(ctx context.Context, groupID string, ids []string, token string) error {
	_, err := a.Standby(ctx, StandbyRequest{GroupID: groupID, InstanceIDs: ids, Token: token})
	return err
}

// ExitStandby moves members from Standby to InService, with the group's load balancer weight. One
// that is not Running is taken out by the health check soon after.
func (a API) ExitStandby(ctx context.Context, groupID string, ids []string, token string) error {
	_, err := a.Standby(ctx, StandbyRequest{Exit: true, GroupID: groupID, InstanceIDs: ids, Token: token})
	return err
}

// SetInstancesProtection moves members between InService and Protected. One that is there already stays.
func (a API) SetInstancesProtection(ctx context.Context, groupID string, ids []string, protected bool) error {
	const action = "SetInstancesProtection"
	from, to := provider.Protected, provider.InService
	if protected {
		from, to = to, from
	}
	c := a.c
	return c.wire(ctx, action, groupID, ids, "", func(_ time.Time, who caller) error {
		if err := c.tooMany(who, action, ids, 20); err != nil {
			return err
		}
		g, err := c.findGroup(action, groupID)
		if err != nil {
			return err
		}
		members, err := c.memberList(who, action, g, ids)
		if err != nil {
			return err
		}
		for _, i := range members {
			if i.lifecycle != from && i.lifecycle != to {
				return c.refuse(who, action, "IncorrectInstanceStatus", 403, provider.ErrInvalidState, "is "+string(i.lifecycle), i.id)
			}
		}
		for _, i := range members {
			if i.lifecycle == to {
				continue
			}
			c.recordEffect(Effect{Action: action, CallID: who.callID, Detail: fmt.Sprint(protected)}, i)
			custom, weight := i.custom, i.weight
			c.setLifecycle(i, to)
			i.custom, i.weight = custom, weight
			if i.power != provider.Running {
				c.watch(i)
			}
		}
		return nil
	})
}

// SuspendProcesses suspends processes of a group; those that are suspended already stay so.
func (a API) SuspendProcesses(ctx context.Context, groupID string, processes []provider.Process, token string) error {
	return a.processes(ctx, "SuspendProcesses", groupID, processes, token, a.c.suspend)
}

// ResumeProcesses resumes processes of a group; those that are not suspended stay so.
func (a API) ResumeProcesses(ctx context.Context, groupID string, processes []provider.Process, token string) error {
	return a.processes(ctx, "ResumeProcesses", groupID, processes, token, a.c.resume)
}

func (a API) processes(ctx context.Context, action, groupID string, processes []provider.Process, token string, change func(*group, []provider.Process) []provider.Process) error {
	c := a.c
	return c.wire(ctx, action, groupID, nil, token, func(_ time.Time, who caller) error {
		all := params(groupID, nil, processes)
		if _, again, err := c.recall(who, action, token, all); again || err != nil {
			return err
		}
		g, err := c.findGroup(action, groupID)
		if err != nil {
			return err
		}
		if len(processes) == 0 {
			return &APIError{Action: action, Code: "MissingParameter", HTTPStatus: 400, Message: "Process.1", Err: provider.ErrInvalid}
		}
		for _, p := range processes {
			if !slices.Contains(provider.Processes(), p) {
				return &APIError{Action: action, Code: "InvalidParameter", HTTPStatus: 400, Message: "process " + string(p), Err: provider.ErrInvalid}
			}
		}
		if changed := change(g, processes); len(changed) > 0 {
			c.recordEffect(Effect{Action: action, GroupID: groupID, CallID: who.callID, Token: token, Detail: fmt.Sprint(changed)}, nil)
		}
		c.remember(action, token, all, nil)
		return nil
	})
}

// ModifyScalingConfiguration sets the image of a scaling configuration and, if not nil, its data disks. If
// the data disks came with the old image, another image drops those that are not given again.
func (a API) ModifyScalingConfiguration(ctx context.Context, id, imageID string, dataDisks json.RawMessage) error {
	const action = "ModifyScalingConfiguration"
	c := a.c
	return c.wire(ctx, action, id, nil, "", func(_ time.Time, who caller) error {
		cfg := c.configs[id]
		if cfg == nil || cfg.launchTemplate {
			return &APIError{Action: action, Code: "InvalidScalingConfigurationId.NotFound", HTTPStatus: 404, Message: id, Err: provider.ErrNotFound}
		}
		if c.images[imageID] == nil {
			return &APIError{Action: action, Code: "InvalidImageId.NotFound", HTTPStatus: 404, Message: imageID, Err: provider.ErrInvalid}
		}
		if cfg.imageID != imageID && cfg.dataDisksFromImage {
			cfg.dataDisks, cfg.dataDisksFromImage = nil, false
		}
		cfg.imageID = imageID
		if dataDisks != nil {
			cfg.dataDisks = slices.Clone(dataDisks)
		}
		c.recordEffect(Effect{Action: action, GroupID: cfg.groupID, CallID: who.callID, Detail: imageID}, nil)
		return nil
	})
}
