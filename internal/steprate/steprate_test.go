package steprate_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/internal/steprate"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

func open(t testing.TB) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(filepath.Join(t.TempDir(), "tasks.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// What is measured really takes place, and every save is one of the driver's.
func TestMeasure(t *testing.T) {
	for name, store := range map[string]ru.Store{"memory": ru.NewMemoryStore(), "bolt": open(t)} {
		t.Run(name, func(t *testing.T) {
			r, err := steprate.Measure(t.Context(), store, 3, 10, 2)
			if err != nil {
				t.Fatal(err)
			}
			if r.Tasks != 3 || r.Saves < 3*10 || r.Elapsed <= 0 {
				t.Errorf("%+v", r)
			}
			tasks := 0
			for h, err := range store.List(t.Context(), ru.Filter{}) {
				if err != nil {
					t.Fatal(err)
				}
				if tasks++; h.Progress.Succeeded != 10 {
					t.Errorf("%d of 10 instances succeeded", h.Progress.Succeeded)
				}
			}
			if tasks != 3 {
				t.Errorf("%d tasks", tasks)
			}
		})
	}
}

// The bare store is given the same saves.
func TestCompare(t *testing.T) {
	driver, bare, err := steprate.Compare(t.Context(), open(t), 10, 2)
	if err != nil {
		t.Fatal(err)
	}
	if driver.Saves < 10 || driver.Saves != bare.Saves || bare.Elapsed <= 0 {
		t.Errorf("%+v against %+v", driver, bare)
	}
}

// BenchmarkOneDriver compares the saves of one driver with the same saves made by nobody but the store.
func BenchmarkOneDriver(b *testing.B) {
	s := open(b)
	var driver, bare steprate.Rate
	for b.Loop() {
		one, other, err := steprate.Compare(b.Context(), s, 100, 20)
		if err != nil {
			b.Fatal(err)
		}
		driver, bare = driver.Add(one), bare.Add(other)
	}
	b.ReportMetric(driver.SavesPerSecond(), "saves/s")
	b.ReportMetric(bare.SavesPerSecond(), "bare-saves/s")
	b.ReportMetric(driver.SavesPerSecond()/bare.SavesPerSecond(), "of-bare")
}

// BenchmarkTasks is many small tasks at once: they share commits.
func BenchmarkTasks(b *testing.B) {
	stores := map[string]func() ru.Store{"memory": func() ru.Store { return ru.NewMemoryStore() }, "bolt": func() ru.Store { return open(b) }}
	for _, name := range []string{"memory", "bolt"} {
		for _, tasks := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, tasks), func(b *testing.B) {
				store := stores[name]()
				var r steprate.Rate
				for b.Loop() {
					one, err := steprate.Measure(b.Context(), store, tasks, 5, 1)
					if err != nil {
						b.Fatal(err)
					}
					r = r.Add(one)
				}
				b.ReportMetric(r.SavesPerSecond(), "saves/s")
				b.ReportMetric(r.TasksPerSecond(), "tasks/s")
			})
		}
	}
}

// BenchmarkRecovery is how long after a file with a hundred unfinished tasks has been opened, as it was when its process died, the first call goes to the
// cloud.
func BenchmarkRecovery(b *testing.B) {
	left := unfinished(b, 100)
	var first, all time.Duration
	for b.Loop() {
		path := filepath.Join(b.TempDir(), "tasks.db")
		if err := os.WriteFile(path, left, 0o600); err != nil {
			b.Fatal(err)
		}
		s, err := boltstore.Open(path, boltstore.Options{})
		if err != nil {
			b.Fatal(err)
		}
		opened := time.Now()
		called := make(chan time.Duration, 1000)
		runner, err := ru.New(watched{called: func() { called <- time.Since(opened) }}, s, ru.Config{Tasks: 100, ParallelTotal: 800})
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		served := make(chan struct{})
		go func() { _ = runner.Serve(ctx); close(served) }()
		first += <-called
		for range 99 {
			all = <-called
		}
		stop()
		<-served
		s.Close()
	}
	b.ReportMetric(float64(first.Microseconds())/1000/float64(b.N), "ms-to-first-call")
	b.ReportMetric(float64(all.Microseconds())/1000, "ms-to-100th-call")
}

// watched tells of every call that acts and of every update.
type watched struct {
	steprate.Instant
	called func()
}

func (w watched) Update(ctx context.Context, _ string, _ provider.Update, _ []provider.Target) ([]provider.Progress, error) {
	w.called()
	<-ctx.Done()
	return nil, ctx.Err()
}

// unfinished is the file of a process that died in the middle of so many tasks: each one's call is named and not answered.
func unfinished(b *testing.B, tasks int) []byte {
	b.Helper()
	path := filepath.Join(b.TempDir(), "left.db")
	s, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var at sync.WaitGroup
	at.Add(tasks)
	runner, err := ru.New(watched{steprate.Instant{Size: 10}, at.Done}, s, ru.Config{Tasks: tasks, ParallelTotal: 8 * tasks})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	for n := range tasks {
		if _, err := runner.Create(ctx, ru.Spec{GroupID: fmt.Sprint("asg-", n), Update: ru.Script(provider.Shell, "true"), Batches: ru.InBatches(2)}); err != nil {
			b.Fatal(err)
		}
	}
	served := make(chan struct{})
	go func() { _ = runner.Serve(ctx); close(served) }()
	at.Wait()
	file, err := os.ReadFile(path) //nolint:gosec // of this test
	if err != nil {
		b.Fatal(err)
	}
	stop()
	<-served
	return file
}
