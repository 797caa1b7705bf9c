package killtest_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/internal/killtest"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

var (
	long  = flag.Bool("kill.long", false, "at least 200 kills and 50 freezes, and a kill during each kind of operation; some minutes")
	every = flag.Duration("kill.every", 0, "time between two strokes, on the average")
	keep  = flag.String("kill.dir", "", "`folder` in which the journals and logs of a round stay in which something does not hold")
	seed  = flag.Uint64("kill.seed", uint64(time.Now().UnixNano()%1e9), "decides when processes are killed and frozen")
)

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

// One process on boltstore, restarted whenever it has died.
func TestKilledOnBolt(t *testing.T) {
	cfg := killtest.Config{
		Name: "boltstore", Open: openBolt, Processes: 1, Seed: *seed, Dir: t.TempDir(), Every: 1500 * time.Millisecond, Out: os.Stderr,
		Address: func(_ context.Context, dir string) (string, error) { return filepath.Join(dir, "tasks.db"), nil },
	}
	if *keep != "" {
		cfg.Dir = *keep
	}
	if *every > 0 {
		cfg.Every = *every
	}
	if *long {
		cfg.Kills, cfg.Freezes, cfg.AllKinds = 200, 50, true
	}
	r, err := killtest.Run(t.Context(), cfg)
	fmt.Fprintln(os.Stderr)
	r.Print(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Violations) > 0 {
		t.Errorf("%d violations; -kill.seed=%d", len(r.Violations), *seed)
	}
}
