package rollingupgrade_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A past is a task of a history that a test writes down.
type past struct {
	id        string
	group     string // empty: "g"
	kind      ru.TaskKind
	source    string
	status    ru.Status // empty: succeeded
	untouched bool
	ago       time.Duration // since it ended
	with      func(*ru.Head)
}

// history returns a store with these tasks: in each group a chain, the oldest first.
func history(t *testing.T, tasks ...past) *ru.MemoryStore {
	t.Helper()
	s, last := ru.NewMemoryStore(), map[string]string{}
	var heads []*ru.Head
	byID := map[string]*ru.Head{}
	for n, p := range tasks {
		if p.group == "" {
			p.group = "g"
		}
		if p.status == "" {
			p.status = ru.StatusSucceeded
		}
		if p.kind == "" {
			p.kind = ru.Upgrade
		}
		h := &ru.Head{
			Schema: ru.SchemaVersion, ID: p.id, GroupID: p.group, Kind: p.kind, SourceID: p.source, Status: p.status, Touched: !p.untouched,
			CreatedAt: time.Now().UTC().Add(time.Duration(n-1000) * time.Hour), EndedAt: time.Now().UTC().Add(-p.ago), PriorID: last[p.group], Version: 1,
		}
		if prior := byID[h.PriorID]; prior != nil {
			prior.NextID = h.ID
		}
		last[p.group], byID[p.id] = p.id, h
		heads = append(heads, h)
	}
	for n, h := range heads {
		if f := tasks[n].with; f != nil {
			f(h)
		}
		if err := s.Create(t.Context(), ru.Creation{Task: &ru.Task{Head: *h}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// left returns the IDs of the tasks of a store, the oldest first.
func left(t *testing.T, s ru.Store) (ids []string) {
	t.Helper()
	for h, err := range s.List(t.Context(), ru.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, h.ID)
	}
	slices.Reverse(ids)
	return ids
}

func pruner(t *testing.T, s ru.Store) *ru.Runner {
	t.Helper()
	r, err := ru.New(fake.Demo(fake.Config{}, 2), s, ru.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const day = 24 * time.Hour

// What may go by the policy and by what a rollback or a later task needs.
func TestS27_Prune(t *testing.T) {
	restoring := func(h *ru.Head) { h.Restore = &ru.Restore{Since: h.EndedAt} }
	restored := func(ago time.Duration) func(*ru.Head) {
		return func(h *ru.Head) { h.Restore = &ru.Restore{Since: h.EndedAt, EndedAt: time.Now().UTC().Add(-ago)} }
	}
	all := ru.PrunePolicy{OlderThan: 1}
	for _, tt := range []struct {
		name   string
		tasks  []past
		policy ru.PrunePolicy
		want   string
	}{
		{name: "nothing there", policy: all},
		{name: "the only task", tasks: []past{{id: "a", ago: day}}, policy: all},
		{name: "all but the newest", tasks: []past{{id: "a", ago: 3 * day}, {id: "b", ago: 2 * day}, {id: "c", ago: day}}, policy: all, want: "a b"},
		{
			name:   "by age",
			tasks:  []past{{id: "a", ago: 3 * day}, {id: "b", ago: 2 * day}, {id: "c", ago: 2*day - 1}, {id: "d", ago: 0}},
			policy: ru.PrunePolicy{OlderThan: 2 * day}, want: "a b",
		},
		{
			name:   "by count",
			tasks:  []past{{id: "a", ago: 4}, {id: "b", ago: 3}, {id: "c", ago: 2}, {id: "d", ago: 1}},
			policy: ru.PrunePolicy{Keep: 3}, want: "a",
		},
		{
			name:   "a count that is not reached",
			tasks:  []past{{id: "a", ago: 4 * day}, {id: "b", ago: 3 * day}},
			policy: ru.PrunePolicy{Keep: 3},
		},
		{
			name:   "by age and count: the later bound counts",
			tasks:  []past{{id: "a", ago: 4 * day}, {id: "b", ago: 3 * day}, {id: "c", ago: 2 * day}, {id: "d", ago: day}},
			policy: ru.PrunePolicy{OlderThan: 3 * day, Keep: 1}, want: "a b",
		},
		{
			name:   "by count and age",
			tasks:  []past{{id: "a", ago: 4 * day}, {id: "b", ago: 3 * day}, {id: "c", ago: 2 * day}, {id: "d", ago: day}},
			policy: ru.PrunePolicy{OlderThan: day, Keep: 3}, want: "a",
		},
		{
			name:   "each group for itself",
			tasks:  []past{{id: "a", group: "x", ago: day}, {id: "b", group: "y", ago: day}, {id: "c", group: "x", ago: day}, {id: "d", group: "z", ago: day}, {id: "e", group: "y", ago: day}, {id: "f", group: "y"}},
			policy: ru.PrunePolicy{Keep: 1}, want: "a b e",
		},
		{
			name:   "one group",
			tasks:  []past{{id: "a", group: "x", ago: day}, {id: "b", group: "y", ago: day}, {id: "c", group: "x", ago: day}, {id: "d", group: "y"}},
			policy: ru.PrunePolicy{OlderThan: 1, GroupID: "y"}, want: "b",
		},
		{
			name:   "what came after it touched nothing",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "c", ago: day, untouched: true, status: ru.StatusCanceled}, {id: "d", ago: day, untouched: true, status: ru.StatusFailed}},
			policy: all, want: "a",
		},
		{
			name:   "none touched anything",
			tasks:  []past{{id: "a", ago: day, untouched: true}, {id: "b", ago: day, untouched: true}, {id: "c", ago: day, untouched: true}},
			policy: all, want: "a b",
		},
		{
			name:   "the newest has only begun and may still end untouched",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "c", status: ru.StatusPending, untouched: true, with: func(h *ru.Head) { h.HoldsGroup = true }}},
			policy: all, want: "a",
		},
		{
			name:   "the newest is at work",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "c", status: ru.StatusRunning, with: func(h *ru.Head) { h.HoldsGroup = true }}},
			policy: all, want: "a b",
		},
		{
			name:   "source of a rollback at work",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "c", ago: day, untouched: true}, {id: "r", kind: ru.Rollback, source: "b", status: ru.StatusRunning}},
			policy: all, want: "a",
		},
		{
			name:   "source of a rollback that restores",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "r", ago: day, kind: ru.Rollback, source: "b", status: ru.StatusCanceled, with: restoring}},
			policy: all, want: "a",
		},
		{
			name:   "source of a rollback that has ended",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "r", ago: day, kind: ru.Rollback, source: "b"}},
			policy: all, want: "a b",
		},
		{
			name:   "source of a rollback that touched nothing",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "r", ago: day, kind: ru.Rollback, source: "b", untouched: true, status: ru.StatusCanceled}},
			policy: all, want: "a",
		},
		{
			name:   "a restore counts for the age",
			tasks:  []past{{id: "a", ago: 3 * day}, {id: "b", ago: 3 * day, with: restored(day)}, {id: "c", ago: 3 * day}, {id: "d"}},
			policy: ru.PrunePolicy{OlderThan: 2 * day}, want: "a",
		},
		{
			name:   "nothing behind one that stays",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day, with: restoring}, {id: "c", ago: day}, {id: "d", ago: day}},
			policy: all, want: "a",
		},
		{
			name:   "one that holds its group stays",
			tasks:  []past{{id: "a", ago: day, with: func(h *ru.Head) { h.HoldsGroup = true }}, {id: "b", ago: day}},
			policy: all,
		},
		{
			name:   "a record of a newer version stays",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day, with: func(h *ru.Head) { h.Schema++ }}, {id: "c", ago: day}, {id: "d", ago: day}},
			policy: all, want: "a",
		},
		{
			name:   "a chain whose beginning has gone",
			tasks:  []past{{id: "a", ago: day, with: func(h *ru.Head) { h.PriorID = "gone" }}, {id: "b", ago: day}},
			policy: all, want: "a",
		},
		{
			name:   "the end of a chain that goes on in a task not listed",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day, with: func(h *ru.Head) { h.NextID = "young" }}},
			policy: all, want: "a",
		},
		{
			name:   "records that lead in a circle",
			tasks:  []past{{id: "a", ago: day}, {id: "b", ago: day}, {id: "c", ago: day, with: func(h *ru.Head) { h.NextID = "b" }}},
			policy: all, want: "a b",
		},
	} {
		bubbled(t, tt.name, func(t *testing.T) {
			s := history(t, tt.tasks...)
			before := left(t, s)
			got, err := pruner(t, s).Prune(t.Context(), tt.policy)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Fields(tt.want), got, equateEmpty); d != "" {
				t.Errorf("pruned (-want +got):\n%s", d)
			}
			stay := slices.DeleteFunc(before, func(id string) bool { return slices.Contains(got, id) })
			if d := cmp.Diff(stay, left(t, s), equateEmpty); d != "" {
				t.Errorf("left (-want +got):\n%s", d)
			}
		})
	}
}

var equateEmpty = cmp.FilterValues(func(a, b []string) bool { return len(a)+len(b) == 0 }, cmp.Ignore())

// Of every history of up to five tasks, touched or not, no task goes that the walk of a rollback could come by.
func TestS27_PruneSparesEveryRollback(t *testing.T) {
	for length := 1; length <= 5; length++ {
		for mask := range 1 << length {
			bubbled(t, fmt.Sprintf("%0*b", length, mask), func(t *testing.T) {
				var tasks []past
				for n := range length {
					tasks = append(tasks, past{id: fmt.Sprint("task-", n), ago: day, untouched: mask>>n&1 == 0})
				}
				s := history(t, tasks...)
				r := pruner(t, s)
				if _, err := r.Prune(t.Context(), ru.PrunePolicy{OlderThan: 1}); err != nil {
					t.Fatal(err)
				}
				have := left(t, s)
				for n := range length {
					needed := !tasks[n].untouched // and so could be rolled back, as long as nobody else came later
					for _, later := range tasks[n+1:] {
						needed = needed && later.untouched
					}
					if !needed {
						continue
					}
					for _, on := range tasks[n:] {
						if !slices.Contains(have, on.id) {
							t.Errorf("a rollback of %s needs %s; there are %v", tasks[n].id, on.id, have)
						}
					}
				}
				if newest := tasks[length-1].id; !slices.Contains(have, newest) {
					t.Errorf("the newest task is gone; there are %v", have)
				}
				for n := 1; n < len(have); n++ {
					if h, err := s.Head(t.Context(), have[n-1]); err != nil || h.NextID != have[n] {
						t.Errorf("the chain has a gap: %v", have)
					}
				}
			})
		}
	}
}

// The life of a group with a real Runner: what a rollback needs is there until it has been touched by the next task.
func TestS28_PruneBetweenTasks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		ctx := b.ctx()
		prune := func(want ...string) {
			t.Helper()
			time.Sleep(time.Second)
			got, err := b.r.Prune(ctx, ru.PrunePolicy{OlderThan: 1})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, equateEmpty); d != "" {
				t.Fatalf("pruned (-want +got):\n%s", d)
			}
		}
		run := func(id string) {
			t.Helper()
			if err := b.r.Run(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
		token := func(s *ru.Spec) { s.ClientToken = "token" }
		first := b.create(imageSpec(2, token))
		run(first)
		prune()
		second := b.create(scriptSpec(2))
		prune() // it may still be canceled, and the first one be rolled back
		run(second)
		prune(first)
		third := b.create(imageSpec(2))
		if err := b.r.Cancel(ctx, third, ""); err != nil {
			t.Fatal(err)
		}
		prune()
		back, err := b.r.Rollback(ctx, second, ru.RollbackSpec{})
		if err != nil {
			t.Fatal(err)
		}
		prune()
		run(back.ID)
		prune(second, third)
		if _, err := b.r.Get(ctx, first); !errors.Is(err, ru.ErrTaskNotFound) {
			t.Errorf("Get of a pruned task: %v", err)
		}
		again := b.create(imageSpec(2, token))
		if again != first {
			t.Errorf("the client token made task %s, and %s before", again, first)
		}
		run(again)
		prune(back.ID)
		if got, err := b.r.Get(ctx, again); err != nil || got.Status != ru.StatusSucceeded || got.PriorID != back.ID {
			t.Errorf("the new task: %+v, %v", got, err)
		}
	})
}
