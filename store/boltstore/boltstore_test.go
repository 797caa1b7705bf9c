package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

func TestSavesShareCommits(t *testing.T) {
	const tasks, saves = 40, 10
	s := open(t, newPath(t))
	for n := range tasks {
		if err := s.Create(t.Context(), newTask(fmt.Sprint("task-", n), 5)); err != nil {
			t.Fatal(err)
		}
	}
	before := s.Commits()
	var all sync.WaitGroup
	for n := range tasks {
		all.Go(func() {
			for v := int64(2); v < 2+saves; v++ {
				if err := s.Save(t.Context(), next(fmt.Sprint("task-", n), 5, v)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	commits := s.Commits() - before
	t.Logf("%d saves of %d tasks in %d commits", tasks*saves, tasks, commits)
	if commits > tasks*saves/4 {
		t.Errorf("%d commits for %d saves", commits, tasks*saves)
	}
}

// A write that bbolt cannot take does no harm to those that share its commit.
func TestBadWriteHarmsNoOther(t *testing.T) {
	s := open(t, newPath(t))
	if err := s.Create(t.Context(), newTask("good", 1)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for v := int64(2); v < 50; v++ {
		bad := newTask(fmt.Sprint("bad ", v), 1)
		bad.Task.Instances[0].ID = string(bytes.Repeat([]byte("x"), 1<<16))
		all.Go(func() {
			if err := s.Create(t.Context(), bad); err == nil || errors.Is(err, rollingupgrade.ErrTaskExists) || errors.Is(err, boltstore.ErrCorrupt) {
				t.Errorf("Create with an ID of 65,536 bytes: %v", err)
			}
		})
		if err := s.Save(t.Context(), next("good", 1, v)); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	n := 0
	for _, err := range s.List(t.Context(), rollingupgrade.Filter{}) {
		if n++; err != nil {
			t.Fatal(err)
		}
	}
	if n != 1 {
		t.Errorf("%d tasks, want only the good one", n)
	}
}

func TestClosed(t *testing.T) {
	ctx := t.Context()
	s := open(t, newPath(t))
	if err := errors.Join(s.Create(ctx, newTask("task-1", 1)), s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	_, load := s.Load(ctx, "task-1")
	_, head := s.Head(ctx, "task-1")
	_, output := s.Output(ctx, "task-1", "i-0000")
	errs := map[string]error{
		"Load": load, "Head": head, "Output": output, "Create": s.Create(ctx, newTask("task-2", 1)), "Save": s.Save(ctx, next("task-1", 1, 2)),
		"Backup": s.Backup(ctx, &bytes.Buffer{}),
	}
	for _, err := range s.Events(ctx, "task-1", 0) {
		errs["Events"] = err
	}
	for _, err := range s.List(ctx, rollingupgrade.Filter{}) {
		errs["List"] = err
	}
	if len(errs) != 8 {
		t.Errorf("only %d methods: an iterator yields nothing", len(errs))
	}
	for method, err := range errs {
		if !errors.Is(err, boltstore.ErrClosed) {
			t.Errorf("%s after Close: %v", method, err)
		}
	}
}

// Close while others write: each write is answered with nil and is there, or with ErrClosed.
func TestCloseWhileSaving(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	var mu sync.Mutex
	saved := map[string]int64{}
	var all sync.WaitGroup
	started := make(chan struct{}, 8)
	for n := range 8 {
		id := fmt.Sprint("task-", n)
		if err := s.Create(t.Context(), newTask(id, 2)); err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			for v := int64(2); ; v++ {
				err := s.Save(t.Context(), next(id, 2, v))
				if err != nil {
					if !errors.Is(err, boltstore.ErrClosed) {
						t.Errorf("Save: %v", err)
					}
					mu.Lock()
					saved[id] = v - 1
					mu.Unlock()
					return
				}
				if v == 5 {
					started <- struct{}{}
				}
			}
		})
	}
	for range 8 {
		<-started
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	s = open(t, path)
	for id, want := range saved {
		if got, err := whole(t.Context(), s, id, 2); err != nil || got != want {
			t.Errorf("%s is of version %d, %v; want %d", id, got, err, want)
		}
	}
}

func TestBackup(t *testing.T) {
	s := open(t, newPath(t))
	if err := errors.Join(s.Create(t.Context(), newTask("task-1", 20)), s.Save(t.Context(), next("task-1", 20, 2))); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		for v := int64(3); v < 60 && err == nil; v++ {
			err = s.Save(context.Background(), next("task-1", 20, v))
		}
		done <- err
	}()
	for range 5 {
		var b bytes.Buffer
		if err := s.Backup(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
		path := newPath(t)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		copied := open(t, path)
		if v, err := whole(t.Context(), copied, "task-1", 20); err != nil || v < 2 {
			t.Errorf("copy is of version %d, %v", v, err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Backup(ctx, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Backup with a canceled context: %v", err)
	}
}

func BenchmarkSave(b *testing.B) {
	for _, rows := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("one of %d rows", rows), func(b *testing.B) {
			s := open(b, newPath(b))
			if err := s.Create(b.Context(), newTask("task-1", rows)); err != nil {
				b.Fatal(err)
			}
			c := next("task-1", 1, 2)
			c.Outputs = nil
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Save(b.Context(), c); err != nil {
					b.Fatal(err)
				}
				c.Head.Version++
				c.Events[0].Seq++
			}
		})
	}
	b.Run("100 tasks at once", func(b *testing.B) {
		s := open(b, newPath(b))
		var mu sync.Mutex
		n := 0
		b.SetParallelism(50)
		b.RunParallel(func(pb *testing.PB) {
			mu.Lock()
			n++
			id := fmt.Sprint("task-", n)
			mu.Unlock()
			if err := s.Create(b.Context(), newTask(id, 100)); err != nil {
				b.Error(err)
			}
			c := next(id, 1, 2)
			for pb.Next() {
				if err := s.Save(b.Context(), c); err != nil {
					b.Error(err)
				}
				c.Head.Version++
				c.Events[0].Seq++
			}
		})
	})
}
