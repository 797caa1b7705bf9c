package main

import (
	"context"
	"runtime"
	"syscall"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// cost plays a scenario on a thin cloud and notes what the library takes: CPU for an instance's whole life, and
// the memory that is live in the middle of the task, the memory store's included. It must run in a testing/synctest bubble, and alone.
func (r *row) cost(ctx context.Context, s scenario, seed uint64) error {
	cloud := newThin(s, seed)
	empty := heap()
	middle := (s.Batches + 1) / 2
	var live int64
	var aside time.Duration // CPU for measuring
	hooks := ru.Hooks{AfterBatch: func(_ context.Context, _ ru.Summary, b ru.Batch) (ru.Decision, error) {
		if b.Number == middle {
			began := cpu()
			live = heap() - empty
			aside = cpu() - began
		}
		return "", nil
	}}
	runner, err := ru.New(cloud, ru.NewMemoryStore(), ru.Config{Parallel: parallel, ParallelTotal: parallel, Hooks: hooks})
	if err != nil {
		return err
	}
	// One processor at a time: in simulated time nothing rests, and a second one burns half as much again in looking for work.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	began := cpu()
	id, _, err := s.drive(ctx, runner, fake.DemoGroup)
	took := cpu() - began - aside
	if err != nil {
		return err
	}
	r.CPU, r.Heap = float64(took.Microseconds())/float64(s.N), live
	_, err = s.ended(ctx, runner, id)
	return err
}

// heap is what is live: after two collections pools have let go too.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // not that much
}

// cpu is what the process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
