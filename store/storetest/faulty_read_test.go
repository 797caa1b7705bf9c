package storetest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

// apply writes a change, under the lock.
func (s *opening) apply(c change) {
	t := s.tasks[c.Head.ID]
	if t == nil {
		return
	}
	if s.is(lastSaveLost) {
		before := *t
		before.rows, before.events, before.outputs = slices.Clone(t.rows), slices.Clone(t.events), maps.Clone(t.outputs)
		s.undo = func() { s.tasks[c.Head.ID] = &before }
	}
	delete(s.cache, c.Head.ID)
	old := t.head
	t.head, t.by, t.saved = s.written(c.Head), s, s.saves
	if s.is(headsMerged) {
		t.head = merged(old, c.Head)
	}
	if s.is(rowsDropped) && len(c.Rows) > 0 || s.is(headAloneDrops) && len(c.Rows) == 0 {
		t.rows = nil
	}
	if s.is(headAloneDrops) && len(c.Outputs) == 0 {
		clear(t.outputs)
	}
	for k, r := range s.writtenRows(c.Rows) {
		if s.is(firstOfTwoRows) && slices.ContainsFunc(c.Rows[:k], func(i instance) bool { return i.ID == r.ID }) {
			continue
		}
		n := slices.IndexFunc(t.rows, func(i instance) bool { return i.ID == r.ID })
		switch {
		case n < 0 && s.is(rowsNotAdded):
		case n < 0:
			t.rows = append(t.rows, r)
		case s.is(rowsMerged):
			t.rows[n] = *merged(&t.rows[n], &r)
		case s.is(firstPlaceKept):
			r.Pos = t.rows[n].Pos
			t.rows[n] = r
		default:
			t.rows[n] = r
		}
		for _, other := range s.tasks {
			for n := range other.rows {
				if s.is(rowsByInstance) && other.rows[n].ID == r.ID {
					other.rows[n] = r
				}
			}
		}
	}
	s.applyEvents(t, c)
	for id, o := range c.Outputs {
		switch s.flaw {
		case outputCut:
			o.Text = o.Text[:min(len(o.Text), 16<<10)]
		case outputAppended:
			o.Text = t.outputs[id].Text + o.Text
		case outputLost:
			continue
		}
		t.outputs[id] = o
		for _, other := range s.tasks {
			if s.is(outputsByInstance) {
				other.outputs[id] = o
			}
		}
	}
}

func (s *opening) applyEvents(t *stored, c change) {
	events := c.Events
	if !s.is(aliasIn) {
		events = copied(c.Events)
	}
	switch {
	case s.is(eventsReversed):
		slices.Reverse(events)
	case s.is(eventLost) && len(events) > 1:
		events = events[:len(events)-1]
	case s.is(eventsLate) && len(events) > 0:
		time.AfterFunc(100*time.Microsecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			t.events = append(t.events, events...)
		})
		return
	}
	t.events = append(t.events, events...)
}

// merged returns what JSON makes of a new value on top of the old one.
func merged[T any](old, new *T) *T {
	to := copied(old)
	b, _ := json.Marshal(new)
	_ = json.Unmarshal(b, to)
	return to
}

// Load implements Store.
func (s *opening) Load(ctx context.Context, id string) (*rollingupgrade.Task, error) {
	h, err := s.Head(ctx, id)
	if err != nil {
		return nil, err
	}
	if s.is(tornLoad) {
		time.Sleep(50 * time.Microsecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, _ := s.find(id)
	if kept == nil { // of the flaw unknownIsEmpty
		return &rollingupgrade.Task{Head: *h}, nil
	}
	if !s.is(tornLoad, aliasOut) {
		h = copied(kept.head)
	}
	t := &rollingupgrade.Task{Head: *h, Instances: kept.rows}
	if !s.is(aliasOut) {
		t.Instances = copied(kept.rows)
	}
	switch s.flaw {
	case rowsUnsorted:
	case placesAsText:
		slices.SortFunc(t.Instances, func(a, b instance) int { return cmp.Compare(fmt.Sprint(a.Pos), fmt.Sprint(b.Pos)) })
	case rowsCapped:
		t.Instances = t.Instances[:min(len(t.Instances), 1000)]
	default:
		slices.SortFunc(t.Instances, func(a, b instance) int { return cmp.Compare(a.Pos, b.Pos) })
	}
	return t, nil
}

// Head implements Store.
func (s *opening) Head(ctx context.Context, id string) (*head, error) {
	if err := s.done(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(id)
	if err != nil && s.is(unknownIsEmpty) {
		return &head{ID: id}, nil
	}
	if err != nil {
		return nil, err
	}
	if s.is(aliasOut) {
		return t.head, nil
	}
	return copied(t.head), nil
}

// Events implements Store.
func (s *opening) Events(ctx context.Context, id string, after int64) iter.Seq2[event, error] {
	return func(yield func(event, error) bool) {
		events, err := s.eventsAfter(ctx, id, after)
		if err != nil {
			if yield(event{}, err) && s.is(errorRepeated) {
				yield(event{}, err)
			}
			return
		}
		if s.is(lockedInLoop) {
			s.mu.Lock()
			defer s.mu.Unlock()
		}
		for n := 0; n < len(events); n++ {
			if s.is(endsSilently) && ctx.Err() != nil || s.is(deletedEndsEvents) && s.gone(id) {
				return
			}
			if !yield(events[n], nil) {
				if s.is(lockedAfterStop) {
					s.mu.Lock()
				}
				return
			}
			if s.is(logFollowed) && n == len(events)-1 {
				more, _ := s.eventsAfter(ctx, id, events[n].Seq)
				events = append(events, more...)
			}
		}
	}
}

func (s *opening) eventsAfter(ctx context.Context, id string, after int64) ([]event, error) {
	if err := s.done(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if s.is(afterInclusive) {
		after--
	}
	var events []event
	for n, e := range t.events {
		if e.Seq > after && !(s.is(eventsPageEdge) && n > 0 && n%256 == 0) {
			events = append(events, e)
		}
	}
	if s.is(eventsAsText) {
		slices.SortFunc(events, func(a, b event) int { return cmp.Compare(fmt.Sprint(a.Seq), fmt.Sprint(b.Seq)) })
	}
	return copied(events), nil
}

// Output implements Store.
func (s *opening) Output(ctx context.Context, id, instanceID string) (output, error) {
	if err := s.done(ctx); err != nil {
		return output{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(id)
	if err != nil {
		return output{}, err
	}
	o, ok := t.outputs[instanceID]
	if !ok && !s.is(noOutputIsEmpty) {
		return o, fmt.Errorf("instance %q: %w", instanceID, rollingupgrade.ErrNoOutput)
	}
	return copied(o), nil
}

// List implements Store.
func (s *opening) List(ctx context.Context, f filter) iter.Seq2[*head, error] {
	return func(yield func(*head, error) bool) {
		if err := s.done(ctx); err != nil {
			if yield(nil, err) && s.is(errorRepeated) {
				yield(nil, err)
			}
			return
		}
		found := s.found(f)
		if s.is(pageByRank) {
			found = s.ranked(f)
		}
		if s.is(pagedByOffset) {
			const page = 8
			for from := page; from <= len(found); from += page {
				time.Sleep(20 * time.Microsecond)
				found = append(found[:from:from], s.found(f)[from:]...)
			}
		}
		if s.is(lockedInLoop) {
			s.mu.Lock()
			defer s.mu.Unlock()
		}
		for n, h := range found {
			if f.Limit > 0 && n == f.Limit && !s.is(limitIgnored) || s.is(listCapped) && n == 500 || s.is(endsSilently) && ctx.Err() != nil {
				return
			}
			if s.is(deleteBreaksList) && s.gone(h.ID) {
				yield(nil, fmt.Errorf("task %s: %w", h.ID, rollingupgrade.ErrTaskNotFound))
				return
			}
			if !s.is(aliasOut) {
				h = copied(h)
			}
			if !yield(h, nil) {
				return
			}
		}
	}
}

// found returns the heads that fit, in order.
func (s *opening) found(f filter) []*head {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*stored
	tasks := slices.Collect(maps.Values(s.tasks))
	if s.is(deletedListed) {
		tasks = slices.AppendSeq(tasks, maps.Values(s.graves))
	}
	for _, t := range tasks {
		h := t.head
		f := s.misread(f, h)
		switch s.flaw {
		case staleIndex:
			h = t.indexed
		case wakeIgnored:
			if !f.Runnable.IsZero() && h.Status.Waiting() {
				continue
			}
		case holdersByStatus:
			if f.HoldsGroup && h.Status.Ended() && !h.Restore.Active() {
				continue
			}
		case groupsByPrefix:
			if strings.HasPrefix(h.GroupID, f.GroupID) {
				f.GroupID = ""
			}
		case groupsFolded:
			if strings.EqualFold(h.GroupID, f.GroupID) {
				f.GroupID = ""
			}
		}
		if f.Match(h) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b *stored) int {
		switch s.flaw {
		case listedByID:
			return cmp.Compare(b.head.ID, a.head.ID)
		case listedBySave:
			return cmp.Compare(b.saved, a.saved)
		case listedBySecond:
			return cmp.Or(cmp.Compare(b.head.CreatedAt.Unix(), a.head.CreatedAt.Unix()), cmp.Compare(b.head.ID, a.head.ID))
		case nanosecondsOnly:
			return cmp.Or(cmp.Compare(b.head.CreatedAt.UnixNano(), a.head.CreatedAt.UnixNano()), cmp.Compare(b.head.ID, a.head.ID))
		case oldestFirst:
			a, b = b, a
		}
		return cmp.Or(b.head.CreatedAt.Compare(a.head.CreatedAt), cmp.Compare(b.head.ID, a.head.ID))
	})
	heads := make([]*head, len(found))
	for n, t := range found {
		heads[n] = t.head // which a save replaces and does not change
	}
	return heads
}

// Notify implements Notifier.
func (s *opening) Notify(f func(string)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextSub++
	id := s.nextSub
	s.subs[id] = &subscriber{f: f, of: s}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch s.flaw {
		case stopIgnored:
		case stopsAnother:
			delete(s.subs, slices.Max(append(slices.Collect(maps.Keys(s.subs)), 0)))
		default:
			delete(s.subs, id)
		}
	}
}

// tell calls the subscribers.
func (s *opening) tell(id string) {
	s.mu.Lock()
	subs := make([]*subscriber, 0, len(s.subs))
	for _, n := range slices.Sorted(maps.Keys(s.subs)) {
		subs = append(subs, s.subs[n])
	}
	s.mu.Unlock()
	for n, sub := range subs {
		if s.is(neverTold) || s.is(firstTold) && n > 0 || s.is(ownTold) && sub.of != s {
			continue
		}
		sub.f(id)
	}
}

// An exclusive opening names its life.
type exclusive struct{ *opening }

// Life implements ExclusiveStore.
func (e exclusive) Life() string { return e.life }
