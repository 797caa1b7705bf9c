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

// page is how many events or tasks are read in one transaction, so that a slow reader holds none open.
const page = 256

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
		var from []byte
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
				yield(nil, err)
				return
			}
			if next == nil {
				return
			}
			from = next
		}
	}
}

// list reads one page, newest first, from the key from on (nil: from the newest), and the key at which the next page begins.
func (s *Store) list(ctx context.Context, f rollingupgrade.Filter, from []byte) (heads []*rollingupgrade.Head, next []byte, err error) {
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
		seen := 0
		for k := last(c, from); k != nil; k, _ = c.Prev() {
			if seen++; seen > page {
				next = bytes.Clone(k)
				return nil
			}
			if len(k) < orderPrefix {
				return fmt.Errorf("%w: key of a list", ErrCorrupt)
			}
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
		}
		return nil
	})
	return heads, next, err
}

// last puts the cursor on the key from or, if that has gone, on the one before it; without from on the last one.
func last(c *bolt.Cursor, from []byte) []byte {
	if from == nil {
		k, _ := c.Last()
		return k
	}
	k, _ := c.Seek(from)
	switch {
	case bytes.Equal(k, from):
	case k == nil:
		k, _ = c.Last()
	default:
		k, _ = c.Prev()
	}
	return k
}
