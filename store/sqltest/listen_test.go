package sqltest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v4"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/store/sqlstore"
)

// A hearer counts what it is told.
type hearer struct {
	mu sync.Mutex
	n  map[string]int
}

func hears(s ru.Notifier) (*hearer, func()) {
	h := &hearer{n: map[string]int{}}
	return h, s.Notify(func(id string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.n[id]++
	})
}

func (h *hearer) of(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.n[id]
}

// listening returns a store that listens through a proxy, and one beside it.
func listening(t *testing.T, o sqlstore.Options) (s *sqlstore.ListeningStore, other *sqlstore.ListeningStore, plain *sqlstore.Store, p *proxy, calls func() int) {
	t.Helper()
	d := databases[1]
	address := d.address(t)
	db := d.open(t, address)
	o.Prefix = d.tables(t, db).Prefix
	p = newProxy(t, d.hostPort(t, address))
	var mu sync.Mutex
	n := 0
	hear := listen(d.through(t, address, p.addr()))
	s, err := sqlstore.NewListening(d.open(t, address), func(ctx context.Context, channel string, told func(string)) error {
		mu.Lock()
		n++
		mu.Unlock()
		return hear(ctx, channel, told)
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	other, err = sqlstore.NewListening(db, listen(address), o)
	if err != nil {
		t.Fatal(err)
	}
	return s, other, d.store(t, db, o), p, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// What is saved while the connection that listens is down is found when it is back, or by looking meanwhile.
func TestListenReconnects(t *testing.T) {
	ctx := t.Context()
	s, other, _, p, _ := listening(t, sqlstore.Options{})
	if err := other.Create(ctx, newTask("task-1", 1)); err != nil {
		t.Fatal(err)
	}
	h, stop := hears(s)
	defer stop()
	eventually(t, "told of what is there", func() bool { return h.of("task-1") > 0 })
	for v, how := range []func(){
		func() {},
		func() { p.setGone(true); p.setGone(false) },
		func() { p.setGone(true) }, // and looks
		func() { p.setGone(false) },
	} {
		how()
		before := h.of("task-1")
		if err := other.Save(ctx, next("task-1", 1, int64(v)+2)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "told", func() bool { return h.of("task-1") > before })
	}
	p.setGone(true)
	c := newTask("task-2", 1)
	end := next("task-2", 1, 2)
	end.Head.Status, end.Head.HoldsGroup = ru.StatusSucceeded, false
	if err := errors.Join(other.Create(ctx, c), other.Save(ctx, end)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "told of a task that came and ended meanwhile", func() bool { return h.of("task-2") > 0 })
}

// Saves of a store that does not announce them, and notifications that are lost, are found by looking.
func TestListenRescans(t *testing.T) {
	ctx := t.Context()
	s, _, plain, p, _ := listening(t, sqlstore.Options{Rescan: 200 * time.Millisecond})
	if err := plain.Create(ctx, newTask("task-1", 1)); err != nil {
		t.Fatal(err)
	}
	h, stop := hears(s)
	defer stop()
	eventually(t, "told of what is there", func() bool { return h.of("task-1") > 0 })
	p.setSilent(true)
	defer p.setSilent(false)
	before := h.of("task-1")
	end := next("task-1", 1, 2)
	end.Head.Status, end.Head.HoldsGroup = ru.StatusSucceeded, false
	if err := plain.Save(ctx, end); err != nil {
		t.Fatal(err)
	}
	eventually(t, "told of the end", func() bool { return h.of("task-1") > before })
}

// It listens while it has subscribers and no longer.
func TestListenEnds(t *testing.T) {
	s, other, _, p, calls := listening(t, sqlstore.Options{})
	if n := calls(); n != 0 {
		t.Errorf("listens %d times without subscribers", n)
	}
	for n := range 3 {
		h, stop := hears(s)
		_, stop2 := hears(s)
		if n == 0 {
			if err := other.Create(t.Context(), newTask("task-1", 1)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "told", func() bool { return h.of("task-1") > 0 })
		stop()
		stop2()
		stop()
		eventually(t, "connection closed", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			open := 0
			for c := range p.conns {
				if _, err := c.Write(nil); err == nil {
					open++
				}
			}
			return open == 0
		})
	}
}

// A command given in one process takes effect at once in the one that drives the task, long before it would look.
func TestCommandIsHeard(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, other, _, _, _ := listening(t, sqlstore.Options{})
	cloud := fake.Demo(fake.Config{Speed: 1000}, 4)
	cfg := ru.Config{Poll: time.Hour, MaxWait: time.Hour, Backoff: func() backoff.BackOff { return backoff.NewConstantBackOff(10 * time.Millisecond) }}
	driver, err := ru.New(cloud, s, cfg)
	if err != nil {
		t.Fatal(err)
	}
	operator, err := ru.New(cloud, other, cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	serving, end := context.WithCancel(ctx)
	go func() { served <- driver.Serve(serving) }()
	task, err := operator.Create(ctx, ru.Spec{
		GroupID: fake.DemoGroup, Update: ru.Image("img-v2"), Rollback: ru.Image("img-v1"), Batches: ru.InBatches(2),
		Pause: ru.PausePolicy{Mode: ru.PauseFirstBatch},
	})
	if err != nil {
		t.Fatal(err)
	}
	continued := false
	for e, err := range operator.Watch(ctx, task.ID, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.To == string(ru.StatusBatchPaused) && !continued {
			continued = true
			if err := operator.Continue(ctx, task.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := operator.Get(ctx, task.ID)
	if err != nil || got.Status != ru.StatusSucceeded || !continued {
		t.Errorf("task is %v, %v; continued: %t", got.Status, err, continued)
	}
	end()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve: %v", err)
	}
}

// One that dies in the middle of a transaction has announced nothing: NOTIFY belongs to the transaction.
func TestRefusedSaveIsNotAnnounced(t *testing.T) {
	ctx := t.Context()
	s, other, _, _, _ := listening(t, sqlstore.Options{})
	if err := other.Create(ctx, newTask("task-1", 1)); err != nil {
		t.Fatal(err)
	}
	h, stop := hears(s)
	defer stop()
	eventually(t, "told of what is there", func() bool { return h.of("task-1") > 0 })
	before := h.of("task-1")
	if err := other.Save(ctx, next("task-1", 1, 7)); !errors.Is(err, ru.ErrVersionConflict) {
		t.Fatalf("Save of version 7: %v", err)
	}
	if err := other.Create(ctx, newTask("task-2", 1)); err != nil { // notifications come in order
		t.Fatal(err)
	}
	eventually(t, "told of the next one", func() bool { return h.of("task-2") > 0 })
	if n := h.of("task-1"); n != before {
		t.Errorf("told %d times of a save that was refused", n-before)
	}
}
