package fake

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// call runs a method of the Provider: it waits for its turn, logs, and lets faults that concern the whole call interfere.
// f gets the verdict for faults that concern one target.
func (c *Cloud) call(ctx context.Context, op, groupID string, ids []string, callID string, f func(context.Context, verdict) error) error {
	var v verdict
	var entry *Call
	var wake time.Time
	who := caller{op: op, callID: callID}
	err := c.gather(ctx, op, groupID, ids, callID, func(now time.Time) {
		if v = c.match(now, op, groupID, ids, ""); !answersPerTarget(op) {
			v.target = ""
		}
		entry = c.logCall(now, op, groupID, ids, callID)
		d, own := c.latencies[op]
		if who.quick = own; own {
			d = c.took("latency "+op, first(ids, groupID), d)
		}
		if d += v.delay; d > 0 {
			wake = c.wakeAt(now, d)
		}
	})
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	switch inner := context.WithValue(ctx, callerKey{}, who); {
	case v.err == nil || v.target != "":
		err = f(inner, v)
	case v.lost:
		_ = f(inner, verdict{})
		err = v.err
	default:
		err = v.err
	}
	if !wake.IsZero() {
		if late := sleep(ctx, time.Until(wake)); late != nil {
			err = late
		}
	}
	if single, ok := err.(targetErrors); ok { //nolint:errorlint // made here and never wrapped
		c.endCall(entry, single)
		return nil
	}
	if err != nil && !isAPIError(err) {
		err = fmt.Errorf("%s: %w", op, err)
	}
	c.endCall(entry, err)
	return err
}

// targetErrors is what the log says of a call some of whose targets failed. The call itself has no error.
type targetErrors string

func (e targetErrors) Error() string { return string(e) }

func errorsOf(answers []provider.Progress) error {
	var all []string
	for _, p := range answers {
		if p.Err != nil {
			all = append(all, p.InstanceID+": "+p.Err.Error())
		}
	}
	if all == nil {
		return nil
	}
	return targetErrors(strings.Join(all, "; "))
}

// answersPerTarget reports whether a method's answers are per target, so that a fault can concern one of them.
func answersPerTarget(op string) bool {
	switch op {
	case "EnterStandby", "ExitStandby", "SetProtection", "Start", "Update":
		return true
	}
	return false
}

func isAPIError(err error) bool {
	own := new(*APIError)
	return errors.As(err, own)
}

// perTarget runs a method that answers per target. limit is how many targets it takes; the rest is left out.
func (c *Cloud) perTarget(ctx context.Context, op, groupID string, targets []provider.Target, limit int, f func(context.Context, []provider.Target) ([]provider.Progress, error)) ([]provider.Progress, error) {
	ids, callID := idsOf(targets), ""
	if len(targets) == 0 {
		return nil, ctx.Err()
	}
	callID = targets[0].CallID
	var answers []provider.Progress
	err := c.call(ctx, op, groupID, ids, callID, func(ctx context.Context, v verdict) error {
		if err := c.checkTargets(op, targets, limit); err != nil {
			return err
		}
		targets = targets[:min(limit, len(targets))]
		send := targets
		if v.target != "" && !v.lost {
			send = slices.DeleteFunc(slices.Clone(targets), func(t provider.Target) bool { return v.whole || t.InstanceID == v.target })
		}
		var err error
		if len(send) > 0 {
			answers, err = f(ctx, send)
		}
		if err != nil {
			return err
		}
		if v.target != "" {
			answers = overrule(targets, answers, v)
		}
		return errorsOf(answers)
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// overrule puts a fault's error in the place of one target's answer.
func overrule(targets []provider.Target, answers []provider.Progress, v verdict) []provider.Progress {
	byID := make(map[string]provider.Progress, len(answers))
	for _, p := range answers {
		byID[p.InstanceID] = p
	}
	var out []provider.Progress
	for _, t := range targets {
		switch p, ok := byID[t.InstanceID]; {
		case t.InstanceID == v.target:
			out = append(out, provider.Progress{InstanceID: t.InstanceID, Err: v.err})
		case ok:
			out = append(out, p)
		case v.whole:
			out = append(out, provider.Progress{InstanceID: t.InstanceID, Err: &APIError{Action: "fault", Code: "Refused", HTTPStatus: 400, Targets: []string{v.target}, Err: provider.ErrRefused}})
		}
	}
	return out
}

// checkTargets holds the contract of [provider.Target] against a call.
func (c *Cloud) checkTargets(op string, targets []provider.Target, limit int) error {
	problem := ""
	if len(targets) > limit {
		c.note(op, targets[0].CallID, "%d targets, at most %d are allowed", len(targets), limit)
	}
	seen := make(map[string]bool, len(targets))
	for _, t := range targets {
		switch {
		case t.InstanceID == "":
			problem = "a target without instance"
		case seen[t.InstanceID]:
			problem = "target " + t.InstanceID + " is given twice"
		case t.CallID != targets[0].CallID:
			problem = "targets have different call IDs"
		case t.CallID == "" && op != "Update":
			problem = "target " + t.InstanceID + " has no call ID"
		case t.CallID == "" && (t.Resent || t.Stale):
			problem = "target " + t.InstanceID + " is resent without a call ID"
		case !validCallID(t.CallID):
			problem = fmt.Sprintf("call ID %q is not 40 letters, digits and hyphens at most", t.CallID)
		}
		seen[t.InstanceID] = true
	}
	if problem == "" {
		return nil
	}
	c.note(op, targets[0].CallID, "%s", problem)
	return &APIError{Action: op, Code: "InvalidParameter", HTTPStatus: 400, Message: problem, Err: provider.ErrInvalid}
}

func (c *Cloud) note(op, callID, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.violate(caller{op: op, callID: callID}, format, args...)
}

func validCallID(id string) bool {
	for _, r := range id {
		if r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
			return false
		}
	}
	return len(id) <= 40
}

func idsOf(targets []provider.Target) []string {
	ids := make([]string, len(targets))
	for n, t := range targets {
		ids[n] = t.InstanceID
	}
	return ids
}

// token is the client token of a wire call: the call ID, and what the call carries, because a call that is
// sent again for what is left of its targets is another one to the cloud.
func token(callID string, of ...string) string {
	h := fnv.New64a()
	for _, s := range of {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return fmt.Sprintf("%s-%016x", callID, h.Sum64())
}

// blame turns the error of a wire call into answers: those because of which it was refused get
// the error, the others ErrRefused. An error that concerns nobody in particular goes to all.
func blame(targets []provider.Target, err error) []provider.Progress {
	var e *APIError
	errors.As(err, &e)
	out := make([]provider.Progress, len(targets))
	for n, t := range targets {
		out[n] = provider.Progress{InstanceID: t.InstanceID, Err: err}
		if e != nil && len(e.Targets) > 0 && !provider.Unknown(err) && !slices.Contains(e.Targets, t.InstanceID) {
			out[n].Err = fmt.Errorf("%w: %w", provider.ErrRefused, &APIError{Action: e.Action, Code: e.Code, Message: e.Message, HTTPStatus: e.HTTPStatus, Targets: e.Targets})
		}
	}
	return out
}

// Group implements [provider.Reader].
func (c *Cloud) Group(ctx context.Context, groupID string) (out provider.Group, err error) {
	err = c.call(ctx, "Group", groupID, nil, "", func(ctx context.Context, _ verdict) error {
		all, err := c.API().DescribeScalingGroups(ctx, []string{groupID})
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return &APIError{Action: "Group", Code: "InvalidScalingGroupId.NotFound", HTTPStatus: 404, Message: groupID, Err: provider.ErrNotFound}
		}
		g := all[0]
		out = provider.Group{
			ID: g.ID, Name: g.Name, State: g.State, Type: g.Type, SystemSuspended: g.SystemSuspended, Suspended: g.Suspended,
			InService: g.Count[provider.InService], Standby: g.Count[provider.Standby], Total: g.Total, MinSize: g.MinSize,
			MaxSize: g.MaxSize, DesiredCapacity: g.DesiredCapacity, LoadBalancers: g.LoadBalancers,
			ConfigurationID: g.ConfigurationID, LaunchTemplateID: g.LaunchTemplateID,
		}
		for _, a := range g.Activities {
			out.Activities = append(out.Activities, provider.Activity{ID: a.ID, Text: a.Text})
		}
		return nil
	})
	return clean(out, err)
}

// Members implements [provider.Reader].
func (c *Cloud) Members(ctx context.Context, groupID string) (out []provider.Instance, err error) {
	err = c.call(ctx, "Members", groupID, nil, "", func(ctx context.Context, _ verdict) error {
		all, err := c.API().DescribeScalingInstances(ctx, groupID, nil)
		if err != nil {
			return err
		}
		if all == nil { // no members, or no group
			if groups, err := c.API().DescribeScalingGroups(ctx, []string{groupID}); err != nil {
				return err
			} else if len(groups) == 0 {
				return &APIError{Action: "Members", Code: "InvalidScalingGroupId.NotFound", HTTPStatus: 404, Message: groupID, Err: provider.ErrNotFound}
			}
		}
		out = make([]provider.Instance, len(all))
		for n, v := range all {
			out[n] = asInstance(v, groupID)
		}
		return nil
	})
	return clean(out, err)
}

// Instances implements [provider.Reader].
func (c *Cloud) Instances(ctx context.Context, groupID string, ids []string) (out []provider.Instance, err error) {
	if len(ids) == 0 {
		return nil, ctx.Err()
	}
	err = c.call(ctx, "Instances", groupID, ids, "", func(ctx context.Context, _ verdict) error {
		if limit := c.Limits().Instances; len(ids) > limit {
			c.note("Instances", "", "%d ids, at most %d are allowed", len(ids), limit)
			return &APIError{Action: "Instances", Code: "InvalidParameter", HTTPStatus: 400, Message: "too many ids", Err: provider.ErrInvalid}
		}
		all, err := c.API().DescribeInstances(ctx, groupID, ids)
		for _, v := range all {
			out = append(out, asInstance(v, groupID))
		}
		return err
	})
	return clean(out, err)
}

func asInstance(v InstanceView, groupID string) provider.Instance {
	if v.GroupID != groupID {
		v.Lifecycle = ""
	}
	return provider.Instance{
		ID: v.ID, Lifecycle: v.Lifecycle, Power: v.Power, ImageID: v.ImageID, OS: v.OS, Architecture: v.Arch, KeyPair: v.KeyPair,
		DiskReplacing: v.DiskReplacing, Locks: v.Locks, Expired: v.Expired,
	}
}

// SuspendProcesses implements [provider.ProcessSuspender].
func (c *Cloud) SuspendProcesses(ctx context.Context, groupID string, processes []provider.Process, callID string) error {
	return c.processes(ctx, "SuspendProcesses", groupID, processes, callID, false, c.API().SuspendProcesses)
}

// ResumeProcesses implements [provider.ProcessSuspender].
func (c *Cloud) ResumeProcesses(ctx context.Context, groupID string, processes []provider.Process, callID string) error {
	return c.processes(ctx, "ResumeProcesses", groupID, processes, callID, true, c.API().ResumeProcesses)
}

func (c *Cloud) processes(ctx context.Context, op, groupID string, processes []provider.Process, callID string, suspended bool, change func(context.Context, string, []provider.Process, string) error) error {
	return c.call(ctx, op, groupID, nil, callID, func(ctx context.Context, _ verdict) error {
		if !validCallID(callID) {
			return fmt.Errorf("call ID %q: %w", callID, provider.ErrInvalid)
		}
		groups, err := c.API().DescribeScalingGroups(ctx, []string{groupID})
		if err != nil {
			return err
		}
		if len(groups) == 0 {
			return &APIError{Action: op, Code: "InvalidScalingGroupId.NotFound", HTTPStatus: 404, Message: groupID, Err: provider.ErrNotFound}
		}
		var todo []provider.Process
		of := []string{groupID}
		for _, p := range processes {
			if slices.Contains(groups[0].Suspended, p) == suspended && !slices.Contains(todo, p) {
				todo = append(todo, p)
				of = append(of, string(p))
			}
		}
		if len(todo) == 0 {
			return nil
		}
		return change(ctx, groupID, todo, token(callID, of...))
	})
}
