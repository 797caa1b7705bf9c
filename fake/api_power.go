package fake

import (
	"context"
	"errors"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A PowerAction is what [API.Power] does.
type PowerAction string

// The actions on the power state, named as the calls for many instances are.
const (
	StopAction   PowerAction = "StopInstances"
	StartAction  PowerAction = "StartInstances"
	RebootAction PowerAction = "RebootInstances"
)

// PowerRequest are the parameters of [API.Power].
type PowerRequest struct {
	Action      PowerAction
	InstanceIDs []string
	// SuccessFirst acts on the instances that are fit; otherwise one that is unfit refuses the call.
	SuccessFirst bool
	// DryRun checks and does nothing.
	DryRun bool
	// Force stops or reboots at once; it also stops an instance that is Stopping.
	Force bool
	// Economical gives back the capacity of a stopped instance: its system disk cannot be replaced.
	Economical bool
}

// PowerResult is what a call of [API.Power] did to one instance.
type PowerResult struct {
	InstanceID        string
	Previous, Current provider.Power
	Err               *APIError // with SuccessFirst
}

// Power makes a StopInstances, StartInstances or RebootInstances call.
func (a API) Power(ctx context.Context, r PowerRequest) (out []PowerResult, err error) {
	action := string(r.Action)
	c := a.c
	err = c.wire(ctx, action, "", r.InstanceIDs, "", func(now time.Time, who caller) error {
		if err := c.tooMany(who, action, r.InstanceIDs, 100); err != nil {
			return err
		}
		if !r.SuccessFirst {
			if err := c.powerFit(who, r, r.InstanceIDs); err != nil {
				return err
			}
		}
		for _, id := range r.InstanceIDs {
			res := PowerResult{InstanceID: id}
			if r.SuccessFirst {
				if err := c.powerFit(who, r, []string{id}); err != nil {
					errors.As(err, &res.Err)
				}
			}
			if i := c.instances[id]; i != nil {
				res.Previous = i.power
				if res.Err == nil && !r.DryRun {
					c.recordEffect(Effect{Action: action, CallID: who.callID}, i)
					c.powerDo(now, who, r, i)
				}
				res.Current = i.power
			}
			out = append(out, res)
		}
		return nil
	})
	return clean(out, err)
}

// powerFit says why the action is refused on the instances.
func (c *Cloud) powerFit(who caller, r PowerRequest, ids []string) error {
	action := string(r.Action)
	all, err := c.existing(who, action, ids)
	if err != nil {
		return err
	}
	if err := c.usable(who, action, all); err != nil {
		return err
	}
	must := provider.Running
	if r.Action == StartAction {
		must = provider.Stopped
	}
	var unfit []string
	state := ""
	for _, i := range all {
		if forced := r.Action == StopAction && r.Force && i.power == provider.Stopping; i.power != must && !forced || i.replacing {
			unfit = append(unfit, i.id)
			if state = "is " + string(i.power); i.replacing {
				state += " and its disk is being replaced"
			}
		}
	}
	if len(unfit) > 0 {
		return c.refuse(who, action, "IncorrectInstanceStatus", 403, provider.ErrInvalidState, state, unfit...)
	}
	return nil
}

// powerDo carries the action out on an instance that is fit for it.
func (c *Cloud) powerDo(now time.Time, who caller, r PowerRequest, i *instance) {
	if r.Action != StartAction && i.lifecycle == provider.InService && !i.foreign && !i.group.isSuspended(provider.HealthCheck) {
		c.violate(who, "%s: %s is in service and the health check is on", r.Action, i.id)
	}
	if i.power == provider.Running {
		i.ceased = now
	}
	switch r.Action {
	case StopAction:
		c.beginStop(i, now)
		i.economical = r.Economical
		if r.Force {
			i.at = now.Add(c.scaled(time.Second))
		}
	case StartAction:
		i.economical = false
		c.beginStart(i, now)
	case RebootAction:
		c.beginStart(i, now)
		c.watch(i)
	}
}
