// Command bench measures what the library adds to the time that the cloud takes, and what it costs: see docs/performance.md.
//
//	go run ./internal/bench
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
	"slices"
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
	seed := f.Uint64("seed", uint64(time.Now().UnixNano()), "draws the durations")
	only := f.String("only", "", "run this `case` only")
	asJSON := f.Bool("json", false, "print an array of objects")
	byAction := f.Bool("actions", false, "print the calls of each action")
	most := f.Int("n", 10000, "leave larger cases out")
	if err := f.Parse(args); err != nil {
		return err
	}
	var rows []row
	if !*asJSON {
		fmt.Fprintf(out, "seed %d\n%-24s %10s %10s %6s %6s %6s %7s %10s %6s %9s\n", *seed,
			"case", "makespan s", "bound s", "ratio", "calls", "out", "saves", "bytes", "cpu us", "heap")
	}
	for _, s := range scenarios() {
		if *only != "" && s.name() != *only || s.N > *most {
			continue
		}
		r, err := measure(t, s, *seed)
		if err != nil {
			return err
		}
		rows = append(rows, r)
		if !*asJSON {
			fmt.Fprintf(out, "%-24s %10.1f %10.1f %6.3f %6.2f %6.3f %7d %10d %6.0f %9d\n",
				r.Case, r.Makespan, r.Bound, r.Ratio, r.Calls, r.OutOfService, r.Saves, r.Bytes, r.CPU, r.Heap)
			if *byAction {
				for _, a := range slices.Sorted(maps.Keys(r.actions)) {
					fmt.Fprintf(out, "    %-32s %6d\n", a, r.actions[a])
				}
			}
		}
	}
	if len(rows) == 0 {
		return fmt.Errorf("no case %q", *only)
	}
	if *asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(rows)
	}
	return nil
}

// measure plays a scenario in simulated time.
func measure(t *testing.T, s scenario, seed uint64) (r row, err error) {
	synctest.Test(t, func(t *testing.T) { r, err = play(t.Context(), s, seed) })
	return r, err
}
