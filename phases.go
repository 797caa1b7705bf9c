package rollingupgrade

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// decide changes the record as far as no call is needed for it and returns the calls to make next. The
// driver saves the record before it makes them.
func (m *machine) decide(now time.Time) []*call {
	m.now, m.next = now, time.Time{}
	for {
		calls, again := m.turn()
		if !again {
			return calls
		}
		m.next = time.Time{}
	}
}

// turn makes one step. If it reports true the record has moved on and wants another turn.
func (m *machine) turn() (calls []*call, again bool) {
	if m.putsBack() {
		return m.restoring()
	}
	switch m.t.Status {
	case StatusPending:
		m.status(onStart, ByPolicy, "")
		m.t.StartedAt, m.t.TaskSince = m.now, m.now
		m.stage(Preparing, stageReading)
		return nil, true
	case StatusRunning:
		m.checkLimits()
		switch m.t.Phase {
		case Preparing:
			return m.preparing()
		case Upgrading:
			return m.upgrading()
		default:
			return m.finishing()
		}
	case StatusCanceling:
		return m.canceling()
	case StatusBatchPaused, StatusFailurePaused:
		return m.waiting()
	}
	return nil, false
}

// checkLimits pauses the task once when its batch or the whole task has taken too long.
func (m *machine) checkLimits() {
	check := func(name string, since time.Time, limit time.Duration) {
		if limit == 0 || since.IsZero() || m.t.PauseAsked != nil || slices.Contains(m.t.Expired, name) {
			return
		}
		if end := since.Add(limit); end.After(m.now) {
			m.wake(end)
			return
		}
		m.t.Expired = append(m.t.Expired, name)
		m.t.PauseAsked = &Pause{Why: PausedByDeadline, Text: fmt.Sprintf("%s took longer than %s", name, limit)}
		m.touchHead()
	}
	if m.t.Phase == Upgrading {
		check(fmt.Sprintf("batch %d", m.t.Batch), m.t.BatchSince, m.t.Spec.Timeouts.Batch)
	}
	check("the task", m.t.TaskSince, m.t.Spec.Timeouts.Task)
}

// preparing suspends the processes, waits for activities to end and makes the plan final.
func (m *machine) preparing() ([]*call, bool) {
	switch m.t.Stage {
	case stageReading, stageSettling:
		return m.groupLook(&call{}), false
	case stageSuspending:
		return m.groupCall(&call{op: opSuspend, processes: m.t.Ledger.Ours}), false
	case stageListing:
		return m.groupLook(&call{wantMembers: true}), false
	case stageReturning:
		return m.returning()
	case stageUndoing:
		return m.resuming()
	}
	panic("rollingupgrade: unknown stage " + string(m.t.Stage))
}

// applyPreparing takes what a look or a call of the preparing phase brought.
func (m *machine) applyPreparing(o *outcome) {
	limit := m.groupLimit()
	if m.t.Stage == stageSettling {
		limit = or(m.t.Spec.Timeouts.Settle, 10*time.Minute)
	}
	if errors.Is(o.err, provider.ErrNotFound) {
		m.abandon("scaling group " + m.t.GroupID + " does not exist")
		return
	}
	if o.err != nil {
		if !m.groupRetry(o.err, limit) {
			m.undo(fmt.Sprintf("%s: %v", m.t.Stage, o.err))
		}
		return
	}
	switch m.t.Stage {
	case stageReading:
		m.startSuspending(o.group)
	case stageSuspending:
		m.suspended()
		m.event(Event{Kind: EventProcesses, Cause: ByPolicy, Text: "suspended " + joinProcesses(m.t.Ledger.Ours)})
		m.stage(Preparing, stageSettling)
	case stageSettling:
		switch missing := without(m.t.Ledger.Ours, o.group.Suspended); {
		case len(missing) > 0 && m.suspending():
		case len(missing) > 0 && m.now.Sub(m.t.TaskSince) > limit:
			m.undo(fmt.Sprintf("%s do not stay suspended", joinProcesses(missing)))
		case len(missing) > 0:
			m.suspendAgain(missing, stageSuspending)
		case len(o.group.Activities) == 0:
			m.stage(Preparing, stageListing)
		case m.now.Sub(m.t.StageSince) > limit:
			m.undo(fmt.Sprintf("scaling activity %s is still in progress after %s", o.group.Activities[0].ID, limit))
		default:
			m.group.nextAt = m.now.Add(min(m.env.poll, 5*time.Second))
		}
	case stageListing:
		m.finalize(o.group, o.members)
	}
}

// startSuspending writes down which processes will be suspended, before they are.
func (m *machine) startSuspending(g *provider.Group) {
	if g.State != "" && g.State != provider.GroupActive {
		m.abandon(fmt.Sprintf("scaling group %s is %s", m.t.GroupID, g.State))
		return
	}
	l := &m.t.Ledger
	l.Suspended = without(g.Suspended, l.Ours) // what an earlier task left behind is not the user's
	l.Ours = without(provider.Processes(), l.Suspended)
	m.touchHead()
	if len(without(l.Ours, g.Suspended)) == 0 {
		m.stage(Preparing, stageSettling)
		return
	}
	m.intend(opSuspend)
	m.stage(Preparing, stageSuspending)
}

// suspendAgain answers somebody who resumed processes of ours.
func (m *machine) suspendAgain(missing []provider.Process, s Stage) {
	m.event(Event{
		Kind: EventForeignChange, Cause: ByProvider, Batch: m.t.Batch,
		Text: "somebody else resumed " + joinProcesses(missing) + "; suspending again",
	})
	m.intend(opSuspend)
	m.stageOn(s)
}

// suspended notes that a suspension was answered.
func (m *machine) suspended() {
	m.t.Ledger.Call, m.t.Ledger.SuspendedAt = nil, m.now
	m.touchHead()
}

// suspending reports whether the processes were suspended so short a time ago that a look may not show it yet, and plans the next one.
func (m *machine) suspending() bool {
	age := m.now.Sub(m.t.Ledger.SuspendedAt)
	if m.t.Ledger.SuspendedAt.IsZero() || age > lag || age < 0 {
		return false
	}
	m.group.nextAt = m.now.Add(max(time.Second, age/4))
	return true
}

// undo ends the preparation: the suspension is undone, then the task has failed.
func (m *machine) undo(reason string) {
	m.t.Reason = reason
	if len(m.t.Ledger.Ours) == 0 {
		m.finish(onFailed, reason)
		return
	}
	m.t.Ledger.Call = nil
	m.stage(Preparing, stageUndoing)
}

// abandon ends a task whose group is gone or cannot be worked on; nothing can be resumed there.
func (m *machine) abandon(reason string) {
	if m.t.Phase == Preparing && len(m.t.Ledger.Ours) > 0 && m.t.Ledger.Call == nil && m.t.Stage == stageReading {
		m.undo(reason) // taken over from an earlier task
		return
	}
	m.t.Ledger.Ours, m.t.Ledger.Call = nil, nil
	m.finish(onFailed, reason)
}

// finish ends the task.
func (m *machine) finish(on Trigger, reason string) {
	m.status(on, ByPolicy, reason)
	m.stage("", "")
}

// resuming resumes what is ours and still suspended: a look, then the call.
func (m *machine) resuming() ([]*call, bool) {
	if m.t.Ledger.Call != nil {
		return m.groupCall(&call{op: opResume, processes: m.t.Ledger.Ours}), false
	}
	return m.groupLook(&call{}), false
}

// applyResuming takes an outcome of resuming. It reports true when nothing of ours is suspended any more.
func (m *machine) applyResuming(o *outcome) (done bool, err error) {
	switch {
	case errors.Is(o.err, provider.ErrNotFound):
		m.t.Ledger.Ours, m.t.Ledger.Call = nil, nil
		m.touchHead()
		return true, nil
	case o.err != nil:
		if m.groupRetry(o.err, m.groupLimit()) {
			return false, nil
		}
		m.t.Ledger.Call = nil
		m.touchHead()
		return false, o.err
	case o.call.op == opResume:
		m.event(Event{Kind: EventProcesses, Cause: ByPolicy, Text: "resumed " + joinProcesses(m.t.Ledger.Ours)})
		m.t.Ledger.Ours, m.t.Ledger.Call = nil, nil
		return true, nil
	}
	not := without(m.t.Ledger.Ours, o.group.Suspended)
	if len(not) > 0 && m.suspending() {
		return false, nil
	}
	if len(not) > 0 { // somebody else resumed them, or they never were
		m.event(Event{Kind: EventProcesses, Cause: ByProvider, Text: "found not suspended, nothing to resume: " + joinProcesses(not)})
	}
	m.t.Ledger.Ours = both(m.t.Ledger.Ours, o.group.Suspended)
	m.touchHead()
	if len(m.t.Ledger.Ours) == 0 {
		return true, nil
	}
	m.intend(opResume)
	return false, nil
}

// applyUndoing takes an outcome of undoing the suspension.
func (m *machine) applyUndoing(o *outcome) {
	reason := m.t.Reason
	done, err := m.applyResuming(o)
	switch {
	case err != nil:
		m.finish(onFailed, fmt.Sprintf("%s; and the processes could not be resumed: %v", reason, err))
	case done:
		m.finish(onFailed, reason)
	}
}

// finishing sets the configuration's image, resumes the processes and ends the task.
func (m *machine) finishing() ([]*call, bool) {
	if m.t.PauseAsked != nil && !m.group.busy && m.t.Ledger.Call == nil {
		m.pause(onPause, *m.t.PauseAsked, pauseCause(m.t.PauseAsked))
		return nil, true
	}
	switch m.t.Stage {
	case stageImage:
		return m.settingImage()
	case stageChecking:
		return m.groupLook(&call{wantMembers: true}), false
	default:
		return m.resuming()
	}
}

// applyFinishing takes an outcome of the finishing phase.
func (m *machine) applyFinishing(o *outcome) {
	switch m.t.Stage {
	case stageImage:
		m.applyImage(o)
	case stageChecking:
		if errors.Is(o.err, provider.ErrNotFound) {
			m.abandon("scaling group " + m.t.GroupID + " was deleted")
			return
		}
		if o.err != nil {
			m.groupFailed(o.err)
			return
		}
		m.noteJoined(o.members)
		m.stage(Finishing, stageResuming)
	case stageResuming:
		done, err := m.applyResuming(o)
		switch {
		case err != nil:
			m.pauseOnError(err)
		case done:
			m.conclude()
		}
	}
}

// conclude ends a task whose work is done.
func (m *machine) conclude() {
	p := m.t.Progress
	switch {
	case p.Total > 0 && p.Gone == p.Total:
		m.finish(onFailed, "every instance of the plan is gone")
	case p.Failed > 0:
		m.finish(onFailed, fmt.Sprintf("%d of %d instances failed", p.Failed, p.Total))
	default:
		m.finish(onSucceeded, "")
	}
}

// noteJoined reports instances that joined after the plan was final.
func (m *machine) noteJoined(members []provider.Instance) {
	var joined []string
	for _, i := range members {
		if m.row(i.ID) == nil {
			joined = append(joined, i.ID)
		}
	}
	if len(joined) == 0 {
		return
	}
	m.t.Joined = joined
	m.event(Event{Kind: EventJoined, Cause: ByProvider, Text: fmt.Sprintf("%d instances joined the group and were not touched: %s", len(joined), clip(strings.Join(joined, ", ")))})
}

// groupFailed tries a group-level step again or pauses the task with what went wrong.
func (m *machine) groupFailed(err error) {
	if !m.groupRetry(err, m.groupLimit()) {
		m.pauseOnError(err)
	}
}

// pauseOnError makes the task wait because a step that concerns the whole group failed.
func (m *machine) pauseOnError(err error) {
	if m.t.Status != StatusRunning {
		return
	}
	m.t.Ledger.Call = nil // what it may have done stays in the ledger, and a look at the group tells
	m.t.PauseAsked = &Pause{Why: PausedByError, Text: fmt.Sprintf("%s: %v", m.t.Stage, err)}
	m.touchHead()
}

func pauseCause(p *Pause) Cause {
	switch p.Why {
	case PausedByOperator:
		return ByOperator
	case PausedByHook:
		return ByHook
	case PausedByError:
		return ByProvider
	}
	return ByPolicy
}

// waiting asks the pause hook once and keeps the pause's limit.
func (m *machine) waiting() ([]*call, bool) {
	p := m.t.Pause
	if p.AskHook && m.env.hooks.Paused == nil {
		p.AskHook = false // asked for by a Runner that had such a hook
		m.touchHead()
	}
	if p.AskHook {
		return m.hookCall(&call{op: opPaused, pause: *p}), false
	}
	if p.Until.IsZero() {
		return nil, false
	}
	if p.Until.After(m.now) {
		m.wake(p.Until)
		return nil, false
	}
	switch p.OnLimit {
	case OnLimitContinue:
		m.resume(onContinue, ByPolicy, "the pause reached its limit")
		return nil, true
	case OnLimitCancel:
		m.cancel(ByPolicy, "the pause reached its limit", nil)
		return nil, true
	}
	if m.group.nextAt.After(m.now) {
		m.wake(m.group.nextAt)
		return nil, false
	}
	return m.hookCall(&call{op: opRollbackTask}), false
}

// applyPaused takes what the pause hook decided.
func (m *machine) applyPaused(o *outcome) {
	if !m.t.Status.Waiting() || m.t.Pause == nil || !m.t.Pause.AskHook {
		return
	}
	m.t.Pause.AskHook = false
	m.touchHead()
	if o.err != nil {
		m.event(Event{Kind: EventHook, Cause: ByHook, Text: fmt.Sprintf("pause hook: %v", o.err)})
		return
	}
	switch o.decision {
	case DecideContinue:
		if m.t.Status == StatusBatchPaused {
			m.resume(onContinue, ByHook, "")
			if m.continues > 0 { // it continues whatever the reason is: not in a circle without a rest
				m.group.nextAt = m.now.Add(m.env.backoff(m.continues))
			}
			m.continues++
		}
	case DecideCancel:
		m.cancel(ByHook, "canceled by the pause hook", nil)
	case DecideRollback:
		m.event(Event{Kind: EventHook, Cause: ByHook, Text: "the pause hook asked for a rollback"})
		m.t.Pause.Until, m.t.Pause.OnLimit = m.now, OnLimitRollback
		m.t.WakeAt = m.now
	}
}

// applyRollback takes what came of the Runner's own rollback of the task. If it succeeded the record was
// loaded again and the task has ended; here it has not.
func (m *machine) applyRollback(o *outcome) {
	if !m.t.Status.Waiting() || m.t.Pause == nil || o.err == nil {
		return
	}
	if !isAny(o.err, ErrIllegalCommand, ErrPrecheck, ErrInvalid) { // it passes, or nobody knows
		m.group.nextAt = m.now.Add(m.env.backoff(m.group.tries))
		m.group.tries++
		return
	}
	m.t.Pause.Until, m.t.Pause.OnLimit = time.Time{}, ""
	m.t.Pause.Text = fmt.Sprintf("%s; the rollback was refused: %v", m.t.Pause.Text, o.err)
	m.t.WakeAt = time.Time{}
	m.event(Event{Kind: EventHook, Cause: ByPolicy, Text: fmt.Sprintf("rollback was refused: %v", o.err)})
}

// canceling brings what is in flight to a safe end.
func (m *machine) canceling() ([]*call, bool) {
	calls := m.rowCalls()
	if len(calls) > 0 || m.inFlight() {
		if m.t.Ledger.Call != nil && !m.group.busy {
			return append(calls, m.lastGroupCall()...), false
		}
		return calls, false
	}
	if len(m.t.Sizes) > 0 && m.t.Stage != stageJoined {
		m.stage(m.t.Phase, stageJoined)
	}
	if m.t.Stage == stageJoined {
		return m.groupLook(&call{wantMembers: true}), false
	}
	m.settled()
	return nil, m.t.Restore.Active()
}

// settled ends a task that was canceled and has come to rest.
func (m *machine) settled() {
	m.status(onSettled, ByPolicy, m.t.Reason)
	m.t.HoldsGroup = m.t.Restore.Active()
	m.stage("", "")
}

// lastGroupCall sends a group-level call again that was in flight at the cancel, until its outcome is known.
func (m *machine) lastGroupCall() []*call {
	switch m.t.Ledger.Call.Op {
	case opSetImage:
		calls, _ := m.settingImage()
		return calls
	default:
		return m.groupCall(&call{op: m.t.Ledger.Call.Op, processes: m.t.Ledger.Ours})
	}
}

func (m *machine) applyCanceling(o *outcome) {
	l := &m.t.Ledger
	switch {
	case o.call.stage == stageJoined: // one try: it only reports
		if m.t.Stage == stageJoined {
			m.noteJoined(o.members)
			m.settled()
		}
		return
	case !o.call.acts(): // a look for something that is not done any more
		return
	case errors.Is(o.err, provider.ErrNotFound) && o.call.op != opSetImage:
		l.Ours = nil
	case o.err != nil && m.groupRetry(o.err, m.groupLimit()):
		return
	case o.err != nil: // what it may have done stays in the ledger
	case o.call.op == opResume:
		l.Ours = nil
	case o.call.op == opSuspend:
		m.suspended()
	case o.call.op == opSetImage && m.reverting():
		l.Image = nil
	case o.call.op == opSetImage:
		l.Image.Done = true
	}
	l.Call = nil
	m.touchHead()
}

// cancel cancels the task.
func (m *machine) cancel(by Cause, reason string, restore *Restore) {
	m.awaken()
	m.status(onCancel, by, reason)
	if restore != nil {
		m.t.Restore = restore
		m.t.HoldsGroup = true
	}
	for n := range m.t.Instances {
		i := &m.t.Instances[n]
		if i.Status == InstanceRunning {
			i.StepSince = m.now // the way to the safe end has a deadline of its own
			m.touch(i)
			m.track(i).nextAt = time.Time{}
		}
	}
	m.group.tries, m.group.nextAt, m.t.StageSince = 0, time.Time{}, m.now
	if m.t.Status.Ended() {
		m.stage("", "")
		m.t.Ledger.Call = nil
	}
}

func without(a, b []provider.Process) []provider.Process {
	var r []provider.Process
	for _, p := range a {
		if !slices.Contains(b, p) {
			r = append(r, p)
		}
	}
	return r
}

func both(a, b []provider.Process) []provider.Process {
	var r []provider.Process
	for _, p := range a {
		if slices.Contains(b, p) {
			r = append(r, p)
		}
	}
	return r
}

func joinProcesses(ps []provider.Process) string {
	s := make([]string, len(ps))
	for i, p := range ps {
		s[i] = string(p)
	}
	return strings.Join(s, ", ")
}
