package main

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
)

// bubble runs f in simulated time. Package testing/synctest wants a test for that, and a benchmark is none.
func bubble(b *testing.B, f func(ctx context.Context)) {
	b.Helper()
	all := func(string, string) (bool, error) { return true, nil }
	if !testing.RunTests(all, []testing.InternalTest{{Name: b.Name(), F: func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t.Context()) })
	}}}) {
		b.Fatal("see above")
	}
}

// BenchmarkCPU is what the library itself takes: the cloud is a thin one.
func BenchmarkCPU(b *testing.B) {
	for _, s := range scenarios() {
		if s.N != 1000 {
			continue
		}
		b.Run(s.name(), func(b *testing.B) {
			var r row
			for b.Loop() {
				bubble(b, func(ctx context.Context) {
					if err := r.cost(ctx, s, 1); err != nil {
						b.Error(err)
					}
				})
			}
			b.ReportMetric(r.CPU, "cpu-us/instance")
			b.ReportMetric(float64(r.Heap), "live-heap-B")
		})
	}
}

// BenchmarkTogether is 50 equal tasks at once in one provider.
func BenchmarkTogether(b *testing.B) {
	for _, s := range []scenario{{"image", 100, 5, "fixed"}, {"image", 100, 5, "heavy"}, {"script", 100, 5, "fixed"}} {
		b.Run(s.name(), func(b *testing.B) {
			var c crowd
			for b.Loop() {
				bubble(b, func(ctx context.Context) {
					var err error
					if c, err = together(ctx, s, 50, 1); err != nil {
						b.Error(err)
					}
				})
			}
			b.ReportMetric(c.Makespan/c.Bound, "makespan/bound")
			b.ReportMetric(c.Slowest/c.Fastest, "slowest/fastest")
			b.ReportMetric(float64(c.Throttled), "throttled")
			b.ReportMetric(float64(c.ThrottledLate), "throttled-after-1min")
		})
	}
}

// BenchmarkMemory is what many tasks at once keep in memory.
func BenchmarkMemory(b *testing.B) {
	for _, tasks := range []int{100, 1000} {
		b.Run(fmt.Sprintf("%d-tasks-of-100", tasks), func(b *testing.B) {
			var live int64
			for b.Loop() {
				bubble(b, func(ctx context.Context) {
					var err error
					if live, err = many(ctx, scenario{"image", 100, 5, "fixed"}, tasks, 1); err != nil {
						b.Error(err)
					}
				})
			}
			b.ReportMetric(float64(live)/(1<<20), "live-heap-MiB")
		})
	}
}

// BenchmarkUpgrade is the table, case by case.
func BenchmarkUpgrade(b *testing.B) {
	for _, s := range scenarios() {
		if s.N > 1000 {
			continue
		}
		b.Run(s.name(), func(b *testing.B) {
			var r row
			for b.Loop() {
				bubble(b, func(ctx context.Context) {
					var err error
					if r, err = play(ctx, s, 1); err != nil {
						b.Error(err)
					}
				})
			}
			b.ReportMetric(r.Ratio, "makespan/bound")
			b.ReportMetric(r.Calls, "calls/instance")
			b.ReportMetric(r.OutOfService, "out-of-service")
			b.ReportMetric(float64(r.Saves), "saves")
			b.ReportMetric(float64(r.Bytes)/float64(r.N), "B-saved/instance")
		})
	}
}

// The figures that docs/performance.md promises hold: all of them are of simulated time or counted.
func TestPromises(t *testing.T) {
	for _, p := range []struct {
		scenario
		ratio, calls, out float64
	}{
		{scenario{"image", 1000, 10, "fixed"}, 1.02, 3.0, 1.05},
		{scenario{"image", 1000, 10, "heavy"}, 1.05, 4.0, 1.10},
		{scenario{"script", 1000, 10, "fixed"}, 1.02, 0.5, 1.05},
		{scenario{"script", 1000, 10, "heavy"}, 1.05, 1.5, 1.10},
		{scenario{"image", 10, 5, "fixed"}, 1.02, 60, 1.05},
		{scenario{"image", 10, 10, "heavy"}, 1.05, 140, 1.10},
		{scenario{"image", 100, 10, "heavy"}, 1.05, 20, 1.10},
		{scenario{"image", 100, 100, "heavy"}, 1.05, 90, 1.10},
		{scenario{"script", 100, 1, "heavy"}, 1.10, 5, 1.10},
		{scenario{"image", 100, 1, "fixed"}, 1.10, 5, 1.05},
		{scenario{"image", 1000, 1, "heavy"}, 1.10, 5, 1.10},
		{scenario{"image", 10000, 1, "fixed"}, 1.10, 3, 1.05}, // of what is reachable
		{scenario{"script", 10000, 1, "fixed"}, 1.10, 0.5, 1.05},
	} {
		t.Run(p.name(), func(t *testing.T) {
			t.Parallel()
			if p.N > 100 && (testing.Short() || raceDetector) {
				t.Skip("large cases are left out of short runs and of those with the race detector")
			}
			synctest.Test(t, func(t *testing.T) {
				r, err := play(t.Context(), p.scenario, 1)
				if err != nil {
					t.Fatal(err)
				}
				if ratio := r.Makespan / r.Reachable; ratio > p.ratio || r.Calls > p.calls || r.OutOfService > p.out || ratio < 1 || r.OutOfService < 1 {
					t.Errorf("makespan %.3f of the bound (at most %.2f), %.2f calls an instance (%.2f), %.3f out of service (%.2f)",
						ratio, p.ratio, r.Calls, p.calls, r.OutOfService, p.out)
				}
				if most := 12*int64(p.Batches) + r.moments; r.Saves > most {
					t.Errorf("%d saves, at most %d: 12 a batch and one for each of %d moments in which something changed", r.Saves, most, r.moments)
				}
				if p.N < 10000 && r.Reachable > r.Bound {
					t.Errorf("the bound is %.1f s, and what is reachable %.1f s", r.Bound, r.Reachable)
				}
			})
		})
	}
}

func TestBoundIsALowerOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seeds := uint64(3)
		if raceDetector {
			seeds = 1
		}
		for seed := range seeds {
			for _, s := range scenarios() {
				if s.N > 10 {
					continue
				}
				if r, err := play(t.Context(), s, seed); err != nil || r.Ratio < 1 || r.Reachable < r.Bound || r.Makespan < r.Reachable {
					t.Errorf("%s, seed %d: ratio %.4f, %v", s.name(), seed, r.Ratio, err)
				}
			}
		}
	})
}

func TestFiftyTasksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := together(t.Context(), scenario{"script", 20, 5, "fixed"}, 50, 1)
		if err != nil {
			t.Fatal(err)
		}
		if c.Makespan > 1.10*c.Bound || c.Makespan < c.Bound || c.Slowest > 1.2*c.Fastest || c.ThrottledLate > 0 {
			t.Errorf("%+v", c)
		}
	})
}
