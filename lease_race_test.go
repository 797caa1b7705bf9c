package rollingupgrade_test

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A lateStoreReader is a store whose first answer about a lease comes late: meanwhile happens.
type lateStoreReader struct {
	*ru.MemoryStore
	meanwhile func()
}

func (s *lateStoreReader) late() {
	if f := s.meanwhile; f != nil {
		s.meanwhile = nil
		f()
	}
}

func (s *lateStoreReader) Head(ctx context.Context, id string) (*ru.Head, error) {
	defer s.late()
	return s.MemoryStore.Head(ctx, id)
}

func (s *lateStoreReader) List(ctx context.Context, f ru.Filter) iter.Seq2[*ru.Head, error] {
	return func(yield func(*ru.Head, error) bool) {
		for h, err := range s.MemoryStore.List(ctx, f) {
			s.late()
			if !yield(h, err) {
				return
			}
		}
	}
}

// A lease that was free when it was looked at, and was taken before the record was loaded, stays with who took it.
func TestN3_ALeaseIsNotTakenFromALivingOwner(t *testing.T) {
	for name, drive := range map[string]func(ctx context.Context, r *ru.Runner, id string) error{
		"Run":   func(ctx context.Context, r *ru.Runner, id string) error { return r.Run(ctx, id) },
		"Serve": func(ctx context.Context, r *ru.Runner, _ string) error { return r.Serve(ctx) },
	} {
		bubbled(t, name, func(t *testing.T) {
			b := newBed(t, fake.Demo(fake.Config{}, 4), ru.Config{Owner: "first"})
			id := b.create(imageSpec(2))
			var wait func() *ru.Task
			store := &lateStoreReader{MemoryStore: b.store, meanwhile: func() {
				wait = b.start(id)
				b.untilStep(id, "i-0001", ru.Updating)
			}}
			second, err := ru.New(b.line.face(), store, ru.Config{Owner: "second"})
			b.ok(err)
			ctx, stop := context.WithCancel(b.ctx())
			done := make(chan error, 1)
			go func() { done <- drive(ctx, second, id) }()
			b.until(id, "the end", func(t *ru.Task) bool { return t.Status == ru.StatusSucceeded })
			stop()
			<-done
			if task := wait(); task.Lease.Fence != 1 {
				t.Errorf("the lease was taken %d times", task.Lease.Fence)
			}
		})
	}
}

// However often a task is run and served by one Runner, it has one driver.
func TestN3_RunAndServeTogether(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 6)
		ctx, stop := context.WithCancel(b.ctx())
		defer stop()
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { _ = b.r.Serve(ctx) })
		}
		id := b.create(imageSpec(3))
		var ended atomic.Int32
		for range 5 {
			all.Go(func() {
				if err := b.r.Run(ctx, id); err == nil {
					ended.Add(1)
				}
			})
		}
		b.until(id, "it ends", func(t *ru.Task) bool { return t.Status.Ended() })
		time.Sleep(10 * time.Second)
		diff(t, "runs that have returned", int32(5), ended.Load())
		stop()
		all.Wait()
		diff(t, "takings of the lease", int64(1), b.task(id).Lease.Fence)
		diff(t, "status", ru.StatusSucceeded, b.task(id).Status)
	})
}
