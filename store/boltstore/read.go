package boltstore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/store/internal/record"
)

// What is read in one transaction, so that a slow reader holds none open: events or heads, and marks of tasks in an index.
const (
	page      = 256
	pageMarks = 16 * page
)

// head reads a head within a transaction.
func head(tx *bolt.Tx, id string) (*rollingupgrade.Head, error) {
	sealed := tx.Bucket(bucketHeads).Get([]byte(id))
	if sealed == nil {
		return nil, fmt.Errorf("task %q: %w", record.Clip(id), rollingupgrade.ErrTaskNotFound)
	}
	b, err := unseal([]byte(id), sealed)
	if err != nil {
		return nil, fmt.Errorf("head of task %s: %w", id, err)
	}
	h, err := record.Head(b)
	if err != nil {
		return nil, fmt.Errorf("head of task %s: %w: %w", id, ErrCorrupt, err)
	}
	return h, nil
}

// part reads a row, an event or an output of a task.
func part(h *rollingupgrade.Head, what string, key, sealed []byte, v any) error {
	b, err := unseal(key, sealed)
	if err == nil {
		if err = record.Part(b, h.Schema, v); err != nil && !errors.Is(err, rollingupgrade.ErrNewerSchema) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	if err != nil {
		return fmt.Errorf("%s of task %s: %w", what, h.ID, err)
	}
	return nil
}

// view runs f in a reading transaction.
func (s *Store) view(ctx context.Context, f func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.usable(); err != nil {
		return err
	}
	return s.guarded(func() error { return s.db.View(f) })
}

// Head implements [rollingupgrade.Store].
func (s *Store) Head(ctx context.Context, id string) (h *rollingupgrade.Head, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		h, err = head(tx, id)
		return err
	})
	return h, err
}

// Load implements [rollingupgrade.Store].
func (s *Store) Load(ctx context.Context, id string) (*rollingupgrade.Task, error) {
	t := &rollingupgrade.Task{Instances: []rollingupgrade.Instance{}}
	err := s.view(ctx, func(tx *bolt.Tx) error {
		h, err := head(tx, id)
		if err != nil {
			return err
		}
		t.Head = *h
		rows := tx.Bucket(bucketRows).Bucket([]byte(id))
		if rows == nil {
			return nil
		}
		return rows.ForEach(func(k, v []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			var i rollingupgrade.Instance
			if err := part(h, "a row", k, v, &i); err != nil {
				return err
			}
			t.Instances = append(t.Instances, i)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(t.Instances, func(a, b rollingupgrade.Instance) int {
		return cmp.Or(cmp.Compare(a.Pos, b.Pos), cmp.Compare(a.ID, b.ID))
	})
	return t, nil
}

// Events implements [rollingupgrade.Store].
func (s *Store) Events(ctx context.Context, id string, after int64) iter.Seq2[rollingupgrade.Event, error] {
	return func(yield func(rollingupgrade.Event, error) bool) {
		after, end := max(after, 0), int64(0)
		for {
			events, last, err := s.events(ctx, id, after)
			if err != nil {
				yield(rollingupgrade.Event{}, err)
				return
			}
			if end == 0 {
				end = last // what is written while the reader is at work is left to the next call
			}
			for _, e := range events {
				if e.Seq > end {
					return
				}
				if after = e.Seq; !yield(e, nil) {
					return
				}
			}
			if len(events) < page || after >= end {
				return
			}
		}
	}
}

// events reads one page, and the number of the last event that is kept.
func (s *Store) events(ctx context.Context, id string, after int64) (events []rollingupgrade.Event, last int64, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		h, err := head(tx, id)
		if err != nil {
			return err
		}
		b := tx.Bucket(bucketEvents).Bucket([]byte(id))
		if b == nil {
			return nil
		}
		if last, err = lastNumber(b); err != nil || after >= last {
			return err
		}
		c := b.Cursor()
		for k, v := c.Seek(number(after + 1)); k != nil && len(events) < page; k, v = c.Next() {
			var e rollingupgrade.Event
			if err := part(h, "an event", k, v, &e); err != nil {
				return err
			}
			events = append(events, e)
		}
		return nil
	})
	return events, last, err
}

// lastNumber is the number of the last event in a bucket; 0 if there is none.
func lastNumber(b *bolt.Bucket) (int64, error) {
	k, _ := b.Cursor().Last()
	switch {
	case k == nil:
		return 0, nil
	case len(k) != 8:
		return 0, fmt.Errorf("%w: number of an event", ErrCorrupt)
	}
	return int64(binary.BigEndian.Uint64(k)), nil
}

// Output implements [rollingupgrade.Store].
func (s *Store) Output(ctx context.Context, id, instanceID string) (o provider.Output, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		h, err := head(tx, id)
		if err != nil {
			return err
		}
		var kept []byte
		if b := tx.Bucket(bucketOutputs).Bucket([]byte(id)); b != nil {
			kept = b.Get([]byte(instanceID))
		}
		if kept == nil {
			return fmt.Errorf("task %s, instance %q: %w", id, record.Clip(instanceID), rollingupgrade.ErrNoOutput)
		}
		return part(h, "an output", []byte(instanceID), kept, &o)
	})
	return o, err
}

// List implements [rollingupgrade.Store].
func (s *Store) List(ctx context.Context, f rollingupgrade.Filter) iter.Seq2[*rollingupgrade.Head, error] {
	return func(yield func(*rollingupgrade.Head, error) bool) {
		part := bounds(&f)
		for left := f.Limit; ; {
			heads, rest, err := s.list(ctx, f, part)
			for _, h := range heads {
				if !yield(h, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if rest.before == nil {
				return
			}
			part = rest
		}
	}
}

// A span is a part of an index, from its newest entry on: those whose key is less than before (nil: all) and not less than first.
type span struct{ first, before []byte }

// bounds is the part of an index in which the tasks are that f selects.
func bounds(f *rollingupgrade.Filter) (s span) {
	if !f.CreatedFrom.IsZero() {
		s.first = timeKey(f.CreatedFrom)
	}
	if !f.CreatedBefore.IsZero() {
		s.before = timeKey(f.CreatedBefore)
	}
	if !f.After.IsZero() {
		if k := placeKey(f.After); s.before == nil || bytes.Compare(k, s.before) < 0 {
			s.before = k
		}
	}
	return s
}

// list reads one page of a part of an index, newest first, and returns the part behind it; one without before is the end.
func (s *Store) list(ctx context.Context, f rollingupgrade.Filter, part span) (heads []*rollingupgrade.Head, rest span, err error) {
	err = s.view(ctx, func(tx *bolt.Tx) error {
		bucket := tx.Bucket(bucketOrder)
		switch {
		case f.GroupID != "":
			if bucket = tx.Bucket(bucketGroups).Bucket([]byte(f.GroupID)); bucket == nil {
				return nil
			}
		case !f.Runnable.IsZero() || f.HoldsGroup:
			bucket = tx.Bucket(bucketOpen)
		}
		c := bucket.Cursor()
		read, seen := 0, 0
		for k, mark := last(c, part.before); k != nil && bytes.Compare(k, part.first) >= 0; k, mark = c.Prev() {
			if len(k) < orderPrefix {
				return fmt.Errorf("%w: key of a list", ErrCorrupt)
			}
			if fits(&f, mark) {
				h, err := head(tx, string(k[orderPrefix:]))
				if errors.Is(err, rollingupgrade.ErrTaskNotFound) {
					return fmt.Errorf("%w: a list names task %q, which is not there", ErrCorrupt, record.Clip(string(k[orderPrefix:])))
				}
				if err != nil {
					return err
				}
				if f.Match(h) {
					heads = append(heads, h)
				}
				read++
			}
			if seen++; read == page || seen == pageMarks || f.Limit > 0 && len(heads) == f.Limit {
				rest = span{part.first, bytes.Clone(k)}
				return nil
			}
		}
		return nil
	})
	return heads, rest, err
}

// last puts the cursor on the last key that is less than before; without before on the last one of all.
func last(c *bolt.Cursor, before []byte) (key, value []byte) {
	if before == nil {
		return c.Last()
	}
	if k, _ := c.Seek(before); k == nil {
		return c.Last()
	}
	return c.Prev()
}
