package fake

import (
	"context"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// StandbyRequest are the parameters of [API.Standby].
type StandbyRequest struct {
	// Exit makes it ExitStandby; otherwise it is EnterStandby.
	Exit        bool
	GroupID     string
	InstanceIDs []string
	Token       string
	// Async makes the call answer at once; the instances move after the time that the call would take otherwise.
	Async bool
}

// Standby makes an EnterStandby or ExitStandby call. The activity ID is empty where the call makes no
// activity; see [Config.StandbyActivities].
func (a API) Standby(ctx context.Context, r StandbyRequest) (activityID string, err error) {
	c := a.c
	action := "EnterStandby"
	if r.Exit {
		action = "ExitStandby"
	}
	if r.Async {
		ctx = WithTurn(ctx, asyncTurn(ctx))
	}
	err = c.wire(ctx, action, r.GroupID, r.InstanceIDs, r.Token, func(_ time.Time, who caller) error {
		if err := c.tooMany(who, action, r.InstanceIDs, 20); err != nil {
			return err
		}
		all := params(r.GroupID, r.InstanceIDs, r.Async)
		if answer, again, err := c.recall(who, action, r.Token, all); again || err != nil {
			activityID, _ = answer.(string)
			return err
		}
		g, err := c.findGroup(action, r.GroupID)
		if err != nil {
			return err
		}
		if g.state != provider.GroupActive {
			return &APIError{Action: action, Code: "IncorrectScalingGroupStatus", HTTPStatus: 400, Message: string(g.state), Err: provider.ErrBusy}
		}
		if c.cfg.ActivitiesBlock && len(c.open(g)) > 0 {
			return &APIError{Action: action, Code: "IncorrectScalingGroupStatus", HTTPStatus: 400, Message: "an activity is in progress", Err: provider.ErrBusy}
		}
		fit, err := c.fitForStandby(who, action, g, r)
		if err != nil && !c.cfg.PartialStandby {
			return err
		}
		move := func() {
			for _, i := range fit {
				if i.group == g && !i.released {
					c.recordEffect(Effect{Action: action, CallID: who.callID, Token: r.Token}, i)
					c.moveStandby(who, i, r.Exit)
				}
			}
		}
		switch {
		case r.Async:
			activityID = c.begin(g, action, c.latencyOf(action, first(r.InstanceIDs, r.GroupID)), move).id
		case c.cfg.StandbyActivities:
			activityID = c.begin(g, action, c.latencyOf(action, first(r.InstanceIDs, r.GroupID)), nil).id
			move()
		default:
			move()
		}
		if err == nil {
			c.remember(action, r.Token, all, activityID)
		}
		return err
	})
	return clean(activityID, err)
}

// asyncTurn makes a call answer like any other write.
func asyncTurn(ctx context.Context) func(time.Time) Turn {
	return func(now time.Time) Turn {
		t := turnOf(ctx, now)
		t.quick = true
		return t
	}
}

// fitForStandby returns the members that the call moves; the error names those that are unfit.
func (c *Cloud) fitForStandby(who caller, action string, g *group, r StandbyRequest) (fit []*instance, err error) {
	members, err := c.memberList(who, action, g, r.InstanceIDs)
	var unfit []string
	for _, i := range members {
		from, to := provider.InService, provider.Standby
		if r.Exit {
			from, to = to, from
		}
		switch {
		case i.lifecycle == from, i.lifecycle == provider.Protected && !r.Exit && c.cfg.ProtectedToStandby:
			fit = append(fit, i)
		case i.lifecycle == to && c.cfg.StandbyTwice:
		default:
			unfit = append(unfit, i.id)
		}
	}
	if len(unfit) > 0 && (err == nil || c.cfg.PartialStandby) {
		state := c.instances[unfit[0]].lifecycle
		err = c.refuse(who, action, "IncorrectInstanceStatus", 403, provider.ErrInvalidState, "is "+string(state), unfit...)
	}
	return fit, err
}

// moveStandby moves a member into Standby or back.
func (c *Cloud) moveStandby(who caller, i *instance, exit bool) {
	if !exit {
		c.setLifecycle(i, provider.Standby)
		return
	}
	switch {
	case i.foreign:
	case i.replacing:
		c.violate(who, "ExitStandby: %s has an open replacement of its disk", i.id)
	case i.power != provider.Running:
		c.violate(who, "ExitStandby: %s is %s", i.id, i.power)
	}
	c.setLifecycle(i, provider.InService)
	if i.power != provider.Running {
		c.watch(i)
	}
}
