// Package boltstore keeps tasks in one file, through bbolt: crash-safe and without a server. Only one
// process can have the file open. Use it where tasks shall survive the death of a single process.
//
//	store, err := boltstore.Open("tasks.db", boltstore.Options{})
//	if err != nil {
//		return err
//	}
//	defer store.Close()
//	runner, err := rollingupgrade.New(provider, store, rollingupgrade.Config{})
package boltstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/internal/record"
)

// Errors of this package.
var (
	// ErrLocked means that the file is open already, as a rule in another process.
	ErrLocked = errors.New("file is open in another process")
	// ErrCorrupt means that the file is not a store, or is damaged.
	ErrCorrupt = errors.New("file is not a store or is damaged")
	// ErrNewerFormat means that the file was written by a newer version of this package.
	ErrNewerFormat = errors.New("file has a newer format")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Options tune a store. The zero Options are ready to use.
type Options struct {
	// Timeout is how long Open waits for another process to close the file; zero means one second.
	Timeout time.Duration
	// Mode is the mode of a new file; zero means 0600.
	Mode os.FileMode
}

// Store is a [rollingupgrade.Store] in one file. It is an ExclusiveStore, a Notifier and a Pruner. Its methods are safe for concurrent
// use. Saves that come at the same time share one commit. A method that finds the file damaged returns ErrCorrupt; where bbolt cannot go on
// with it, so does every later one.
type Store struct {
	db      *bolt.DB
	file    *os.File
	life    string
	closed  atomic.Bool
	broken  chan struct{} // closed when bbolt has panicked: it may hold its locks for ever
	once    sync.Once
	commits commits
	subs    record.Subscribers
}

var (
	_ rollingupgrade.Store          = (*Store)(nil)
	_ rollingupgrade.ExclusiveStore = (*Store)(nil)
	_ rollingupgrade.Notifier       = (*Store)(nil)
	_ rollingupgrade.Pruner         = (*Store)(nil)
)

// Open opens the file and makes it if it is not there; its folder must be there. It reads the whole file to see that it is in order. It returns ErrLocked if another
// process has it open, ErrCorrupt, ErrNewerFormat, or what the operating system says.
func Open(path string, o Options) (*Store, error) {
	if o.Timeout <= 0 {
		o.Timeout = time.Second
	}
	if o.Mode == 0 {
		o.Mode = 0o600
	}
	err := makeFile(path, o)
	var s *Store
	if err == nil {
		s, err = open(path, o)
	}
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open %s: %w (waited %s)", path, ErrLocked, o.Timeout)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	s.life = rand.Text()
	return s, nil
}

// Close closes the file. Methods that are at work end first; later ones return ErrClosed.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	if s.usable() == ErrClosed { //nolint:errorlint // it is returned as it is
		return s.db.Close()
	}
	return release(s.file)
}

// Life implements [rollingupgrade.ExclusiveStore].
func (s *Store) Life() string { return s.life }

// Notify implements [rollingupgrade.Notifier].
func (s *Store) Notify(f func(taskID string)) (stop func()) { return s.subs.Add(f) }

// Backup writes a copy of the store as it is at this moment to w: a file that Open opens. Saves go on
// meanwhile; one that makes the file much larger may have to wait for it.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	err := s.view(ctx, func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(contextWriter{ctx, w})
		return err
	})
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// A contextWriter refuses to write when its context is done.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (w contextWriter) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(b)
}

// Create implements [rollingupgrade.Store].
func (s *Store) Create(ctx context.Context, c rollingupgrade.Creation) error {
	w, err := encodeCreation(c)
	if err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	return s.write(ctx, w)
}

// Save implements [rollingupgrade.Store].
func (s *Store) Save(ctx context.Context, c rollingupgrade.Change) error {
	w, err := encodeChange(c)
	if err != nil {
		return fmt.Errorf("save task: %w", err)
	}
	return s.write(ctx, w)
}

// write commits w, together with what others write at the same time.
func (s *Store) write(ctx context.Context, w *write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.usable(); err != nil {
		return err
	}
	if err := s.commits.do(ctx, s, w); err != nil {
		return err
	}
	s.subs.Tell(w.ids...)
	return nil
}

func (s *Store) usable() error {
	select {
	case <-s.broken:
		return fmt.Errorf("%w: an earlier call found it so", ErrCorrupt)
	default:
	}
	if s.closed.Load() {
		return ErrClosed
	}
	return nil
}

// guarded is safely for a store that is open. After a panic nothing is asked of bbolt any more.
func (s *Store) guarded(f func() error) error {
	err := safely(f)
	var p *panicError
	if errors.As(err, &p) {
		s.once.Do(func() { close(s.broken) })
	}
	return said(err)
}

// said puts bbolt's words for a closed file into this package's.
func said(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}
