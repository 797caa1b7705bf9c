// Package sqlstore keeps tasks in a database that many processes share: PostgreSQL, MySQL or MariaDB, or SQLite. It works on
// database/sql and brings no driver along.
//
//	db, err := sql.Open("pgx", "postgres://...") // with _ "github.com/jackc/pgx/v5/stdlib"
//	if err != nil {
//		return err
//	}
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{})
//	if err != nil {
//		return err
//	}
//	if err := store.Migrate(ctx); err != nil {
//		return err
//	}
//	runner, err := rollingupgrade.New(provider, store, rollingupgrade.Config{})
//
// What a task is lives in one column as JSON; the columns beside it serve constraints and lists. That
// two tasks never hold one scaling group is a unique constraint of the database, and that a save replaces what its writer has
// seen is the condition of its one UPDATE: neither depends on this code being the only one at work.
package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/internal/record"
)

// Errors of this package.
var (
	// ErrNewerDatabase means that a newer version of this package has migrated the tables.
	ErrNewerDatabase = errors.New("tables were migrated by a newer version")
	// ErrDamaged means that a record in the database cannot be read.
	ErrDamaged = errors.New("record is damaged")
	// ErrTimeout means that the database did not answer within Options.Timeout.
	ErrTimeout = errors.New("database did not answer in time")
	// ErrUnknownOutcome means that the database did not answer a COMMIT, or a statement that is a transaction by itself: the write took
	// place or did not.
	ErrUnknownOutcome = errors.New("outcome of the write is unknown")
)

// Dialect is the kind of database.
type Dialect string

// The dialects.
const (
	// PostgreSQL from version 12 on. The database's encoding must be UTF8.
	PostgreSQL Dialect = "postgresql"
	// MySQL from 5.7 on and MariaDB from 10.3 on.
	MySQL Dialect = "mysql"
	// SQLite from 3.24 on. Let the driver wait for other writers (busy_timeout).
	SQLite Dialect = "sqlite"
)

// Options tune a store. The zero Options are ready to use.
type Options struct {
	// Prefix begins the names of tables and indexes; empty means "rollingupgrade_". Lower-case letters, digits
	// and underscores, at most 32.
	Prefix string
	// Timeout is how long a query or a transaction may take, so that a connection whose other end has gone silent does
	// not hold a Runner up; zero means 30 s. Keep it well under the lease.
	Timeout time.Duration
	// Rescan is how often a [ListeningStore] looks whether a notification was lost; zero means 30 s.
	Rescan time.Duration
}

// Store is a [rollingupgrade.Store] and a [rollingupgrade.Pruner] in a database. Its methods are safe for concurrent use, and so are any
// number of stores in any number of processes on the same tables.
type Store struct {
	db      *sql.DB
	dialect Dialect
	prefix  string
	timeout time.Duration
	rescan  time.Duration
	turn    chan struct{} // SQLite: one writer of this store at a time
	origin  string        // names this store in notifications
	channel string        // where saves are announced; empty if they are not
}

var (
	_ rollingupgrade.Store    = (*Store)(nil)
	_ rollingupgrade.Store    = (*ListeningStore)(nil)
	_ rollingupgrade.Notifier = (*ListeningStore)(nil)
	_ rollingupgrade.Pruner   = (*Store)(nil)
	_ rollingupgrade.Pruner   = (*ListeningStore)(nil)
)

var goodPrefix = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,31}$`)

// New returns a store on db, which stays the caller's to tune and to close. It does not touch the database: call [Store.Migrate]
// before the first use. It returns rollingupgrade.ErrInvalid for an unknown dialect or a prefix that is not acceptable.
func New(db *sql.DB, d Dialect, o Options) (*Store, error) {
	var errs []error
	check := func(ok bool, field, problem string) {
		if !ok {
			errs = append(errs, &rollingupgrade.FieldError{Field: field, Problem: problem})
		}
	}
	if o.Prefix == "" {
		o.Prefix = "rollingupgrade_"
	}
	if o.Rescan == 0 {
		o.Rescan = 30 * time.Second
	}
	check(db != nil, "db", "must not be nil")
	check(d == PostgreSQL || d == MySQL || d == SQLite, "Dialect", fmt.Sprintf("unknown dialect %q", string(d)))
	check(goodPrefix.MatchString(o.Prefix), "Options.Prefix", "must be lower-case letters, digits and underscores, at most 32, and not begin with a digit")
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	check(o.Timeout > 0, "Options.Timeout", "must not be negative")
	check(o.Rescan > 0, "Options.Rescan", "must not be negative")
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	s := &Store{db: db, dialect: d, prefix: o.Prefix, timeout: o.Timeout, rescan: o.Rescan, origin: rand.Text()}
	if d == SQLite {
		s.turn = make(chan struct{}, 1)
	}
	return s, nil
}

// limited is ctx with the limit of one query or transaction.
func (s *Store) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, s.timeout, ErrTimeout)
}

// late says so in an error that came when the limit had passed.
func late(ctx context.Context, err error) error {
	if err == nil || context.Cause(ctx) != ErrTimeout || errors.Is(err, ErrTimeout) { //nolint:errorlint // it is set as it is
		return err
	}
	return fmt.Errorf("%w: %w", ErrTimeout, err)
}

// Create implements [rollingupgrade.Store].
func (s *Store) Create(ctx context.Context, c rollingupgrade.Creation) error {
	w, err := encodeCreation(c)
	if err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	if err := s.write(ctx, w); err != nil {
		return fmt.Errorf("create task %s: %w", record.Clip(c.Task.ID), err)
	}
	return nil
}

// Save implements [rollingupgrade.Store].
func (s *Store) Save(ctx context.Context, c rollingupgrade.Change) error {
	e, err := encodeChange(c)
	if err != nil {
		return fmt.Errorf("save task: %w", err)
	}
	if err := s.write(ctx, &write{saves: e}); err != nil {
		return fmt.Errorf("save task %s: %w", record.Clip(c.Head.ID), err)
	}
	return nil
}

// Delete implements [rollingupgrade.Pruner].
func (s *Store) Delete(ctx context.Context, taskID string, version int64) error {
	if err := s.write(ctx, &write{deletes: &deletion{taskID, version}}); err != nil {
		return fmt.Errorf("delete task %s: %w", record.Clip(taskID), err)
	}
	return nil
}
