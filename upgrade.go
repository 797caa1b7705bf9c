package rollingupgrade

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// upgrading works on batch after batch.
func (m *machine) upgrading() ([]*call, bool) {
	if m.t.PauseAsked != nil && m.t.Stage != stageAfter {
		if calls, again := m.beforePause(); again || len(calls) > 0 {
			return calls, again
		}
	}
	// Rows that are at work go on whatever the group-level stage is.
	switch m.t.Stage {
	case stageOpening:
		if m.t.PauseAsked != nil { // what is at work goes on, and nothing is opened
			return m.rowCalls(), false
		}
		ids := m.waitingIDs()
		return append(m.rowCalls(), m.groupLook(&call{ids: ids})...), false
	case stageSuspended:
		if m.t.Ledger.Call == nil { // it failed for good: what is at work goes on, and the look at opening tells what is suspended
			m.stageOn(stageOpening)
			return nil, true
		}
		return append(m.rowCalls(), m.groupCall(&call{op: opSuspend, processes: m.t.Ledger.Ours})...), false
	case stageBefore:
		if m.env.hooks.BeforeBatch == nil { // asked for by a Runner that had such a hook
			m.openBatch()
			return nil, true
		}
		if m.t.PauseAsked != nil && !m.hook {
			return m.rowCalls(), false
		}
		return append(m.rowCalls(), m.hookCall(&call{op: opBeforeBatch, batch: m.batchInfo()})...), false
	case stageWorking:
		return m.working()
	case stageEarlyImage:
		return m.settingImage()
	case stageAfter:
		if m.env.hooks.AfterBatch == nil {
			m.followBatch("")
			return nil, true
		}
		return m.hookCall(&call{op: opAfterBatch, batch: m.batchInfo()}), false
	default:
		return m.nextBatch()
	}
}

// beforePause brings what is in flight to its end and then pauses. It returns nothing where the stage has to go on first.
func (m *machine) beforePause() ([]*call, bool) {
	calls := m.failureCalls()
	switch {
	case len(calls) > 0:
		return append(m.rowCalls(), calls...), false
	case !m.inFlight() && m.tally.undecided > 0:
		m.pauseOnFailures()
		return nil, true
	case !m.inFlight():
		m.pause(onPause, *m.t.PauseAsked, pauseCause(m.t.PauseAsked))
		return nil, true
	}
	return nil, false
}

// waitingIDs are the instances of the batch that have not been started: all of them when it is opened, and later those that come next.
func (m *machine) waitingIDs() []string {
	rows := m.batch(m.t.Batch)
	most := len(rows)
	if m.t.Opened == m.t.Batch {
		most = max(m.room(), lookAhead)
	}
	var ids []string
	for n := m.tally.next; n < len(rows) && len(ids) < most; n++ {
		if rows[n].Status == InstancePending {
			ids = append(ids, rows[n].ID)
		}
	}
	return ids
}

// lookAhead is how many instances are looked at at least before the next ones of a batch begin: as many as take no more calls than one does.
const lookAhead = 20

func (m *machine) batchInfo() Batch {
	b := Batch{Number: m.t.Batch}
	for _, i := range m.batch(m.t.Batch) {
		b.InstanceIDs = append(b.InstanceIDs, i.ID)
	}
	return b
}

// applyUpgrading takes an outcome that concerns the whole batch.
func (m *machine) applyUpgrading(o *outcome) {
	switch m.t.Stage {
	case stageOpening:
		m.applyOpening(o)
	case stageSuspended:
		if o.err != nil {
			m.groupFailed(o.err)
			return
		}
		m.suspended()
		m.stageOn(stageOpening)
	case stageEarlyImage:
		m.applyImage(o)
	}
}

// applyOpening takes the look at the group and at the instances of the batch that have not begun.
func (m *machine) applyOpening(o *outcome) {
	if errors.Is(o.err, provider.ErrNotFound) {
		m.groupDeleted()
		return
	}
	if o.err != nil {
		m.groupFailed(o.err)
		return
	}
	if missing := without(m.t.Ledger.Ours, o.group.Suspended); len(missing) > 0 {
		switch {
		case m.suspending(): // it may not show yet
		case m.now.Sub(m.t.StageSince) > m.groupLimit():
			m.pauseOnError(fmt.Errorf("%s do not stay suspended", joinProcesses(missing)))
		default:
			m.suspendAgain(missing, stageSuspended)
		}
		return
	}
	m.meetInstances(o.call.ids, o.instances)
	if text := m.capacityProblem(o.group); text != "" {
		m.t.PauseAsked = &Pause{Why: PausedByCapacity, Text: text}
		m.touchHead()
		return
	}
	m.stage(Upgrading, stageBefore)
	if m.t.Opened == m.t.Batch {
		m.stage(Upgrading, stageWorking)
	}
}

// openBatch announces the beginning of a batch.
func (m *machine) openBatch() {
	m.t.Opened, m.t.BatchSince = m.t.Batch, m.now
	m.continues = 0
	m.t.Touched = true
	m.stage(Upgrading, stageWorking)
	m.event(Event{Kind: EventBatchStarted, Cause: ByPolicy, Batch: m.t.Batch, Text: fmt.Sprintf("%d instances", m.t.Sizes[m.t.Batch-1])})
}

// meetInstances compares instances that have not begun with what the plan expects of them.
func (m *machine) meetInstances(ids []string, shown []provider.Instance) {
	seen := make(map[string]*provider.Instance, len(shown))
	for n := range shown {
		seen[shown[n].ID] = &shown[n]
	}
	for _, id := range ids {
		i := m.row(id)
		if i == nil || i.Status != InstancePending {
			continue
		}
		m.track(i).asPlanned = m.now // not when it was asked for: a look that has to wait for its rate would be begun again and again
		s := seen[i.ID]
		switch {
		case s == nil:
			i.Stopped = false
			m.gone(i, "released")
		case s.Lifecycle == "" && i.Stopped && s.Power != provider.Running:
			m.begin(i) // to bring it to run
			i.Left = true
		case s.Lifecycle == "":
			m.gone(i, "left the group")
		case s.Lifecycle == provider.InService,
			s.Lifecycle == provider.Protected && m.t.Spec.Targets.IncludeProtected,
			s.Lifecycle == provider.Standby && i.InStandby:
			m.remember(i, s)
		case s.Lifecycle == provider.Removing || s.Lifecycle == provider.RemovingWait:
			m.gone(i, "is being removed from the group")
		default:
			m.fail(i, fmt.Errorf("%w: %s is %s; somebody else changed it", errNotInService, i.ID, s.Lifecycle))
		}
	}
}

// remember records an instance as it was before the first change.
func (m *machine) remember(i *Instance, s *provider.Instance) {
	if i.InStandby && s.Lifecycle == provider.InService {
		i.InStandby = false // somebody moved it out of Standby
		m.touch(i)
	}
	if i.Lifted && s.Lifecycle == provider.Protected {
		i.Lifted = false // somebody protected it again
		m.touch(i)
	}
	if i.Before != nil {
		return
	}
	i.Before = &provider.Before{ImageID: s.ImageID, Lifecycle: s.Lifecycle, Power: s.Power, KeyPair: s.KeyPair}
	m.touch(i)
}

// capacityProblem says why the batch may not go on, or nothing.
func (m *machine) capacityProblem(g *provider.Group) string {
	serving := 0
	for _, i := range m.batch(m.t.Batch) {
		if i.Status == InstancePending && i.Before != nil && i.Before.Lifecycle == provider.InService { // g.InService counts neither Standby nor Protected
			serving++
		}
	}
	if limit := m.t.Spec.MaxInFlight; limit > 0 {
		serving = min(serving, max(0, limit-m.tally.running))
	}
	least := m.t.Spec.minInService()
	if serving == 0 || g.InService-serving >= least {
		return ""
	}
	return fmt.Sprintf("%d instances are in service, the batch takes out %d at once, %d must stay", g.InService, serving, least)
}

// groupDeleted ends a task whose group is gone.
func (m *machine) groupDeleted() {
	if m.inFlight() {
		m.group.nextAt = m.now.Add(min(m.env.poll, 30*time.Second))
		return
	}
	m.abandon("scaling group " + m.t.GroupID + " was deleted")
}

// applyBeforeBatch takes the verdict of the hook.
func (m *machine) applyBeforeBatch(o *outcome) {
	if m.t.Status != StatusRunning || m.t.Stage != stageBefore {
		return
	}
	if o.err != nil {
		m.hookPause("before-batch hook", o.err)
		return
	}
	m.openBatch()
}

// hookPause makes the task wait because of a hook.
func (m *machine) hookPause(name string, err error) {
	m.event(Event{Kind: EventHook, Cause: ByHook, Batch: m.t.Batch, Text: fmt.Sprintf("%s: %v", name, err)})
	m.t.PauseAsked = &Pause{Why: PausedByHook, Text: fmt.Sprintf("%s: %v", name, err)}
}

// working drives the rows of the batch and closes it when none is undecided.
func (m *machine) working() ([]*call, bool) {
	if m.startRows() {
		return nil, true
	}
	if calls := append(m.rowCalls(), m.failureCalls()...); len(calls) > 0 || m.inFlight() {
		return calls, false
	}
	switch {
	case m.tally.undecided > 0:
		m.pauseOnFailures()
	case m.tally.pending > 0:
		return nil, m.t.PauseAsked != nil // they are held by a pause that was asked for
	default:
		m.closeBatch()
	}
	return nil, true
}

// pauseOnFailures waits for decisions. A pause that was asked for comes after them.
func (m *machine) pauseOnFailures() {
	m.pause(onFailures, Pause{Why: PausedByFailure, Text: m.failureText(m.tally.undecided)}, ByProvider)
}

func (m *machine) failureText(n int) string {
	if n == 1 {
		for _, i := range m.batch(m.t.Batch) {
			if i.undecided() {
				return fmt.Sprintf("instance %s failed: %s; retry, skip or cancel it", i.ID, i.Error.Text)
			}
		}
	}
	return fmt.Sprintf("%d instances of batch %d failed; retry, skip or cancel each", n, m.t.Batch)
}

// held reports whether no instance of the batch may be started now.
func (m *machine) held() bool {
	return m.t.PauseAsked != nil || m.t.Status != StatusRunning || m.tally.undecided > 0
}

// startRows starts as many instances as may be at work at once, and as fast as the provider lets them. It reports true if they have to be looked at
// first: somebody may have changed them, or the group, since the batch was opened.
func (m *machine) startRows() (look bool) {
	if m.tally.pending == 0 || m.held() {
		return false
	}
	rows := m.batch(m.t.Batch)
	m.askPace(rows)
	for room := m.room(); m.tally.next < len(rows) && room > 0; m.tally.next++ {
		i := &rows[m.tally.next]
		if i.Status != InstancePending {
			continue
		}
		if m.now.Sub(m.track(i).asPlanned) > standsFor {
			m.stage(Upgrading, stageOpening)
			return true
		}
		m.begin(i)
		room--
		m.granted--
	}
	return false
}

// allowed is how many further instances of the batch MaxInFlight lets begin now.
func (m *machine) allowed() int {
	return min(or(m.t.Spec.MaxInFlight, m.tally.pending+m.tally.running)-m.tally.running, m.tally.pending)
}

// room is how many further instances of the batch may begin now.
func (m *machine) room() int {
	if m.env.pace == nil {
		return m.allowed()
	}
	return min(m.allowed(), m.granted)
}

// askPace asks the provider how many more may begin, as far as it has one to ask and it is time. One that grants nothing while nothing is at work
// is not waited for without a limit: the calls of the update say what is the matter.
func (m *machine) askPace(rows []Instance) {
	n := m.allowed() - max(0, m.granted)
	if m.env.pace == nil || n <= 0 {
		return
	}
	if m.paceAt.After(m.now) {
		m.wake(m.paceAt)
		return
	}
	u := m.t.Spec.Update
	for next := m.tally.next; next < len(rows); next++ {
		if i := &rows[next]; i.Status == InstancePending {
			if i.Update != nil {
				u = *i.Update
			}
			break
		}
	}
	now, wait := m.env.pace(u, n)
	now = max(0, min(now, n))
	if now > 0 || m.tally.running > 0 {
		m.stuck = time.Time{}
	} else {
		wait = max(wait, soonest)
		if m.stuck.IsZero() {
			m.stuck = m.now
		}
		if m.now.Sub(m.stuck) > m.groupLimit() {
			now, m.stuck = 1, time.Time{}
		}
	}
	m.granted = max(0, m.granted) + now
	if now < n {
		m.paceAt = m.now.Add(min(max(or(max(0, wait), soonest), 10*time.Millisecond), m.env.poll))
		m.wake(m.paceAt)
	}
}

// closeBatch follows the last decision about the batch.
func (m *machine) closeBatch() {
	m.event(Event{Kind: EventBatchEnded, Cause: ByPolicy, Batch: m.t.Batch})
	failed := slices.ContainsFunc(m.batch(m.t.Batch), func(i Instance) bool { return i.Status == InstanceFailed })
	if m.t.Batch == 1 && !failed && m.t.Spec.configuration() == ConfigurationAfterFirstBatch && m.imageDue() {
		m.stage(Upgrading, stageEarlyImage)
		return
	}
	m.afterBatch()
}

// afterBatch leaves it to the hook, if there is one, and else to the policy.
func (m *machine) afterBatch() {
	m.stage(Upgrading, stageAfter)
}

// applyAfterBatch takes the decision of the hook.
func (m *machine) applyAfterBatch(o *outcome) {
	if m.t.Status != StatusRunning || m.t.Stage != stageAfter {
		return
	}
	if o.err != nil {
		m.stage(Upgrading, stageNext)
		m.hookPause("after-batch hook", o.err)
		return
	}
	m.followBatch(o.decision)
}

// followBatch pauses, goes on or ends, as the hook or else the policy says.
func (m *machine) followBatch(d Decision) {
	m.stage(Upgrading, stageNext)
	pause, asked := m.t.Spec.Pause.After(m.t.Batch, len(m.t.Sizes)), m.t.PauseAsked
	switch d {
	case DecideContinue:
		return
	case DecideCancel:
		m.cancel(ByHook, "canceled by the after-batch hook", nil)
	case DecideRollback:
		m.pause(onPause, Pause{Why: PausedByHook, Text: "the after-batch hook asked for a rollback"}, ByHook)
		m.t.Pause.AskHook = false
		m.t.Pause.Until, m.t.Pause.OnLimit = m.now, OnLimitRollback
		m.t.WakeAt = m.now
	case DecidePause:
		m.pause(onPause, Pause{Why: PausedByHook, Text: fmt.Sprintf("the after-batch hook asked for a pause after batch %d of %d", m.t.Batch, len(m.t.Sizes))}, ByHook)
	default:
		if !pause {
			return
		}
		p := Pause{Why: PausedByPolicy, Text: fmt.Sprintf("batch %d of %d is done", m.t.Batch, len(m.t.Sizes))}
		if asked != nil { // one pause for both
			p.Why, p.Text = asked.Why, p.Text+"; "+asked.Text
		}
		m.pause(onPause, p, pauseCause(&p))
	}
}

// nextBatch begins the next batch, or the end.
func (m *machine) nextBatch() ([]*call, bool) {
	p := m.t.Progress
	if m.t.Batch >= len(m.t.Sizes) || p.Total > 0 && p.Gone == p.Total {
		m.enterFinishing()
		return nil, true
	}
	m.t.Batch++
	m.t.BatchSince = time.Time{}
	m.continues = 0
	m.recount()
	m.stage(Upgrading, stageOpening)
	return nil, true
}

// enterFinishing leaves the batches behind.
func (m *machine) enterFinishing() {
	whole := m.t.Progress.Failed == 0 || m.t.Kind == Rollback // an image that is rolled back is not for later instances
	if m.imageDue() && whole && m.t.Progress.Gone < m.t.Progress.Total && m.t.Spec.configuration() != ConfigurationNever {
		m.stage(Finishing, stageImage)
		return
	}
	m.stage(Finishing, stageChecking)
}
