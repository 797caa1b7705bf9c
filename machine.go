package rollingupgrade

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A machine holds the rules of one task. It is the functional core: its methods look at the record, at
// what came back from the cloud and at the time, change the record, and say which calls to make next.
// They do no input or output. The changes of a turn are collected for one save.
type machine struct {
	t   *Task
	env env
	now time.Time // of this turn: UTC, without a monotonic part

	index map[string]int // rows by instance ID
	mem   []track        // what is known of each row beside the record; lost with the process, and that does no harm
	due   []int64        // when each row is worth a thought, in Unix nanoseconds; 0 is now
	tally tally          // of the batch at work
	group track          // the same for steps that concern the whole group
	hook  bool           // a hook is being called
	// continues counts how often the pause hook continued since a batch or an instance last began.
	continues int
	// busyRows counts the calls about rows that are in flight.
	busyRows int
	// shared says that the next look is planned for all rows that share looks.
	shared bool
	// told says that something was learnt for which rows have waited, see tell.
	told bool
	// scouted says that there are rows that others are looked at for, see scout.
	scouted bool
	granted int       // so many instances may begin, as the provider has said
	paceAt  time.Time // before then it is not asked again
	stuck   time.Time // since when it has granted nothing, with nothing at work
	slots   int       // how many calls about instances may be started now
	next    time.Time // when there is something to do without anything having happened

	dirtyHead bool
	dirtyRows map[int]bool
	events    []Event
	outputs   map[string]provider.Output
}

// env is what a machine knows of the Runner that drives the task.
type env struct {
	limits     provider.Limits
	hooks      *Hooks
	setsImage  bool          // the provider is a ConfigurationSetter
	tokenTrust time.Duration // how long after a call was named its client token can be trusted
	lookup     time.Duration // how long after that a lost call is looked for
	backoff    func(tries int) time.Duration
	poll       time.Duration // the longest time between two looks
	// pace is the provider's Pace; nil if it has none.
	pace func(u provider.Update, n int) (now int, wait time.Duration)
}

// track is what is known of a row, or of the group, while the process lives.
type track struct {
	busy    bool      // a call about it is in flight
	nextAt  time.Time // not worth a call before
	tries   int       // calls in a row that came to nothing
	last    error     // what the last of them said
	fresh   bool      // the call in the record was named by this process and has not been sent
	since   time.Time // when phase began
	phase   string
	guessed bool          // since is no more than a guess
	not     time.Duration // the phase was not over so long after since
	shares  bool          // it is looked at together with others, see shareLooks
	// notBefore is when another look is worth it at the earliest, as the provider says.
	notBefore time.Time
	seen      *provider.Instance // restore: what the last look showed
	stood     time.Time          // when it was last known to be in Standby
	met       bool               // its update was begun or gone on with by this process, after a look
	refused   bool               // the way back was refused once for its state
	checked   bool               // a look has shown it to be there since the last verdict
	fit       bool               // it was seen to be able to go back in service
	asPlanned time.Time          // pending: when it was last seen
}

// newMachine returns a machine for t, which it owns from now on.
func newMachine(t *Task, e env, now time.Time) *machine {
	m := &machine{env: e, dirtyRows: map[int]bool{}, outputs: map[string]provider.Output{}}
	m.now = now
	m.adopt(t)
	return m
}

// adopt takes a record that was loaded again, and keeps what is known beside it.
func (m *machine) adopt(t *Task) {
	was, old, oldIndex := m.t, m.mem, m.index
	m.t = t
	m.reindex()
	for id, i := range m.index {
		j, ok := oldIndex[id]
		if !ok {
			continue
		}
		before, now := &was.Instances[j], &t.Instances[i]
		if before.Status == InstanceRunning && now.Status == InstancePending { // it was not begun after all
			m.granted++
		}
		switch {
		case before.Attempt != now.Attempt: // tried again: nothing is known of this attempt
		case before.Decision != now.Decision, was.Status != t.Status: // what it waited for may not matter any more
			m.mem[i] = old[j]
			m.mem[i].nextAt = time.Time{}
		default:
			m.mem[i] = old[j]
		}
	}
	m.forget()
}

// reindex is called when the set of rows has changed.
func (m *machine) reindex() {
	m.index = make(map[string]int, len(m.t.Instances))
	for i := range m.t.Instances {
		m.index[m.t.Instances[i].ID] = i
	}
	m.mem = make([]track, len(m.t.Instances))
	m.due = make([]int64, len(m.t.Instances))
	m.recount()
}

// A tally counts the rows of the batch at work, so that a turn need not look at each.
type tally struct {
	running, pending, undecided int
	next                        int // no row before it is pending
}

// recount makes the tally anew, for another batch or other rows.
func (m *machine) recount() {
	m.tally = tally{}
	rows := m.batch(m.t.Batch)
	for n := range rows {
		m.tally.add(&rows[n], +1)
	}
}

func (t *tally) add(i *Instance, n int) {
	switch {
	case i.Status == InstanceRunning:
		t.running += n
	case i.Status == InstancePending:
		t.pending += n
	case i.undecided():
		t.undecided += n
	}
}

// never is the due time of a row that waits for an outcome or a command.
const never = math.MaxInt64

// at returns the place of a row.
func (m *machine) at(i *Instance) int {
	if p := i.Pos; p >= 0 && p < len(m.t.Instances) && &m.t.Instances[p] == i {
		return p
	}
	return m.index[i.ID]
}

// forget drops the changes of the turn.
func (m *machine) forget() {
	m.dirtyHead, m.events = false, nil
	clear(m.dirtyRows)
	clear(m.outputs)
}

func (m *machine) dirty() bool {
	return m.dirtyHead || len(m.dirtyRows) > 0 || len(m.events) > 0 || len(m.outputs) > 0
}

// change returns what the turn has changed, ready to be saved: the next version of the record.
func (m *machine) change() Change {
	m.t.Version++
	m.t.Recent = append(slices.Clone(m.t.Recent[max(0, len(m.t.Recent)-7):]), m.t.Nonce)
	head := m.t.Head
	c := Change{Head: &head, Events: slices.Clone(m.events)}
	rows := make([]int, 0, len(m.dirtyRows))
	for i := range m.dirtyRows {
		rows = append(rows, i)
	}
	slices.Sort(rows)
	c.Rows = slices.Grow(c.Rows, len(rows))
	for _, i := range rows {
		c.Rows = append(c.Rows, m.t.Instances[i])
	}
	if len(m.outputs) > 0 {
		c.Outputs = make(map[string]provider.Output, len(m.outputs))
		for id, o := range m.outputs {
			c.Outputs[id] = o
		}
	}
	return c
}

// touch notes that a row is changed.
func (m *machine) touch(i *Instance) {
	n := m.at(i)
	m.dirtyRows[n], m.due[n] = true, 0
}

func (m *machine) touchHead() { m.dirtyHead = true }

func (m *machine) track(i *Instance) *track { return &m.mem[m.at(i)] }

func (m *machine) row(id string) *Instance {
	if i, ok := m.index[id]; ok {
		return &m.t.Instances[i]
	}
	return nil
}

// event appends to the log of the task.
func (m *machine) event(e Event) {
	m.t.EventSeq++
	e.Seq, e.Time = m.t.EventSeq, m.now
	m.events = append(m.events, e)
	m.touchHead()
}

// wake asks for a turn at at, if nothing happens before.
func (m *machine) wake(at time.Time) {
	if at.IsZero() {
		return
	}
	if m.next.IsZero() || at.Before(m.next) {
		m.next = at
	}
}

// status moves the task along an edge of the table.
func (m *machine) status(on Trigger, by Cause, reason string) {
	to, err := m.t.Status.next(on)
	if err != nil {
		panic("rollingupgrade: " + err.Error()) // a rule asks for an edge that the table does not have
	}
	from := m.t.Status
	m.t.Status, m.t.Reason = to, reason
	if to.Ended() {
		m.t.EndedAt, m.t.HoldsGroup, m.t.Phase, m.t.PauseAsked = m.now, false, "", nil
		m.t.WakeAt = time.Time{}
	}
	if to != StatusBatchPaused && to != StatusFailurePaused {
		m.t.Pause = nil
		m.t.WakeAt = time.Time{}
	}
	m.event(Event{Kind: EventStatus, Cause: by, From: string(from), To: string(to), Text: reason, Batch: m.t.Batch})
}

// stage moves the task to a stage of its phase.
func (m *machine) stage(p Phase, s Stage) {
	m.t.Phase, m.t.Stage, m.t.StageSince = p, s, m.now
	m.group.nextAt, m.group.tries, m.group.last = time.Time{}, 0, nil
	m.touchHead()
}

// stageOn moves the task to a stage that goes on with what the one before was for: the time of both counts.
func (m *machine) stageOn(s Stage) {
	since := m.t.StageSince
	m.stage(m.t.Phase, s)
	m.t.StageSince = since
}

// instanceStatus moves a row along an edge of the table and keeps the progress.
func (m *machine) instanceStatus(i *Instance, to InstanceStatus, mark Mark, by Cause, text string) {
	if !slices.Contains(instanceEdges[i.Status], to) {
		panic(fmt.Sprintf("rollingupgrade: instance %s: no transition from %s to %s", i.ID, i.Status, to))
	}
	from, here := i.Status, i.Batch == m.t.Batch
	m.shared = m.shared && !m.scouted // there may be too few left to look at for the others
	m.count(i, -1)
	if here {
		m.tally.add(i, -1)
	}
	i.Status, i.Mark = to, mark
	m.count(i, +1)
	if here {
		m.tally.add(i, +1)
	}
	switch to {
	case InstanceRunning:
		i.EndedAt = time.Time{}
	case InstanceSucceeded, InstanceGone:
		i.EndedAt, i.Step = m.now, ""
	default: // the step in which it failed is where a retry begins
		i.EndedAt = m.now
	}
	shown := string(to)
	if mark != "" {
		shown += " (" + string(mark) + ")"
	}
	m.touch(i)
	m.event(Event{Kind: EventInstance, Cause: by, InstanceID: i.ID, Batch: i.Batch, From: string(from), To: shown, Text: text})
}

// count adds n for a row to the progress.
func (m *machine) count(i *Instance, n int) {
	p := &m.t.Progress
	switch i.Status {
	case InstancePending:
		p.Pending += n
	case InstanceRunning:
		p.Running += n
	case InstanceSucceeded:
		p.Succeeded += n
	case InstanceFailed:
		p.Failed += n
	case InstanceGone:
		if i.OriginID != "" && i.Batch == 0 {
			return
		}
		p.Gone += n
	case InstanceLeftover, InstanceExcluded:
		return
	}
	p.Total += n
	switch i.Mark {
	case Skipped:
		p.Skipped += n
	case UpToDate:
		p.UpToDate += n
	case CanceledMark, Interrupted:
		p.Canceled += n
	}
	m.touchHead()
}

// step moves a running row to a step.
func (m *machine) step(i *Instance, s Step) {
	m.event(Event{Kind: EventStep, Cause: ByPolicy, InstanceID: i.ID, Batch: i.Batch, From: string(i.Step), To: string(s)})
	i.Step, i.StepSince = s, m.now
	m.touch(i)
	*m.track(i) = track{stood: m.track(i).stood}
}

// undecided reports whether the row waits for a decision about its failure.
func (i *Instance) undecided() bool { return i.Status == InstanceFailed && i.Mark == "" }

// began reports whether a side effect of the update may have been made.
func (i *Instance) began() bool { return i.Begun || i.Call != nil && i.Call.Op == opUpdate }

// batch returns the rows of a batch: they stand together.
func (m *machine) batch(n int) []Instance {
	rows := m.t.Instances
	lo, _ := slices.BinarySearchFunc(rows, n, func(i Instance, n int) int { return i.Batch - n })
	hi, _ := slices.BinarySearchFunc(rows, n+1, func(i Instance, n int) int { return i.Batch - n })
	return rows[lo:hi]
}

// inFlight reports whether anything of the batch at work is not at rest.
func (m *machine) inFlight() bool {
	if m.group.busy || m.hook || m.t.Ledger.Call != nil {
		return true
	}
	return m.tally.running > 0 || m.busyRows > 0
}

// pause makes the task wait for the operator.
func (m *machine) pause(on Trigger, p Pause, by Cause) {
	p.Since = m.now
	limit, outcome := m.t.Spec.Pause.Limit, m.t.Spec.Pause.OnLimit
	if on == onFailures {
		limit, outcome = m.t.Spec.Failure.Limit, m.t.Spec.Failure.OnLimit
	}
	if limit > 0 {
		p.Until, p.OnLimit = m.now.Add(limit), outcome
	}
	p.AskHook = m.env.hooks.Paused != nil
	m.status(on, by, p.Text)
	m.t.Pause = &p
	if on != onFailures {
		m.t.PauseAsked = nil
	}
	m.t.WakeAt = p.Until
	m.touchHead()
}

// resume ends a pause: the time in it does not count for any deadline.
func (m *machine) resume(on Trigger, by Cause, reason string) {
	if p := m.t.Pause; p != nil {
		d := max(0, m.now.Sub(p.Since))
		m.t.BatchSince, m.t.TaskSince = later(m.t.BatchSince, d), later(m.t.TaskSince, d)
	}
	m.awaken()
	m.status(on, by, reason)
	switch s := m.t.Stage; s {
	case stageWorking, stageBefore, stageSuspended:
		m.stage(Upgrading, stageOpening) // group and members may have changed in the meantime
	default:
		m.stage(m.t.Phase, s) // with its full time
	}
}

// awaken notes that a task may have got something to do that nobody drives yet: the time until somebody does counts for no deadline.
func (m *machine) awaken() {
	if m.t.Lease.Owner == "" {
		m.t.SavedAt = m.now
		m.touchHead()
	}
}

func later(t time.Time, d time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(d)
}

// credit moves every running deadline on by the time in which nobody drove the task.
func (m *machine) credit(d time.Duration) {
	t := m.t
	t.BatchSince, t.TaskSince, t.StageSince = later(t.BatchSince, d), later(t.TaskSince, d), later(t.StageSince, d)
	for i := range t.Instances {
		if r := &t.Instances[i]; r.Status == InstanceRunning || m.putsBack() {
			r.StepSince, r.AttemptSince = later(r.StepSince, d), later(r.AttemptSince, d)
			if r.Call != nil {
				c := *r.Call
				c.Idle += d
				r.Call = &c
			}
			m.touch(r)
		}
	}
	m.touchHead()
}

// callID names a side effect: the same for the same task, instances, attempts and number of calls.
func (m *machine) callID(op string, rows []*Instance) string {
	parts := make([]string, 0, 2+len(rows))
	parts = append(parts, m.t.ID, op)
	for _, r := range rows {
		parts = append(parts, r.ID+"/"+strconv.Itoa(r.Attempt)+"/"+strconv.Itoa(r.Calls))
	}
	return "ru-" + hashOf(parts)
}

// intend names the next group-level call in the ledger.
func (m *machine) intend(op string) {
	m.t.Ledger.Calls++
	id := "ru-" + hashOf([]string{m.t.ID, op, strconv.Itoa(m.t.Ledger.Calls)})
	m.t.Ledger.Call = &Call{ID: id, Op: op, At: m.now}
	if op == opSuspend {
		m.t.Ledger.SuspendedAt = m.now
	}
	m.touchHead()
}

// failure describes err as data.
func (m *machine) failure(i *Instance, err error) *Failure {
	return &Failure{At: m.now, Step: i.Step, Attempt: i.Attempt, Kind: kindOf(err), Text: err.Error()}
}

// kindOf names the class of an error.
func kindOf(err error) string {
	for _, class := range []error{
		provider.ErrOutcomeUnknown, errDeadline, provider.ErrFailed, provider.ErrNotFound, provider.ErrPermission, provider.ErrInvalid,
		provider.ErrInvalidState, provider.ErrThrottled, provider.ErrBusy, provider.ErrTransient, errUnhealthy, errNotInService,
	} {
		if errors.Is(err, class) {
			return class.Error()
		}
	}
	return "other"
}

// Classes of failure that the Runner itself finds.
var (
	errDeadline     = errors.New("deadline passed")
	errUnhealthy    = errors.New("not healthy")
	errNotInService = errors.New("not in service")
)
