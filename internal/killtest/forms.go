package killtest

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// Flags are those of the tests that use the rig.
type Flags struct {
	Form, Dir string
	Seed      uint64
	Every     time.Duration
}

// RegisterFlags defines the flags.
func RegisterFlags() *Flags {
	f := &Flags{}
	flag.StringVar(&f.Form, "kill", "tiny", "`form` of the kill tests: tiny (8 tasks), short (50 tasks), long (50 tasks again and again: at least 200 kills, 50 freezes and a kill during each kind of operation)")
	flag.Uint64Var(&f.Seed, "kill.seed", uint64(time.Now().UnixNano()%1e9), "draws the tasks, and when processes are killed and frozen")
	flag.StringVar(&f.Dir, "kill.dir", "", "`folder` in which journals and logs of a round stay in which something does not hold")
	flag.DurationVar(&f.Every, "kill.every", 0, "time between two strokes on the average")
	return f
}

// Apply sets what the flags say. It returns an error for an unknown form.
func (f *Flags) Apply(cfg *Config) error {
	cfg.Seed = f.Seed
	if f.Dir != "" {
		cfg.Dir = f.Dir
	}
	switch f.Form {
	case "tiny":
		cfg.Groups = 8
		cfg.Every *= 2
	case "short":
	case "long":
		cfg.Kills, cfg.Freezes, cfg.AllKinds = 200, 50, true
	default:
		return fmt.Errorf("no form %q", f.Form)
	}
	if f.Every > 0 {
		cfg.Every = f.Every
	}
	return nil
}

// Hold prints a report and fails the test if something does not hold.
func (f *Flags) Hold(t interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
}, r *Report, err error,
) {
	t.Helper()
	fmt.Fprintln(os.Stderr)
	r.Print(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Violations) > 0 {
		t.Errorf("%d violations; -kill=%s -kill.seed=%d", len(r.Violations), f.Form, r.Seed)
	}
}
