package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The migrations of each dialect, in files named by number and purpose. One that was released is never changed. In MySQL, where no
// transaction holds them together, each statement must be one that can be repeated.
//
//go:embed migrations
var migrations embed.FS

// A migration is one step of the tables' form.
type migration struct {
	number     int
	name       string
	statements []string
}

func (s *Store) migrations() ([]migration, error) {
	dir := path.Join("migrations", string(s.dialect))
	files, err := fs.ReadDir(migrations, dir)
	if err != nil {
		return nil, err
	}
	var all []migration
	for _, f := range files {
		b, err := fs.ReadFile(migrations, path.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(f.Name(), "_")
		m := migration{name: f.Name()}
		if m.number, err = strconv.Atoi(number); err != nil {
			return nil, err
		}
		for _, statement := range strings.Split(string(b), ";\n") {
			if statement = strings.TrimSpace(statement); statement != "" {
				m.statements = append(m.statements, strings.ReplaceAll(statement, "{p}", s.prefix))
			}
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b migration) int { return a.number - b.number })
	return all, nil
}

// Migrate makes the tables or brings them to the form that this version uses. It may be called at any time, by any number of
// processes at once, and does nothing where nothing is to be done. Tables that a newer
// version migrated are refused with ErrNewerDatabase.
func (s *Store) Migrate(ctx context.Context) error {
	all, err := s.migrations()
	if err == nil {
		if s.dialect == MySQL {
			err = s.locked(ctx, func(conn *sql.Conn) error { return s.migrate(ctx, conn, all) })
		} else {
			err = s.transact(ctx, func(conn *sql.Conn) error {
				if s.dialect == PostgreSQL {
					if err := s.alone(ctx, conn); err != nil {
						return err
					}
				}
				return s.migrate(ctx, conn, all)
			})
		}
	}
	if err != nil {
		return fmt.Errorf("migrate tables %s*: %w", s.prefix, err)
	}
	return nil
}

// alone keeps other migrations of the same tables out until the transaction ends.
func (s *Store) alone(ctx context.Context, conn *sql.Conn) error {
	var encoding string
	if err := conn.QueryRowContext(ctx, "SHOW server_encoding").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the encoding of the database is %s; it must be UTF8", encoding)
	}
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_xact_lock($1)", int64(s.hash()))
	return err
}

func (s *Store) hash() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("rollingupgrade " + s.prefix))
	return h.Sum64()
}

// lockLimit is how long a migration waits for another one, in seconds.
const lockLimit = 120

// locked calls f while it has a named lock of MySQL's, whose transactions do not hold changes of tables together.
func (s *Store) locked(ctx context.Context, f func(*sql.Conn) error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it only goes back to the pool
	var name string
	if err := conn.QueryRowContext(ctx, "SELECT SHA1(CONCAT(COALESCE(DATABASE(), ''), ?))", fmt.Sprintf(" %x", s.hash())).Scan(&name); err != nil {
		return err
	}
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, ?)", name, lockLimit).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return fmt.Errorf("another migration has been at work for %d s", lockLimit)
	}
	err = f(conn)
	unlock, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
	defer cancel()
	if _, uerr := conn.ExecContext(unlock, "DO RELEASE_LOCK(?)", name); uerr != nil {
		drop(conn) // the lock goes with the connection
	}
	return err
}

// migrate takes the steps that have not been taken.
func (s *Store) migrate(ctx context.Context, conn *sql.Conn, all []migration) error {
	text := "text"
	if s.dialect == MySQL {
		text = "varchar(255)"
	}
	_, err := conn.ExecContext(ctx, s.sql("CREATE TABLE IF NOT EXISTS {p}migrations (number integer NOT NULL PRIMARY KEY, name "+text+" NOT NULL, migrated_at "+text+" NOT NULL)"))
	if err != nil {
		return err
	}
	var last int
	if err := conn.QueryRowContext(ctx, s.sql("SELECT COALESCE(MAX(number), 0) FROM {p}migrations")).Scan(&last); err != nil {
		return err
	}
	if known := all[len(all)-1].number; last > known {
		return fmt.Errorf("%w: they have form %d, this version knows %d", ErrNewerDatabase, last, known)
	}
	for _, m := range all {
		if m.number <= last {
			continue
		}
		for _, statement := range m.statements {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
		}
		if _, err := conn.ExecContext(ctx, s.sql("INSERT INTO {p}migrations (number, name, migrated_at) VALUES (?, ?, ?)"),
			m.number, m.name, time.Now().UTC().Format(time.RFC3339)); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}
