package storetest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/rollingupgrade/rollingupgrade"
)

func groupCases() []draft {
	return []draft{
		{
			name: "group/S6_busy for Create",
			demands: "HoldsGroup is unique per group: Create of a second holder returns a *GroupBusyError that names the group and the holder, and " +
				"nothing is changed. Other groups, and tasks that do not hold their group, are free.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				for range 3 {
					k.busy("a second holder", k.create(made(k.fresh("task-2", "group-1", 2))), "group-1", "task-1")
					k.absent("the second holder", "task-2")
					k.same("after the refusal")
				}
				k.begin("task-2", "group-2", 2)
				idle := k.fresh("task-3", "group-1", 2)
				idle.HoldsGroup = false
				k.mustCreate(made(idle))
				k.busy("a second holder", k.create(made(k.fresh("task-4", "group-1", 2))), "group-1", "task-1")
			},
		},
		{
			name: "group/S6_busy for Save",
			demands: "A Save that begins to hold the group while another task does returns a *GroupBusyError that names the holder; head, rows, events and " +
				"outputs are as before.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", everything("kept"), ends))
				k.begin("task-2", "group-1", 2)
				for range 3 {
					k.busy("a second holder", k.save(k.next("task-1", everything("lost"), holds(true))), "group-1", "task-2")
					k.same("after the refusal")
				}
				k.mustSave(k.next("task-1", everything("kept too"))) // without holding it
			},
		},
		{
			name:    "group/S6_given back and taken",
			demands: "A holder keeps the group over its saves whatever its status, gives it back with HoldsGroup false, and an ended task can take it again for a Restore.",
			run:     giveAndTake,
		},
		{
			name: "group/S6_racing creates",
			demands: "Of tasks created for one group at the same time exactly one succeeds; every other gets a *GroupBusyError that names " +
				"the winner, and is not there.",
			run: racingCreates,
		},
		{
			name:    "group/S6_racing for a free group",
			demands: "Ended tasks that take their group by Save and tasks that are created, all at the same time: exactly one holds the group.",
			run:     racingTakers,
		},
		{
			name:    "group/S13_racing creates of one ID",
			demands: "Of tasks created with one ID at the same time exactly one succeeds and is kept whole; the others get ErrTaskExists.",
			run:     racingIDs,
		},
	}
}

func giveAndTake(k *kit) {
	k.begin("task-1", "group-1", 2)
	for _, s := range []rollingupgrade.Status{rollingupgrade.StatusRunning, rollingupgrade.StatusBatchPaused, rollingupgrade.StatusCanceling, rollingupgrade.StatusFailed} {
		k.mustSave(k.next("task-1", status(s))) // ended, but still at work
		k.busy("while the status is "+string(s), k.create(made(k.fresh("task-2", "group-1", 1))), "group-1", "task-1")
		if d := diff([]string{"task-1"}, ids(k.mustList(filter{HoldsGroup: true}))); d != "" {
			k.errorf("holders while the status is %s (-want +got):\n%s", s, d)
		}
	}
	k.mustSave(k.next("task-1", ends))
	k.begin("task-2", "group-1", 1)
	k.busy("while task-2 holds it", k.save(k.next("task-1", holds(true))), "group-1", "task-2")
	k.mustSave(k.next("task-2", say("renewed")))
	k.mustSave(k.next("task-2", ends))
	k.same("while nobody holds it")
	restoring := func(c *change) {
		c.Head.HoldsGroup, c.Head.Restore = true, &rollingupgrade.Restore{Since: c.Head.SavedAt}
	}
	for _, id := range []string{"task-1", "task-2", "task-1"} { // each restores in turn
		k.mustSave(k.next(id, restoring))
		other := map[string]string{"task-1": "task-2", "task-2": "task-1"}[id]
		k.busy("a second restore", k.save(k.next(other, restoring)), "group-1", id)
		k.busy("a creation during a restore", k.create(made(k.fresh("task-3", "group-1", 1))), "group-1", id)
		k.mustSave(k.next(id, everything("restored"), func(c *change) { c.Head.Lease.Renewal++ }))
		k.same("during a restore")
		k.mustSave(k.next(id, ends, func(c *change) { c.Head.Restore.EndedAt = c.Head.SavedAt }))
		k.same("after a restore")
	}
	k.begin("task-3", "group-1", 1)
}

func racingCreates(k *kit) {
	const n = 24
	other := k.beside()
	for round := range 4 {
		group := fmt.Sprintf("group-%d", round)
		cs := make([]creation, n)
		for i := range cs {
			cs[i] = made(k.fresh(fmt.Sprintf("task-%d-%d", round, i), group, 2))
		}
		errs := make([]error, n)
		k.together(n, func(i int) {
			on := k
			if i%2 == 1 {
				on = other
			}
			errs[i] = on.create(cs[i])
		})
		winner := ""
		for i, err := range errs {
			if err == nil && winner != "" {
				k.fatalf("two tasks hold group %s", group)
			}
			if err == nil {
				winner = cs[i].Task.ID
			}
		}
		if winner == "" {
			k.fatalf("no task was created: %v", errs[0])
		}
		for i, err := range errs {
			if err != nil {
				k.busy("a loser", err, group, winner)
				k.absent("a loser", cs[i].Task.ID)
			}
		}
		k.settle()
	}
}

func racingTakers(k *kit) {
	const n = 8
	other := k.beside()
	for round := range 4 {
		group := fmt.Sprintf("group-%d", round)
		old := func(i int) string { return fmt.Sprintf("old-%d-%d", round, i) }
		for i := range n {
			k.begin(old(i), group, 1)
			k.mustSave(k.next(old(i), ends))
		}
		var mu sync.Mutex
		var won []string
		k.together(2*n, func(i int) {
			on, id := k, old(i/2)
			if i/2%2 == 1 {
				on = other
			}
			var err error
			if i%2 == 0 {
				err = on.save(k.next(id, holds(true), everything("taken")))
			} else {
				id = fmt.Sprintf("new-%d-%d", round, i)
				err = on.create(made(k.fresh(id, group, 1)))
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won = append(won, id)
			} else if !errors.Is(err, rollingupgrade.ErrGroupBusy) {
				k.errorf("error %v, want ErrGroupBusy", err)
			}
		})
		if len(won) != 1 {
			k.fatalf("%d tasks took group %s: %q", len(won), group, won)
		}
		if d := diff(won, ids(k.mustList(filter{GroupID: group, HoldsGroup: true}))); d != "" {
			k.fatalf("holders of group %s (-want +got):\n%s", group, d)
		}
	}
}

func racingIDs(k *kit) {
	const n = 16
	other := k.beside()
	for round := range 4 {
		id := fmt.Sprintf("task-%d", round)
		cs := make([]creation, n)
		for i := range cs {
			t := k.fresh(id, fmt.Sprintf("group-%d-%d", round, i), i+1) // each differs in head, rows and events
			t.Reason = fmt.Sprintf("made by %d", i)
			cs[i] = made(t)
			cs[i].Events[0].Text = t.Reason
		}
		errs := make([]error, n)
		k.together(n, func(i int) {
			on := k
			if i%2 == 1 {
				on = other
			}
			errs[i] = on.create(cs[i])
		})
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else {
				k.refused("a loser", err, rollingupgrade.ErrTaskExists)
			}
		}
		if won != 1 {
			k.errorf("%d of %d creations of one ID succeeded, want 1", won, n)
		}
		k.settle()
	}
}
