package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
)

// A blackHole is a store that from some time on answers nothing, as a database behind a dead network does: its methods
// return when their context is done.
type blackHole struct {
	*ru.MemoryStore
	dead, back chan struct{}
}

func (s blackHole) gone(ctx context.Context) error {
	select {
	case <-s.dead:
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.back:
			return nil
		}
	default:
		return nil
	}
}

func (s blackHole) Save(ctx context.Context, c ru.Change) error {
	if err := s.gone(ctx); err != nil {
		return err
	}
	return s.MemoryStore.Save(ctx, c)
}

func (s blackHole) Head(ctx context.Context, id string) (*ru.Head, error) {
	if err := s.gone(ctx); err != nil {
		return nil, err
	}
	return s.MemoryStore.Head(ctx, id)
}

func (s blackHole) Load(ctx context.Context, id string) (*ru.Task, error) {
	if err := s.gone(ctx); err != nil {
		return nil, err
	}
	return s.MemoryStore.Load(ctx, id)
}

func TestN6_StoreThatDoesNotAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		store := blackHole{b.store, make(chan struct{}), make(chan struct{})}
		r, err := ru.New(b.line.face(), store, ru.Config{})
		b.ok(err)
		id := b.create(imageSpec(2))
		ctx, stop := context.WithCancel(b.ctx())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, id) }()
		b.untilStep(id, "i-0001", ru.Updating)
		close(store.dead)
		time.Sleep(10 * time.Minute)
		stop()
		select {
		case err := <-done:
			if err == nil {
				t.Error("Run returned no error")
			}
		case <-time.After(time.Hour):
			t.Error("Run has not returned an hour after its context was done, with a lease of three minutes")
			close(store.back)
			<-done
		}
	})
}

// tardy carries a creation out, and answers only later, with an error.
type tardy struct {
	*ru.MemoryStore
	by time.Duration
}

func (s tardy) Create(ctx context.Context, c ru.Creation) error {
	if err := s.MemoryStore.Create(ctx, c); err != nil {
		return err
	}
	time.Sleep(s.by)
	return errors.New("connection lost")
}

func TestS13_CreateWhoseAnswerIsLost(t *testing.T) {
	for _, serve := range []bool{false, true} {
		bubbled(t, fmt.Sprint("served ", serve), func(t *testing.T) {
			b := demoBed(t, 4)
			r, err := ru.New(b.line.face(), tardy{b.store, 5 * time.Second}, ru.Config{})
			b.ok(err)
			ctx, stop := context.WithCancel(b.ctx())
			done := make(chan error, 1)
			if serve {
				go func() { done <- b.r.Serve(ctx) }()
			} else {
				done <- nil
			}
			s, err := r.Create(ctx, imageSpec(2))
			var tasks int
			for range b.r.List(ctx, ru.Filter{}) {
				tasks++
			}
			if err != nil {
				t.Errorf("%d tasks, %q: %v", tasks, s.ID, err)
			}
			stop()
			<-done
		})
	}
}

// lostOnce carries a save out, has something else saved, and answers with an error, once.
type lostOnce struct {
	*ru.MemoryStore
	when func(c ru.Change) bool
	then func()
	done *bool
}

func (s lostOnce) Save(ctx context.Context, c ru.Change) error {
	lose := !*s.done && s.when(c)
	if err := s.MemoryStore.Save(ctx, c); err != nil || !lose {
		return err
	}
	*s.done = true
	s.then()
	return errors.New("connection lost")
}

func TestS15_VerdictCountsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		asked := 0
		done := false
		var id string
		seen := map[int64]int{}
		store := lostOnce{b.store, func(c ru.Change) bool {
			return slices.ContainsFunc(c.Rows, func(i ru.Instance) bool { return i.ID == "i-0001" && i.Step == ru.Verifying && i.Healthy == 1 })
		}, func() { b.ok(b.r.Pause(b.ctx(), id, "")) }, &done}
		r, err := ru.New(b.line.face(), store, ru.Config{Hooks: ru.Hooks{
			Transition: func(_ context.Context, _ ru.Summary, e ru.Event) { seen[e.Seq]++ },
			Verify: func(_ context.Context, _ ru.Summary, ids []string) (out []ru.Verdict, _ error) {
				for _, id := range ids {
					if id == "i-0001" {
						asked++
					}
					out = append(out, ru.Verdict{InstanceID: id, Healthy: true})
				}
				return out, nil
			},
		}})
		b.ok(err)
		id = b.create(scriptSpec(4, func(s *ru.Spec) { s.Verify.Successes = 2 }))
		b.ok(r.Run(b.ctx(), id))
		diff(t, "was lost", true, done)
		diff(t, "looks at i-0001", 2, asked)
		for _, e := range b.events(id)[1:] {
			if seen[e.Seq] != 1 && e.Kind != ru.EventCommand {
				t.Errorf("transition %d (%s %s %s %s->%s) was seen %d times", e.Seq, e.Kind, e.Cause, e.InstanceID, e.From, e.To, seen[e.Seq])
			}
		}
	})
}

// newer shows tasks as if a later version of the library had written them.
type newer struct {
	*ru.MemoryStore
	loads *int
	err   error
}

func (s newer) Load(ctx context.Context, id string) (*ru.Task, error) {
	time.Sleep(time.Millisecond)
	*s.loads++
	if s.err != nil {
		return nil, s.err
	}
	t, err := s.MemoryStore.Load(ctx, id)
	if err == nil {
		t.Schema++
	}
	return t, err
}

func TestN6_ServeDoesNotSpin(t *testing.T) {
	for name, e := range map[string]error{"newer": nil, "error": errors.New("disk error")} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 4)
			loads := 0
			r, err := ru.New(b.line.face(), newer{b.store, &loads, e}, ru.Config{})
			b.ok(err)
			b.create(imageSpec(2))
			ctx, stop := context.WithTimeout(b.ctx(), time.Minute)
			defer stop()
			_ = r.Serve(ctx)
			if loads > 60 {
				t.Errorf("%d loads of one task in a minute; Poll is 2s", loads)
			}
		})
	}
}

func TestS35_TransitionsOfASaveWhoseAnswerIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		done := false
		var id string
		seen := map[int64]int{}
		store := lostOnce{b.store, func(c ru.Change) bool {
			return slices.ContainsFunc(c.Rows, func(i ru.Instance) bool { return i.ID == "i-0001" && i.Step == ru.Updating })
		}, func() { b.ok(b.r.Pause(b.ctx(), id, "")) }, &done}
		r, err := ru.New(b.line.face(), store, ru.Config{Hooks: ru.Hooks{
			Transition: func(_ context.Context, _ ru.Summary, e ru.Event) { seen[e.Seq]++ },
		}})
		b.ok(err)
		id = b.create(scriptSpec(4))
		b.ok(r.Run(b.ctx(), id))
		for _, e := range b.events(id)[1:] {
			if seen[e.Seq] != 1 && e.Kind != ru.EventCommand {
				t.Errorf("transition %d (%s %s %s %s->%s) was seen %d times", e.Seq, e.Kind, e.Cause, e.InstanceID, e.From, e.To, seen[e.Seq])
			}
		}
	})
}

func TestN3_LostTake(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		done := false
		var id string
		store := lostOnce{b.store, func(c ru.Change) bool { return c.Head.Lease.Fence == 1 }, func() { b.ok(b.r.Pause(b.ctx(), id, "")) }, &done}
		r, err := ru.New(b.line.face(), store, ru.Config{})
		b.ok(err)
		id = b.create(scriptSpec(4))
		began := time.Now()
		b.ok(r.Run(b.ctx(), id))
		if d := time.Since(began); d > time.Minute {
			t.Errorf("the first pause took %s", d)
		}
	})
}

// deafToSaves is a store that can be read and takes no save.
type deafToSaves struct{ *ru.MemoryStore }

var errDiskFull = errors.New("disk full")

func (deafToSaves) Save(context.Context, ru.Change) error { return errDiskFull }

func TestN3_LeaseThatCannotBeTaken(t *testing.T) {
	for name, stopAfter := range map[string]time.Duration{"stopped": 10 * time.Second, "not stopped": time.Hour} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 4)
			r, err := ru.New(b.line.face(), deafToSaves{b.store}, ru.Config{})
			b.ok(err)
			id := b.create(scriptSpec(2))
			ctx, stop := context.WithTimeout(b.ctx(), stopAfter)
			defer stop()
			began := time.Now()
			err = r.Run(ctx, id)
			wantError(t, err, errDiskFull)
			if errors.Is(err, ru.ErrLeaseLost) {
				t.Errorf("%v: nobody else has the lease", err)
			}
			if name == "stopped" {
				wantError(t, err, context.DeadlineExceeded)
				if d := time.Since(began) - stopAfter; d > time.Second {
					t.Errorf("Run came back %s after its context was done", d)
				}
			}
			b.untouched()
		})
	}
}
