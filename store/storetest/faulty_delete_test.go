package storetest_test

import (
	"context"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade"
)

// Delete implements Pruner.
func (s *opening) Delete(ctx context.Context, id string, version int64) error {
	if err := s.done(ctx); err != nil {
		return err
	}
	err := s.write(func() error {
		t, err := s.find(id)
		switch {
		case err != nil && s.is(deleteUnknownFine):
			return nil
		case err == nil && t.head.Version != version && !s.is(deleteUnchecked):
			err = fmt.Errorf("task %s: %w", id, rollingupgrade.ErrVersionConflict)
		}
		return err
	}, func() {
		if t := s.tasks[id]; t != nil {
			s.graves[id] = t
		}
		delete(s.tasks, id)
		delete(s.cache, id)
	})
	if err == nil && !s.is(deleteUntold) {
		s.tell(id)
	}
	return err
}

// haunted lets a new task have what a deleted one left, under the lock.
func (s *opening) haunted(id string, t *stored) {
	grave := s.graves[id]
	if grave == nil || !s.is(deletedPartsStay) {
		return
	}
	have := map[string]bool{}
	for _, r := range t.rows {
		have[r.ID] = true
	}
	for _, r := range grave.rows {
		if !have[r.ID] {
			t.rows = append(t.rows, r)
		}
	}
	t.outputs = grave.outputs
}

// gone reports whether a task was deleted.
func (s *opening) gone(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tasks[id] == nil
}

// misread changes a filter as the flaw has it, for one head.
func (s *opening) misread(f filter, h *head) filter {
	switch s.flaw {
	case kindIgnored:
		f.Kind = ""
	case fromExclusive:
		if !f.CreatedFrom.IsZero() {
			f.CreatedFrom = f.CreatedFrom.Add(1)
		}
	case beforeInclusive:
		if !f.CreatedBefore.IsZero() {
			f.CreatedBefore = f.CreatedBefore.Add(1)
		}
	case pageRepeats:
		if h.Position() == f.After {
			f.After = rollingupgrade.Position{}
		}
	case pageByTime:
		if at := f.After.CreatedAt; !f.After.IsZero() && (f.CreatedBefore.IsZero() || at.Before(f.CreatedBefore)) {
			f.CreatedBefore = at
		}
	case placeLookedUp:
		if s.tasks[f.After.ID] == nil {
			f.After = rollingupgrade.Position{}
		}
	}
	return f
}

// ranked pages by how many tasks were listed before.
func (s *opening) ranked(f filter) []*head {
	from := s.ranks[f.After.ID]
	f.After = rollingupgrade.Position{}
	found := s.found(f)
	found = found[min(from, len(found)):]
	if f.Limit > 0 && len(found) >= f.Limit {
		s.ranks[found[f.Limit-1].ID] = from + f.Limit
	}
	return found
}
