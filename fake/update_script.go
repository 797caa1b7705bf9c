package fake

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// scriptJob is one call of Update for a script.
type scriptJob struct {
	*Cloud
	groupID string
	spec    provider.ScriptSpec
	answers map[string]provider.Progress
}

// updateScript brings instances a step nearer to having run a script.
func (c *Cloud) updateScript(ctx context.Context, groupID string, spec provider.ScriptSpec, targets []provider.Target) ([]provider.Progress, error) {
	j := scriptJob{Cloud: c, groupID: groupID, spec: spec, answers: make(map[string]provider.Progress)}
	var run []provider.Target                  // side effect: run the script
	halt := make(map[string][]provider.Target) // side effect: stop it, by invocation
	look := make(map[string][]provider.Target) // by invocation
	var order []string
	byInvocation := func(m map[string][]provider.Target, id string, t provider.Target) {
		if len(halt[id])+len(look[id]) == 0 {
			order = append(order, id)
		}
		m[id] = append(m[id], t)
	}
	for _, t := range targets {
		s, err := readState(t)
		switch {
		case err != nil:
			j.answers[t.InstanceID] = provider.Progress{Err: err}
		case due(t, s, phaseRun):
			run = append(run, t)
		case due(t, s, phaseHalt) && !t.Stale:
			byInvocation(halt, s.InvocationID, t)
		case s.InvocationID != "":
			byInvocation(look, s.InvocationID, t)
		case t.Stop:
			j.answer(t, step{done: provider.NotUpdated})
		default:
			j.answer(t, step{act: phaseRun, state: progressState{Phase: phaseRun}})
		}
	}
	if len(run) > 0 {
		if err := j.run(ctx, run); err != nil {
			return nil, err
		}
	}
	for _, id := range order {
		j.halt(ctx, id, halt[id])
		if err := j.look(ctx, id, look[id]); err != nil {
			return nil, err
		}
	}
	return inOrder(targets, j.answers), nil
}

func (j *scriptJob) answer(t provider.Target, s step) {
	j.answers[t.InstanceID] = j.progress(t.InstanceID, s)
}

// run runs the script, all targets in one wire call. What may have been sent before is looked for first.
func (j *scriptJob) run(ctx context.Context, targets []provider.Target) error {
	resent, stale, stop := false, false, false
	for _, t := range targets {
		resent, stale, stop = resent || t.Resent || t.Stale, stale || t.Stale, stop || t.Stop
	}
	if resent {
		rest, err := j.find(ctx, targets)
		if err != nil {
			return err
		}
		targets = rest
	}
	var send []provider.Target
	for _, t := range targets {
		switch {
		case t.Stale || t.Stop && resent && j.cfg.NoCommandLookup:
			j.answers[t.InstanceID] = provider.Progress{
				Err: fmt.Errorf("run script on %s: no invocation named %s found: %w", t.InstanceID, t.CallID, provider.ErrOutcomeUnknown),
			}
		case t.Stop:
			j.answer(t, step{done: provider.NotUpdated})
		default:
			send = append(send, t)
		}
	}
	if len(send) == 0 {
		return nil
	}
	id, err := j.API().RunCommand(ctx, RunCommandRequest{
		Name: send[0].CallID, Token: send[0].CallID, InstanceIDs: idsOf(send), Script: j.spec,
	})
	if err != nil {
		for _, p := range blame(send, err) {
			p.State = progressState{Phase: phaseRun}.json()
			j.answers[p.InstanceID] = p
		}
		return nil
	}
	for _, t := range send {
		j.answer(t, running(id))
	}
	return nil
}

func running(invocationID string) step {
	return step{wait: "script", after: waitScript, state: progressState{Phase: "running", InvocationID: invocationID}}
}

// find looks for invocations that carry the targets' call ID, and returns the targets that have none.
func (j *scriptJob) find(ctx context.Context, targets []provider.Target) (rest []provider.Target, err error) {
	found, err := j.API().DescribeInvocations(ctx, targets[0].CallID)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		known := ""
		for _, inv := range found {
			for _, r := range inv.Results {
				if r.InstanceID == t.InstanceID {
					known = inv.ID
				}
			}
		}
		if known == "" {
			rest = append(rest, t)
		} else {
			j.answer(t, running(known))
		}
	}
	if len(rest) > 0 && len(rest) < len(targets) {
		// The command ran on the others only: a call with all of them was never accepted.
		for _, t := range rest {
			j.answers[t.InstanceID] = provider.Progress{Err: fmt.Errorf("run script on %s: %w", t.InstanceID, provider.ErrNotBegun)}
		}
		return nil, nil
	}
	return rest, nil
}

// halt asks a running script to stop.
func (j *scriptJob) halt(ctx context.Context, invocationID string, targets []provider.Target) {
	if len(targets) == 0 {
		return
	}
	targets = targets[:min(len(targets), maxHalt)]
	if err := j.API().StopInvocation(ctx, invocationID, idsOf(targets)); err != nil {
		for n, p := range blame(targets, err) {
			p.State = targets[n].State
			j.answers[p.InstanceID] = p
		}
		return
	}
	for _, t := range targets {
		s := running(invocationID)
		s.state.Phase = "halting"
		j.answer(t, s)
	}
}

// maxHalt is how many instances a StopInvocation call takes.
const maxHalt = 50

// look reads how scripts are going.
func (j *scriptJob) look(ctx context.Context, invocationID string, targets []provider.Target) error {
	if len(targets) == 0 {
		return nil
	}
	inv, err := j.API().DescribeInvocationResults(ctx, invocationID, idsOf(targets))
	if errors.Is(err, provider.ErrNotFound) {
		for _, t := range targets {
			j.answers[t.InstanceID] = provider.Progress{
				Err: fmt.Errorf("invocation %s of %s is not kept any more: %w", invocationID, t.InstanceID, provider.ErrOutcomeUnknown),
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	var well []string
	steps := make(map[string]step, len(targets))
	results := make(map[string]ResultView, len(inv.Results))
	for _, r := range inv.Results {
		results[r.InstanceID] = r
	}
	for _, t := range targets {
		r, ok := results[t.InstanceID]
		if !ok {
			j.answers[t.InstanceID] = provider.Progress{
				Err: fmt.Errorf("invocation %s has no result of %s: %w", invocationID, t.InstanceID, provider.ErrOutcomeUnknown),
			}
			continue
		}
		s := ended(t, r, invocationID)
		if s.done == provider.Updated {
			well = append(well, t.InstanceID)
		}
		steps[t.InstanceID] = s
	}
	running := map[string]bool{}
	if len(well) > 0 { // a script may have stopped its instance
		if all, err := j.API().DescribeInstances(ctx, j.groupID, well); err == nil {
			for _, v := range all {
				running[v.ID] = v.Power == provider.Running
			}
		}
	}
	for _, t := range targets {
		if s, ok := steps[t.InstanceID]; ok {
			s.fit = running[t.InstanceID]
			j.answer(t, s)
		}
	}
	return nil
}

// ended says what a script's result means.
func ended(t provider.Target, r ResultView, invocationID string) step {
	out := &provider.Output{Text: r.Output, Dropped: r.Dropped, Code: r.ErrorCode}
	switch r.Status {
	case StatusRunning:
		s := running(invocationID)
		if r.Stopping {
			s.state.Phase = "halting"
		} else if t.Stop {
			return step{act: phaseHalt, limit: maxHalt, state: progressState{Phase: phaseHalt, InvocationID: invocationID}}
		}
		return s
	case StatusSuccess:
		out.Exited, out.ExitCode = true, r.ExitCode
		return step{done: provider.Updated, output: out}
	case StatusFailed:
		out.Exited, out.ExitCode = r.ErrorCode == "ExitCodeNonzero", r.ExitCode
	}
	out.Message = fmt.Sprintf("script on %s: %s %s", t.InstanceID, r.Status, r.ErrorCode)
	if out.Exited {
		out.Message = fmt.Sprintf("script on %s: exit code %d", t.InstanceID, r.ExitCode)
	}
	if t.Stop {
		return step{done: provider.NotUpdated, output: out}
	}
	class := provider.ErrFailed
	if r.ErrorCode == "InstanceReleased" {
		class = provider.ErrNotFound
	}
	return step{err: fmt.Errorf("%s: %w", out.Message, class), output: out, state: progressState{Phase: phaseRun}}
}
