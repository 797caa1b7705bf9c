package main

import (
	"context"
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
