package killtest

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A witness is what is known of a round when all is over, and what is wrong with it.
type witness struct {
	round     *round
	testimony testimony
	entries   []entry
	order     []string // tasks, newest first
	tasks     map[string]*ru.Task
	events    map[string][]ru.Event

	before     map[string]provider.Lifecycle // of instances, at first
	nothing    map[string]bool               // instances whose first replacement comes to nothing
	effects    []*effect
	names      map[string]*entry // by side effect and instance
	saves      map[string][]*entry
	late       []*request
	lateIDs    map[string]bool // instances and groups that late calls were about
	harm       []string
	violations []string
	silent     []time.Duration // take-overs from owners that had fallen silent
	handed     []time.Duration // take-overs from owners that had given the lease back
	mostTasks  int
	resent     int // orders to stop or start that were sent again while the first sending was under way, and refused
	elsewhere  int // commands that were carried out in another process than the driver's
}

// An effect is what happened in the cloud, and because of which request and which side effect of which task.
type effect struct {
	fake.Effect
	at      int64
	request *request
	name    *entry
	task    *ru.Task
	row     *ru.Instance
}

var anID = regexp.MustCompile(`\b(i-\d+|asg-\d+)\b`)

// fault notes what does not hold, as the harm of late calls where these had their hands in it.
func (w *witness) fault(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, id := range anID.FindAllString(text, -1) {
		if w.lateIDs[id] {
			w.harm = append(w.harm, text)
			return
		}
	}
	w.violations = append(w.violations, text)
}

// judge holds everything against everything.
func (w *witness) judge() {
	w.start()
	w.index()
	w.judgeSaves()
	w.judgeRequests()
	w.attribute()
	w.judgeRefusals()
	w.judgeEffects()
	w.judgeBatches()
	w.judgeProcesses()
	w.judgeRecords()
	w.judgeEnd()
}

// index sorts the journals.
func (w *witness) index() {
	w.names, w.saves, w.lateIDs = map[string]*entry{}, map[string][]*entry{}, map[string]bool{}
	slices.SortStableFunc(w.entries, func(a, b entry) int { return cmp.Compare(a.At, b.At) })
	for n := range w.entries {
		e := &w.entries[n]
		if e.Kind == "save" {
			w.saves[e.Task] = append(w.saves[e.Task], e)
			continue
		}
		if key := e.Call + e.Instance; w.names[key] == nil {
			w.names[key] = e
		}
	}
	for _, all := range w.saves {
		slices.SortStableFunc(all, func(a, b *entry) int { return cmp.Compare(a.Version, b.Version) })
	}
}

// judgeSaves holds N3: of two saves on one version one wins, and only the present owner saves as a driver. It also says how tasks changed hands.
func (w *witness) judgeSaves() {
	for _, id := range w.order {
		var last, owner *entry
		known := true // a process that is killed right after a save has not written it down
		for _, e := range w.saves[id] {
			if last != nil && last.Version == e.Version {
				w.fault("N3: version %d of %s was saved by %s and by %s", e.Version, id, last.Process, e.Process)
			}
			known = known && (last == nil || e.Version == last.Version+1)
			last = e
			if e.Owner == "" {
				if owner != nil && owner.Process != e.Process {
					w.elsewhere++
				}
				continue
			}
			if owner != nil {
				w.handOver(id, owner, e, known)
			}
			owner, known = e, true
		}
	}
	w.judgeLoad()
}

// handOver compares two saves of drivers that follow each other. known says that no other save was in between.
func (w *witness) handOver(id string, was, is *entry, known bool) {
	set := &w.round.set
	switch {
	case is.Fence < was.Fence:
		w.fault("N3: %s saved %s with fence %d after %s had with fence %d", is.Process, id, is.Fence, was.Process, was.Fence)
	case is.Fence == was.Fence && is.Process != was.Process:
		w.fault("N3: %s and %s both saved %s with fence %d", is.Process, was.Process, id, is.Fence)
	case is.Fence == was.Fence, !known:
	case was.Gave && was.Runnable:
		w.handed = append(w.handed, is.SavedAt.Sub(was.SavedAt))
	case was.Gave: // it waited for the operator
	default:
		d := time.Duration(is.At - was.Began) // the lease counts from there
		w.silent = append(w.silent, d)
		if is.Process != was.Process && w.round.shared() && d < set.Timing.Lease {
			w.fault("N3: %s took %s over %s after the last save of %s", is.Process, id, d, was.Process)
		}
	}
}

// shared says that several processes serve the store, so that leases count.
func (r *round) shared() bool { return len(r.crew.slots) > 1 }

// judgeLoad holds the limit of tasks at a time of each process. A driver whose lease is over when it wakes from a freeze ends without a save: after one,
// those count that have saved since.
func (w *witness) judgeLoad() {
	holder := map[string]string{}
	holds := map[string]map[string]bool{} // tasks by process
	woken := slices.DeleteFunc(slices.Clone(w.round.crew.outages), func(o outage) bool { return o.to == 0 })
	slices.SortFunc(woken, func(a, b outage) int { return cmp.Compare(a.to, b.to) })
	for n := range w.entries {
		e := &w.entries[n]
		if e.Kind != "save" || e.Owner == "" {
			continue
		}
		for ; len(woken) > 0 && woken[0].to <= e.At; woken = woken[1:] {
			delete(holds, woken[0].process)
		}
		if was := holder[e.Task]; was != e.Process && !e.Took && was != "" {
			continue // it was taken from who saved this before he was frozen
		} else if holds[was] != nil {
			delete(holds[was], e.Task)
		}
		holder[e.Task] = e.Process
		if e.Gave {
			delete(holder, e.Task)
			continue
		}
		if holds[e.Process] == nil {
			holds[e.Process] = map[string]bool{}
		}
		holds[e.Process][e.Task] = true
		w.mostTasks = max(w.mostTasks, len(holds[e.Process]))
		if n := len(holds[e.Process]); n > w.round.set.Tasks {
			w.fault("Serve: %s drives %d tasks at a time, at most %d are allowed", e.Process, n, w.round.set.Tasks)
		}
	}
}

// judgeRequests holds N3 for each call, and sets those apart that a frozen process sent when it woke or that came in when their process was dead.
func (w *witness) judgeRequests() {
	for _, q := range w.testimony.Requests {
		switch {
		case q.Call == "":
			w.fault("N2: %s sent %s %s %v without a name", q.Process, q.Action, q.Group, q.Instances)
			continue
		case q.Task == "":
			w.fault("N2: %s sent %s %s %v under a name that was not yet saved", q.Process, q.Action, q.Group, q.Instances)
			continue
		}
		taken := w.overtaken(q)
		if q.late = q.Arrived > q.Lease || taken != 0; !q.late {
			continue
		}
		for _, o := range w.round.crew.outages {
			q.frozen = q.frozen || o.process == q.Process && o.to != 0 && o.to > q.Lease-int64(w.round.set.Timing.Lease) && o.from < q.Arrived
		}
		what := fmt.Sprintf("%s %s %v of %s", q.Action, q.Group, q.Instances, q.Task)
		switch {
		case taken != 0 && taken < q.Lease && (w.round.shared() || taken <= q.Sent): // a single process that follows a dead one waits for no lease: what that sent may be on its way
			w.fault("N3: somebody took the task %s before the lease of %s was over, which sent %s", time.Duration(q.Lease-taken), q.Process, what)
			continue
		case !q.frozen && q.Sent > q.Lease:
			w.fault("N3: %s, which was not frozen, sent %s %s after the end of its lease", q.Process, what, time.Duration(q.Sent-q.Lease))
			continue
		}
		w.late = append(w.late, q)
		for _, id := range append(slices.Clone(q.Instances), q.Group) {
			w.lateIDs[id] = id != ""
		}
	}
}

// overtaken says when somebody else had taken the task, if he had when a request came in.
func (w *witness) overtaken(q *request) int64 {
	var fence int64
	for _, e := range w.saves[q.Task] {
		if e.Owner != "" && e.Process == q.Process && e.At <= q.Sent {
			fence = e.Fence
		}
	}
	for _, e := range w.saves[q.Task] {
		if e.Owner != "" && e.Process != q.Process && e.Fence > fence && e.At < q.Arrived {
			return e.At
		}
	}
	return 0
}

// attribute finds the request and the side effect of each effect.
func (w *witness) attribute() {
	byTarget := map[string][]*request{}
	for _, q := range w.testimony.Requests {
		for _, id := range q.Instances {
			byTarget[q.Action+id] = append(byTarget[q.Action+id], q)
		}
		if len(q.Instances) == 0 {
			byTarget[q.Action+q.Group] = append(byTarget[q.Action+q.Group], q)
		}
	}
	for _, f := range w.testimony.Effects {
		e := &effect{Effect: f, at: f.Time.UnixNano()}
		w.effects = append(w.effects, e)
		for _, q := range byTarget[e.Action+cmp.Or(e.InstanceID, e.GroupID)] {
			if q.Arrived <= e.at && (q.Done == 0 || e.at <= q.Done) && (e.request == nil || q.Status == 200 && q.Token == e.Token) {
				e.request = q
			}
		}
		if e.request == nil {
			if e.Action == "HealthCheck" {
				w.fault("S14: %s", e)
			} else {
				w.fault("N5: nobody asked for %s", e)
			}
			continue
		}
		if e.request.late {
			e.request.harm = append(e.request.harm, e.String())
		}
		e.name = w.names[e.request.Call+e.InstanceID]
		if e.name == nil || e.name.At > e.request.Sent || e.name.Task != e.request.Task {
			w.fault("N2: the record did not name %s when %s sent it", e, e.request.Process)
			e.name = nil
			continue
		}
		e.task = w.tasks[e.name.Task]
		if e.task == nil || e.task.GroupID != e.GroupID {
			w.fault("N5: %s was made for task %s", e, e.name.Task)
			e.name, e.task = nil, nil
			continue
		}
		if n := slices.IndexFunc(e.task.Instances, func(i ru.Instance) bool { return i.ID == e.InstanceID }); n >= 0 {
			e.row = &e.task.Instances[n]
		}
	}
}

var aSecondOrder = regexp.MustCompile(`(StopInstances|StartInstances) refused: IncorrectInstanceStatus (i-\d+): is `)

// judgeRefusals holds what the cloud complains of. One thing is legal: an order to stop or start whose answer was given up, sent again under its
// name, while the first sending was still on its way. The cloud takes no token for it and refuses the second one.
func (w *witness) judgeRefusals() {
	spare := map[string]int{} // sendings of one name beyond those that had an effect, by action and instance
	calls := map[string]int{}
	for _, q := range w.testimony.Requests {
		for _, id := range q.Instances {
			if calls[q.Action+id+q.Call]++; calls[q.Action+id+q.Call] > 1 {
				spare[q.Action+id]++
			}
		}
	}
	for _, v := range w.testimony.Violations {
		if m := aSecondOrder.FindStringSubmatch(v); m != nil && spare[m[1]+m[2]] > 0 {
			spare[m[1]+m[2]]--
			w.resent++
			continue
		}
		w.fault("violation: %s", v)
	}
}
