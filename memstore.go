package rollingupgrade

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// MemoryStore keeps tasks in memory, as JSON, for tests and for programs whose tasks need not survive
// them. It is an [ExclusiveStore], a [Notifier] and a [Pruner].
type MemoryStore struct {
	mu     sync.Mutex
	life   string
	tasks  map[string]*memoryTask
	notify map[int]func(string)
	nextID int
}

type memoryTask struct {
	head    Head // for filters; never handed out
	json    []byte
	rows    map[string][]byte
	pos     map[string]int
	events  [][]byte
	outputs map[string]provider.Output
}

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{life: rand.Text(), tasks: map[string]*memoryTask{}, notify: map[int]func(string){}}
}

// Life implements [ExclusiveStore].
func (s *MemoryStore) Life() string { return s.life }

// Notify implements [Notifier].
func (s *MemoryStore) Notify(f func(taskID string)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	id := s.nextID
	s.notify[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.notify, id)
	}
}

// told calls the subscribers, without the lock.
func (s *MemoryStore) told(ids ...string) {
	s.mu.Lock()
	var fs []func(string)
	for _, f := range s.notify {
		fs = append(fs, f)
	}
	s.mu.Unlock()
	for _, f := range fs {
		for _, id := range ids {
			f(id)
		}
	}
}

// Create implements [Store].
func (s *MemoryStore) Create(ctx context.Context, c Creation) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ids, err := s.create(c)
	if err == nil {
		s.told(ids...)
	}
	return err
}

func (s *MemoryStore) create(c Creation) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := c.Task.ID
	if s.tasks[id] != nil {
		return nil, fmt.Errorf("create task %s: %w", id, ErrTaskExists)
	}
	var prior *memoryTask
	if c.Prior != nil {
		prior = s.tasks[c.Prior.Head.ID]
		if prior == nil {
			return nil, fmt.Errorf("change task %s: %w", c.Prior.Head.ID, ErrTaskNotFound)
		}
		if prior.head.Version != c.Prior.Head.Version-1 {
			return nil, fmt.Errorf("change task %s: %w", c.Prior.Head.ID, ErrVersionConflict)
		}
	}
	if prior != nil && c.Prior.Head.HoldsGroup && !prior.head.HoldsGroup {
		for other, t := range s.tasks {
			if t != prior && t.head.HoldsGroup && t.head.GroupID == c.Prior.Head.GroupID {
				return nil, &GroupBusyError{GroupID: t.head.GroupID, HolderID: other}
			}
		}
	}
	if c.Task.HoldsGroup {
		for other, t := range s.tasks {
			h := &t.head
			if t == prior {
				h = c.Prior.Head
			}
			if h.HoldsGroup && h.GroupID == c.Task.GroupID {
				return nil, &GroupBusyError{GroupID: h.GroupID, HolderID: other}
			}
		}
	}
	t, err := (&memoryTask{}).with(Change{Head: &c.Task.Head, Rows: c.Task.Instances, Events: c.Events})
	if err != nil {
		return nil, err
	}
	var changed *memoryTask
	if prior != nil {
		if changed, err = prior.with(*c.Prior); err != nil {
			return nil, err
		}
	}
	s.tasks[id] = t
	ids := []string{id}
	if changed != nil {
		s.tasks[changed.head.ID] = changed
		ids = append(ids, changed.head.ID)
	}
	return ids, nil
}

// forFilters returns what [Filter.Match] and the store itself look at. It shares nothing with h.
func forFilters(h *Head) Head {
	f := Head{
		ID: h.ID, Kind: h.Kind, GroupID: h.GroupID, SourceID: h.SourceID, PriorID: h.PriorID, NextID: h.NextID, Status: h.Status,
		CreatedAt: h.CreatedAt, EndedAt: h.EndedAt, WakeAt: h.WakeAt, HoldsGroup: h.HoldsGroup, Version: h.Version,
	}
	if h.Pause != nil {
		p := *h.Pause
		f.Pause = &p
	}
	if h.Restore != nil {
		f.Restore = &Restore{EndedAt: h.Restore.EndedAt}
	}
	return f
}

// with returns a copy of t with the change applied.
func (t *memoryTask) with(c Change) (*memoryTask, error) {
	n := &memoryTask{rows: t.rows, pos: t.pos, events: t.events, outputs: t.outputs}
	var err error
	if n.json, err = json.Marshal(c.Head); err != nil {
		return nil, err
	}
	n.head = forFilters(c.Head)
	events := make([][]byte, 0, len(c.Events))
	for k, e := range c.Events {
		if e.Seq != int64(len(t.events)+k+1) {
			return nil, fmt.Errorf("event %d does not follow event %d: %w", e.Seq, len(t.events)+k, ErrVersionConflict)
		}
		b, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		events = append(events, b)
	}
	rows := make(map[string][]byte, len(c.Rows))
	for k := range c.Rows {
		if rows[c.Rows[k].ID], err = json.Marshal(&c.Rows[k]); err != nil {
			return nil, err
		}
	}
	// Nothing can fail any more: from here on the maps, which are shared with t, are changed.
	if n.rows == nil {
		n.rows, n.pos, n.outputs = map[string][]byte{}, map[string]int{}, map[string]provider.Output{}
	}
	for k := range c.Rows {
		n.rows[c.Rows[k].ID], n.pos[c.Rows[k].ID] = rows[c.Rows[k].ID], c.Rows[k].Pos
	}
	for id, o := range c.Outputs {
		n.outputs[id] = o
	}
	n.events = append(n.events, events...)
	return n, nil
}

// Load implements [Store].
func (s *MemoryStore) Load(ctx context.Context, id string) (*Task, error) {
	t := &Task{}
	err := s.read(ctx, id, func(m *memoryTask) error {
		if err := json.Unmarshal(m.json, &t.Head); err != nil {
			return err
		}
		ids := make([]string, 0, len(m.rows))
		for id := range m.rows {
			ids = append(ids, id)
		}
		slices.SortFunc(ids, func(a, b string) int { return cmp.Or(cmp.Compare(m.pos[a], m.pos[b]), cmp.Compare(a, b)) })
		t.Instances = make([]Instance, len(ids))
		for n, id := range ids {
			if err := json.Unmarshal(m.rows[id], &t.Instances[n]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Head implements [Store].
func (s *MemoryStore) Head(ctx context.Context, id string) (*Head, error) {
	h := &Head{}
	err := s.read(ctx, id, func(m *memoryTask) error { return json.Unmarshal(m.json, h) })
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (s *MemoryStore) read(ctx context.Context, id string, f func(*memoryTask) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[id]
	if t == nil {
		return fmt.Errorf("task %s: %w", clip(id), ErrTaskNotFound)
	}
	return f(t)
}

// Save implements [Store].
func (s *MemoryStore) Save(ctx context.Context, c Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.save(c); err != nil {
		return err
	}
	s.told(c.Head.ID)
	return nil
}

func (s *MemoryStore) save(c Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := c.Head.ID
	t := s.tasks[id]
	switch {
	case t == nil:
		return fmt.Errorf("save task %s: %w", clip(id), ErrTaskNotFound)
	case t.head.Version != c.Head.Version-1:
		return fmt.Errorf("save task %s: %w", id, ErrVersionConflict)
	}
	if c.Head.HoldsGroup && !t.head.HoldsGroup {
		for other, o := range s.tasks {
			if other != id && o.head.HoldsGroup && o.head.GroupID == c.Head.GroupID {
				return &GroupBusyError{GroupID: c.Head.GroupID, HolderID: other}
			}
		}
	}
	n, err := t.with(c)
	if err != nil {
		return err
	}
	s.tasks[id] = n
	return nil
}

// Delete implements [Pruner].
func (s *MemoryStore) Delete(ctx context.Context, taskID string, version int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.delete(taskID, version); err != nil {
		return err
	}
	s.told(taskID)
	return nil
}

func (s *MemoryStore) delete(id string, version int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch t := s.tasks[id]; {
	case t == nil:
		return fmt.Errorf("delete task %s: %w", clip(id), ErrTaskNotFound)
	case t.head.Version != version:
		return fmt.Errorf("delete task %s: %w", id, ErrVersionConflict)
	}
	delete(s.tasks, id)
	return nil
}

// Events implements [Store].
func (s *MemoryStore) Events(ctx context.Context, id string, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		var events [][]byte
		if err := s.read(ctx, id, func(m *memoryTask) error {
			events = m.events[min(max(after, 0), int64(len(m.events))):]
			return nil
		}); err != nil {
			yield(Event{}, err)
			return
		}
		for _, b := range events {
			var e Event
			err := json.Unmarshal(b, &e)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Output implements [Store].
func (s *MemoryStore) Output(ctx context.Context, id, instanceID string) (provider.Output, error) {
	var o provider.Output
	err := s.read(ctx, id, func(m *memoryTask) error {
		var ok bool
		if o, ok = m.outputs[instanceID]; !ok {
			return fmt.Errorf("task %s, instance %s: %w", id, clip(instanceID), ErrNoOutput)
		}
		return nil
	})
	return o, err
}

// List implements [Store].
func (s *MemoryStore) List(ctx context.Context, f Filter) iter.Seq2[*Head, error] {
	return func(yield func(*Head, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(nil, err)
			return
		}
		s.mu.Lock()
		var found []*memoryTask
		for _, t := range s.tasks {
			if f.Match(&t.head) {
				found = append(found, t)
			}
		}
		s.mu.Unlock()
		slices.SortFunc(found, func(a, b *memoryTask) int {
			return a.head.Position().compare(b.head.Position())
		})
		for n, t := range found {
			if f.Limit > 0 && n >= f.Limit {
				return
			}
			h := &Head{}
			err := json.Unmarshal(t.json, h)
			if !yield(h, err) || err != nil {
				return
			}
		}
	}
}
