package rollingupgrade

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// begin starts work on an instance.
func (m *machine) begin(i *Instance) {
	m.instanceStatus(i, InstanceRunning, "", ByPolicy, "")
	i.Attempt = 1
	i.StartedAt, i.AttemptSince = m.now, m.now
	m.continues = 0
	m.step(i, EnteringStandby)
}

// winding reports whether the instance only goes on until a safe end.
func (m *machine) winding(i *Instance) bool {
	return i.Decision != "" || m.t.Status == StatusCanceling
}

// rowCalls moves the rows of the batch at work on, as far as no call is needed, and returns the calls that are.
func (m *machine) rowCalls() []*call {
	p := grouping{m: m, need: m.need}
	rows := m.batch(m.t.Batch)
	if len(rows) == 0 || m.slots == 0 { // the next outcome makes room
		return nil
	}
	m.tell(rows)
	m.shareLooks(rows)
	first, soon, next := m.at(&rows[0]), m.now.Add(together).UnixNano(), int64(never)
	for n := range rows {
		due := &m.due[first+n]
		if *due > soon {
			next = min(next, *due)
			continue
		}
		*due = never
		i, t := &rows[n], &m.mem[first+n]
		if i.Status != InstanceRunning || t.busy {
			continue
		}
		m.moveOn(i)
		if i.Status != InstanceRunning {
			continue
		}
		p.add(i)
		*due = 0 // it is part of a call or of one to come; if the call goes out it waits for the outcome
		if t.nextAt.After(m.now) {
			*due = t.nextAt.UnixNano()
		}
	}
	if next != never {
		m.wake(time.Unix(0, next).UTC())
	}
	return p.calls()
}

// moveOn takes the steps that need no call.
func (m *machine) moveOn(i *Instance) {
	if c := i.Call; c != nil && m.winding(i) && m.track(i).fresh && (c.Op == opEnter || c.Op == opUnprotect || c.Op == opUpdate && !i.Underway) {
		m.closeCall(i) // it was named and never sent
	}
	if i.Call != nil || i.Missing || i.Left {
		return
	}
	if m.winding(i) && !m.mustGoOn(i) {
		m.settle(i)
		return
	}
	if i.Step == EnteringStandby && i.InStandby {
		if m.t.Spec.Drain > 0 {
			m.step(i, Draining)
		} else {
			m.step(i, Updating)
		}
	}
	if i.Step == Draining && !m.now.Before(i.StepSince.Add(m.t.Spec.Drain)) {
		m.step(i, Updating)
	}
	if i.Step == ExitingStandby && !i.InStandby && !i.Lifted {
		if i.Decision != "" {
			m.settle(i)
			return
		}
		m.instanceStatus(i, InstanceSucceeded, "", ByProvider, "")
	}
}

// mustGoOn reports whether the instance is not yet at a safe end: its update has begun and is not over, or
// it is back in service and only its protection is missing.
func (m *machine) mustGoOn(i *Instance) bool {
	switch i.Step {
	case Updating:
		return i.Underway
	case ExitingStandby:
		return !i.InStandby
	}
	return false
}

// settle gives an instance at its safe end the status that was decided.
func (m *machine) settle(i *Instance) {
	decision, by := i.Decision, i.DecidedBy
	i.Decision = ""
	m.touch(i)
	defer m.recheck(i)
	switch {
	case decision == DecideSkip:
		m.instanceStatus(i, InstanceSucceeded, Skipped, by, "decided while at work")
	case decision == DecideCancel:
		m.instanceStatus(i, InstanceFailed, CanceledMark, by, "decided while at work")
	default:
		i.Error = &Failure{At: m.now, Step: i.Step, Attempt: i.Attempt, Kind: "canceled", Text: "the task was canceled while " + string(i.Step)}
		m.instanceStatus(i, InstanceFailed, Interrupted, or(by, ByPolicy), "the task was canceled")
	}
}

// recheck has the group looked at again before further instances are started, if an instance stays out of service: there may be
// too few left.
func (m *machine) recheck(i *Instance) {
	if i.InStandby && i.Status != InstanceRunning && m.t.Status == StatusRunning && m.t.Stage == stageWorking && m.tally.pending > 0 {
		m.stage(Upgrading, stageOpening)
	}
}

// A grouping puts calls about rows together.
type grouping struct {
	m       *machine
	need    func(*Instance) *bucket // which call a row without an open call needs next
	resend  map[string][]*Instance  // by call ID
	order   []string
	buckets []*bucket
	byKey   map[bucketKey]*bucket
}

// A bucketKey is what instances must have in common to share a call.
type bucketKey struct {
	op        string
	act, stop bool
	limit     int
	update    string
	alone     string
}

// A bucket holds the rows that one kind of call can serve together.
type bucket struct {
	op     string
	act    bool
	limit  int
	stop   bool
	update *provider.Update
	rows   []*Instance
	soon   []*Instance // not due yet, but worth taking along
}

// together is how far ahead a look takes along instances that are not due yet.
const together = time.Second

// add files a running row under the call that it needs next.
func (p *grouping) add(i *Instance) {
	m, t := p.m, p.m.track(i)
	if i.Call != nil {
		if p.resend == nil {
			p.resend = map[string][]*Instance{}
		}
		if p.resend[i.Call.ID] == nil {
			p.order = append(p.order, i.Call.ID)
		}
		p.resend[i.Call.ID] = append(p.resend[i.Call.ID], i)
		return
	}
	if t.nextAt.Sub(m.now) > together {
		m.wake(t.nextAt)
		return
	}
	b := p.need(i)
	if b == nil {
		return
	}
	key := bucketKey{op: b.op, act: b.act, stop: b.stop, limit: b.limit}
	if i.Update != nil {
		key.update = hashOf(i.Update)
	}
	if i.Alone && (b.act || b.op == opUpdate) {
		key.alone = i.ID
	}
	if p.byKey == nil {
		p.byKey = map[bucketKey]*bucket{}
	}
	have := p.byKey[key]
	if have == nil {
		have = b
		p.byKey[key] = b
		p.buckets = append(p.buckets, b)
	}
	switch {
	case !t.nextAt.After(m.now):
		have.rows = append(have.rows, i)
	case !b.act:
		have.soon = append(have.soon, i)
		m.wake(t.nextAt)
	default:
		m.wake(t.nextAt)
	}
}

// standsFor is how long an instance that was seen in Standby counts as being there when its update begins.
const standsFor = 10 * time.Second

// need says which call a running row without an open call needs next; nil if it waits for the clock.
func (m *machine) need(i *Instance) *bucket {
	l, t := m.env.limits, m.track(i)
	switch {
	case i.Missing, i.Left && (t.seen == nil || t.seen.Power != provider.Stopped):
		return &bucket{op: opLook, limit: l.Instances}
	case i.Left:
		return &bucket{op: opStart, act: true, limit: l.Start}
	}
	switch i.Step {
	case EnteringStandby:
		if i.Before == nil {
			return &bucket{op: opLook, limit: l.Instances}
		}
		if i.Before.Lifecycle == provider.Protected && !i.Lifted {
			return &bucket{op: opUnprotect, act: true, limit: l.Protection}
		}
		return &bucket{op: opEnter, act: true, limit: l.Standby}
	case Draining:
		t.nextAt = i.StepSince.Add(m.t.Spec.Drain)
		m.wake(t.nextAt)
		return nil
	case Updating:
		if i.Act && !m.winding(i) && m.now.Sub(t.stood) > standsFor && !(i.Underway && t.met) { // it may have left Standby or the group
			return &bucket{op: opLook, limit: l.Instances}
		}
		limit := l.Update
		if i.MaxTargets > 0 && (limit == 0 || i.MaxTargets < limit) {
			limit = i.MaxTargets
		}
		return &bucket{op: opUpdate, act: i.Act, limit: limit, stop: m.winding(i), update: i.Update}
	case Verifying:
		return &bucket{op: opVerify}
	}
	switch {
	case !i.InStandby:
		return &bucket{op: opProtect, act: true, limit: l.Protection}
	case !t.fit:
		return &bucket{op: opLook, limit: l.Instances}
	}
	return &bucket{op: opExit, act: true, limit: l.Standby}
}

// calls makes the calls, and names those that make side effects in the record.
func (p *grouping) calls() []*call {
	m := p.m
	var calls []*call
	for _, id := range p.order {
		rows := p.resend[id]
		if at := m.track(rows[0]).nextAt; at.After(m.now) {
			m.wake(at)
			continue
		}
		if len(calls) >= m.slots {
			return calls
		}
		calls = append(calls, m.rowCall(rows[0].Call.Op, rows))
	}
	for _, b := range p.buckets {
		if len(b.rows) == 0 {
			continue
		}
		if b.op == opVerify {
			calls = append(calls, m.verifyCall(append(b.rows, b.soon...))...)
			continue
		}
		rows := b.rows
		limit := or(b.limit, len(rows)+len(b.soon))
		if last := len(rows) % limit; last > 0 { // its call has room
			rows = append(rows, b.soon[:min(limit-last, len(b.soon))]...)
		}
		for chunk := range slices.Chunk(rows, limit) {
			if len(calls) >= m.slots {
				return calls // nothing is named that cannot be sent now; the next outcome makes room
			}
			if b.act {
				m.name(b.op, b.stop, chunk)
			}
			calls = append(calls, m.rowCall(b.op, chunk))
		}
	}
	return calls
}

// name writes down a side effect before it is made.
func (m *machine) name(op string, stop bool, rows []*Instance) {
	for _, i := range rows {
		i.Calls++
	}
	id := m.callID(op, rows)
	for _, i := range rows {
		i.Call = &Call{ID: id, Op: op, At: m.now, Stop: stop}
		if op == opUnprotect {
			i.Lifted = true // from here on it may be
		}
		t := m.track(i)
		t.fresh, t.fit = true, false // another way back wants a look of its own
		t.met = t.met || op == opUpdate
		m.touch(i)
	}
}

// rowCall makes the call op about rows. If the rows have an open call it is that one.
func (m *machine) rowCall(op string, rows []*Instance) *call {
	c := &call{
		op: op, at: m.now, subject: ofRows, update: m.t.Spec.Update, summary: m.t.Summary(),
		rows: make([]rowRef, 0, len(rows)), ids: make([]string, 0, len(rows)), targets: make([]provider.Target, 0, len(rows)),
	}
	if rows[0].Update != nil {
		c.update = *rows[0].Update
	}
	for _, i := range rows {
		c.rows = append(c.rows, rowRef{i.ID, i.Step, i.Attempt})
		c.ids = append(c.ids, i.ID)
		t := provider.Target{InstanceID: i.ID, Attempt: i.Attempt, Since: i.AttemptSince, State: i.State, Before: i.Before, Stop: m.winding(i)}
		if i.Call != nil {
			c.id = i.Call.ID
			t.CallID, t.Named, t.Stop = i.Call.ID, i.Call.At, i.Call.Stop
			t.Resent = !m.track(i).fresh
			t.Stale = t.Resent && m.stale(i.Call)
		}
		c.targets = append(c.targets, t)
	}
	c.sortKey = c.ids[0]
	return c
}

// verifyCall asks the hook about rows.
func (m *machine) verifyCall(rows []*Instance) []*call {
	calls := m.hookCall(&call{op: opVerify})
	for _, c := range calls {
		for _, i := range rows {
			c.ids = append(c.ids, i.ID)
			c.rows = append(c.rows, rowRef{i.ID, i.Step, i.Attempt})
		}
	}
	return calls
}

// failureCalls asks the failed-instance hook about failures it has not been asked about.
func (m *machine) failureCalls() []*call {
	if m.tally.undecided == 0 {
		return nil
	}
	rows := m.batch(m.t.Batch)
	for n := range rows {
		if i := &rows[n]; i.undecided() && i.AskHook {
			if m.env.hooks.Failed == nil { // asked for by a Runner that had such a hook
				i.AskHook = false
				m.touch(i)
				m.budget(i)
				continue
			}
			c := &call{op: opFailed, failure: InstanceFailure{InstanceID: i.ID, Batch: i.Batch, Failure: *i.Error}}
			c.rows = []rowRef{{i.ID, i.Step, i.Attempt}}
			return m.hookCall(c)
		}
	}
	return nil
}

// fail ends an attempt. What it means is decided by the operator, the hook or the policy.
func (m *machine) fail(i *Instance, err error) {
	i.Error, i.Call, i.Missing = m.failure(i, err), nil, false
	if m.winding(i) && i.Status == InstanceRunning {
		m.settleFailed(i)
		return
	}
	i.AskHook = m.env.hooks.Failed != nil
	m.instanceStatus(i, InstanceFailed, "", ByProvider, err.Error())
	if !i.AskHook {
		m.budget(i)
	}
}

// settleFailed gives an instance that failed on its way to a safe end the status that was decided.
func (m *machine) settleFailed(i *Instance) {
	decision, by := i.Decision, i.DecidedBy
	i.Decision = ""
	m.touch(i)
	defer m.recheck(i)
	switch decision {
	case DecideSkip:
		m.instanceStatus(i, InstanceSucceeded, Skipped, by, i.Error.Text)
	case DecideCancel:
		m.instanceStatus(i, InstanceFailed, CanceledMark, by, i.Error.Text)
	default:
		m.instanceStatus(i, InstanceFailed, Interrupted, ByProvider, i.Error.Text)
	}
}

// budget cancels a failed instance by itself if the failure policy tolerates one more.
func (m *machine) budget(i *Instance) {
	inBatch, inTotal := 0, 0
	for n := range m.t.Instances {
		r := &m.t.Instances[n]
		if r.Status == InstanceFailed && r.Mark == CanceledMark && r.DecidedBy == ByPolicy {
			inTotal++
			if r.Batch == i.Batch {
				inBatch++
			}
		}
	}
	if !m.t.Spec.Failure.tolerates(inBatch, m.t.Sizes[i.Batch-1], inTotal, m.t.Progress.Total) {
		return
	}
	m.mark(i, DecideCancel, ByPolicy)
}

// mark carries out skip or cancel on an instance that is not at work.
func (m *machine) mark(i *Instance, d Decision, by Cause) {
	defer m.recheck(i)
	i.DecidedBy, i.AskHook = by, false
	m.event(Event{Kind: EventDecision, Cause: by, InstanceID: i.ID, Batch: i.Batch, To: string(d)})
	if d == DecideSkip {
		m.instanceStatus(i, InstanceSucceeded, Skipped, by, "")
		return
	}
	m.instanceStatus(i, InstanceFailed, CanceledMark, by, "")
}

// retry gives a failed instance one more attempt.
func (m *machine) retry(i *Instance, fromStart bool, by Cause) {
	m.event(Event{Kind: EventDecision, Cause: by, InstanceID: i.ID, Batch: i.Batch, To: string(DecideRetry)})
	m.instanceStatus(i, InstanceRunning, "", by, "")
	i.Attempt++
	i.AttemptSince, i.StepSince = m.now, m.now
	i.Error, i.Call, i.AskHook, i.Healthy, i.Alone, i.Missing, i.ActedAt = nil, nil, false, 0, false, false, time.Time{}
	i.Outcome, i.ExitCode = "", nil
	step := i.Step
	if step == "" {
		step = EnteringStandby
		i.StartedAt = m.now
	}
	if fromStart || step == Updating && i.State == nil {
		i.State, i.Act, i.MaxTargets = nil, false, 0
		if i.InStandby {
			step = Updating
		} else {
			step = EnteringStandby
		}
	}
	if step != i.Step {
		m.step(i, step)
	}
	i.Missing = step == EnteringStandby && i.Lifted // whether protection was really lifted is for the cloud to show
	*m.track(i) = track{}
}

// gone ends an instance that is no member any more.
func (m *machine) gone(i *Instance, text string) {
	i.Call, i.Missing, i.Left, i.InStandby, i.Lifted = nil, false, false, false, false
	m.instanceStatus(i, InstanceGone, "", ByProvider, text)
}

// stepLimit is how long the row's step may take.
func (m *machine) stepLimit(i *Instance) time.Duration {
	t := m.t.Spec.Timeouts
	switch i.Step {
	case EnteringStandby:
		return or(t.EnterStandby, 10*time.Minute)
	case Updating:
		return m.t.Spec.updateTimeout()
	case Verifying:
		return or(m.t.Spec.Verify.Timeout, 10*time.Minute)
	}
	return or(t.ExitStandby, 10*time.Minute)
}

// overdue returns the error of a row whose time is over, and nil while it is not. It is asked only after a
// look that came to nothing, so that nothing fails unseen after a time in which nobody drove the task.
func (m *machine) overdue(i *Instance, seen string) error {
	limit, since, what := m.stepLimit(i), i.StepSince, string(i.Step)
	if whole := m.t.Spec.Timeouts.Instance; whole > 0 && !m.winding(i) && i.AttemptSince.Add(whole).Before(since.Add(limit)) {
		limit, since, what = whole, i.AttemptSince, "the attempt"
	}
	if m.now.Sub(since) <= limit {
		return nil
	}
	return fmt.Errorf("%w: %s took longer than %s, last seen: %s", errDeadline, what, limit, seen)
}

// retryLater plans the next try of a row, or fails it if its time is over.
func (m *machine) retryLater(i *Instance, err error) {
	t := m.track(i)
	t.last = err
	if late := m.overdue(i, err.Error()); late != nil && i.Call == nil {
		m.fail(i, errors.Join(late, err))
		return
	}
	t.nextAt = m.now.Add(m.env.backoff(t.tries))
	t.tries++
}
