package rollingupgrade_test

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/store/storetest"
)

var (
	_ ru.Store          = (*ru.MemoryStore)(nil)
	_ ru.ExclusiveStore = (*ru.MemoryStore)(nil)
	_ ru.Notifier       = (*ru.MemoryStore)(nil)
)

func TestMemoryStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) ru.Store { return ru.NewMemoryStore() })
}

// oneTask returns a store with a task of two rows and one event.
func oneTask(t *testing.T) (*ru.MemoryStore, ru.Head) {
	t.Helper()
	s := ru.NewMemoryStore()
	h := ru.Head{ID: "task-1", GroupID: "group-1", Status: ru.StatusRunning, Version: 1, EventSeq: 1, HoldsGroup: true, CreatedAt: time.Unix(1, 0).UTC()}
	task := &ru.Task{Head: h, Instances: []ru.Instance{{ID: "i-1"}, {ID: "i-2", Pos: 1}}}
	if err := s.Create(t.Context(), ru.Creation{Task: task, Events: []ru.Event{{Seq: 1}}}); err != nil {
		t.Fatal(err)
	}
	return s, h
}

// contents is all that is kept of task-1.
func contents(t *testing.T, s ru.Store) (got struct {
	Task   *ru.Task
	Events []ru.Event
},
) {
	t.Helper()
	var err error
	if got.Task, err = s.Load(t.Context(), "task-1"); err != nil {
		t.Fatal(err)
	}
	for e, err := range s.Events(t.Context(), "task-1", 0) {
		if err != nil {
			t.Fatal(err)
		}
		got.Events = append(got.Events, e)
	}
	return got
}

// TestS35_MemoryStoreRefusesGaps holds that the log of a task cannot lose or repeat a number, whatever the caller does.
func TestS35_MemoryStoreRefusesGaps(t *testing.T) {
	for _, tt := range []struct {
		name string
		seqs []int64
	}{
		{name: "gap", seqs: []int64{3}},
		{name: "repeated", seqs: []int64{1}},
		{name: "gap behind a right one", seqs: []int64{2, 4}},
		{name: "wrong order", seqs: []int64{3, 2}},
		{name: "zero", seqs: []int64{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, h := oneTask(t)
			before := contents(t, s)
			h.Version++
			c := ru.Change{Head: &h, Rows: []ru.Instance{{ID: "i-1", Note: "lost"}}}
			for _, n := range tt.seqs {
				c.Events = append(c.Events, ru.Event{Seq: n})
			}
			if err := s.Save(t.Context(), c); !errors.Is(err, ru.ErrVersionConflict) {
				t.Errorf("Save: %v, want ErrVersionConflict", err)
			}
			c.Head.HoldsGroup = false
			next := &ru.Task{Head: ru.Head{ID: "task-2", GroupID: "group-1", Version: 1, HoldsGroup: true}}
			if err := s.Create(t.Context(), ru.Creation{Task: next, Prior: &c}); !errors.Is(err, ru.ErrVersionConflict) {
				t.Errorf("Create with that as Prior: %v, want ErrVersionConflict", err)
			}
			if _, err := s.Head(t.Context(), "task-2"); !errors.Is(err, ru.ErrTaskNotFound) {
				t.Errorf("the new task is there: %v", err)
			}
			if d := cmp.Diff(before, contents(t, s)); d != "" {
				t.Errorf("what is kept has changed (-want +got):\n%s", d)
			}
		})
	}
}

// TestMemoryStoreRefusesBadJSON holds that a change that cannot be encoded changes nothing, however late that turns out.
func TestMemoryStoreRefusesBadJSON(t *testing.T) {
	s, h := oneTask(t)
	before := contents(t, s)
	h.Version, h.EventSeq = 2, 2
	c := ru.Change{Head: &h, Events: []ru.Event{{Seq: 2}}, Rows: []ru.Instance{{ID: "i-1", Note: "lost"}, {ID: "i-2", State: json.RawMessage("{")}}}
	if err := s.Save(t.Context(), c); err == nil {
		t.Error("Save accepts it")
	}
	next := &ru.Task{Head: ru.Head{ID: "task-2", GroupID: "group-2", Version: 1, HoldsGroup: true}}
	if err := s.Create(t.Context(), ru.Creation{Task: next, Prior: &c}); err == nil {
		t.Error("Create accepts it as Prior")
	}
	if _, err := s.Head(t.Context(), "task-2"); !errors.Is(err, ru.ErrTaskNotFound) {
		t.Errorf("the new task is there: %v", err)
	}
	if d := cmp.Diff(before, contents(t, s)); d != "" {
		t.Errorf("what is kept has changed (-want +got):\n%s", d)
	}
	c.Rows[1].State = json.RawMessage("{}")
	if err := s.Save(t.Context(), c); err != nil {
		t.Errorf("Save of the mended change: %v", err)
	}
}

// TestMemoryStoreTellsWithoutLock holds that who is told may use the store, and that a bubble can wait for it.
func TestMemoryStoreTellsWithoutLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, h := oneTask(t)
		var seen []int64
		var stop func()
		stop = s.Notify(func(id string) {
			got, err := s.Head(t.Context(), id)
			if err != nil {
				t.Errorf("head within Notify: %v", err)
				return
			}
			if seen = append(seen, got.Version); got.Version == 3 {
				stop()
			}
		})
		for range 3 {
			h.Version++
			if err := s.Save(t.Context(), ru.Change{Head: &h}); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff([]int64{2, 3}, seen); d != "" {
			t.Errorf("versions seen when told (-want +got):\n%s", d)
		}
	})
}
