package killtest_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/internal/killtest"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

var flags = killtest.RegisterFlags()

func openBolt(_ context.Context, address string) (ru.Store, func() error, error) {
	s, err := boltstore.Open(address, boltstore.Options{Timeout: 10 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	return s, s.Close, nil
}

func TestMain(m *testing.M) {
	if killtest.Child(openBolt) {
		return
	}
	os.Exit(m.Run())
}

func boltConfig(t *testing.T) killtest.Config {
	t.Helper()
	if !killtest.Supported {
		t.Skip("processes cannot be frozen here")
	}
	cfg := killtest.Config{
		Name: "boltstore", Open: openBolt, Processes: 1, Tasks: 40, Dir: t.TempDir(), Every: 2 * time.Second, Out: os.Stderr,
		Address: func(_ context.Context, dir string) (string, error) { return filepath.Join(dir, "tasks.db"), nil },
	}
	if err := flags.Apply(&cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// One process on a file, started again whenever it has died, loses nothing and doubles nothing.
func TestKilled(t *testing.T) {
	r, err := killtest.Run(t.Context(), boltConfig(t))
	flags.Hold(t, r, err)
}

// A process that is asked to end leaves its tasks to the next one.
func TestRollingRestart(t *testing.T) {
	r, err := killtest.Rolling(t.Context(), boltConfig(t))
	flags.Hold(t, r, err)
}
