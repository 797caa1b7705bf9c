package sqlstore

import (
	"context"
	"errors"
	"strings"
)

// saveAtOnce saves in one statement, which is a transaction by itself: it takes one round trip, however much it writes, and there is no
// moment at which a client that stands still keeps others from the task. Only PostgreSQL has statements that change several tables.
func (s *Store) saveAtOnce(ctx context.Context, c *change) error {
	if len(key(c.id)) > maxKey {
		return errNoFit // and so not there
	}
	query, args := s.saveSQL(c)
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it only goes back to the pool
	if err := ctx.Err(); err != nil {
		return err
	}
	saved := 0
	var refused error
	err = patiently(ctx, func(ctx context.Context) error {
		err := conn.QueryRowContext(ctx, query, args...).Scan(&saved)
		if notDone(err) {
			refused, err = err, nil
		}
		return err
	})
	switch {
	case err != nil:
		drop(conn)
		return err
	case refused != nil:
		return refused
	case saved != 1:
		return errNoFit
	}
	return nil
}

// notDone reports whether an error says that a statement was not carried out: the server gives a reason, with an SQLSTATE as all drivers
// show it that are in use. driver.ErrBadConn does not say so: there are drivers that return it when the answer did not come.
func notDone(err error) bool {
	var state interface{ SQLState() string }
	return errors.As(err, &state) && state.SQLState() != ""
}

// saveSQL is the statement of a save. It counts the tasks that it has changed. There are only few different ones, for drivers that keep
// prepared statements: rows, events and outputs come as arrays, written as text because drivers differ in how they take them.
func (s *Store) saveSQL(c *change) (query string, args []any) {
	query, args = c.updateSQL()
	query = "WITH saved AS (" + query + " RETURNING id"
	if s.channel != "" {
		query += ", pg_notify(?, ?)"
		args = append(args, s.channel, s.origin+" "+key(c.id))
	}
	query += ")"
	for _, p := range c.portions() {
		if len(p.pairs) == 0 {
			continue
		}
		column := "part.key"
		if p.table == "events" {
			column = "CAST(part.key AS bigint)"
		}
		query += ", " + p.table + " AS (INSERT INTO {p}" + p.table + " (task_id, " + p.column + ", record) SELECT saved.id, " + column +
			", part.record FROM saved, unnest(CAST(CAST(? AS text) AS text[]), CAST(CAST(? AS text) AS text[])) AS part(key, record)"
		if p.table != "events" { // which are never written twice
			query += " ON CONFLICT (task_id, " + p.column + ") DO UPDATE SET record = excluded.record"
		}
		query += ")"
		keys, records := arrays(p.pairs)
		args = append(args, keys, records)
	}
	return s.sql(query + " SELECT count(*) FROM saved"), args
}

// arrays writes keys and records as PostgreSQL reads arrays of text.
func arrays(pairs []pair) (keys, records string) {
	var k, r strings.Builder
	for n, p := range pairs {
		sep := byte(',')
		if n == 0 {
			sep = '{'
		}
		k.WriteByte(sep)
		r.WriteByte(sep)
		quote(&k, p.text())
		quote(&r, p.record)
	}
	k.WriteByte('}')
	r.WriteByte('}')
	return k.String(), r.String()
}

// quote writes an element of an array.
func quote(b *strings.Builder, s string) {
	b.Grow(len(s) + len(s)/4)
	b.WriteByte('"')
	for {
		n := strings.IndexAny(s, `"\`)
		if n < 0 {
			break
		}
		b.WriteString(s[:n])
		b.WriteByte('\\')
		b.WriteByte(s[n])
		s = s[n+1:]
	}
	b.WriteString(s)
	b.WriteByte('"')
}
