package main

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A scenario is one row of the table: so many instances in so many batches.
type scenario struct {
	Kind    string // "image" or "script"
	N       int
	Batches int
	Latency string // "fixed" or "heavy"
}

func (s scenario) name() string { return fmt.Sprintf("%s-%s-%dx%d", s.Kind, s.Latency, s.N, s.Batches) }

// scenarios are all rows, the small ones first.
func scenarios() (all []scenario) {
	for _, n := range []int{10, 100, 1000, 10000} {
		for _, b := range []int{1, 5, 10, 20, 100} {
			if b > n {
				continue
			}
			for _, kind := range []string{"image", "script"} {
				for _, latency := range []string{"fixed", "heavy"} {
					all = append(all, scenario{kind, n, b, latency})
				}
			}
		}
	}
	return all
}

// What calls and steps take in the measured world, before the factor of a run.
var (
	latencies = fake.Latency{Read: 50 * time.Millisecond, Write: 200 * time.Millisecond, Standby: 3 * time.Second, Replace: 500 * time.Millisecond}
	steps     = fake.Steps{Stop: 30 * time.Second, Replace: 240 * time.Second, Start: 40 * time.Second, Script: 30 * time.Second}
)

// The service takes so many calls of an action in a minute.
const ratePerMinute = 2000

// durations are what was drawn for one instance.
type durations struct {
	stop, replace, start, script time.Duration
}

// draw draws the durations of n instances: a factor for each kind of step, and for heavy tails a lognormal one for each instance and step.
func draw(s scenario, seed uint64) []durations {
	h := fnv.New64a()
	fmt.Fprint(h, s.name())
	chance := rand.New(rand.NewPCG(seed, h.Sum64())) //nolint:gosec // not a secret
	factor := func() float64 { return 0.3 * math.Pow(10, chance.Float64()) }
	stop, replace, start, script := factor(), factor(), factor(), factor()
	own := func() float64 {
		if s.Latency == "fixed" {
			return 1
		}
		return math.Exp(math.Log(4) / 2.326 * chance.NormFloat64()) // the 99th percentile is four times the median
	}
	times := func(d time.Duration, f float64) time.Duration { return time.Duration(float64(d) * f * own()) }
	all := make([]durations, s.N)
	for i := range all {
		all[i] = durations{times(steps.Stop, stop), times(steps.Replace, replace), times(steps.Start, start), times(steps.Script, script)}
	}
	return all
}

// own is the least time that an instance takes by itself, from the call of EnterStandby to the answer of ExitStandby.
func (d durations) own(kind string) time.Duration {
	sum := 2 * latencies.Standby
	if kind == "script" {
		return sum + latencies.Write + d.script
	}
	return sum + latencies.Write + d.stop + latencies.Replace + d.replace + latencies.Write + d.start
}

// beforeReplace is the part of own that comes before the call of ReplaceSystemDisk.
func (d durations) beforeReplace() time.Duration { return latencies.Standby + latencies.Write + d.stop }

// bound is the least time that a task can take, from what was drawn, the parallelism and the rates alone: for each batch the largest of what its
// slowest instance takes by itself, its calls over their rate, and the time of its calls over the parallelism.
func bound(s scenario, all []durations, sizes []int, parallel int) time.Duration {
	return least(s, all, sizes, parallel, func([]durations) time.Duration { return 0 })
}

// reachable is a bound that also knows that an instance whose call has to wait for its rate takes its own time after that: of the calls that every
// instance needs for itself so many go in a minute, wherever that begins, and no order lets all who take long go first.
func reachable(s scenario, all []durations, sizes []int, parallel int) time.Duration {
	return least(s, all, sizes, parallel, func(batch []durations) (most time.Duration) {
		if s.Kind == "script" { // a call takes many
			return 0
		}
		begin := batch[0].beforeReplace()
		rest := make([]time.Duration, len(batch)) // of own
		for n, d := range batch {
			begin = min(begin, d.beforeReplace())
			rest[n] = d.own(s.Kind) - d.beforeReplace()
		}
		slices.SortFunc(rest, func(a, b time.Duration) int { return cmp.Compare(b, a) })
		for n, d := range rest { // of the n+1 that take longest after it one goes in this minute or later
			most = max(most, begin+time.Duration(n/ratePerMinute)*time.Minute+d)
		}
		return most
	})
}

// least sums up the batches; more is a further bound for one.
func least(s scenario, all []durations, sizes []int, parallel int, more func(batch []durations) time.Duration) time.Duration {
	// The group: read it, suspend, see that no activity is in progress, list the members; at the end set the image, resume.
	sum := 3*latencies.Read + 2*latencies.Write
	if s.Kind == "image" {
		sum += latencies.Read + latencies.Write
	}
	next := 0
	for _, size := range sizes {
		batch := all[next : next+size]
		next += size
		slowest := more(batch)
		for _, d := range batch {
			slowest = max(slowest, d.own(s.Kind))
		}
		moves := chunks(size, 20)
		calls := map[string]struct {
			n    int
			each time.Duration
		}{
			"EnterStandby": {moves, latencies.Standby}, "ExitStandby": {moves, latencies.Standby},
		}
		if s.Kind == "script" {
			calls["RunCommand"] = struct {
				n    int
				each time.Duration
			}{chunks(size, 100), latencies.Write}
		} else {
			power := struct {
				n    int
				each time.Duration
			}{chunks(size, 100), latencies.Write}
			calls["StopInstances"], calls["StartInstances"] = power, power
			calls["ReplaceSystemDisk"] = struct {
				n    int
				each time.Duration
			}{size, latencies.Replace}
		}
		var work, byRate time.Duration
		for _, c := range calls {
			work += time.Duration(c.n) * c.each
			byRate = max(byRate, time.Duration(c.n)*time.Minute/ratePerMinute)
		}
		sum += max(slowest, byRate, work/time.Duration(parallel))
		sum += latencies.Read // whether the group is as the task needs it, before each batch
	}
	return sum
}

func chunks(n, size int) int { return (n + size - 1) / size }
