package aliyun

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// scriptJob is one call of Update for a script.
type scriptJob struct {
	*Provider
	spec    provider.ScriptSpec
	answers answers
}

// updateScript brings instances a step nearer to having run a script.
func (p *Provider) updateScript(ctx context.Context, spec provider.ScriptSpec, targets []provider.Target) (answers, error) {
	j := scriptJob{Provider: p, spec: spec, answers: make(answers, len(targets))}
	var run []provider.Target                  // side effect: run the script
	halt := make(map[string][]provider.Target) // side effect: stop it, by invocation
	look := make(map[string][]provider.Target) // by invocation
	for _, t := range targets {
		s, err := readState(t)
		switch {
		case err != nil:
			j.answers.fail(t.InstanceID, err)
		case due(t, s, phaseRun):
			run = append(run, t)
		case due(t, s, phaseHalt) && !t.Stale:
			halt[s.InvocationID] = append(halt[s.InvocationID], t)
		case s.InvocationID != "":
			look[s.InvocationID] = append(look[s.InvocationID], t)
		case t.Stop:
			j.answer(t, step{done: provider.NotUpdated})
		default:
			j.answer(t, step{state: progressState{}}.acting(phaseRun, 0))
		}
	}
	// What is only read comes first, so that an error of it leaves nothing unsaid about a side effect.
	if err := j.look(ctx, look); err != nil {
		return nil, err
	}
	if len(run) > 0 {
		if err := j.run(ctx, run); err != nil {
			return nil, err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(halt)) {
		j.halt(ctx, id, halt[id])
	}
	return j.answers, nil
}

func (j *scriptJob) answer(t provider.Target, s step) { j.answers[t.InstanceID] = s.progress() }

// run runs the script, all targets in one call, whose command is named like the call: under that name it is
// looked for first if it may have been sent before. The token is the name itself: with another set of instances the service refuses it
// instead of running the script twice.
func (j *scriptJob) run(ctx context.Context, targets []provider.Target) error {
	resent := slices.ContainsFunc(targets, func(t provider.Target) bool { return t.Resent || t.Stale })
	if resent {
		id, err := j.find(ctx, targets[0].CallID)
		if err != nil {
			return err
		}
		if id != "" { // a call is always sent for the same instances: it has all of them
			for _, t := range targets {
				j.answer(t, running(id))
			}
			return nil
		}
	}
	var send []provider.Target
	for _, t := range targets {
		switch {
		case resent && (t.Stale || t.Stop):
			j.answers.fail(t.InstanceID, j.notFound(t))
		case t.Stop:
			j.answer(t, step{done: provider.NotUpdated})
		default:
			send = append(send, t)
		}
	}
	if len(send) > 0 {
		j.start(ctx, send)
	}
	return nil
}

// findable is how long an invocation is taken to be kept: the documentation says 30 days or 10,000 of them in one place and two weeks or
// 100,000 in another, and a busy account makes 10,000 in hours.
const findable = time.Hour

// notFound is the answer for a script that may have been sent and is not found by its name. Whether commands that were
// not kept can be found is unverified.
func (j *scriptJob) notFound(t provider.Target) error {
	class := provider.ErrOutcomeUnknown
	if age := time.Since(t.Named); j.cfg.FindsCommands && t.Stale && age >= 0 && age < findable {
		class = provider.ErrNotBegun
	}
	return fmt.Errorf("run script on %s: no invocation named %s is found: %w", t.InstanceID, t.CallID, class)
}

// start sends the script.
func (j *scriptJob) start(ctx context.Context, send []provider.Target) {
	req := ecs.CreateRunCommandRequest()
	req.Type, req.ContentEncoding = string(j.spec.Type), "Base64"
	req.Name, req.ClientToken = send[0].CallID, send[0].CallID
	req.InstanceId, req.WorkingDir, req.Username = list(idsOf(send)), j.spec.WorkingDir, j.spec.User
	if j.spec.Timeout > 0 {
		req.Timeout = requests.NewInteger64(int64((j.spec.Timeout + time.Second - 1) / time.Second))
	}
	content := base64.StdEncoding.EncodeToString([]byte(j.spec.Content))
	// In the body, not in the URL, which proxies log and limit (that the service reads both is documented for RPC requests in general).
	req.FormParams["CommandContent"] = content
	secrets := []string{content, j.spec.Content}
	if len(j.spec.Parameters) > 0 {
		values := jsonOf(j.spec.Parameters)
		req.EnableParameter = requests.NewBoolean(true)
		req.FormParams["Parameters"] = values
		secrets = append(secrets, values)
		for _, v := range j.spec.Parameters {
			secrets = append(secrets, v)
		}
	}
	resp := ecs.CreateRunCommandResponse()
	err := j.call(ctx, req, resp, secrets...)
	if err == nil && resp.InvokeId == "" {
		err = &Error{Action: "RunCommand", Code: "Unreadable", Message: "the answer names no invocation", RequestID: resp.RequestId, class: provider.ErrTransient}
	}
	if err != nil {
		j.blame(ctx, send, err)
		return
	}
	for _, t := range send {
		j.answer(t, running(resp.InvokeId))
	}
}

func running(invocationID string) step {
	return step{state: progressState{InvocationID: invocationID}}.waiting(phaseScript, waitShown)
}

// find looks for the invocation of a command by its name, and returns its ID.
func (j *scriptJob) find(ctx context.Context, name string) (id string, err error) {
	const action = "DescribeInvocations"
	err = byToken(action, func(token string) (string, error) {
		req := ecs.CreateDescribeInvocationsRequest()
		req.CommandName, req.MaxResults, req.NextToken = name, requests.NewInteger(pageSize), token
		resp := ecs.CreateDescribeInvocationsResponse()
		if err := j.call(ctx, req, resp); err != nil {
			return "", err
		}
		for _, inv := range resp.Invocations.Invocation {
			if inv.CommandName == name && inv.InvokeId != "" {
				id = inv.InvokeId
				return "", nil
			}
		}
		return resp.NextToken, nil
	})
	return id, err
}

// blame turns the refusal of RunCommand into answers. One unfit instance refuses the whole call: the states of instances and agents tell
// which one.
func (j *scriptJob) blame(ctx context.Context, targets []provider.Target, err error) {
	keep := progressState{Phase: phaseRun}.json()
	answer := func(t provider.Target, err error) {
		if t.Resent && !provider.Retryable(err) { // it says that this sending did nothing; an earlier one may have
			err = fmt.Errorf("%w: sent again, and %w", provider.ErrOutcomeUnknown, asText(err))
		}
		j.answers[t.InstanceID] = provider.Progress{Err: ofInstance(t.InstanceID, err), State: keep}
	}
	for _, t := range targets {
		answer(t, err)
	}
	if !aboutInstances(err) {
		return
	}
	reasons, readErr := j.unfit(ctx, idsOf(targets), err)
	if readErr != nil && len(targets) == 1 {
		return
	}
	// Without anybody to blame each is tried alone, unless the call itself is wrong.
	if len(reasons) == 0 && (len(targets) == 1 || readErr == nil && errors.Is(err, provider.ErrInvalid)) {
		return
	}
	for _, t := range targets {
		why := reasons[t.InstanceID]
		if why == nil {
			why = refused(err)
		}
		answer(t, why)
	}
}

// unfit says which of the instances no script can run on, and why.
func (j *scriptJob) unfit(ctx context.Context, ids []string, err error) (map[string]error, error) {
	found, readErr := j.describe(ctx, ids)
	if readErr != nil {
		return nil, readErr
	}
	reasons := make(map[string]error)
	var there []string
	for _, id := range ids {
		i, ok := found[id]
		switch {
		case !ok:
			reasons[id] = provider.ErrNotFound
		case i.Status == string(provider.Starting) || i.Status == string(provider.PowerPending):
			reasons[id] = fmt.Errorf("is %s: %w", i.Status, provider.ErrBusy)
		case i.Status != string(provider.Running):
			reasons[id] = fmt.Errorf("is %s: %w", i.Status, provider.ErrInvalidState)
		case (strings.EqualFold(firstOf(i.OSType, i.OsType), "windows")) != (j.spec.Type != provider.Shell):
			reasons[id] = fmt.Errorf("a script of type %s does not run there: %w", j.spec.Type, provider.ErrInvalid)
		case len(i.OperationLocks.LockReason) > 0 || expired(i):
			reasons[id] = fmt.Errorf("is locked or has expired: %w", provider.ErrInvalidState)
		default:
			there = append(there, id)
		}
	}
	online, readErr := j.agents(ctx, there)
	if readErr != nil {
		return reasons, readErr
	}
	for _, id := range there {
		if online[id] {
			continue
		}
		class := provider.ErrInvalidState
		if began, ok := parseTime(found[id].StartTime); ok && time.Since(began) < agentGrace {
			class = provider.ErrBusy // it has just been started: the agent comes up
		}
		reasons[id] = fmt.Errorf("the Cloud Assistant agent is offline (%w): %w", asText(err), class)
	}
	return reasons, nil
}

// agents reads whose Cloud Assistant agent answers. For up to two minutes after a stop the service still says that it does.
func (p *Provider) agents(ctx context.Context, ids []string) (map[string]bool, error) {
	online := make(map[string]bool, len(ids))
	for i := range chunks(len(ids), maxInstances) {
		req := ecs.CreateDescribeCloudAssistantStatusRequest()
		req.InstanceId = list(part(ids, i, maxInstances))
		resp := ecs.CreateDescribeCloudAssistantStatusResponse()
		if err := p.call(ctx, req, resp); err != nil {
			return nil, err
		}
		for _, a := range resp.InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus {
			online[a.InstanceId] = strings.EqualFold(a.CloudAssistantStatus, "true")
		}
	}
	return online, nil
}

// halt asks a running script to stop.
func (j *scriptJob) halt(ctx context.Context, invocationID string, targets []provider.Target) {
	for i := range chunks(len(targets), maxHalt) {
		some := part(targets, i, maxHalt)
		req := ecs.CreateStopInvocationRequest()
		req.InvokeId, req.InstanceId = invocationID, list(idsOf(some))
		err := j.call(ctx, req, ecs.CreateStopInvocationResponse())
		for _, t := range some {
			if err != nil {
				j.answers[t.InstanceID] = provider.Progress{Err: ofInstance(t.InstanceID, haltError(err, len(some))), State: slices.Clone(t.State)}
				continue
			}
			j.answer(t, step{state: progressState{InvocationID: invocationID}}.waiting(phaseHalting, waitScript))
		}
	}
}

// haltError is the error of StopInvocation for one of n instances. One that is gone may have refused the whole call: then each is tried alone.
func haltError(err error, n int) error {
	if n > 1 && aboutInstances(err) && !errors.Is(err, provider.ErrInvalid) {
		return refused(err)
	}
	return err
}
