package storetest

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/rollingupgrade/rollingupgrade"
)

func priorCases() []draft {
	return []draft{
		{
			name: "prior/S28_takes the place",
			demands: "Create applies Prior, a change of another task, in the same transaction: the source of a rollback is canceled and gives " +
				"its group up while the new task takes it. All of the change is kept: head, rows, events, outputs.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 3)
				k.mustSave(k.next("task-1", say("a", "b"), prints("i-0001", "old"), status(rollingupgrade.StatusBatchPaused)))
				c := creation{Task: filledTask("task-2", "group-1"), Events: filledEvents(3, 1, 2)}
				c.Task.EventSeq, c.Task.CreatedAt = 2, k.now()
				prior := k.next("task-1", func(c *change) {
					version, seq := c.Head.Version, c.Head.EventSeq
					h := filled[head](5)
					c.Head = &h
					setIdentity(c.Head, "task-1", "group-1")
					c.Head.Version, c.Head.HoldsGroup, c.Head.Status = version, false, rollingupgrade.StatusCanceled
					c.Events, c.Head.EventSeq = filledEvents(6, seq+1, 2), seq+2
					row := filled[instance](7)
					setRow(&row, 1)
					c.Rows = []instance{row, newRow(3)}
					c.Outputs = map[string]output{"i-0001": filled[output](8)}
				})
				c.Prior = &prior
				k.mustCreate(c)
				k.same("after Create")
				k.busy("a third task", k.create(made(k.fresh("task-3", "group-1", 1))), "group-1", "task-2")
				if got := ids(k.mustList(filter{HoldsGroup: true})); diff([]string{"task-2"}, got) != "" {
					k.errorf("tasks that hold their group: %q, want task-2", got)
				}
			},
		},
		{
			name:    "prior/follows an ended task",
			demands: "Prior may be a task that does not hold its group, and the new task need not hold it either; versions go on from there.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", ends))
				for n := 2; n < 6; n++ {
					last := fmt.Sprintf("task-%d", n-1)
					prior := k.next(last, say("taken over"), func(c *change) { c.Head.NextID = fmt.Sprintf("task-%d", n) }, ends)
					t := k.fresh(fmt.Sprintf("task-%d", n), "group-1", 1)
					t.PriorID, t.HoldsGroup = last, n%2 == 0
					c := made(t)
					c.Prior = &prior
					k.mustCreate(c)
					k.same("after Create")
				}
				k.mustSave(k.next("task-1", everything("later")))
			},
		},
		{
			name:    "prior/conflict",
			demands: "A Prior of another version than follows the kept one is refused with ErrVersionConflict: the new task is not there, and nothing is changed.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", everything("kept")))
				for _, off := range []int64{-2, -1, 1, 2, 100} {
					for _, held := range []bool{true, false} {
						prior := k.next("task-1", everything("lost"), ends)
						prior.Head.Version += off
						t := k.fresh("task-2", "group-1", 2)
						t.HoldsGroup = held
						c := made(t)
						c.Prior = &prior
						k.refused(fmt.Sprintf("prior %+d", off), k.create(c), rollingupgrade.ErrVersionConflict)
						k.absent("after the conflict", "task-2")
						k.same("after the conflict")
					}
				}
				if err := k.create(made(k.fresh("task-2", "group-2", 1))); err != nil {
					k.errorf("the ID is not free after refused creations: %v", err)
				}
			},
		},
		{
			name: "prior/busy",
			demands: "If another task than Prior holds the group, or Prior goes on to hold it, Create returns a *GroupBusyError that names the holder: " +
				"the new task is not there, and Prior is not changed.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", ends, everything("kept")))
				k.begin("task-2", "group-1", 2)
				attempt := func(id, prior, group string, edits ...func(*change)) error {
					p := k.next(prior, append(edits, everything("lost"))...)
					c := made(k.fresh(id, group, 2))
					c.Prior = &p
					return k.create(c)
				}
				k.busy("another task holds the group", attempt("task-3", "task-1", "group-1"), "group-1", "task-2")
				k.absent("after that", "task-3")
				k.same("after that")
				k.busy("the prior task goes on to hold it", attempt("task-3", "task-2", "group-1"), "group-1", "task-2")
				k.absent("after that", "task-3")
				k.same("after that")
				if err := attempt("task-3", "task-2", "group-1", ends); err != nil {
					k.errorf("the prior task gives it up: %v", err)
				}
				k.same("after that")
			},
		},
		{
			name:    "prior/unknown task",
			demands: "A Prior of a task that is not there is refused (with ErrTaskNotFound or ErrVersionConflict), and nothing is changed.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				p := k.next("task-1", ends, everything("lost"))
				p.Head.ID = "task-0"
				c := made(k.fresh("task-2", "group-2", 1))
				c.Prior = &p
				err := k.create(c)
				if !errors.Is(err, rollingupgrade.ErrTaskNotFound) && !errors.Is(err, rollingupgrade.ErrVersionConflict) {
					k.errorf("error %v, want ErrTaskNotFound or ErrVersionConflict", err)
				}
				k.absent("after that", "task-0")
				k.absent("after that", "task-2")
				k.same("after that")
			},
		},
		{
			name:    "prior/S6_racing successors",
			demands: "Of tasks that want to take the place of the same task at the same time one succeeds; the others get ErrVersionConflict or ErrGroupBusy.",
			run: func(k *kit) {
				other := k.beside()
				for round := range 5 {
					source, group := fmt.Sprintf("source-%d", round), fmt.Sprintf("group-%d", round)
					k.begin(source, group, 2)
					const n = 8
					errs := make([]error, n)
					cs := make([]creation, n)
					for i := range n {
						id := fmt.Sprintf("task-%d-%d", round, i)
						p := k.next(source, everything("taken by "+id), ends)
						p.Head.NextID = id
						cs[i] = made(k.fresh(id, group, 2))
						cs[i].Prior = &p
					}
					k.together(n, func(i int) {
						on := k
						if i%2 == 1 {
							on = other
						}
						errs[i] = on.create(cs[i])
					})
					won := 0
					for i, err := range errs {
						switch {
						case err == nil:
							won++
						case !errors.Is(err, rollingupgrade.ErrVersionConflict) && !errors.Is(err, rollingupgrade.ErrGroupBusy):
							k.errorf("error %v, want ErrVersionConflict or ErrGroupBusy", err)
						default:
							k.absent("a loser", fmt.Sprintf("task-%d-%d", round, i))
						}
					}
					if won != 1 {
						k.errorf("%d of %d succeeded, want 1", won, n)
					}
					k.settle()
				}
			},
		},
		{
			name: "prior/seen whole",
			demands: "Who reads during a Create finds all of it or nothing: with the new task its rows and events, and the Prior changed; " +
				"with the Prior changed the new task.",
			run: creationsSeenWhole,
		},
	}
}

// creationsSeenWhole has readers look at a chain of tasks that grows.
func creationsSeenWhole(k *kit) {
	const tasks, width = 50, 4
	name := func(n int64) string { return fmt.Sprintf("task-%d", n) }
	k.begin(name(0), "group-1", width)
	other := k.beside()
	var last atomic.Int64 // the newest task whose creation has returned
	k.together(3, func(i int) {
		if i == 0 {
			defer last.Store(tasks)
			for n := int64(1); n < tasks; n++ {
				p := k.next(name(n-1), ends, func(c *change) { c.Head.NextID = name(n) })
				c := made(k.fresh(name(n), "group-1", width))
				c.Prior = &p
				k.mustCreate(c)
				last.Store(n)
			}
			return
		}
		on := k
		if i == 2 {
			on = other
		}
		for n := last.Load(); n < tasks; n = last.Load() {
			if next := on.mustHead(name(n)).NextID; next != "" {
				on.mustHead(next)
			}
			t, err := on.load(name(n + 1))
			if errors.Is(err, rollingupgrade.ErrTaskNotFound) {
				continue
			}
			if err != nil || len(t.Instances) != width || len(on.mustEvents(t.ID, 0)) == 0 {
				k.fatalf("task %s is not there with %d rows and an event: error %v", name(n+1), width, err)
			}
			if h := on.mustHead(name(n)); h.NextID != t.ID || h.HoldsGroup {
				k.fatalf("task %s is there, but %s is not changed: holds its group %t, next %q", t.ID, h.ID, h.HoldsGroup, h.NextID)
			}
		}
	})
}
