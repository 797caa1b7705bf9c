package boltstore

import (
	"context"
	"fmt"
	"slices"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// commits puts writes together: while one commit waits for the disk, those that come meanwhile gather for the next.
type commits struct {
	mu    sync.Mutex
	queue []*write
	busy  bool // a goroutine commits what is queued
}

// do commits w and returns what came of it. When ctx is done before the commit has begun, w is not written.
func (c *commits) do(ctx context.Context, s *Store, w *write) error {
	w.done = make(chan struct{})
	c.mu.Lock()
	c.queue = append(c.queue, w)
	if !c.busy {
		c.busy = true
		go c.work(s)
	}
	c.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-s.broken:
		return s.usable()
	case <-ctx.Done():
	}
	c.mu.Lock()
	n := slices.Index(c.queue, w)
	if n >= 0 {
		c.queue = slices.Delete(c.queue, n, n+1)
	}
	c.mu.Unlock()
	if n >= 0 {
		return fmt.Errorf("write task %s: %w", w.ids[0], ctx.Err())
	}
	select { // the disk is at it: soon it is known what came of it
	case <-w.done:
		return w.err
	case <-s.broken:
		return s.usable()
	}
}

// work commits until nothing is queued.
func (c *commits) work(s *Store) {
	for {
		c.mu.Lock()
		batch := c.queue
		c.queue = nil
		c.busy = len(batch) > 0
		c.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		s.commit(batch)
		for _, w := range batch {
			close(w.done)
		}
	}
}

// commit carries out a batch in one transaction. A write that is refused changes nothing and does not disturb the others; when
// the transaction fails as a whole each write is tried by itself, so that none suffers for another's.
func (s *Store) commit(batch []*write) {
	if err := s.commitOnce(batch); err != nil {
		for _, w := range batch {
			w.err = err
		}
		if len(batch) == 1 || s.usable() != nil {
			return
		}
		for n, w := range batch {
			if err := s.commitOnce(batch[n : n+1]); err != nil {
				w.err = err
			}
		}
	}
}

// commitOnce returns the error of the transaction; those of refused writes are theirs.
func (s *Store) commitOnce(batch []*write) error {
	if err := s.usable(); err != nil {
		return err
	}
	err := s.guarded(func() error {
		return s.db.Update(func(tx *bolt.Tx) error {
			for _, w := range batch {
				if w.err = w.check(tx); w.err != nil {
					continue
				}
				if err := w.apply(tx); err != nil {
					return fmt.Errorf("write task %s: %w", w.ids[0], err)
				}
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
