package aliyun

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// look reads how scripts are going, by invocation.
func (j *scriptJob) look(ctx context.Context, targets map[string][]provider.Target) error {
	order := slices.Sorted(maps.Keys(targets))
	if err := j.ask(ctx, describeResults, len(order)); err != nil { // all or none: an answer without the others is lost
		return err
	}
	results := make([]map[string]ecs.InvocationResult, len(order))
	err := each(ctx, len(order), func(ctx context.Context, n int) (err error) {
		results[n], err = j.results(ctx, order[n], idsOf(targets[order[n]]))
		if errors.Is(err, provider.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	var well []string
	for n, id := range order {
		for _, t := range targets[id] {
			if r, ok := results[n][t.InstanceID]; ok && ended(t, r, id).done == provider.Updated {
				well = append(well, t.InstanceID)
			}
		}
	}
	running := j.running(ctx, well)
	for n, id := range order {
		for _, t := range targets[id] {
			if r, ok := results[n][t.InstanceID]; ok {
				s := ended(t, r, id)
				s.fit = running[t.InstanceID]
				j.answer(t, s)
			} else if err := j.invisible(t, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// running says which of ids are Running: a script may have stopped its instance. What could not be read is left to the Runner.
func (j *scriptJob) running(ctx context.Context, ids []string) map[string]bool {
	if len(ids) == 0 {
		return nil
	}
	out := make(map[string]bool, len(ids))
	found, err := j.describe(ctx, ids)
	if err != nil {
		return nil
	}
	for id, i := range found {
		out[id] = i.Status == string(provider.Running)
	}
	return out
}

// invisible answers for a script whose result does not show: soon after it was sent that means "not yet".
func (j *scriptJob) invisible(t provider.Target, invocationID string) error {
	s, err := readState(t)
	if err != nil {
		return err
	}
	next, over := step{state: s}.unseen(phaseScript, waitScript, patienceScript)
	if over {
		j.answers.fail(t.InstanceID, fmt.Errorf("invocation %s shows no result of %s: %w", invocationID, t.InstanceID, provider.ErrOutcomeUnknown))
		return nil
	}
	j.answer(t, next)
	return nil
}

const describeResults = "DescribeInvocationResults"

// results reads the results of an invocation, all pages, as far as they concern ids. The limiter has granted the first page.
func (p *Provider) results(ctx context.Context, invocationID string, ids []string) (map[string]ecs.InvocationResult, error) {
	out := make(map[string]ecs.InvocationResult, len(ids))
	err := byToken(describeResults, func(token string) (string, error) {
		req := ecs.CreateDescribeInvocationResultsRequest()
		req.InvokeId, req.MaxResults, req.NextToken, req.ContentEncoding = invocationID, requests.NewInteger(pageSize), token, "Base64"
		if len(ids) == 1 {
			req.InstanceId = ids[0]
		}
		resp := ecs.CreateDescribeInvocationResultsResponse()
		if token != "" {
			if err := p.askMore(ctx, describeResults, 1); err != nil {
				return "", err
			}
		}
		if err := p.send(ctx, req, resp); err != nil {
			return "", err
		}
		for _, r := range resp.Invocation.InvocationResults.InvocationResult {
			if slices.Contains(ids, r.InstanceId) {
				out[r.InstanceId] = r
			}
		}
		if len(out) == len(ids) {
			return "", nil
		}
		return resp.Invocation.NextToken, nil
	})
	return out, err
}

// The statuses of a script on one instance (ECS DescribeInvocationResults, InvocationStatus).
const (
	statusPending    = "Pending"
	statusScheduled  = "Scheduled"
	statusRunning    = "Running"
	statusStopping   = "Stopping"
	statusSuccess    = "Success"
	statusFailed     = "Failed" // it ran and its exit code is not 0
	statusError      = "Error"
	statusTimeout    = "Timeout"
	statusInvalid    = "Invalid"
	statusAborted    = "Aborted" // not delivered
	statusCancelled  = "Cancelled"
	statusTerminated = "Terminated"
)

// exitNonzero is the error code of a script that ran to its end.
const exitNonzero = "ExitCodeNonzero"

// statusOf is the status of a result. InvokeRecordStatus says "Finished" whatever the exit code: it counts only
// where the newer status is missing.
func statusOf(r ecs.InvocationResult) string {
	if r.InvocationStatus != "" {
		return r.InvocationStatus
	}
	switch r.InvokeRecordStatus {
	case "Finished", statusSuccess:
		if r.ExitCode == 0 && r.ErrorCode == "" {
			return statusSuccess
		}
		return statusFailed
	case "PartialFailed", statusFailed:
		return statusFailed
	case "Stopped":
		return statusTerminated
	case statusStopping:
		return statusStopping
	}
	return statusRunning
}

// ended says what a script's result means.
func ended(t provider.Target, r ecs.InvocationResult, invocationID string) step {
	status := statusOf(r)
	switch status {
	case statusPending, statusScheduled, statusRunning, statusStopping:
		if t.Stop && status != statusStopping && !halting(t) {
			return step{state: progressState{InvocationID: invocationID}}.acting(phaseHalt, maxHalt)
		}
		s := running(invocationID)
		if status == statusStopping || t.Stop {
			s.state.Phase = phaseHalting
		}
		return s
	case statusSuccess, statusFailed, statusError, statusTimeout, statusInvalid, statusAborted, statusCancelled, statusTerminated:
	default: // a status of a later day; the time of the step bounds the wait
		return running(invocationID)
	}
	out := &provider.Output{Text: decoded(r.Output), Dropped: r.Dropped, Code: clip(r.ErrorCode, 100), Message: clean(r.ErrorInfo, nil)}
	if status == statusSuccess && r.ExitCode == 0 {
		out.Exited = true
		return step{done: provider.Updated, output: out}
	}
	if status == statusSuccess || status == statusFailed && (r.ErrorCode == "" || r.ErrorCode == exitNonzero) {
		out.Exited, out.ExitCode = true, int(r.ExitCode)
	}
	what := fmt.Sprintf("script on %s: %s", t.InstanceID, meaning(status))
	switch {
	case out.Exited:
		what = fmt.Sprintf("script on %s: exit code %d", t.InstanceID, out.ExitCode)
	case out.Code != "":
		what += " (" + out.Code + ")"
	}
	if out.Message == "" {
		out.Message = what
	}
	if t.Stop {
		return step{done: provider.NotUpdated, output: out}
	}
	class := provider.ErrFailed
	if r.ErrorCode == "InstanceReleased" || r.ErrorCode == "InstanceNotExists" {
		class = provider.ErrNotFound
	}
	return step{err: fmt.Errorf("%s: %w", what, class), output: out, state: progressState{Phase: phaseRun}}
}

// halting reports whether the script was asked to stop already.
func halting(t provider.Target) bool {
	s, err := readState(t)
	return err == nil && s.Phase == phaseHalting
}

func meaning(status string) string {
	switch status {
	case statusTimeout:
		return "it took longer than its timeout and was killed"
	case statusAborted:
		return "it was not delivered"
	case statusInvalid:
		return "the script or its parameters do not fit"
	case statusCancelled:
		return "it was canceled before it began"
	case statusTerminated:
		return "it was stopped"
	case statusError:
		return "it could not be run"
	}
	return status
}

// decoded is the output of a script, which comes as base64.
func decoded(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return s
	}
	return string(b)
}

func jsonOf(v map[string]string) string {
	b, err := json.Marshal(v) // sorted by key: the same token needs the same parameters
	if err != nil {
		panic(err) // texts only
	}
	return string(b)
}
