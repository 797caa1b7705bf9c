package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/store/internal/record"
)

// What one query returns at most, so that a slow reader keeps no connection busy.
const (
	pageEvents = 500
	pageHeads  = 100
)

// head decodes a head.
func head(b []byte) (*rollingupgrade.Head, error) {
	h, err := record.Head(b)
	if err != nil {
		return nil, fmt.Errorf("head: %w: %w", ErrDamaged, err)
	}
	return h, nil
}

// part decodes a row, an event or an output.
func part(b []byte, schema int, what string, v any) error {
	err := record.Part(b, schema, v)
	switch {
	case errors.Is(err, rollingupgrade.ErrNewerSchema):
		return fmt.Errorf("%s: %w", what, err)
	case err != nil:
		return fmt.Errorf("%s: %w: %w", what, ErrDamaged, err)
	}
	return nil
}

// of says in an error which task it is about.
func of(id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("task %q: %w", record.Clip(id), err)
}

// query calls scan for each row of a result.
func (s *Store) query(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	rows, err := s.db.QueryContext(ctx, s.sql(query), args...)
	if err != nil {
		return late(ctx, err)
	}
	defer rows.Close() //nolint:errcheck // Err says it
	for rows.Next() {
		if err := scan(rows); err != nil {
			return late(ctx, err)
		}
	}
	return late(ctx, rows.Err())
}

// one scans the only row of a result. It returns sql.ErrNoRows if there is none.
func (s *Store) one(ctx context.Context, query string, args []any, to ...any) error {
	ctx, cancel := s.limited(ctx)
	defer cancel()
	return late(ctx, s.db.QueryRowContext(ctx, s.sql(query), args...).Scan(to...))
}

// Head implements [rollingupgrade.Store].
func (s *Store) Head(ctx context.Context, id string) (*rollingupgrade.Head, error) {
	var b []byte
	err := s.one(ctx, "SELECT record FROM {p}tasks WHERE id = ?", []any{key(id)}, &b)
	if errors.Is(err, sql.ErrNoRows) {
		err = rollingupgrade.ErrTaskNotFound
	}
	if err != nil {
		return nil, of(id, err)
	}
	h, err := head(b)
	return h, of(id, err)
}

// Load implements [rollingupgrade.Store]. Head and rows come from one statement, and so from one moment.
func (s *Store) Load(ctx context.Context, id string) (*rollingupgrade.Task, error) {
	t := &rollingupgrade.Task{Instances: []rollingupgrade.Instance{}}
	found := false
	var rows [][]byte
	err := s.query(ctx, "SELECT 0, record FROM {p}tasks WHERE id = ? UNION ALL SELECT 1, record FROM {p}instances WHERE task_id = ?",
		[]any{key(id), key(id)}, func(r *sql.Rows) error {
			var kind int
			var b []byte
			if err := r.Scan(&kind, &b); err != nil {
				return err
			}
			if kind != 0 {
				rows = append(rows, b)
				return nil
			}
			h, err := head(b)
			if err == nil {
				t.Head, found = *h, true
			}
			return err
		})
	switch {
	case err != nil:
		return nil, of(id, err)
	case !found:
		return nil, of(id, rollingupgrade.ErrTaskNotFound)
	}
	for _, b := range rows {
		var i rollingupgrade.Instance
		if err := part(b, t.Schema, "row", &i); err != nil {
			return nil, of(id, err)
		}
		t.Instances = append(t.Instances, i)
	}
	slices.SortStableFunc(t.Instances, func(a, b rollingupgrade.Instance) int {
		return cmp.Or(cmp.Compare(a.Pos, b.Pos), cmp.Compare(a.ID, b.ID))
	})
	return t, nil
}

// Events implements [rollingupgrade.Store].
func (s *Store) Events(ctx context.Context, id string, after int64) iter.Seq2[rollingupgrade.Event, error] {
	return func(yield func(rollingupgrade.Event, error) bool) {
		fail := func(err error) { yield(rollingupgrade.Event{}, of(id, err)) }
		_, end, err := s.kept(ctx, id)
		if err != nil {
			fail(err)
			return
		}
		for after := max(after, 0); after < end; {
			events, err := s.events(ctx, id, after, end)
			switch {
			case err != nil:
				fail(s.orNewer(ctx, id, err))
				return
			case len(events) == 0:
				if _, _, err := s.kept(ctx, id); err != nil { // it was deleted meanwhile
					fail(err)
					return
				}
				fail(fmt.Errorf("%w: event %d of %d is missing", ErrDamaged, after+1, end))
				return
			}
			for _, e := range events {
				if after = e.Seq; !yield(e, nil) {
					return
				}
			}
		}
	}
}

// events reads one page of the events after the one and up to the other number.
func (s *Store) events(ctx context.Context, id string, after, end int64) (events []rollingupgrade.Event, err error) {
	err = s.query(ctx, fmt.Sprintf("SELECT record FROM {p}events WHERE task_id = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT %d", pageEvents),
		[]any{key(id), after, end}, func(r *sql.Rows) error {
			var b sql.RawBytes
			if err := r.Scan(&b); err != nil {
				return err
			}
			events = append(events, rollingupgrade.Event{})
			return part(b, rollingupgrade.SchemaVersion, "event", &events[len(events)-1])
		})
	return events, err
}

// orNewer says of a record that cannot be read whether a newer version of the library wrote its task.
func (s *Store) orNewer(ctx context.Context, id string, err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	if h, herr := s.Head(ctx, id); herr == nil && h.Schema > rollingupgrade.SchemaVersion {
		return fmt.Errorf("schema %d, this version knows %d: %w", h.Schema, rollingupgrade.SchemaVersion, rollingupgrade.ErrNewerSchema)
	}
	return err
}

// Output implements [rollingupgrade.Store].
func (s *Store) Output(ctx context.Context, id, instanceID string) (o provider.Output, err error) {
	var b []byte
	err = s.one(ctx, `SELECT o.record FROM {p}tasks t
		LEFT JOIN {p}outputs o ON o.task_id = t.id AND o.instance_id = ? WHERE t.id = ?`, []any{key(instanceID), key(id)}, &b)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		err = rollingupgrade.ErrTaskNotFound
	case err == nil && b == nil:
		err = fmt.Errorf("instance %q: %w", record.Clip(instanceID), rollingupgrade.ErrNoOutput)
	case err == nil:
		err = s.orNewer(ctx, id, part(b, rollingupgrade.SchemaVersion, "output", &o))
	}
	return o, of(id, err)
}

// List implements [rollingupgrade.Store].
func (s *Store) List(ctx context.Context, f rollingupgrade.Filter) iter.Seq2[*rollingupgrade.Head, error] {
	return func(yield func(*rollingupgrade.Head, error) bool) {
		from := ""
		if !f.After.IsZero() {
			from = position(f.After)
		}
		for left := f.Limit; ; {
			heads, next, err := s.list(ctx, f, from)
			for _, h := range heads {
				if !yield(h, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if err != nil {
				yield(nil, fmt.Errorf("list tasks: %w", err))
				return
			}
			if next == "" {
				return
			}
			from = next
		}
	}
}

// list reads one page, newest first, of the tasks behind the position from (empty: from the newest on), and the position at its end.
func (s *Store) list(ctx context.Context, f rollingupgrade.Filter, from string) (heads []*rollingupgrade.Head, next string, err error) {
	var where []string
	var args []any
	add := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if f.GroupID != "" {
		add("group_id = ?", key(f.GroupID))
	}
	if f.Kind != "" {
		add("kind IN (?, '')", key(string(f.Kind))) // empty where an older version wrote the task
	}
	if len(f.Status) > 0 {
		var list []any
		for _, status := range f.Status {
			list = append(list, string(status))
		}
		add("status IN (?"+strings.Repeat(", ?", len(list)-1)+")", list...)
	}
	if !f.Runnable.IsZero() {
		add("is_open = 1 AND runnable_at <= ?", nanos(f.Runnable))
	}
	if f.HoldsGroup {
		add("is_open = 1 AND held_group IS NOT NULL")
	}
	if !f.CreatedFrom.IsZero() {
		add("position >= ?", moment(f.CreatedFrom))
	}
	if !f.CreatedBefore.IsZero() {
		add("position < ?", moment(f.CreatedBefore))
	}
	if from != "" {
		add("position < ?", from)
	}
	query := "SELECT position, record FROM {p}tasks"
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	size := pageHeads
	if f.Limit > 0 {
		size = min(size, f.Limit)
	}
	query += fmt.Sprintf(" ORDER BY position DESC LIMIT %d", size)
	seen := 0
	err = s.query(ctx, query, args, func(r *sql.Rows) error {
		var b []byte
		if err := r.Scan(&next, &b); err != nil {
			return err
		}
		seen++
		h, err := head(b)
		if err != nil {
			return fmt.Errorf("task %q: %w", record.Clip(unkey(next[min(len(next), 24):])), err)
		}
		if f.Match(h) {
			heads = append(heads, h)
		}
		return nil
	})
	if seen < size {
		next = ""
	}
	return heads, next, err
}
