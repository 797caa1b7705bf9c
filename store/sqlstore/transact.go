package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strconv"
	"time"
)

// undoLimit is how long a ROLLBACK or a COMMIT may take whose caller's context is done; after that the connection is dropped.
const undoLimit = 2 * time.Second

// transact runs f in a transaction on a connection of its own. The statements that frame it are sent as such, because
// then each has a context, the COMMIT too. An error that wraps ErrUnknownOutcome leaves open what
// happened; after any other one nothing is changed.
func (s *Store) transact(ctx context.Context, f func(*sql.Conn) error) error {
	if s.turn != nil {
		select {
		case s.turn <- struct{}{}:
			defer func() { <-s.turn }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it only goes back to the pool
	if err := s.begin(ctx, conn); err != nil {
		drop(conn)
		return err
	}
	if err := f(conn); err != nil {
		undo(ctx, conn)
		return err
	}
	if err := commit(ctx, conn); err != nil {
		undo(ctx, conn)
		return err
	}
	return nil
}

// commit sends the COMMIT.
func commit(ctx context.Context, conn *sql.Conn) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return patiently(ctx, func(ctx context.Context) error {
		_, err := conn.ExecContext(ctx, "COMMIT")
		return err
	})
}

// patiently runs what decides over a write. When ctx is done before the answer is there it waits for it a little longer, because as
// long as there is none nobody can say what happened: then the error wraps ErrUnknownOutcome.
func patiently(ctx context.Context, decide func(ctx context.Context) error) error {
	patient, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		defer cancel()
		_ = sleep(patient, undoLimit)
	})()
	err := decide(patient)
	if err == nil {
		return nil
	}
	if cause := ctx.Err(); cause != nil {
		err = fmt.Errorf("%w (%w)", cause, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

func (s *Store) begin(ctx context.Context, conn *sql.Conn) error {
	var begin []string
	switch s.dialect {
	case PostgreSQL:
		begin = []string{"BEGIN ISOLATION LEVEL READ COMMITTED"}
	case MySQL:
		begin = []string{"SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION"}
	default:
		begin = []string{"BEGIN IMMEDIATE"}
	}
	for _, b := range begin {
		if _, err := conn.ExecContext(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// lock makes the statement that locks the row of a task. From then on nobody else gets at it until the transaction has ended, so
// PostgreSQL is told to end it by itself if its client stands still for longer than a call may take: then that client is frozen,
// or its machine is gone and nobody has told the server. (MariaDB can do that for whole sessions only, and those are the user's.)
func (s *Store) lock(ctx context.Context, conn *sql.Conn, query string, args ...any) (sql.Result, error) {
	if s.dialect == PostgreSQL {
		query += " RETURNING set_config('idle_in_transaction_session_timeout', ?, true)"
		args = append(args, strconv.FormatInt(max(1, s.timeout.Milliseconds()), 10))
	}
	return conn.ExecContext(ctx, s.sql(query), args...)
}

// undo rolls back, or drops the connection, which does it too.
func undo(ctx context.Context, conn *sql.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if _, err := conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		drop(conn)
	}
}

// drop closes a connection that cannot be trusted any more.
func drop(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}
