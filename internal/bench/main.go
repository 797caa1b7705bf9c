// Command bench measures what the library adds to the time that the cloud takes, and what it costs: see docs/performance.md.
//
//	go run ./internal/bench
//	go run ./internal/bench -n 10000
//	go run ./internal/bench -only image-heavy-1000x10 -seed 7
//	go run ./internal/bench -json
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func main() {
	// Simulated time is for tests, so that the program is one; package testing sees none of its flags.
	args := os.Args[1:]
	os.Args = os.Args[:1]
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "bench", F: func(t *testing.T) {
		if err := run(t, args, os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		os.Exit(0) // before package testing prints anything
	}}}, nil, nil)
}

func run(t *testing.T, args []string, out io.Writer) error {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := options{}
	f.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "draws the durations")
	f.StringVar(&o.only, "only", "", "run this `case` only")
	f.BoolVar(&o.json, "json", false, "print an array of objects")
	f.BoolVar(&o.byAction, "actions", false, "print the calls of each action")
	f.IntVar(&o.most, "n", 1000, "leave cases with more instances out, unless one is named by -only; those with 10000 take minutes")
	if err := f.Parse(args); err != nil {
		return err
	}
	rows, err := measureAll(t, o)
	if err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	fmt.Fprintf(out, "seed %d\n%-24s %10s %10s %6s %6s %6s %7s %10s %6s %9s\n", o.seed,
		"case", "makespan s", "bound s", "ratio", "calls", "out", "saves", "bytes", "cpu us", "heap")
	for _, r := range rows {
		fmt.Fprintf(out, "%-24s %10.1f %10.1f %6.3f %6.2f %6.3f %7d %10d %6.0f %9d\n",
			r.Case, r.Makespan, r.Bound, r.Ratio, r.Calls, r.OutOfService, r.Saves, r.Bytes, r.CPU, r.Heap)
		if o.byAction {
			for _, a := range slices.Sorted(maps.Keys(r.actions)) {
				fmt.Fprintf(out, "    %-32s %6d\n", a, r.actions[a])
			}
		}
	}
	return nil
}

type options struct {
	seed           uint64
	only           string
	json, byAction bool
	most           int
}

// wants reports whether a scenario is asked for.
func (o options) wants(s scenario) bool {
	if o.only != "" {
		return s.name() == o.only
	}
	return s.N <= o.most
}

// measureAll plays the scenarios in simulated time, on all processors, and then measures what they cost one by one.
func measureAll(t *testing.T, o options) ([]row, error) {
	all := slices.DeleteFunc(scenarios(), func(s scenario) bool { return !o.wants(s) })
	if len(all) == 0 {
		return nil, fmt.Errorf("no case %q", o.only)
	}
	rows, errs := make([]row, len(all)), make([]error, len(all))
	var played atomic.Int32
	tell := func(what string) {
		if len(all) > 1 {
			fmt.Fprintf(os.Stderr, "\r%s %d of %d ", what, played.Add(1), len(all))
		}
	}
	memory := debug.SetGCPercent(1000) // the stand-in makes much garbage, and nobody measures it here
	t.Run("play", func(t *testing.T) {
		for n, s := range slices.Backward(all) { // the large ones first
			t.Run(s.name(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { rows[n], errs[n] = play(t.Context(), s, o.seed) })
				tell("played")
			})
		}
	})
	debug.SetGCPercent(memory)
	played.Store(0)
	for n, s := range all {
		if errs[n] == nil {
			synctest.Test(t, func(t *testing.T) { errs[n] = rows[n].cost(t.Context(), s, o.seed) })
		}
		tell("measured")
	}
	if len(all) > 1 {
		fmt.Fprint(os.Stderr, "\r                         \r")
	}
	return rows, errors.Join(errs...)
}
