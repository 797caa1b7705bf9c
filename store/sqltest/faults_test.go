package sqltest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/store/sqlstore"
)

// A broken is a store behind a proxy, and one beside it that sees what really is kept.
type broken struct {
	proxy  *proxy
	store  *sqlstore.Store
	direct *sqlstore.Store
}

func newBroken(t *testing.T, d database, timeout time.Duration) broken {
	t.Helper()
	address := d.address(t)
	db := d.open(t, address)
	o := d.tables(t, db)
	b := broken{proxy: newProxy(t, d.hostPort(t, address)), direct: d.store(t, db, o)}
	b.proxy.inTransactions = d.dialect != sqlstore.PostgreSQL
	o.Timeout = timeout
	b.store = d.store(t, d.open(t, d.through(t, address, b.proxy.addr())), o)
	return b
}

func eachServer(t *testing.T, f func(t *testing.T, d database)) {
	for _, d := range databases[1:] {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			f(t, d)
		})
	}
}

func newTask(id string, rows int) ru.Creation {
	t := &ru.Task{Head: ru.Head{
		Schema: ru.SchemaVersion, ID: id, Kind: ru.Upgrade, GroupID: "group of " + id, Status: ru.StatusRunning,
		CreatedAt: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), HoldsGroup: true, Version: 1, EventSeq: 1, Nonce: "nonce 1",
	}}
	for n := range rows {
		t.Instances = append(t.Instances, ru.Instance{ID: fmt.Sprintf("i-%04d", n), Pos: n, Calls: 1})
	}
	return ru.Creation{Task: t, Events: []ru.Event{{Seq: 1}}}
}

// next returns a change of a task made by newTask: all its rows and an event say which version it is.
func next(id string, rows int, version int64) ru.Change {
	c := newTask(id, rows)
	c.Task.Version, c.Task.EventSeq, c.Task.Nonce = version, version, fmt.Sprint("nonce ", version)
	for n := range c.Task.Instances {
		c.Task.Instances[n].Calls = int(version)
	}
	return ru.Change{Head: &c.Task.Head, Rows: c.Task.Instances, Events: []ru.Event{{Seq: version}}}
}

// whole returns the version of a task and an error if it is not of one piece.
func whole(ctx context.Context, s ru.Store, id string) (int64, error) {
	t, err := s.Load(ctx, id)
	if err != nil {
		return 0, err
	}
	for _, i := range t.Instances {
		if int64(i.Calls) != t.Version {
			return 0, fmt.Errorf("row %s is of version %d, the head of %d", i.ID, i.Calls, t.Version)
		}
	}
	n := int64(0)
	for _, err := range s.Events(ctx, id, 0) {
		if n++; err != nil {
			return 0, err
		}
	}
	if n != t.Version {
		return 0, fmt.Errorf("%d events with version %d", n, t.Version)
	}
	return t.Version, nil
}

// A COMMIT that is not answered has an outcome that nobody knows; the error says so, and the store goes on.
func TestCommitLost(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		for _, c := range []struct {
			name string
			lose loss
			want int64 // the version that is kept
		}{{"request", request, 1}, {"answer", answer, 2}, {"answer, in silence", answerBut, 2}} {
			t.Run(c.name, func(t *testing.T) {
				ctx := t.Context()
				b := newBroken(t, d, 2*time.Second)
				if err := b.direct.Create(ctx, newTask("task-1", 300)); err != nil {
					t.Fatal(err)
				}
				b.proxy.setLoss(c.lose)
				err := b.store.Save(ctx, next("task-1", 300, 2))
				if !errors.Is(err, sqlstore.ErrUnknownOutcome) || errors.Is(err, ru.ErrVersionConflict) {
					t.Errorf("Save: %v; want ErrUnknownOutcome", err)
				}
				if n := b.proxy.losses(); n != 1 {
					t.Fatalf("%d commits were lost", n)
				}
				eventually(t, "outcome", func() bool {
					v, err := whole(ctx, b.direct, "task-1")
					return err == nil && v == c.want
				})
				if h, err := b.store.Head(ctx, "task-1"); err != nil || h.Nonce != fmt.Sprint("nonce ", c.want) {
					t.Errorf("Head after it: %v, %v", h, err)
				}
				if err := b.store.Save(ctx, next("task-1", 300, c.want+1)); err != nil {
					t.Errorf("Save after it: %v", err)
				}
			})
		}
	})
}

// A database that has gone is a clear error at once, and one that has fallen silent one within Options.Timeout. When it is back everything goes on.
func TestGone(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		for _, c := range []struct {
			name string
			set  func(*proxy, bool)
		}{{"refused", (*proxy).setGone}, {"silent", (*proxy).setSilent}} {
			t.Run(c.name, func(t *testing.T) {
				ctx := t.Context()
				const limit = time.Second
				b := newBroken(t, d, limit)
				if err := b.direct.Create(ctx, newTask("task-1", 3)); err != nil {
					t.Fatal(err)
				}
				c.set(b.proxy, true)
				errs := map[string]error{}
				var mu sync.Mutex
				var all sync.WaitGroup
				start := time.Now()
				for name, f := range map[string]func() error{
					"Save":   func() error { return b.store.Save(ctx, next("task-1", 3, 2)) },
					"Create": func() error { return b.store.Create(ctx, newTask("task-2", 3)) },
					"Load":   func() error { _, err := b.store.Load(ctx, "task-1"); return err },
					"Head":   func() error { _, err := b.store.Head(ctx, "task-1"); return err },
					"Output": func() error { _, err := b.store.Output(ctx, "task-1", "i-0000"); return err },
					"Events": func() error { return failed(b.store.Events(ctx, "task-1", 0)) },
					"List":   func() error { return failed(b.store.List(ctx, ru.Filter{})) },
				} {
					all.Go(func() {
						err := f()
						mu.Lock()
						defer mu.Unlock()
						errs[name] = err
					})
				}
				all.Wait()
				if took := time.Since(start); took > limit+undoLimit+3*time.Second {
					t.Errorf("took %s", took)
				}
				for name, err := range errs {
					if err == nil || errors.Is(err, ru.ErrTaskNotFound) || errors.Is(err, ru.ErrVersionConflict) || errors.Is(err, ru.ErrTaskExists) || errors.Is(err, ru.ErrNoOutput) {
						t.Errorf("%s: %v", name, err)
					}
					if c.name == "silent" && !errors.Is(err, sqlstore.ErrTimeout) {
						t.Errorf("%s: %v; want ErrTimeout", name, err)
					}
				}
				c.set(b.proxy, false)
				eventually(t, "save when it is back", func() bool {
					err := b.store.Save(ctx, next("task-1", 3, 2))
					return err == nil || errors.Is(err, ru.ErrVersionConflict)
				})
				if v, err := whole(ctx, b.store, "task-1"); err != nil || v != 2 {
					t.Errorf("version %d, %v", v, err)
				}
			})
		}
	})
}

// undoLimit is the package's: how long it waits for the answer to a ROLLBACK or a COMMIT at most.
const undoLimit = 2 * time.Second

func failed[T any](all func(func(T, error) bool)) (failure error) {
	for _, err := range all {
		failure = err
	}
	return failure
}

// The context of a call ends it, also when the server is silent.
func TestContextEndsCall(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		b := newBroken(t, d, time.Minute)
		if err := b.direct.Create(t.Context(), newTask("task-1", 3)); err != nil {
			t.Fatal(err)
		}
		b.proxy.setSilent(true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if _, err := b.store.Load(ctx, "task-1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Load: %v", err)
		}
		if err := b.store.Save(ctx, next("task-1", 3, 2)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Save: %v", err)
		}
		if took := time.Since(start); took > undoLimit+2*time.Second {
			t.Errorf("took %s", took)
		}
	})
}

// A process whose machine dies in the middle of a save does not keep others from the task for longer than a save may take.
// MariaDB has to be told so, for its sessions: see docs/stores.md.
func TestStandsStill(t *testing.T) {
	d := databases[1]
	if d.dialect != sqlstore.PostgreSQL {
		t.Fatalf("%s is not PostgreSQL", d.name)
	}
	for name, first := range map[string]func(ctx context.Context, s ru.Store) error{
		"save":   func(ctx context.Context, s ru.Store) error { return s.Save(ctx, next("task-1", 3, 2)) },
		"delete": func(ctx context.Context, s ru.Store) error { return s.(ru.Pruner).Delete(ctx, "task-1", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroken(t, d, time.Second)
			if err := b.direct.Create(t.Context(), newTask("task-1", 3)); err != nil {
				t.Fatal(err)
			}
			b.proxy.setLoss(standstill)
			if err := first(t.Context(), b.store); err == nil {
				t.Error("it succeeded without its COMMIT")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			if err := b.direct.Save(ctx, next("task-1", 3, 2)); err != nil {
				t.Errorf("somebody else's save: %v", err)
			}
			if v, err := whole(t.Context(), b.direct, "task-1"); v != 2 || err != nil {
				t.Errorf("version %d, %v", v, err)
			}
		})
	}
}

// A task that is driven while its database goes away, falls silent and loses answers goes on, and nothing is done twice.
func TestN2_TaskGoesOn(t *testing.T) {
	eachServer(t, func(t *testing.T, d database) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		b := newBroken(t, d, 300*time.Millisecond)
		cloud := fake.Demo(fake.Config{Speed: 600}, 8)
		r, err := ru.New(cloud, b.store, ru.Config{
			MaxWait: 20 * time.Millisecond, Poll: 20 * time.Millisecond,
			Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(20 * time.Millisecond) },
		})
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Create(ctx, ru.Spec{GroupID: fake.DemoGroup, Update: ru.Image("img-v2"), Rollback: ru.Image("img-v1"), Batches: ru.InBatches(4)})
		if err != nil {
			t.Fatal(err)
		}
		seed := uint64(time.Now().UnixNano())
		chance := rand.New(rand.NewPCG(seed, 0))
		done := make(chan struct{})
		var breaking sync.WaitGroup
		faults := 0
		breaking.Go(func() {
			for ; ; faults++ {
				select {
				case <-done:
					return
				case <-time.After(time.Duration(chance.IntN(150)) * time.Millisecond):
				}
				pause := time.Duration(chance.IntN(150)) * time.Millisecond
				switch chance.IntN(5) {
				case 0:
					b.proxy.setGone(true)
					time.Sleep(pause)
					b.proxy.setGone(false)
				case 1:
					b.proxy.setSilent(true)
					time.Sleep(pause)
					b.proxy.setSilent(false)
				case 2:
					b.proxy.setLoss(request)
				case 3:
					b.proxy.setLoss(answer)
				case 4:
					b.proxy.setLoss(answerBut)
				}
			}
		})
		tries := 0
		for err = r.Run(ctx, s.ID); err != nil && ctx.Err() == nil; err = r.Run(ctx, s.ID) {
			tries++
			time.Sleep(10 * time.Millisecond)
		}
		close(done)
		breaking.Wait()
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		got, err := b.direct.Load(ctx, s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != ru.StatusSucceeded || got.Progress.Succeeded != 8 {
			t.Errorf("seed %d: task is %s (%s), %+v", seed, got.Status, got.Reason, got.Progress)
		}
		for _, v := range cloud.Violations() {
			t.Errorf("seed %d: %v", seed, v)
		}
		t.Logf("%d faults, %d commits lost, Run began %d times, seed %d", faults, b.proxy.losses(), tries+1, seed)
	})
}
