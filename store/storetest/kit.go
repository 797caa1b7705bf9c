package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

type (
	task     = rollingupgrade.Task
	head     = rollingupgrade.Head
	instance = rollingupgrade.Instance
	event    = rollingupgrade.Event
	change   = rollingupgrade.Change
	creation = rollingupgrade.Creation
	filter   = rollingupgrade.Filter
	output   = provider.Output
)

// A kit is what a case works with: a store, and a model of what must be kept in it.
type kit struct {
	*board
	ctx context.Context
	bed Bed
	s   rollingupgrade.Store
}

// A board is what all views of a case share.
type board struct {
	failures
	want   map[string]*record
	loose  bool // the model does not know everything that is kept
	clock  time.Time
	nonces int
	stores []rollingupgrade.Store
	last   atomic.Pointer[string]
	model  sync.Mutex
}

// A record is what must be kept of one task.
type record struct {
	task    task // rows by Pos
	events  []event
	outputs map[string]output
	early   map[int64]change // accepted, but what they follow has not been noted yet
}

// on returns the same case on another opening of the data.
func (k *kit) on(s rollingupgrade.Store) *kit {
	other := *k
	other.s = s
	return &other
}

// with returns the same case with another context.
func (k *kit) with(ctx context.Context) *kit {
	other := *k
	other.ctx = ctx
	return &other
}

// opened notes a store that is to be closed.
func (k *kit) opened(s rollingupgrade.Store) rollingupgrade.Store {
	k.model.Lock()
	defer k.model.Unlock()
	k.stores = append(k.stores, s)
	return s
}

func (k *kit) closeAll() {
	if k.bed.Close == nil {
		return
	}
	for _, s := range k.stores {
		if err := k.bed.Close(s); err != nil {
			k.errorf("test bed: close: %v", err)
		}
	}
}

// reopen opens the data once more. With an exclusive bed k.s must not be used after it.
func (k *kit) reopen() *kit {
	s, err := k.bed.Reopen(k.s)
	if err != nil {
		k.fatalf("test bed: reopen: %v", err)
	}
	return k.on(k.opened(s))
}

// beside returns another opening that is in use at the same time, or the same one where there is none.
func (k *kit) beside() *kit {
	if k.bed.Reopen == nil || k.bed.Exclusive {
		return k
	}
	return k.reopen()
}

func (k *kit) lookAgain() {
	if k.loose {
		return
	}
	k.same("at the end")
	if k.bed.Reopen != nil {
		k.reopen().same("through another opening")
	}
}

// begun notes what is being done, for a case that gets stuck.
func (b *board) begun(method, id string) {
	s := method + " " + short(id)
	b.last.Store(&s)
}

func (b *board) doing() string {
	if s := b.last.Load(); s != nil {
		return *s
	}
	return "none"
}

// now returns a time that is later than all before.
func (b *board) now() time.Time {
	b.model.Lock()
	defer b.model.Unlock()
	b.clock = b.clock.Add(time.Second + 1)
	return b.clock
}

// nonce returns a name for a save.
func (b *board) nonce() string {
	b.model.Lock()
	defer b.model.Unlock()
	b.nonces++
	return fmt.Sprintf("nonce-%d", b.nonces)
}

// fresh returns a small task that holds its group.
func (k *kit) fresh(id, group string, rows int) *task {
	t := &task{Head: head{
		Schema: rollingupgrade.SchemaVersion, ID: id, Kind: rollingupgrade.Upgrade, GroupID: group, Version: 1, HoldsGroup: true,
		Status: rollingupgrade.StatusPending, CreatedAt: k.now(), Nonce: k.nonce(), Spec: rollingupgrade.Spec{GroupID: group},
	}}
	for n := range rows {
		t.Instances = append(t.Instances, newRow(n))
	}
	return t
}

func newRow(pos int) instance {
	return instance{ID: fmt.Sprintf("i-%04d", pos), Pos: pos, Batch: 1 + pos/5, Status: rollingupgrade.InstancePending}
}

// made is the creation of a task, with its first event.
func made(t *task) creation {
	t.EventSeq = 1
	return creation{Task: t, Events: []event{{Seq: 1, Time: t.CreatedAt, Kind: rollingupgrade.EventCreated, Cause: rollingupgrade.ByOperator}}}
}

// begin creates a small task.
func (k *kit) begin(id, group string, rows int) { k.mustCreate(made(k.fresh(id, group, rows))) }

// next is a change that fits the task as it must be kept now.
func (k *kit) next(id string, edits ...func(*change)) change {
	k.model.Lock()
	h := clone(k.want[id].task.Head)
	k.model.Unlock()
	return k.step(&h, edits...)
}

// step is the change that follows a head.
func (k *kit) step(h *head, edits ...func(*change)) change {
	h.Version++
	h.Nonce, h.SavedAt = k.nonce(), k.now()
	c := change{Head: h}
	for _, e := range edits {
		e(&c)
	}
	return c
}

// say appends events to a change.
func say(texts ...string) func(*change) {
	return func(c *change) {
		for _, s := range texts {
			c.Head.EventSeq++
			c.Events = append(c.Events, event{Seq: c.Head.EventSeq, Time: c.Head.SavedAt, Kind: rollingupgrade.EventStep, Cause: rollingupgrade.ByProvider, Text: s})
		}
	}
}

func rows(rs ...instance) func(*change) { return func(c *change) { c.Rows = append(c.Rows, rs...) } }

func holds(yes bool) func(*change) { return func(c *change) { c.Head.HoldsGroup = yes } }

func status(s rollingupgrade.Status) func(*change) { return func(c *change) { c.Head.Status = s } }

// ends ends a task, which gives its group back.
func ends(c *change) { c.Head.Status, c.Head.HoldsGroup = rollingupgrade.StatusSucceeded, false }

func prints(instanceID, text string) func(*change) {
	return func(c *change) {
		if c.Outputs == nil {
			c.Outputs = map[string]output{}
		}
		c.Outputs[instanceID] = output{Exited: true, Text: text}
	}
}

// everything changes all that a change can: head, a row, an event, an output.
func everything(mark string) func(*change) {
	return func(c *change) {
		c.Head.Reason = mark
		r := newRow(0)
		r.Note = mark
		rows(r)(c)
		say(mark)(c)
		prints(r.ID, mark)(c)
	}
}

// create calls Create and notes in the model what must be kept now.
func (k *kit) create(c creation) error {
	kept := clone(c)
	k.begun("Create", c.Task.ID)
	err := k.s.Create(k.ctx, c)
	if err == nil {
		k.keepCreation(kept)
	}
	return err
}

func (k *kit) mustCreate(c creation) {
	id := c.Task.ID
	if err := k.create(c); err != nil {
		k.fatalf("create task %s: %v", short(id), err)
	}
}

// save calls Save and notes in the model what must be kept now.
func (k *kit) save(c change) error {
	kept := clone(c)
	k.begun("Save", c.Head.ID)
	err := k.s.Save(k.ctx, c)
	if err == nil {
		k.keep(kept)
	}
	return err
}

func (k *kit) mustSave(c change) {
	id, version := c.Head.ID, c.Head.Version
	if err := k.save(c); err != nil {
		k.fatalf("save version %d of task %s: %v", version, short(id), err)
	}
}

func (k *kit) keepCreation(c creation) {
	if c.Prior != nil {
		k.keep(*c.Prior)
	}
	k.model.Lock()
	defer k.model.Unlock()
	if k.want[c.Task.ID] != nil {
		k.errorf("create task %s: a second task with that ID was accepted", short(c.Task.ID))
		return
	}
	k.want[c.Task.ID] = &record{task: *c.Task, events: c.Events, outputs: map[string]output{}, early: map[int64]change{}}
	k.want[c.Task.ID].sort()
}

// keep notes a change that was accepted. Of changes that were accepted at the same time a later one may come first.
func (k *kit) keep(c change) {
	k.model.Lock()
	defer k.model.Unlock()
	r := k.want[c.Head.ID]
	if r == nil {
		k.errorf("a change of task %s was accepted, which is not there", short(c.Head.ID))
		return
	}
	if _, twice := r.early[c.Head.Version]; twice || c.Head.Version <= r.task.Version {
		k.errorf("version %d of task %s was accepted, which does not follow the kept one", c.Head.Version, short(c.Head.ID))
		return
	}
	r.early[c.Head.Version] = c
	for {
		next, ok := r.early[r.task.Version+1]
		if !ok {
			return
		}
		delete(r.early, next.Head.Version)
		r.apply(next)
	}
}

func (r *record) apply(c change) {
	r.task.Head = *c.Head
	place := make(map[string]int, len(r.task.Instances))
	for n := range r.task.Instances {
		place[r.task.Instances[n].ID] = n
	}
	for _, row := range c.Rows {
		if n, ok := place[row.ID]; ok {
			r.task.Instances[n] = row
		} else {
			r.task.Instances = append(r.task.Instances, row)
		}
	}
	r.sort()
	r.events = append(r.events, c.Events...)
	for id, o := range c.Outputs {
		r.outputs[id] = o
	}
}

func (r *record) sort() {
	slices.SortFunc(r.task.Instances, func(a, b instance) int { return cmp.Compare(a.Pos, b.Pos) })
}

// sentinels are the errors that promise something.
var sentinels = []error{
	rollingupgrade.ErrTaskExists, rollingupgrade.ErrTaskNotFound, rollingupgrade.ErrVersionConflict,
	rollingupgrade.ErrGroupBusy, rollingupgrade.ErrNoOutput,
}

// refused holds that err wraps one sentinel and no other.
func (k *kit) refused(what string, err, want error) {
	if err == nil {
		k.errorf("%s: accepted, want error %q", what, want)
		return
	}
	for _, s := range sentinels {
		if errors.Is(err, s) != (s == want) {
			k.errorf("%s: error %q, want one that wraps %q alone", what, err, want)
			return
		}
	}
}

// busy holds that err is the typed error that names the group and its holder.
func (k *kit) busy(what string, err error, group, holder string) {
	k.refused(what, err, rollingupgrade.ErrGroupBusy)
	var b *rollingupgrade.GroupBusyError
	switch {
	case err == nil:
	case !errors.As(err, &b):
		k.errorf("%s: error is a %T, want a *GroupBusyError", what, err)
	case b.GroupID != group || b.HolderID != holder:
		k.errorf("%s: group %q is held by task %q, want group %q and task %q", what, b.GroupID, b.HolderID, group, holder)
	}
}

// together runs f n times at once, from a common start, and ends the case if one of them failed.
func (k *kit) together(n int, f func(n int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			k.guard(func() { f(i) })
		})
	}
	close(start)
	wg.Wait()
	k.settle()
}

// settle ends the case if something does not hold already.
func (k *kit) settle() {
	if k.failure() != nil {
		panic(stop{})
	}
}

// short shortens an ID for a message.
func short(id string) string {
	if len(id) > 60 {
		return fmt.Sprintf("%.40q... (%d bytes)", id, len(id))
	}
	return id
}
