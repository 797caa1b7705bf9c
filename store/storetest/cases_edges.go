package storetest

import (
	"fmt"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

// edgeCases are what stores with columns and indexes get wrong first.
func edgeCases() []draft {
	return []draft{
		{
			name: "list/times far apart",
			demands: "Any time that a record can hold sorts and filters as itself: the zero time, times before 1970, those that " +
				"64 bits of nanoseconds cannot hold, and those that differ by one nanosecond.",
			run: farApart,
		},
		{
			name:    "prior/S6_begins to hold",
			demands: "Prior may begin to hold its group like any saved task; if another holds it, Create returns a *GroupBusyError and changes nothing.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				k.mustSave(k.next("task-1", ends))
				k.begin("task-2", "group-1", 1)
				attempt := func() error {
					p := k.next("task-1", everything("x"), holds(true))
					c := made(k.fresh("task-3", "group-3", 1))
					c.Prior = &p
					return k.create(c)
				}
				k.busy("another task holds the prior's group", attempt(), "group-1", "task-2")
				k.absent("after that", "task-3")
				k.same("after that")
				k.mustSave(k.next("task-2", ends))
				if err := attempt(); err != nil {
					k.errorf("the prior's group is free: %v", err)
				}
				k.busy("the prior holds it now", k.create(made(k.fresh("task-4", "group-1", 1))), "group-1", "task-1")
			},
		},
		{
			name:    "save/a row twice",
			demands: "Of two rows with one ID in a change the later one is kept.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				c := k.next("task-1")
				first, second := newRow(1), newRow(1)
				first.Calls, second.Calls = 7, 8
				c.Rows = []instance{first, newRow(0), second}
				k.mustSave(c)
				if got := k.mustLoad("task-1").Instances; len(got) != 2 || got[1].Calls != 8 {
					k.errorf("rows %+v", got)
				}
			},
		},
	}
}

func farApart(k *kit) {
	at := []time.Time{
		{},
		time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(1677, 9, 21, 0, 0, 0, 0, time.UTC), time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC),
		time.Unix(0, 0).UTC(), time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), time.Date(2026, 1, 2, 3, 4, 5, 7, time.UTC),
		time.Date(2262, 4, 12, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC),
	}
	var want []string
	for n, created := range at {
		t := k.fresh(fmt.Sprintf("task-%d", n), fmt.Sprintf("group-%d", n), 0)
		t.CreatedAt, t.Status, t.Pause = created, rollingupgrade.StatusBatchPaused, &rollingupgrade.Pause{}
		t.WakeAt = created
		k.mustCreate(made(t))
		want = append([]string{t.ID}, want...)
	}
	if got := ids(k.mustList(filter{})); diff(want, got) != "" {
		k.errorf("listed are %q, want %q", got, want)
	}
	for n, now := range at[1:] {
		due := want[len(at)-2-n : len(at)-1] // all up to now but the first, whose WakeAt is not set
		if got := ids(k.mustList(filter{Runnable: now})); diff(due, got) != "" {
			k.errorf("runnable at %s are %q, want %q", now, got, due)
		}
	}
}
