package sqltest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/sqlstore"
)

// Many processes that migrate at once, and again and again, end with one form of the tables and lose nothing.
func TestMigrate(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		ctx := t.Context()
		address := d.address(t)
		o := sqlstore.Options{Prefix: newPrefix()}
		first := d.open(t, address)
		d.cleanUp(t, first, o.Prefix)
		for round := range 2 {
			var all sync.WaitGroup
			for range 6 {
				s := d.store(t, d.open(t, address), o)
				all.Go(func() {
					if err := s.Migrate(ctx); err != nil {
						t.Errorf("round %d: %v", round, err)
					}
				})
			}
			all.Wait()
			s := d.store(t, first, o)
			if round == 0 {
				if err := s.Create(ctx, newTask("task-1", 3)); err != nil {
					t.Fatal(err)
				}
			}
			if v, err := whole(ctx, s, "task-1"); err != nil || v != 1 {
				t.Errorf("round %d: version %d, %v", round, v, err)
			}
		}
		var n, last int
		if err := first.QueryRow("SELECT COUNT(*), MAX(number) FROM "+o.Prefix+"migrations").Scan(&n, &last); err != nil || n != last {
			t.Errorf("%d migrations, the last one %d, %v", n, last, err)
		}
		if _, err := first.Exec("INSERT INTO " + o.Prefix + "migrations (number, name, migrated_at) VALUES (1000, 'later', 'later')"); err != nil {
			t.Fatal(err)
		}
		if err := d.store(t, first, o).Migrate(ctx); !errors.Is(err, sqlstore.ErrNewerDatabase) {
			t.Errorf("Migrate of newer tables: %v", err)
		}
	})
}

// A migration that is interrupted, after each of its statements, is carried out by the next one.
func TestMigrateInterrupted(t *testing.T) {
	d := databases[2] // the others have it in one transaction
	ctx := t.Context()
	db := d.open(t, d.address(t))
	for _, lost := range [][]string{{"migrations", "instances", "events", "outputs"}, {"migrations", "events", "outputs"}, {"migrations", "outputs"}, {"migrations"}} {
		o := d.tables(t, db)
		for _, table := range lost {
			if _, err := db.Exec("DROP TABLE " + o.Prefix + table); err != nil {
				t.Fatal(err)
			}
		}
		s := d.store(t, db, o)
		if err := errors.Join(s.Migrate(ctx), s.Create(ctx, newTask("task-1", 3))); err != nil {
			t.Errorf("without %v: %v", lost, err)
		}
	}
}

// Tables of the first form get the column that they lack. Tasks that were there, and those that an older process still writes, are found by their
// kind as the others are.
func TestMigrateOlderTables(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		ctx := t.Context()
		db := d.open(t, d.address(t))
		o := d.tables(t, db)
		s := d.store(t, db, o)
		create := func(id string, kind ru.TaskKind) {
			t.Helper()
			c := newTask(id, 1)
			c.Task.Kind = kind
			if err := s.Create(ctx, c); err != nil {
				t.Fatal(err)
			}
		}
		sql := func(query string) {
			t.Helper()
			if _, err := db.Exec(strings.ReplaceAll(query, "{p}", o.Prefix)); err != nil {
				t.Fatal(err)
			}
		}
		create("task-1", ru.Upgrade)
		create("task-2", ru.Rollback)
		sql("ALTER TABLE {p}tasks DROP COLUMN kind")
		sql("DELETE FROM {p}migrations WHERE number = 2")
		if err := s.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		create("task-3", ru.Upgrade)
		create("task-4", ru.Rollback)
		create("task-5", ru.Rollback)
		sql("UPDATE {p}tasks SET kind = '' WHERE id = 'task-5'")
		if err := s.Save(ctx, next("task-1", 1, 2)); err != nil {
			t.Fatal(err)
		}
		for kind, want := range map[ru.TaskKind][]string{ru.Upgrade: {"task-3", "task-1"}, ru.Rollback: {"task-5", "task-4", "task-2"}, "other": nil} {
			var got []string
			for h, err := range s.List(ctx, ru.Filter{Kind: kind}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, h.ID)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s tasks (-want +got):\n%s", kind, diff)
			}
		}
	})
}

// Without Migrate the error names the table, and is none of the store's answers.
func TestNotMigrated(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		s := d.store(t, d.open(t, d.address(t)), sqlstore.Options{Prefix: "nowhere_"})
		_, load := s.Load(t.Context(), "task-1")
		for _, err := range []error{load, s.Create(t.Context(), newTask("task-1", 1)), s.Save(t.Context(), next("task-1", 1, 2))} {
			if err == nil || errors.Is(err, ru.ErrTaskNotFound) || !strings.Contains(err.Error(), "nowhere_") {
				t.Errorf("error %v", err)
			}
		}
	})
}

// Two prefixes in one database are two stores.
func TestPrefixesAreApart(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		ctx := t.Context()
		db := d.open(t, d.address(t))
		a, b := d.store(t, db, d.tables(t, db)), d.store(t, db, d.tables(t, db))
		if err := errors.Join(a.Create(ctx, newTask("task-1", 1)), b.Create(ctx, newTask("task-1", 1)), b.Save(ctx, next("task-1", 1, 2))); err != nil {
			t.Fatal(err)
		}
		if v, err := whole(ctx, a, "task-1"); err != nil || v != 1 {
			t.Errorf("version %d, %v", v, err)
		}
	})
}

// The database itself refuses a second holder of a group, whoever writes it.
func TestS6_OneHolderIsAConstraint(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		ctx := t.Context()
		db := d.open(t, d.address(t))
		o := d.tables(t, db)
		s := d.store(t, db, o)
		if err := errors.Join(s.Create(ctx, newTask("task-1", 1)), s.Create(ctx, newTask("task-2", 1))); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("UPDATE " + o.Prefix + "tasks SET held_group = 'group of task-1' WHERE id = 'task-2'"); err == nil {
			t.Error("a second holder was accepted")
		}
		if _, err := db.Exec("UPDATE " + o.Prefix + "tasks SET held_group = NULL"); err != nil {
			t.Errorf("two tasks that hold nothing: %v", err)
		}
	})
}

// A record that was changed by hand and cannot be read is an error that says so.
func TestDamagedRecord(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		ctx := t.Context()
		db := d.open(t, d.address(t))
		o := d.tables(t, db)
		s := d.store(t, db, o)
		for _, table := range []string{"instances", "events", "tasks"} {
			id := "task of " + table
			if err := s.Create(ctx, newTask(id, 1)); err != nil {
				t.Fatal(err)
			}
			if _, err := db.Exec(fmt.Sprintf("UPDATE %s%s SET record = '{\"seq\": \"x' WHERE %s = '%s'", o.Prefix, table, map[bool]string{true: "id", false: "task_id"}[table == "tasks"], id)); err != nil {
				t.Fatal(err)
			}
			if _, err := whole(ctx, s, id); !errors.Is(err, sqlstore.ErrDamaged) || !strings.Contains(err.Error(), id) {
				t.Errorf("%s: %v", table, err)
			}
		}
	})
}

// A record of a newer version, in a form that this one cannot read, is refused as such and does not hide the others.
func TestNewerSchema(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		ctx := t.Context()
		db := d.open(t, d.address(t))
		o := d.tables(t, db)
		s := d.store(t, db, o)
		if err := errors.Join(s.Create(ctx, newTask("newer", 1)), s.Create(ctx, newTask("known", 1))); err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{
			`UPDATE {p}tasks SET record = '{"schema": 99, "id": "newer", "group_id": "g", "version": 1, "status": "dreaming", "spec": "a word", "sizes": {"a": 1}}' WHERE id = 'newer'`,
			`UPDATE {p}instances SET record = '{"id": ["i", 1]}' WHERE task_id = 'newer'`,
			`UPDATE {p}events SET record = '{"seq": "one"}' WHERE task_id = 'newer'`,
		} {
			if _, err := db.Exec(strings.ReplaceAll(q, "{p}", o.Prefix)); err != nil {
				t.Fatal(err)
			}
		}
		if h, err := s.Head(ctx, "newer"); err != nil || h.Schema != 99 || h.Status != "dreaming" {
			t.Errorf("Head: %+v, %v", h, err)
		}
		if _, err := s.Load(ctx, "newer"); !errors.Is(err, ru.ErrNewerSchema) {
			t.Errorf("Load: %v", err)
		}
		if err := failed(s.Events(ctx, "newer", 0)); !errors.Is(err, ru.ErrNewerSchema) {
			t.Errorf("Events: %v", err)
		}
		n := 0
		for _, err := range s.List(ctx, ru.Filter{}) {
			if n++; err != nil {
				t.Errorf("List: %v", err)
			}
		}
		if n != 2 {
			t.Errorf("List yields %d tasks of 2", n)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	db := databases[0].open(t, databases[0].address(t))
	for _, c := range []struct {
		name  string
		db    *sql.DB
		d     sqlstore.Dialect
		o     sqlstore.Options
		field string
	}{
		{"no database", nil, sqlstore.SQLite, sqlstore.Options{}, "db"},
		{"no dialect", db, "", sqlstore.Options{}, "Dialect"},
		{"unknown dialect", db, "oracle", sqlstore.Options{}, "Dialect"},
		{"prefix with quote", db, sqlstore.SQLite, sqlstore.Options{Prefix: `a";--`}, "Options.Prefix"},
		{"prefix in capitals", db, sqlstore.SQLite, sqlstore.Options{Prefix: "Tasks"}, "Options.Prefix"},
		{"long prefix", db, sqlstore.SQLite, sqlstore.Options{Prefix: strings.Repeat("a", 33)}, "Options.Prefix"},
		{"negative timeout", db, sqlstore.SQLite, sqlstore.Options{Timeout: -1}, "Options.Timeout"},
		{"negative rescan", db, sqlstore.SQLite, sqlstore.Options{Rescan: -1}, "Options.Rescan"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := sqlstore.New(c.db, c.d, c.o)
			var field *ru.FieldError
			if s != nil || !errors.As(err, &field) || field.Field != c.field || !errors.Is(err, ru.ErrInvalid) {
				t.Errorf("New returned %v, %v; want an error about %s", s, err, c.field)
			}
		})
	}
	if s, err := sqlstore.NewListening(db, nil, sqlstore.Options{}); s != nil || !errors.Is(err, ru.ErrInvalid) {
		t.Errorf("NewListening without a function: %v, %v", s, err)
	}
}

// A canceled migration leaves nothing that disturbs the next one.
func TestMigrateCanceled(t *testing.T) {
	eachDatabase(t, func(t *testing.T, d database) {
		db := d.open(t, d.address(t))
		o := sqlstore.Options{Prefix: newPrefix()}
		d.cleanUp(t, db, o.Prefix)
		s := d.store(t, db, o)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Migrate(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Migrate with a canceled context: %v", err)
		}
		if err := s.Migrate(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
