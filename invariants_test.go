package rollingupgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// invariants holds what must be true at every moment against every save and every effect. It knows the
// record as the store has it, and brings in the cloud's effects before each save, so that each effect is compared with the record
// that stood when it happened.
type invariants struct {
	g     *rig
	cloud *fake.Cloud

	mu       sync.Mutex
	tasks    map[string]*shownTask
	order    []string
	problems []string
	onSave   func(t *shownTask)

	effects    int // seen so far
	violations int
	out        map[string]string // instances that we have in Standby, and the task that put them there
	ours       map[provider.Process]bool
	user       []provider.Process // suspended by the user at first
	start      map[string]fake.InstanceView
	startImage string
	made       map[effectKey]int
	script     map[string]fake.Effect // the last script run, by instance

	nothing map[string]bool      // instances whose replacements may come to nothing, so that another in the same attempt is no second one
	renewed map[string]time.Time // when the last save of each driver began
	// foreign says that others change the cloud too: what they may bring about is not checked.
	foreign bool
	// wire counts effects of calls that went out before their driver lost its lease; those are allowed and counted apart.
	wire    int
	onWire  func(callID string) bool
	runTime func(instanceID string) (least int64) // nanoseconds that a script takes at least
}

type effectKey struct {
	task, instance, action string
	attempt                int
}

// shownRow and shownTask are the record as the last save left it.
type shownRow struct {
	ru.Instance
	callID, callOp string
}

type shownTask struct {
	head ru.Head
	rows map[string]*shownRow
	ids  []string
}

func (t *shownTask) row(id string) *shownRow {
	if r := t.rows[id]; r != nil {
		return r
	}
	return &shownRow{}
}

func newInvariants(g *rig) *invariants {
	v := &invariants{
		g: g, cloud: g.cloud, tasks: map[string]*shownTask{}, out: map[string]string{}, ours: map[provider.Process]bool{},
		start: map[string]fake.InstanceView{}, made: map[effectKey]int{}, script: map[string]fake.Effect{},
		renewed: map[string]time.Time{},
	}
	return v
}

// renew notes when a driver began the save that renews its lease.
func (v *invariants) renew(p *process, began time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.renewed[p.name] = began
}

// mayCall holds N3: a call begins only if the call limit and the margin are left of the lease.
func (v *invariants) mayCall(p *process, key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	const lease, limit, margin = 3 * time.Minute, time.Minute, 15 * time.Second // Config's defaults
	if at, drives := v.renewed[p.name]; drives && time.Since(at) > lease-limit-margin {
		v.fault("N3: %s begins %s %s after it renewed its lease", p.name, key, time.Since(at))
	}
}

// begin remembers the cloud as it is before the first task.
func (v *invariants) begin() {
	group, _ := v.cloud.GroupView(fake.DemoGroup)
	v.user = group.Suspended
	v.startImage = v.image()
	for _, i := range v.cloud.Snapshot(fake.DemoGroup) {
		v.start[i.ID] = i
	}
}

// image is the image of the group's configuration source.
func (v *invariants) image() string {
	c, err := v.cloud.Configuration(v.g.ctx(), fake.DemoGroup)
	if err != nil {
		return err.Error()
	}
	return c.ImageID
}

func (v *invariants) problem(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.fault(format, args...)
}

func (v *invariants) fault(format string, args ...any) {
	if len(v.problems) < 20 {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
}

// look brings in what has happened in the cloud.
func (v *invariants) look() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.catchUp()
}

// write brings in the effects so far, carries out a write, and brings the record up to it.
func (v *invariants) write(_ *process, f func() error, written func()) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.catchUp()
	err := f()
	if err == nil {
		written()
	}
	return err
}

func copyRow(i ru.Instance) *shownRow {
	r := &shownRow{Instance: i}
	if i.Call != nil {
		r.callID, r.callOp = i.Call.ID, i.Call.Op
	}
	r.Before, r.Error = nil, nil // shared with the engine, and changed by it in place
	if i.Before != nil {
		b := *i.Before
		r.Before = &b
	}
	if i.Error != nil {
		e := *i.Error
		r.Error = &e
	}
	return r
}

func (v *invariants) created(_ *process, c ru.Creation) {
	t := &shownTask{head: c.Task.Head, rows: map[string]*shownRow{}}
	for _, i := range c.Task.Instances {
		t.rows[i.ID] = copyRow(i)
		t.ids = append(t.ids, i.ID)
	}
	v.tasks[t.head.ID] = t
	v.order = append(v.order, t.head.ID)
	if c.Prior != nil {
		v.change(*c.Prior)
	}
	v.holders()
}

func (v *invariants) saved(p *process, c ru.Change) {
	t := v.tasks[c.Head.ID]
	v.lease(p, &t.head, c.Head)
	v.change(c)
	v.holders()
	if v.onSave != nil {
		v.onSave(t)
	}
}

// change compares the next state of a task with the one before.
func (v *invariants) change(c ru.Change) {
	t := v.tasks[c.Head.ID]
	old := t.head
	v.heads(t, &old, &c)
	next := map[string]*shownRow{}
	for _, i := range c.Rows {
		next[i.ID] = copyRow(i)
	}
	for _, i := range c.Rows {
		v.rowChange(t, &old, &c, t.row(i.ID), next[i.ID])
		if t.rows[i.ID] == nil {
			t.ids = append(t.ids, i.ID)
		}
		t.rows[i.ID] = next[i.ID]
	}
	t.head = *c.Head
	v.whole(t)
}

// heads holds I9: versions grow by one, the history is appended to, an ended task stays ended.
func (v *invariants) heads(t *shownTask, old *ru.Head, c *ru.Change) {
	h := c.Head
	if h.Version != old.Version+1 {
		v.fault("I9: version %d follows %d", h.Version, old.Version)
	}
	if want := old.EventSeq + int64(len(c.Events)); h.EventSeq != want {
		v.fault("I9: %d events are said to be kept, there are %d", h.EventSeq, want)
	}
	if old.Status.Ended() && h.Status != old.Status {
		v.fault("I9: task went from %s to %s", old.Status, h.Status)
	}
	if h.Batch < old.Batch {
		v.fault("I9: batch %d follows batch %d", h.Batch, old.Batch)
	}
	if old.Status != h.Status && !slices.ContainsFunc(c.Events, func(e ru.Event) bool { return e.Kind == ru.EventStatus }) {
		v.fault("S35: status went from %s to %s without an event", old.Status, h.Status)
	}
}

// lease holds I7: only the present owner saves as a driver, and every change of the owner raises the fence.
func (v *invariants) lease(p *process, old *ru.Head, h *ru.Head) {
	owner, _, driver := strings.Cut(h.Nonce, "/")
	switch {
	case !driver:
		if h.Lease != old.Lease {
			v.fault("I7: a command changed the lease")
		}
	case owner != p.name:
		v.fault("I7: %s saved as %s", p.name, owner)
	case h.Lease.Fence == old.Lease.Fence+1 && h.Lease.Owner == owner: // takes over
	case h.Lease.Fence != old.Lease.Fence || old.Lease.Owner != owner:
		v.fault("I7: %s saved although %s (fence %d) owns the task", owner, old.Lease.Owner, old.Lease.Fence)
	}
}

// rowChange holds what may become of one row in one save.
func (v *invariants) rowChange(t *shownTask, old *ru.Head, c *ru.Change, was, is *shownRow) {
	decided := func(what string) bool {
		return slices.ContainsFunc(c.Events, func(e ru.Event) bool {
			return e.Kind == ru.EventDecision && e.InstanceID == is.ID && e.To == what
		})
	}
	undecided := was.Status == ru.InstanceFailed && was.Mark == ""
	switch {
	case was.Status == is.Status && was.Mark == is.Mark:
	case was.Status == ru.InstanceSucceeded, was.Status == ru.InstanceGone, was.Status == ru.InstanceFailed && was.Mark != "":
		v.fault("I9: %s left %s (%s) for %s (%s)", is.ID, was.Status, was.Mark, is.Status, is.Mark)
	case undecided && is.Status == ru.InstanceRunning && !decided("retry"):
		v.fault("I9: %s is retried and nobody asked for it", is.ID)
	case was.Status == ru.InstancePending && is.Status == ru.InstanceRunning:
		v.started(t, old, c, is)
	}
	if is.Attempt > was.Attempt && is.Attempt > 1 && !decided("retry") {
		v.fault("N2: attempt %d of %s without a retry", is.Attempt, is.ID)
	}
	if is.Status == ru.InstanceSucceeded && is.Mark == "" && was.Status != ru.InstanceSucceeded {
		v.succeeded(t, is)
	}
}

// started holds S22, I8 and S25 for an instance that begins.
func (v *invariants) started(t *shownTask, old *ru.Head, c *ru.Change, is *shownRow) {
	if old.Status != ru.StatusRunning && old.Status != ru.StatusPending {
		v.fault("S25: %s begins while the task is %s", is.ID, old.Status)
	}
	if old.PauseAsked != nil && c.Head.PauseAsked != nil {
		v.fault("I8: %s begins although a pause was asked for", is.ID)
	}
	for _, id := range t.ids {
		if r := t.rows[id]; r.Batch == is.Batch && r.Status == ru.InstanceFailed && r.Mark == "" && r.ID != is.ID {
			still := true
			for _, n := range c.Rows {
				still = still && (n.ID != id || n.Status == ru.InstanceFailed && n.Mark == "")
			}
			if still {
				v.fault("S22: %s begins although %s is undecided", is.ID, id)
			}
		}
	}
}

// succeeded holds I6 and S17: a recorded success has its effect.
func (v *invariants) succeeded(t *shownTask, is *shownRow) {
	i, ok := v.cloud.InstanceView(is.ID)
	if v.foreign {
		return
	}
	want := t.head.Spec.Update
	if is.Update != nil {
		want = *is.Update
	}
	switch {
	case !ok:
		v.fault("I6: %s succeeded and does not exist", is.ID)
	case i.Lifecycle != v.start[is.ID].Lifecycle:
		v.fault("I6: %s succeeded and is %s, before it was %s", is.ID, i.Lifecycle, v.start[is.ID].Lifecycle)
	case i.Power != provider.Running || i.DiskReplacing:
		v.fault("I6: %s succeeded and is %s", is.ID, i.Power)
	case want.Image != nil && i.ImageID != want.Image.ImageID:
		v.fault("I6: %s succeeded and runs %s", is.ID, i.ImageID)
	case want.Script != nil && v.ran(t.head.ID, is.ID) == 0:
		v.fault("I6: %s succeeded and ran no script", is.ID)
	}
}

func (v *invariants) ran(task, instance string) int {
	n := 0
	for k, times := range v.made {
		if k.task == task && k.instance == instance && k.action == "RunCommand" {
			n += times
		}
	}
	return n
}

// whole holds what is true of every record that is kept.
func (v *invariants) whole(t *shownTask) {
	h := &t.head
	var p ru.Progress
	for _, id := range t.ids {
		r := t.rows[id]
		v.barrier(t, r)
		if r.Batch == 0 && r.Mark != ru.UpToDate {
			continue
		}
		p.Total++
		switch r.Status {
		case ru.InstancePending:
			p.Pending++
		case ru.InstanceRunning:
			p.Running++
		case ru.InstanceSucceeded:
			p.Succeeded++
		case ru.InstanceFailed:
			p.Failed++
		case ru.InstanceGone:
			p.Gone++
		}
		switch r.Mark {
		case ru.Skipped:
			p.Skipped++
		case ru.UpToDate:
			p.UpToDate++
		case ru.CanceledMark, ru.Interrupted:
			p.Canceled++
		}
	}
	if h.Progress != p && len(h.Sizes) > 0 {
		v.fault("S32: progress is said to be %+v and is %+v", h.Progress, p)
	}
	if h.Status == ru.StatusSucceeded && p.Failed+p.Pending+p.Running > 0 {
		v.fault("S24: succeeded with %+v", p)
	}
	if (h.Status.Ended() || h.Status.Waiting()) && p.Running > 0 {
		v.fault("S21: %s with %d instances at work", h.Status, p.Running)
	}
	if h.Status.Waiting() && h.Pause == nil {
		v.fault("S21: %s without a pause", h.Status)
	}
}

// barrier holds S16 for a row: what is not of the batch at work is decided or has not begun.
func (v *invariants) barrier(t *shownTask, r *shownRow) {
	open := r.Status == ru.InstanceRunning || r.Status == ru.InstanceFailed && r.Mark == ""
	if open && r.Batch != t.head.Batch {
		v.fault("N1: %s of batch %d is %s while batch %d is at work", r.ID, r.Batch, r.Status, t.head.Batch)
	}
	if r.Status == ru.InstancePending && r.Batch < t.head.Batch {
		v.fault("S16: %s of batch %d has not begun while batch %d is at work", r.ID, r.Batch, t.head.Batch)
	}
}

// holders holds I11: one task per group.
func (v *invariants) holders() {
	holder := ""
	for _, id := range v.order {
		if v.tasks[id].head.HoldsGroup {
			if holder != "" {
				v.fault("I11: %s and %s hold the group", holder, id)
			}
			holder = id
		}
	}
}
