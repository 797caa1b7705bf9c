package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade"
)

// why looks what stands against a write that the database has refused. It returns nil if nothing does, or not any
// more, and as its second result why it could not look.
func (s *Store) why(ctx context.Context, w *write) (refusal, err error) {
	if d := w.deletes; d != nil {
		switch version, _, err := s.kept(ctx, d.id); {
		case errors.Is(err, rollingupgrade.ErrTaskNotFound):
			return err, nil
		case err != nil:
			return nil, err
		case version != d.version:
			return rollingupgrade.ErrVersionConflict, nil
		}
		return nil, nil
	}
	if c := w.makes; c != nil {
		switch _, _, err := s.kept(ctx, c.id); {
		case err == nil:
			return rollingupgrade.ErrTaskExists, nil
		case !errors.Is(err, rollingupgrade.ErrTaskNotFound):
			return nil, err
		}
		if len(c.events) > 0 && c.first != 1 {
			return fmt.Errorf("event %d is not the first: %w", c.first, rollingupgrade.ErrVersionConflict), nil
		}
	}
	if c := w.saves; c != nil {
		version, last, err := s.kept(ctx, c.id)
		switch {
		case errors.Is(err, rollingupgrade.ErrTaskNotFound):
			return w.about(err), nil
		case err != nil:
			return nil, err
		case version != c.version-1:
			return w.about(rollingupgrade.ErrVersionConflict), nil
		case len(c.events) > 0 && last != c.first-1:
			return w.about(fmt.Errorf("event %d does not follow event %d: %w", c.first, last, rollingupgrade.ErrVersionConflict)), nil
		}
	}
	return s.busy(ctx, w)
}

// about says that a refusal concerns the prior of a creation.
func (w *write) about(err error) error {
	if w.makes == nil {
		return err
	}
	return fmt.Errorf("task %s: %w", w.saves.id, err)
}

// kept returns version and last event of a task as they are now.
func (s *Store) kept(ctx context.Context, id string) (version, last int64, err error) {
	err = s.one(ctx, "SELECT version, last_event FROM {p}tasks WHERE id = ?", []any{key(id)}, &version, &last)
	if errors.Is(err, sql.ErrNoRows) {
		err = rollingupgrade.ErrTaskNotFound
	}
	return version, last, err
}

// busy looks for another task that holds the group of one that shall hold it.
func (s *Store) busy(ctx context.Context, w *write) (refusal, err error) {
	left := ""
	if w.saves != nil && !w.saves.holds {
		left = w.saves.id // gives up what it holds in the same transaction
	}
	if w.saves != nil && w.makes != nil && w.saves.holds && w.makes.holds && w.saves.group == w.makes.group {
		return &rollingupgrade.GroupBusyError{GroupID: w.saves.group, HolderID: w.saves.id}, nil
	}
	for _, c := range []*change{w.saves, w.makes} {
		if c == nil || !c.holds {
			continue
		}
		var holder string
		err := s.one(ctx, "SELECT id FROM {p}tasks WHERE held_group = ?", []any{key(c.group)}, &holder)
		switch holder = unkey(holder); {
		case errors.Is(err, sql.ErrNoRows):
		case err != nil:
			return nil, err
		case holder != c.id && (left == "" || holder != left):
			return &rollingupgrade.GroupBusyError{GroupID: c.group, HolderID: holder}, nil
		}
	}
	return nil, nil
}
