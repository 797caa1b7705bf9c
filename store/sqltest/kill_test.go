package sqltest_test

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/internal/killtest"
	"github.com/rollingupgrade/rollingupgrade/store/sqlstore"
)

var killFlags = killtest.RegisterFlags()

// openKilled opens the store of an address with the prefix of its tables in front.
func openKilled(_ context.Context, address string) (ru.Store, func() error, error) {
	prefix, dsn, _ := strings.Cut(address, " ")
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(10)
	s, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Options{Prefix: prefix, Timeout: 2 * time.Second})
	return s, db.Close, err
}

// killConfig is for three processes on tables of their own for each round.
func killConfig(t *testing.T) killtest.Config {
	t.Helper()
	if !killtest.Supported {
		t.Skip("processes cannot be frozen here")
	}
	d := databases[1]
	address := d.address(t)
	db := d.open(t, address)
	cfg := killtest.Config{
		Name: "PostgreSQL", Open: openKilled, Processes: 3, Dir: t.TempDir(), Every: 1800 * time.Millisecond, Out: os.Stderr,
		Address: func(context.Context, string) (string, error) {
			return d.tables(t, db).Prefix + " " + address, nil
		},
	}
	if killFlags.Form == "long" {
		cfg.Every = 1200 * time.Millisecond
	}
	if err := killFlags.Apply(&cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// Three processes that are killed and frozen at random moments lose nothing and double nothing.
func TestKilled(t *testing.T) {
	r, err := killtest.Run(t.Context(), killConfig(t))
	killFlags.Hold(t, r, err)
}

// Processes that are asked to end hand their tasks on at once.
func TestRollingRestart(t *testing.T) {
	r, err := killtest.Rolling(t.Context(), killConfig(t))
	killFlags.Hold(t, r, err)
}
