package rollingupgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// apply takes what came of a call. It may be called again with the same outcome on a record that was loaded
// again, because somebody else saved first.
func (m *machine) apply(o *outcome, now time.Time) {
	m.now = now
	o.err = readable(o.err)
	switch {
	case o.call.subject == ofRows || o.call.op == opVerify:
		m.applyRows(o)
	case o.call.subject == ofHook:
		m.applyHook(o)
	case m.putsBack():
		m.applyRestoring(o)
	case m.t.Status == StatusCanceling:
		m.applyCanceling(o)
	case m.t.Status != StatusRunning || o.call.stage != m.t.Stage:
		// A command has moved the task on; what the look showed is asked for again where it matters.
	case m.t.Stage == stageUndoing:
		m.applyUndoing(o)
	case m.t.Phase == Preparing:
		m.applyPreparing(o)
	case m.t.Phase == Upgrading:
		m.applyUpgrading(o)
	default:
		m.applyFinishing(o)
	}
}

func (m *machine) applyHook(o *outcome) {
	switch o.call.op {
	case opBeforeBatch:
		m.applyBeforeBatch(o)
	case opAfterBatch:
		m.applyAfterBatch(o)
	case opPaused:
		m.applyPaused(o)
	case opFailed:
		m.applyFailedHook(o)
	case opRollbackTask:
		m.applyRollback(o)
	}
}

// applyFailedHook takes what the hook decided about a failed instance.
func (m *machine) applyFailedHook(o *outcome) {
	ref := o.call.rows[0]
	i := m.row(ref.id)
	if i == nil || !i.undecided() || !i.AskHook || i.Attempt != ref.attempt {
		return
	}
	i.AskHook = false
	m.touch(i)
	if m.t.Status != StatusRunning { // canceled meanwhile
		return
	}
	if o.err != nil {
		m.event(Event{Kind: EventHook, Cause: ByHook, InstanceID: i.ID, Batch: i.Batch, Text: fmt.Sprintf("failed-instance hook: %v", o.err)})
		i.Error.Text += fmt.Sprintf(" (the failed-instance hook did not decide: %v)", o.err)
		return
	}
	switch o.decision {
	case DecideRetry:
		m.retry(i, false, ByHook)
	case DecideSkip, DecideCancel:
		m.mark(i, o.decision, ByHook)
	case "":
		m.budget(i)
	}
}

// applyRows takes the outcome of a call about instances.
func (m *machine) applyRows(o *outcome) {
	answers := make(map[string]*provider.Progress, len(o.progress))
	for n := range o.progress {
		p := &o.progress[n]
		m.tame(p)
		answers[p.InstanceID] = p
	}
	seen := make(map[string]*provider.Instance, len(o.instances))
	for n := range o.instances {
		seen[o.instances[n].ID] = &o.instances[n]
	}
	verdicts := make(map[string]Verdict, len(o.verdicts))
	for _, v := range o.verdicts {
		verdicts[v.InstanceID] = v
	}
	for _, ref := range o.call.rows {
		i := m.row(ref.id)
		if i == nil || i.Attempt != ref.attempt || i.Step != ref.step {
			continue
		}
		if o.call.acts() && (i.Call == nil || i.Call.ID != o.call.id) {
			continue
		}
		restoring := m.putsBack() || m.t.Stage == stageReturning
		switch {
		case restoring && o.call.op != opLook:
			m.applyRestoreAnswer(i, o, answers[i.ID])
		case !restoring && i.Status != InstanceRunning:
		case o.call.op == opLook && restoring:
			m.applyRestoreLook(i, seen[i.ID], o.err)
		case o.call.op == opLook:
			m.applyRowLook(i, seen[i.ID], o.err)
		case o.call.op == opVerify:
			m.applyVerdict(i, verdicts[i.ID], o.err)
		default:
			m.applyAnswer(i, o, answers[i.ID])
		}
	}
}

// longestWait is how long a provider can have the Runner wait for another look.
const longestWait = 10 * time.Minute

// tame makes of an answer that no provider should give one that can be lived with.
func (m *machine) tame(p *provider.Progress) {
	p.Wait = min(max(p.Wait, 0), longestWait)
	if i := m.row(p.InstanceID); p.State != nil && (i == nil || !bytes.Equal(p.State, i.State)) && !json.Valid(p.State) {
		p.State, p.Act, p.Done = nil, false, false
		p.Err = fmt.Errorf("%w: the provider's state for %s is no JSON", provider.ErrFailed, p.InstanceID)
	}
	p.Err = readable(p.Err)
}

// readable returns err, or another one in place of an error that panics when it is read, such as a nil pointer of an error type.
func readable(err error) (out error) {
	if err == nil {
		return nil
	}
	defer func() {
		if recover() != nil {
			out = fmt.Errorf("%w: the error that came back cannot be read", provider.ErrFailed)
		}
	}()
	_, out = err.Error(), err
	return out
}

// applyAnswer takes a provider's answer about one instance.
func (m *machine) applyAnswer(i *Instance, o *outcome, p *provider.Progress) {
	err := o.err
	if p != nil {
		err = p.Err
	}
	switch {
	case err != nil:
		m.applyError(i, o.call, p, err)
	case p == nil: // not begun: nothing was done for it
		if o.call.acts() {
			m.closeCall(i)
		}
		m.retryLater(i, fmt.Errorf("%w: the provider did not answer for it", provider.ErrNotBegun))
	case o.call.op == opUpdate:
		m.applyUpdate(i, o.call, p)
	case !p.Done: // accepted, not there yet: ask again under the same name
		m.waitForCall(i, p)
	default:
		m.closeCall(i)
		m.done(i, o.call.op)
	}
}

// closeCall notes that the outcome of the open call is known. What it has reached is noted by done.
func (m *machine) closeCall(i *Instance) {
	if i.Call != nil && i.Call.Op == opUnprotect {
		i.Lifted = false
	}
	i.Call = nil
	m.touch(i)
}

// done notes what a call has reached.
func (m *machine) done(i *Instance, op string) {
	i.Alone = false
	t := m.track(i)
	*t = track{stood: t.stood, fit: t.fit, tries: t.tries}
	if op != opStart {
		t.tries = 0
	}
	switch op {
	case opUnprotect:
		i.Lifted = true
	case opEnter:
		i.InStandby = true
		t.stood = m.now
	case opExit:
		i.InStandby = false
	case opProtect:
		i.Lifted = false
	case opStart:
		t.tries++ // accepted; whether it runs is for a look to show
	}
	if op == opExit && i.Step == ExitingStandby {
		i.StepSince = m.now // the protection has a deadline of its own
	}
}

// waitForCall plans the next look at a call that was accepted but has not ended.
func (m *machine) waitForCall(i *Instance, p *provider.Progress) {
	if m.lost(i.Call) && m.overdue(i, "accepted") != nil {
		m.fail(i, m.overdue(i, "accepted, and not there"))
		return
	}
	m.track(i).nextAt = m.now.Add(or(p.Wait, min(m.env.poll, 2*time.Second)))
}

// applyError sorts the errors of an answer.
func (m *machine) applyError(i *Instance, c *call, p *provider.Progress, err error) {
	if p != nil && p.Before != nil {
		m.complete(i, p.Before)
	}
	switch {
	case errors.Is(err, provider.ErrNotFound):
		m.closeCallIf(i, c)
		i.Missing = true
		m.touch(i)
	case errors.Is(err, provider.ErrRefused):
		m.closeCallIf(i, c)
		i.Alone = true
		m.touch(i)
		if len(c.rows) == 1 || !c.acts() { // refused because of others, and there were none; or a look, which can wait
			m.retryLater(i, err)
		}
	case errors.Is(err, provider.ErrNotBegun):
		m.closeCallIf(i, c)
		m.retryLater(i, err)
	case errors.Is(err, provider.ErrThrottled), errors.Is(err, provider.ErrBusy):
		if c.acts() && c.resent(i.ID) { // an earlier sending may have had its effect
			m.applyUnknown(i, err)
			return
		}
		m.closeCallIf(i, c)
		m.retryLater(i, err)
	case provider.Unknown(err) && c.acts():
		m.applyUnknown(i, err)
	case errors.Is(err, provider.ErrOutcomeUnknown) && c.op == opUpdate && p != nil: // it has looked for long enough
		m.applyFailure(i, c, p, err)
	case provider.Unknown(err):
		m.retryLater(i, err)
	case c.acts() && c.resent(i.ID) && (p == nil || errors.Is(err, provider.ErrPermission)):
		m.applyUnknown(i, err) // it says that this sending did nothing; an earlier one may have had its effect
	case c.op == opExit && errors.Is(err, provider.ErrInvalidState) && !m.track(i).refused: // a look tells more
		m.closeCall(i)
		m.track(i).refused = true
		m.retryLater(i, err)
	default:
		m.closeCallIf(i, c)
		m.applyFailure(i, c, p, err)
	}
}

func (m *machine) closeCallIf(i *Instance, c *call) {
	if c.acts() {
		m.closeCall(i)
	}
}

// applyUnknown keeps asking for a call whose outcome is not known, for a bounded time.
func (m *machine) applyUnknown(i *Instance, err error) {
	if !m.lost(i.Call) {
		m.retryLater(i, err)
		return
	}
	if i.Call.Op == opUpdate {
		i.Begun, i.State, i.Act = true, nil, false
	}
	open := i.Call
	if !errors.Is(err, provider.ErrOutcomeUnknown) {
		err = fmt.Errorf("%w: %s: %w", provider.ErrOutcomeUnknown, i.Call.Op, err)
	}
	m.fail(i, err)
	if open.Op == opEnter {
		i.Call = open // it may be in Standby because of this task
	}
}

// applyFailure ends the attempt of an instance with a definite error.
func (m *machine) applyFailure(i *Instance, c *call, p *provider.Progress, err error) {
	if c.op == opUpdate && p != nil {
		i.State, i.Act, i.MaxTargets = p.State, false, 0
		i.Stopped = p.Stopped
		m.output(i, p.Output)
	}
	if i.Left {
		m.gone(i, fmt.Sprintf("left the group and could not be started again: %v", err))
		return
	}
	m.fail(i, fmt.Errorf("%s: %w", i.Step, err))
}

// applyUpdate takes what an updater reports.
func (m *machine) applyUpdate(i *Instance, c *call, p *provider.Progress) {
	if c.acts() {
		i.Begun, i.Underway, i.Alone, i.ActedAt = true, true, false, c.at
		m.closeCall(i)
	}
	if p.Before != nil {
		m.complete(i, p.Before)
	}
	if p.Stopped != i.Stopped {
		i.Stopped = p.Stopped
		m.touch(i)
	}
	m.output(i, p.Output)
	if p.Done {
		m.applyUpdated(i, c, p)
		return
	}
	if !bytes.Equal(p.State, i.State) || p.Act != i.Act || p.MaxTargets != i.MaxTargets {
		i.State, i.Act, i.MaxTargets = p.State, p.Act, p.MaxTargets
		m.touch(i)
	}
	if late := m.overdue(i, or(p.Phase, "not done")); late != nil {
		m.fail(i, late)
		return
	}
	m.track(i).tries = 0
	m.scheduleLook(i, p, c)
}

// applyUpdated takes that an update has come to a safe end.
func (m *machine) applyUpdated(i *Instance, c *call, p *provider.Progress) {
	m.learn(i, "", c.at)
	i.Outcome, i.State, i.Act, i.MaxTargets, i.Underway, i.Stopped = p.Outcome, nil, false, 0, false, false
	m.touch(i)
	switch {
	case m.winding(i):
		// The next turn gives it the status that was decided.
	case p.Outcome != provider.Updated:
		m.fail(i, fmt.Errorf("%w: the update came to an end without taking effect", provider.ErrFailed))
	case m.env.hooks.Verify != nil:
		m.step(i, Verifying)
	default:
		m.step(i, ExitingStandby)
		m.track(i).fit = p.Fit
	}
}

// output keeps what a script printed.
func (m *machine) output(i *Instance, o *provider.Output) {
	if o == nil {
		return
	}
	m.outputs[i.ID] = *o
	i.ExitCode = nil
	if o.Exited {
		code := o.ExitCode
		i.ExitCode = &code
	}
	m.touch(i)
}

// complete adds to what is known of the instance before the first change.
func (m *machine) complete(i *Instance, b *provider.Before) {
	if i.Begun && i.Before != nil && i.Before.Disk != nil {
		return
	}
	if i.Before == nil {
		i.Before = &provider.Before{}
	}
	was := *i.Before
	i.Before.ImageID = or(i.Before.ImageID, b.ImageID)
	i.Before.Lifecycle = or(i.Before.Lifecycle, b.Lifecycle)
	i.Before.Power = or(i.Before.Power, b.Power)
	i.Before.KeyPair = or(i.Before.KeyPair, b.KeyPair)
	i.Before.UserData = or(i.Before.UserData, b.UserData)
	if i.Before.Disk == nil {
		i.Before.Disk = b.Disk
	}
	if was != *i.Before {
		m.touch(i)
	}
}

// applyRowLook takes what a look showed of an instance at work.
func (m *machine) applyRowLook(i *Instance, s *provider.Instance, err error) {
	t := m.track(i)
	switch {
	case err != nil:
		m.retryLater(i, err)
	case i.Left:
		m.applyLeft(i, s)
	case s == nil:
		i.Stopped = false
		m.gone(i, "released")
	case s.Lifecycle == "":
		if s.Power != provider.Running && (i.Stopped || i.Underway) {
			i.Left, i.Missing, i.StepSince = true, false, m.now
			m.touch(i)
			m.applyLeft(i, s)
			return
		}
		m.gone(i, "left the group")
	case s.Lifecycle == provider.Removing || s.Lifecycle == provider.RemovingWait:
		m.retryLater(i, fmt.Errorf("%w: %s is %s", provider.ErrBusy, i.ID, s.Lifecycle))
	case i.Missing && i.Step == Verifying:
		i.Missing, t.checked, t.stood, t.nextAt = false, true, m.now, m.now.Add(m.verifyInterval())
		m.touch(i)
	case i.Missing:
		i.Missing = false
		i.Lifted = i.Lifted && s.Lifecycle != provider.Protected
		m.touch(i)
		m.retryLater(i, fmt.Errorf("%w: %s is a member (%s), but the call did not find it", provider.ErrTransient, i.ID, s.Lifecycle))
	case i.Step == EnteringStandby:
		m.meetAgain(i, s)
	case i.Step == Updating:
		m.meetForUpdate(i, s)
	case s.Lifecycle != provider.Standby && m.entering(i):
		m.retryLater(i, fmt.Errorf("%w: %s is shown as %s, right after it was put in Standby", provider.ErrBusy, i.ID, s.Lifecycle))
	case s.Lifecycle != provider.Standby:
		i.InStandby = false // somebody moved it out of Standby
		m.event(Event{Kind: EventForeignChange, Cause: ByProvider, InstanceID: i.ID, Batch: i.Batch, Text: "somebody else took it out of Standby"})
		m.touch(i)
	case s.Power == provider.Running && !s.DiskReplacing:
		t.fit = true // the tries of the call that comes next go on
	case s.Power == provider.Stopped && !s.DiskReplacing:
		m.fail(i, fmt.Errorf("%w: %s is Stopped and cannot go back in service; start it and retry", provider.ErrInvalidState, i.ID))
	default:
		m.retryLater(i, fmt.Errorf("%w: %s is %s, disk replacement open: %t", provider.ErrBusy, i.ID, s.Power, s.DiskReplacing))
	}
}

// meetAgain looks at an instance that was not in service when its batch began, before it is tried again.
func (m *machine) meetAgain(i *Instance, s *provider.Instance) {
	if s.Lifecycle == provider.InService || s.Lifecycle == provider.Protected && m.t.Spec.Targets.IncludeProtected {
		m.remember(i, s)
		return
	}
	m.fail(i, fmt.Errorf("%w: %s is %s; somebody else changed it", errNotInService, i.ID, s.Lifecycle))
}

// meetForUpdate looks at an instance before the first act of its update: it must still be in Standby.
func (m *machine) meetForUpdate(i *Instance, s *provider.Instance) {
	if s.Lifecycle == provider.Standby || i.Underway && (s.Power != provider.Running || s.DiskReplacing) {
		m.track(i).stood = m.now // the tries of the call that comes next go on
		return
	}
	if m.entering(i) {
		m.retryLater(i, fmt.Errorf("%w: %s is shown as %s, right after it was put in Standby", provider.ErrBusy, i.ID, s.Lifecycle))
		return
	}
	i.InStandby, i.Underway, i.State, i.Act, i.MaxTargets = false, false, nil, false, 0
	m.event(Event{Kind: EventForeignChange, Cause: ByProvider, InstanceID: i.ID, Batch: i.Batch, Text: "somebody else took it out of Standby"})
	m.fail(i, fmt.Errorf("%w: %s is %s; somebody else took it out of Standby before its update", provider.ErrInvalidState, i.ID, s.Lifecycle))
}

// lag is for how long after a change the cloud may still show what was before.
const lag = time.Minute

// entering reports whether an instance was put in Standby so short a time ago that a look may not show it yet.
func (m *machine) entering(i *Instance) bool {
	return m.now.Sub(m.track(i).stood) < lag || i.Attempt == 1 && m.now.Sub(i.AttemptSince) < lag
}

// applyLeft brings an instance that left the group while we had it stopped to run, then it is gone.
func (m *machine) applyLeft(i *Instance, s *provider.Instance) {
	switch {
	case s == nil:
		i.Stopped = false
		m.gone(i, "released")
	case s.Power == provider.Running:
		i.Stopped = false
		m.gone(i, "left the group; it was started again")
	case m.overdue(i, string(s.Power)) != nil:
		m.gone(i, fmt.Sprintf("left the group and is %s", s.Power))
	default:
		t := m.track(i)
		t.seen = s
		t.nextAt = m.startAt(t)
		if s.Power != provider.Stopped || s.DiskReplacing {
			copied := *s
			copied.Power = or(s.Power, provider.Starting)
			if s.DiskReplacing {
				copied.Power = provider.Stopping
			}
			t.seen = &copied
			t.nextAt = m.now.Add(m.env.backoff(t.tries))
			t.tries++
		}
	}
}

// startAt says when to start an instance that is Stopped: at once, and again only after a time.
func (m *machine) startAt(t *track) time.Time {
	if t.tries == 0 {
		return m.now
	}
	return m.now.Add(m.env.backoff(t.tries))
}

// applyVerdict takes what the Verify hook said.
func (m *machine) applyVerdict(i *Instance, v Verdict, err error) {
	text := v.Text
	if err != nil {
		v.Healthy, text = false, err.Error()
		if errors.Is(err, errHook) {
			m.fail(i, fmt.Errorf("%w: verify hook: %w", errUnhealthy, err))
			return
		}
	}
	need := or(m.t.Spec.Verify.Successes, 1)
	if v.Healthy {
		i.Healthy++
		if i.Healthy >= need {
			m.step(i, ExitingStandby)
			return
		}
		m.touch(i)
	} else if i.Healthy != 0 {
		i.Healthy = 0
		m.touch(i)
	}
	t := m.track(i)
	if !v.Healthy && !t.checked && m.now.Sub(t.stood) > lag { // perhaps it is not there any more
		i.Missing = true
		m.touch(i)
		return
	}
	t.checked = false
	if m.overdue(i, text) != nil && !v.Healthy {
		m.fail(i, fmt.Errorf("%w after %s: %s", errUnhealthy, m.stepLimit(i), or(text, "no verdict")))
		return
	}
	m.track(i).nextAt = m.now.Add(m.verifyInterval())
}

func (m *machine) verifyInterval() time.Duration { return or(m.t.Spec.Verify.Interval, 5*time.Second) }
