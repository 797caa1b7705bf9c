package sqltest_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/rollingupgrade/rollingupgrade/internal/killtest"
	"github.com/rollingupgrade/rollingupgrade/store/sqlstore"
)

func TestMain(m *testing.M) {
	if killtest.Child(openKilled) {
		return
	}
	for _, name := range []string{"ROLLINGUPGRADE_TEST_POSTGRES", "ROLLINGUPGRADE_TEST_MYSQL"} {
		if os.Getenv(name) == "" {
			fmt.Fprintf(os.Stderr, "\n*** %s is not set: the tests against that server are SKIPPED (see doc.go) ***\n\n", name)
		}
	}
	_ = mysql.SetLogger(log.New(io.Discard, "", 0)) // the tests cut its connections on purpose
	os.Exit(m.Run())
}

// server returns the address of a server, and skips the test if there is none; in CI it fails.
func server(t testing.TB, name string) string {
	t.Helper()
	dsn := os.Getenv(name)
	if dsn == "" {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not set", name)
		}
		t.Skipf("%s is not set", name)
	}
	return dsn
}

// A database is one kind of database, as the tests use it.
type database struct {
	name    string
	dialect sqlstore.Dialect
	driver  string
	// address returns what sql.Open takes. Those that are files get a new one for each call.
	address func(t testing.TB) string
}

var databases = []database{
	{"SQLite", sqlstore.SQLite, "sqlite", func(t testing.TB) string {
		return "file:" + filepath.Join(t.TempDir(), "tasks.db") + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)"
	}},
	{"PostgreSQL", sqlstore.PostgreSQL, "pgx", func(t testing.TB) string { return server(t, "ROLLINGUPGRADE_TEST_POSTGRES") }},
	{"MySQL", sqlstore.MySQL, "mysql", func(t testing.TB) string { return server(t, "ROLLINGUPGRADE_TEST_MYSQL") }},
}

// eachDatabase runs f as a subtest for each.
func eachDatabase(t *testing.T, f func(t *testing.T, d database)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) { f(t, d) })
	}
}

// open opens a pool that is closed with the test.
func (d database) open(t testing.TB, address string) *sql.DB {
	t.Helper()
	db, err := sql.Open(d.driver, address)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(20)
	db.SetMaxIdleConns(20)
	t.Cleanup(func() { db.Close() })
	return db
}

var prefixes atomic.Int64

// newPrefix returns a prefix that no other test uses.
func newPrefix() string {
	return fmt.Sprintf("t%d_%d_", os.Getpid(), prefixes.Add(1))
}

// tables migrates tables of an own prefix, which go away with the test.
func (d database) tables(t testing.TB, db *sql.DB) sqlstore.Options {
	t.Helper()
	o := sqlstore.Options{Prefix: newPrefix()}
	d.cleanUp(t, db, o.Prefix)
	if err := d.store(t, db, o).Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return o
}

func (d database) cleanUp(t testing.TB, db *sql.DB, prefix string) {
	t.Cleanup(func() {
		if d.dialect == sqlstore.SQLite {
			return
		}
		for _, table := range []string{"tasks", "instances", "events", "outputs", "migrations"} {
			if _, err := db.Exec("DROP TABLE IF EXISTS " + prefix + table); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	})
}

func (d database) store(t testing.TB, db *sql.DB, o sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(db, d.dialect, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listen returns what makes a store a Notifier: the function of the package's documentation.
func listen(dsn string) sqlstore.Listen {
	return func(ctx context.Context, channel string, told func(payload string)) error {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return err
		}
		told("")
		for {
			n, err := conn.WaitForNotification(ctx)
			if err != nil {
				return err
			}
			told(n.Payload)
		}
	}
}

// through returns the address with another host and port.
func (d database) through(t testing.TB, address, hostPort string) string {
	t.Helper()
	switch d.dialect {
	case sqlstore.PostgreSQL:
		cfg, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", cfg.User, hostPort, cfg.Database)
	case sqlstore.MySQL:
		cfg, err := mysql.ParseDSN(address)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Addr = hostPort
		return cfg.FormatDSN()
	}
	t.Fatalf("%s has no server", d.name)
	return ""
}

// hostPort returns where the server of an address is.
func (d database) hostPort(t testing.TB, address string) string {
	t.Helper()
	if d.dialect == sqlstore.PostgreSQL {
		cfg, err := pgx.ParseConfig(address)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s:%d", cfg.Host, cfg.Port)
	}
	cfg, err := mysql.ParseDSN(address)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Addr
}

const patience = 20 * time.Second
