package fake

import (
	"context"
	"encoding/base64"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// What Cloud Assistant accepts.
const (
	maxScript = 24 << 10 // of content after base64, with parameter values (ECS RunCommand)
	maxOutput = 24 << 10 // of output (ECS DescribeInvocationResults)
	// agentGrace is how long after a start a silent agent counts as coming up.
	agentGrace = 5 * time.Minute
)

// The statuses of a command on one instance, as ECS DescribeInvocationResults names them.
const (
	StatusRunning    = "Running"
	StatusSuccess    = "Success"
	StatusFailed     = "Failed"
	StatusTimeout    = "Timeout"
	StatusTerminated = "Terminated"
	StatusAborted    = "Aborted"
)

// invocation is one run of a command on one or more instances.
type invocation struct {
	id, name string
	at       time.Time
	spec     provider.ScriptSpec
	keep     bool
	rest     string
	runs     []*run
}

// run is a command on one instance. Its status is Running until end.
type run struct {
	inv    *invocation
	id     string
	start  time.Time
	end    time.Time
	status string // from end on
	code   string
	exit   int
	output string
	asked  bool // to stop
}

// InvocationView is an invocation; ResultView its result on one instance.
type InvocationView struct {
	ID, Name string
	Time     time.Time
	Script   provider.ScriptSpec
	Results  []ResultView
	// Keep and Rest are those of the request.
	Keep bool
	Rest string
	// Nameless says that it cannot be found by its command's name.
	Nameless bool
}

// ResultView is the result of an invocation on one instance.
type ResultView struct {
	InstanceID string
	Status     string // StatusRunning and so on
	Stopping   bool   // a stop was asked for
	ExitCode   int
	ErrorCode  string
	Output     string // at most 24 KiB
	Dropped    int    // bytes cut away
	Start, End time.Time
}

// RunCommandRequest are the parameters of [API.RunCommand].
type RunCommandRequest struct {
	Name        string
	InstanceIDs []string
	Script      provider.ScriptSpec
	Token       string
	// Keep keeps the command after the run; a kept command may run on an instance again under its name.
	Keep bool
	// Rest is whatever else the caller passes; a token holds for the same Rest only.
	Rest string
}

// RunCommand runs a script on instances and returns the invocation's ID. One instance that is
// not Running, or whose agent is silent, refuses the whole call.
func (a API) RunCommand(ctx context.Context, r RunCommandRequest) (invocationID string, err error) {
	const action = "RunCommand"
	c := a.c
	err = c.wire(ctx, action, "", r.InstanceIDs, r.Token, func(now time.Time, who caller) error {
		if err := c.tooMany(who, action, r.InstanceIDs, 100); err != nil {
			return err
		}
		all := params("", r.InstanceIDs, r.Name, r.Script, r.Keep, r.Rest)
		if c.cfg.StatesFirst {
			found, err := c.existing(who, action, r.InstanceIDs)
			if err == nil {
				err = c.runnable(who, found, r.Script)
			}
			if err != nil {
				return err
			}
		}
		if answer, again, err := c.recall(who, action, r.Token, all); again || err != nil {
			invocationID, _ = answer.(string)
			return err
		}
		found, err := c.existing(who, action, r.InstanceIDs)
		if err != nil {
			return err
		}
		if err := c.runnable(who, found, r.Script); err != nil {
			return err
		}
		inv := &invocation{id: c.nextID("t"), name: r.Name, at: now, spec: r.Script, keep: r.Keep, rest: r.Rest}
		for _, i := range found {
			for _, old := range c.byName[r.Name] {
				if r.Name != "" && !r.Keep && old.of(i.id) != nil {
					c.violate(who, "%s: %s runs command %s a second time", action, i.id, r.Name)
				}
			}
			c.recordEffect(Effect{Action: action, CallID: who.callID, Token: r.Token, Detail: inv.id}, i)
			inv.runs = append(inv.runs, c.newRun(inv, i))
		}
		c.commands[inv.id] = inv
		if r.Name != "" {
			c.byName[r.Name] = append(c.byName[r.Name], inv)
		}
		invocationID = inv.id
		c.remember(action, r.Token, all, invocationID)
		return nil
	})
	return clean(invocationID, err)
}

// runnable refuses a script that no agent could run.
func (c *Cloud) runnable(who caller, all []*instance, s provider.ScriptSpec) error {
	const action = "RunCommand"
	size := base64.StdEncoding.EncodedLen(len(s.Content))
	for _, v := range s.Parameters {
		size += len(v)
	}
	if s.Content == "" || size > maxScript {
		return &APIError{Action: action, Code: "CmdContent.ExceedLimit", HTTPStatus: 403, Message: "script is empty or too long", Err: provider.ErrInvalid}
	}
	if s.Type != provider.Shell && s.Type != provider.Bat && s.Type != provider.PowerShell {
		return &APIError{Action: action, Code: "InvalidCmdType.NotFound", HTTPStatus: 403, Message: string(s.Type), Err: provider.ErrInvalid}
	}
	var stopped, wrong, silent, booting []string
	for _, i := range all {
		switch {
		case i.power != provider.Running:
			stopped = append(stopped, i.id)
		case (i.os == "windows") != (s.Type != provider.Shell):
			wrong = append(wrong, i.id)
		case c.cfg.SilentAgentAccepted:
		case !c.agentOnline(i) && c.now.Sub(i.started) < c.scaled(agentGrace):
			booting = append(booting, i.id)
		case !c.agentOnline(i):
			silent = append(silent, i.id)
		}
	}
	switch {
	case len(stopped) > 0:
		return c.refuse(who, action, "InstanceNotRunning", 403, provider.ErrInvalidState, "not Running", stopped...)
	case len(wrong) > 0:
		return c.refuse(who, action, "InvalidInstance.NotMatch", 403, provider.ErrInvalid, string(s.Type)+" does not run there", wrong...)
	case len(silent) > 0: // the client cannot know: no violation
		return &APIError{Action: action, Code: "ClientNotRunning", HTTPStatus: 403, Message: "agent offline", Targets: silent, Err: provider.ErrInvalidState}
	case len(booting) > 0:
		return &APIError{Action: action, Code: "ClientNotRunning", HTTPStatus: 403, Message: "agent coming up", Targets: booting, Err: provider.ErrBusy}
	}
	return nil
}

// newRun decides how a script will end on an instance.
func (c *Cloud) newRun(inv *invocation, i *instance) *run {
	i.runs++
	var result ScriptResult
	switch {
	case len(i.behave.Scripts) > 0:
		result = i.behave.Scripts[min(i.runs, len(i.behave.Scripts))-1]
	case c.cfg.Script != nil:
		ask := ScriptRun{InstanceID: i.id, N: i.runs, Name: inv.name, Script: inv.spec}
		if i.group != nil {
			ask.GroupID = i.group.id
		}
		result = c.cfg.Script(ask)
	}
	takes := c.took("script", i.id, or(result.Takes, c.cfg.Steps.Script))
	r := &run{inv: inv, id: i.id, start: c.now, end: c.now.Add(takes), status: StatusSuccess, exit: result.ExitCode, output: result.Output}
	limit := inv.spec.Timeout
	if limit <= 0 {
		limit = time.Minute
	}
	switch {
	case !c.agentOnline(i):
		r.end, r.status, r.code, r.exit, r.output = c.now.Add(c.scaled(time.Minute)), StatusAborted, "ClientNotRunning", 0, ""
	case takes > limit:
		r.end, r.status, r.code, r.exit = c.now.Add(limit), StatusTimeout, "ExecutionTimeout", 0
	case result.Code != "":
		r.status, r.code = StatusFailed, result.Code
		if result.Code == "Aborted" {
			r.status = StatusAborted
		}
	case result.ExitCode != 0:
		r.status, r.code = StatusFailed, "ExitCodeNonzero"
	}
	return r
}

// abortScripts ends what runs on an instance that ceases to exist.
func (c *Cloud) abortScripts(i *instance) {
	if i.runs == 0 {
		return
	}
	for _, inv := range c.commands {
		if r := inv.of(i.id); r != nil && r.end.After(c.now) {
			r.end, r.status, r.code, r.exit = c.now, StatusAborted, "InstanceReleased", 0
		}
	}
}

func (inv *invocation) of(id string) *run {
	for _, r := range inv.runs {
		if r.id == id {
			return r
		}
	}
	return nil
}

func (c *Cloud) viewInvocation(inv *invocation, ids []string) InvocationView {
	v := InvocationView{ID: inv.id, Name: inv.name, Time: inv.at, Script: inv.spec, Keep: inv.keep, Rest: inv.rest, Nameless: c.cfg.NoCommandLookup && !inv.keep}
	for _, r := range inv.runs {
		if len(ids) > 0 && !slices.Contains(ids, r.id) {
			continue
		}
		res := ResultView{InstanceID: r.id, Status: StatusRunning, Stopping: r.asked, Start: r.start}
		if !r.end.After(c.now) {
			res.Status, res.End, res.ErrorCode, res.Output, res.ExitCode = r.status, r.end, r.code, r.output, r.exit
			if res.Dropped = max(0, len(r.output)-maxOutput); res.Dropped > 0 {
				res.Output = r.output[:maxOutput]
			}
		}
		v.Results = append(v.Results, res)
	}
	return v
}

// kept reports whether the cloud still has the record of an invocation.
func (c *Cloud) kept(inv *invocation) bool {
	return inv != nil && c.now.Sub(inv.at) < c.cfg.CommandMemory
}

// DescribeInvocations finds invocations by the name of their command, in the order in which they were made.
func (a API) DescribeInvocations(ctx context.Context, name string) (out []InvocationView, err error) {
	c := a.c
	err = c.wire(ctx, "DescribeInvocations", name, nil, "", func(time.Time, caller) error {
		for _, inv := range c.byName[name] {
			if c.kept(inv) && (inv.keep || !c.cfg.NoCommandLookup) {
				out = append(out, c.viewInvocation(inv, nil))
			}
		}
		return nil
	})
	return clean(out, err)
}

// DescribeInvocationResults reports an invocation, on the instances ids only if there are any.
func (a API) DescribeInvocationResults(ctx context.Context, invocationID string, ids []string) (out InvocationView, err error) {
	const action = "DescribeInvocationResults"
	err = a.c.wire(ctx, action, invocationID, ids, "", func(time.Time, caller) error {
		inv := a.c.commands[invocationID]
		if !a.c.kept(inv) {
			return &APIError{Action: action, Code: "InvalidInvokeId.NotFound", HTTPStatus: 404, Message: invocationID, Err: provider.ErrNotFound}
		}
		out = a.c.viewInvocation(inv, ids)
		return nil
	})
	return clean(out, err)
}

// StopInvocation asks running commands to stop. What has ended stays as it is.
func (a API) StopInvocation(ctx context.Context, invocationID string, ids []string) error {
	const action = "StopInvocation"
	c := a.c
	return c.wire(ctx, action, invocationID, ids, "", func(now time.Time, who caller) error {
		if err := c.tooMany(who, action, ids, 50); err != nil {
			return err
		}
		inv := c.commands[invocationID]
		if !c.kept(inv) {
			return &APIError{Action: action, Code: "InvalidInvokeId.NotFound", HTTPStatus: 404, Message: invocationID, Err: provider.ErrNotFound}
		}
		for _, id := range ids {
			r := inv.of(id)
			if r == nil {
				return c.refuse(who, action, "InvalidInstanceId.NotFound", 404, provider.ErrNotFound, "not in "+invocationID, id)
			}
			if !r.end.After(c.now) || r.asked {
				continue
			}
			c.recordEffect(Effect{Action: action, CallID: who.callID, Detail: invocationID}, c.instances[id])
			r.asked = true
			if !c.cfg.StopLetsScriptsRun {
				r.end, r.status, r.code, r.exit = now.Add(c.scaled(time.Second)), StatusTerminated, "", 0
			}
		}
		return nil
	})
}
