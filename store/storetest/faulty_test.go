package storetest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

type (
	head     = rollingupgrade.Head
	instance = rollingupgrade.Instance
	event    = rollingupgrade.Event
	change   = rollingupgrade.Change
	creation = rollingupgrade.Creation
	filter   = rollingupgrade.Filter
	output   = provider.Output
)

// A disk is the data of a store, which any number of openings share. It keeps what it is told as JSON would.
type disk struct {
	mu      sync.Mutex
	flaw    flaw
	tasks   map[string]*stored
	saves   int
	lives   int
	subs    map[int]*subscriber
	nextSub int
	graves  map[string]*stored // deleted tasks
	ranks   map[string]int     // of the flaw pageByRank
	scratch []instance         // of the flaw crosstalk
	undo    func()             // of the flaw lastSaveLost
}

type subscriber struct {
	f  func(string)
	of *opening
}

// stored is what is kept of one task.
type stored struct {
	head    *head
	rows    []instance
	events  []event
	outputs map[string]output
	saved   int      // when it was saved last
	indexed *head    // as it was when it was created, for the flaw staleIndex
	by      *opening // which wrote it last
}

// An opening is a store: without a flaw a right one, with a flaw one that is broken in a single way.
type opening struct {
	*disk
	life  string
	cache map[string]*stored // of the flaw cached
}

func newDisk(f flaw) *disk {
	return &disk{flaw: f, tasks: map[string]*stored{}, graves: map[string]*stored{}, ranks: map[string]int{}, subs: map[int]*subscriber{}}
}

func (d *disk) open() *opening {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lives++
	o := &opening{disk: d, life: fmt.Sprintf("%p-%d", d, d.lives), cache: map[string]*stored{}}
	if d.flaw == lifeIsConstant {
		o.life = "life"
	}
	if d.flaw == lastSaveLost && d.undo != nil {
		d.undo()
		d.undo = nil
	}
	for _, t := range d.tasks {
		if d.flaw == outputsNotDurable {
			clear(t.outputs)
		}
	}
	return o
}

func (s *opening) is(flaws ...flaw) bool { return slices.Contains(flaws, s.flaw) }

func copied[T any](v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var to T
	if err := json.Unmarshal(b, &to); err != nil {
		panic(err)
	}
	return to
}

func (s *opening) done(ctx context.Context) error {
	if s.is(contextIgnored) {
		return nil
	}
	return ctx.Err()
}

// written encodes a head as it comes in.
func (s *opening) written(h *head) *head {
	if s.is(aliasIn) {
		return h
	}
	h = copied(h)
	switch s.flaw {
	case fieldForgotten:
		h.Learned = nil
	case localTimes:
		h.SavedAt = h.SavedAt.In(time.FixedZone("", 3600))
	case microseconds:
		h.CreatedAt = h.CreatedAt.Truncate(time.Microsecond)
	case zeroIsNil:
		if h.Pause != nil && *h.Pause == (rollingupgrade.Pause{}) {
			h.Pause = nil
		}
	case nulCut:
		h.Reason, _, _ = strings.Cut(h.Reason, "\x00")
	case longTextCut:
		h.Reason = strings.ToValidUTF8(h.Reason[:min(len(h.Reason), 1<<16-1)], "")
	case nonceForgotten:
		h.Nonce = ""
	case floats:
		var v any
		b, _ := json.Marshal(h)
		_ = json.Unmarshal(b, &v)
		b, _ = json.Marshal(v)
		h = &head{}
		_ = json.Unmarshal(b, h)
	}
	return h
}

func (s *opening) writtenRows(rows []instance) []instance {
	switch s.flaw {
	case aliasIn:
		return rows
	case argumentsSorted:
		slices.SortFunc(rows, func(a, b instance) int { return cmp.Compare(a.Pos, b.Pos) })
	case rowFieldForgotten:
		rows = copied(rows)
		for n := range rows {
			rows[n].Stays = ""
		}
	}
	return copied(rows)
}

// find returns a task, or why there is none.
func (s *opening) find(id string) (*stored, error) {
	if t := s.cache[id]; t != nil {
		return t, nil
	}
	t := s.tasks[id]
	if t == nil && s.is(idsFolded) {
		t = s.tasks[strings.ToLower(id)]
	}
	if t == nil && s.is(notFoundUnclassed) {
		return nil, errors.New("no such task")
	}
	if t == nil {
		return nil, fmt.Errorf("task %q: %w", id, rollingupgrade.ErrTaskNotFound)
	}
	if s.is(cached) {
		s.cache[id] = &stored{head: copied(t.head), rows: copied(t.rows), events: copied(t.events), outputs: copied(t.outputs)}
	}
	return t, nil
}

// busy looks for another holder than those of except.
func (s *opening) busy(h *head, except ...string) error {
	if !h.HoldsGroup {
		return nil
	}
	holders := s.tasks
	if s.is(deletedHolderStays) {
		holders = maps.Clone(s.tasks)
		maps.Copy(holders, s.graves)
	}
	for id, t := range holders {
		if !t.head.HoldsGroup || slices.Contains(except, id) || s.is(groupsNotDurable) && t.by != s {
			continue
		}
		same := t.head.GroupID == h.GroupID || s.is(groupsFolded) && strings.EqualFold(t.head.GroupID, h.GroupID)
		if s.is(groupByStatus) && t.head.Status.Ended() {
			same = false
		}
		if same && s.is(holderUnnamed) {
			return fmt.Errorf("group %s: %w", h.GroupID, rollingupgrade.ErrGroupBusy)
		}
		if same {
			return &rollingupgrade.GroupBusyError{GroupID: h.GroupID, HolderID: id}
		}
	}
	return nil
}

// fits reports what speaks against a change.
func (s *opening) fits(c *change) error {
	t, err := s.find(c.Head.ID)
	switch {
	case err != nil:
		return err
	case s.is(lastWriteWins), s.is(nonceIsEnough) && t.head.Nonce == c.Head.Nonce:
	case s.is(laterVersions) && c.Head.Version > t.head.Version:
	case c.Head.Version != t.head.Version+1:
		return fmt.Errorf("task %s: %w", c.Head.ID, rollingupgrade.ErrVersionConflict)
	}
	if s.is(endedFrozen) && t.head.Status.Ended() && c.Head.Status.Ended() && !t.head.HoldsGroup {
		return errors.New("task has ended")
	}
	return nil
}

// letOthers gives up the lock for a moment.
func (d *disk) letOthers() {
	d.mu.Unlock()
	time.Sleep(200 * time.Microsecond)
	d.mu.Lock()
}

// write checks and applies, under one lock.
func (s *opening) write(check func() error, apply func()) error {
	s.mu.Lock()
	err := check()
	if s.is(checkedOutsideLock) {
		s.letOthers()
	}
	if err == nil {
		apply()
		s.saves++
	}
	s.mu.Unlock()
	return err
}

// Create implements Store.
func (s *opening) Create(ctx context.Context, c creation) error {
	if err := s.done(ctx); err != nil {
		return err
	}
	if s.is(invalidRefused) && !utf8.ValidString(c.Task.Reason) {
		return errors.New("invalid text")
	}
	t := &stored{head: s.written(&c.Task.Head), rows: s.writtenRows(c.Task.Instances), events: c.Events, outputs: map[string]output{}, by: s}
	if !s.is(aliasIn) {
		t.events = copied(c.Events)
	}
	t.indexed = copied(t.head)
	if s.is(tooEarlyTold) {
		s.tell(c.Task.ID)
	}
	err := s.write(func() error { return s.mayCreate(c) }, func() {
		s.tasks[c.Task.ID] = t
		s.haunted(c.Task.ID, t)
		t.saved = s.saves
		if rows := t.rows; s.is(rowsLate) {
			t.rows = nil
			defer func() { t.rows = rows }()
			s.letOthers()
		}
		if s.is(priorLate) {
			s.letOthers()
		}
		if c.Prior != nil && !s.is(priorIgnored, priorFirst) {
			s.apply(*c.Prior)
		}
		if s.is(lastSaveLost) {
			s.undo = func() { delete(s.tasks, c.Task.ID) }
		}
	})
	if err == nil {
		s.tell(c.Task.ID)
		if c.Prior != nil && !s.is(priorUntold) {
			s.tell(c.Prior.Head.ID)
		}
	}
	return err
}

func (s *opening) mayCreate(c creation) error {
	id, except, prior := c.Task.ID, []string{c.Task.ID}, c.Prior
	exists := func() error {
		if kept := s.tasks[id]; kept != nil && !(s.is(nonceIsEnough) && kept.head.Nonce == c.Task.Nonce) {
			return fmt.Errorf("task %s: %w", id, rollingupgrade.ErrTaskExists)
		}
		if s.is(deletedRemembered) && s.graves[id] != nil {
			return fmt.Errorf("task %s: %w", id, rollingupgrade.ErrTaskExists)
		}
		return nil
	}
	if err := exists(); err != nil && !s.is(busyFirst) {
		return err
	}
	if prior != nil {
		if s.is(unknownPriorIgnored) && s.tasks[prior.Head.ID] == nil {
			prior = nil
		} else if err := s.fits(prior); err != nil && !s.is(priorUnchecked) {
			return err
		}
	}
	if prior != nil {
		if !prior.Head.HoldsGroup {
			except = append(except, prior.Head.ID)
		}
		if err := s.busy(prior.Head, prior.Head.ID); err != nil && !s.is(priorMayHold) {
			return err
		}
		if s.is(priorMustHold) && !s.tasks[prior.Head.ID].head.HoldsGroup {
			return errors.New("prior task does not hold the group")
		}
		if s.is(priorFirst) {
			s.apply(*prior)
		}
	}
	if err := s.busy(&c.Task.Head, except...); err != nil && !s.is(groupFreeForCreate) {
		return err
	}
	return exists()
}

// Save implements Store.
func (s *opening) Save(ctx context.Context, c change) error {
	if err := s.done(ctx); err != nil {
		return err
	}
	if s.is(tooEarlyTold) {
		s.tell(c.Head.ID)
	}
	if s.is(crosstalk) {
		s.mu.Lock()
		s.scratch = c.Rows
		s.letOthers()
		c.Rows = s.scratch
		s.mu.Unlock()
	}
	err := s.write(func() error { return s.maySave(c) }, func() {
		if s.is(halfOnCancel) {
			rest := c
			c.Rows, c.Events, c.Outputs = nil, nil, nil
			s.apply(c)
			s.letOthers()
			if ctx.Err() == nil {
				s.apply(rest)
			}
			return
		}
		s.apply(c)
	})
	if err == nil && s.is(halfOnCancel) {
		err = ctx.Err()
	}
	if err == nil && !s.is(tooEarlyTold) {
		s.tell(c.Head.ID)
	}
	return err
}

func (s *opening) maySave(c change) error {
	if t := s.tasks[c.Head.ID]; t == nil && s.is(saveCreates) {
		s.tasks[c.Head.ID] = &stored{head: &head{Version: c.Head.Version - 1}, indexed: &head{}, outputs: map[string]output{}}
	}
	err := s.fits(&c)
	if err == nil && !s.is(groupFreeForSave) {
		err = s.busy(c.Head, c.Head.ID)
		if err != nil && s.is(busySpoils) {
			s.tasks[c.Head.ID].head.Version++
		}
	}
	if t := s.tasks[c.Head.ID]; err != nil && t != nil && s.is(halfApplied) { // the rest of the transaction is not undone
		h := t.head
		s.apply(c)
		t.head = h
	}
	return err
}
