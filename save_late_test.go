package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A lateStore answers its nth save with an error and carries it out only when the next one comes, as a database does that
// goes on with a COMMIT whose client has given up.
type lateStore struct {
	*ru.MemoryStore
	mu   sync.Mutex
	n    int
	late *ru.Change
}

func (s *lateStore) Save(ctx context.Context, c ru.Change) error {
	s.mu.Lock()
	late := s.late
	s.late = nil
	if s.n--; s.n == 0 {
		head := *c.Head
		c.Head = &head
		s.late = &c
		s.mu.Unlock()
		return errors.New("connection lost")
	}
	s.mu.Unlock()
	if late != nil {
		if err := s.MemoryStore.Save(ctx, *late); err != nil {
			return err
		}
	}
	return s.MemoryStore.Save(ctx, c)
}

// A save that takes effect after its writer has looked whether it did is not mistaken for somebody else's: nothing is done twice,
// no transition goes unseen, and the task does not wait for its own lease to run out.
func TestN2_SaveTakesEffectLate(t *testing.T) {
	run := func(t *testing.T, n int) (seen []string, took time.Duration, violations []string) {
		ctx := t.Context()
		cloud := fake.Demo(fake.Config{}, 4)
		store := &lateStore{MemoryStore: ru.NewMemoryStore(), n: n}
		r, err := ru.New(face(t, cloud), store, ru.Config{Hooks: ru.Hooks{Transition: func(_ context.Context, _ ru.Summary, e ru.Event) {
			if e.InstanceID == "" {
				seen = append(seen, fmt.Sprint(e.Kind, " ", e.From, " ", e.To))
			}
		}}})
		if err != nil {
			t.Fatal(err)
		}
		s, err := r.Create(ctx, ru.Spec{GroupID: fake.DemoGroup, Update: ru.Image("img-v2"), Rollback: ru.Image("img-v1"), Batches: ru.InBatches(2)})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := r.Run(ctx, s.ID); err != nil {
			t.Fatal(err)
		}
		if task, err := r.Get(ctx, s.ID); err != nil || task.Status != ru.StatusSucceeded {
			t.Errorf("task is %v, %v", task.Status, err)
		}
		if store.n > 0 {
			return nil, 0, nil // fewer saves than that
		}
		for _, v := range cloud.Violations() {
			violations = append(violations, fmt.Sprint(v))
		}
		return seen, time.Since(start), violations
	}
	var want []string
	var usual time.Duration
	t.Run("never", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { want, usual, _ = run(t, 0) })
		if len(want) == 0 {
			t.Fatal("no transition was seen")
		}
	})
	tried := 0
	for n, more := 1, true; more; n++ {
		t.Run(fmt.Sprint("save ", n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seen, took, violations := run(t, n)
				if more = seen != nil; !more {
					return
				}
				tried++
				if diff := cmp.Diff(want, seen); diff != "" {
					t.Errorf("transitions of the task (-want +got):\n%s", diff)
				}
				if took > usual+time.Minute {
					t.Errorf("took %s, without the late save %s", took, usual)
				}
				if len(violations) > 0 {
					t.Error(violations)
				}
			})
		})
	}
	if tried < 20 {
		t.Errorf("only %d saves", tried)
	}
}
