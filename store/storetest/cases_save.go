package storetest

import (
	"encoding/json"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade"
)

func saveCases() []draft {
	return []draft{
		{
			name:    "save/every field",
			demands: "Save replaces the head and the rows it is given as a whole: every field takes its new value, and one that is empty now is empty.",
			run: func(k *kit) {
				c := creation{Task: filledTask("task-1", "group-1"), Events: filledEvents(3, 1, 2)}
				c.Task.EventSeq = 2
				k.mustCreate(c)
				k.mustSave(k.next("task-1", func(c *change) { // every field changes
					h := filled[head](5)
					setIdentity(&h, "task-1", "group-1")
					h.Version, h.EventSeq, h.CreatedAt = c.Head.Version, 3, c.Head.CreatedAt
					c.Head, c.Events = &h, filledEvents(6, 3, 1)
					row := filled[instance](7)
					setRow(&row, 0)
					c.Rows, c.Outputs = []instance{row}, map[string]output{"i-0000": filled[output](8)}
				}))
				k.same("after Save of other values")
				k.mustSave(k.next("task-1", func(c *change) { // every field is emptied
					c.Head = &head{ID: "task-1", GroupID: "group-1", CreatedAt: c.Head.CreatedAt, Version: c.Head.Version, EventSeq: 3}
					c.Rows, c.Outputs = []instance{{ID: "i-0000"}}, map[string]output{"i-0000": {}}
				}))
				k.same("after Save of zero values")
			},
		},
		{
			name:    "save/rows",
			demands: "Save replaces the rows with the same ID, appends new ones and keeps all others. Load sorts rows by Pos, which may change.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 12)
				k.begin("task-2", "group-2", 12) // has rows of the same IDs
				edit := func(n int, note string) instance {
					r := newRow(n)
					r.Note, r.State, r.Attempt = note, json.RawMessage(`{"a":1}`), 7
					return r
				}
				k.mustSave(k.next("task-1", rows(edit(3, "changed"), edit(11, "changed"))))
				k.same("after a change of two")
				k.mustSave(k.next("task-1", rows(edit(100, "new"), edit(0, "changed"), edit(20, "new"), edit(13, "new"))))
				k.same("after new ones, in no order")
				k.mustSave(k.next("task-1", rows(newRow(3))))
				k.same("after a row lost its fields")
				k.mustSave(k.next("task-1", func(c *change) { // the batches are divided anew: all change places
					for n, i := range k.want["task-1"].task.Instances {
						i.Pos = (n*7 + 5) % len(k.want["task-1"].task.Instances)
						c.Rows = append(c.Rows, i)
					}
				}))
				k.same("after all have changed places")
				k.mustSave(k.next("task-1", func(c *change) {
					for n, i := range k.want["task-1"].task.Instances {
						i.Pos = 1 << (2 * n)
						c.Rows = append(c.Rows, i)
					}
				}))
				k.same("after places with gaps")
			},
		},
		{
			name:    "save/no rows at first",
			demands: "A task may be created without rows, which the first Save brings.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 0)
				k.same("after Create")
				k.mustSave(k.next("task-1", rows(newRow(1), newRow(0))))
				k.same("after Save")
			},
		},
		{
			name:    "save/head only",
			demands: "A Save of the head alone (the renewal of a lease) changes nothing else. Owner, life, duration, renewal and fence of the lease survive.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 3)
				k.mustSave(k.next("task-1", everything("kept"), rows(newRow(2))))
				for n := range int64(20) {
					k.mustSave(k.next("task-1", func(c *change) {
						c.Head.Lease = rollingupgrade.Lease{Owner: fmt.Sprintf("runner-%d", n%3), Life: "life", Duration: 180e9, Renewal: 1<<60 + n, Fence: 1<<61 + n/3}
					}))
					k.same("after a renewal")
				}
				k.mustSave(k.next("task-1", func(c *change) { c.Head.Lease.Owner = "" }))
			},
		},
		{
			name: "save/conflict",
			demands: "A Save whose version is not one more than the kept one gets ErrVersionConflict, and nothing is changed: neither head nor rows nor " +
				"events nor outputs.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 3)
				k.begin("task-2", "group-2", 3)
				for range 4 {
					k.mustSave(k.next("task-1", everything("kept")))
				}
				for _, off := range []int64{-100, -6, -5, -2, -1, 1, 2, 100} {
					c := k.next("task-1", everything("lost"), rows(newRow(3)), prints("i-0002", "lost"), ends)
					c.Head.Version += off
					k.refused(fmt.Sprintf("version %d over 5", c.Head.Version), k.save(c), rollingupgrade.ErrVersionConflict)
					k.same("after the conflict")
				}
				c := k.next("task-1", everything("lost"))
				c.Head.Version--
				c.Events = nil
				k.refused("the kept version, with the same events", k.save(c), rollingupgrade.ErrVersionConflict)
				k.mustSave(k.next("task-1", everything("kept too")))
			},
		},
		{
			name:    "save/ended task",
			demands: "A task whose status is an end can still be saved: a Restore and the next task of the group do so.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				for _, s := range []rollingupgrade.Status{rollingupgrade.StatusFailed, rollingupgrade.StatusCanceled, rollingupgrade.StatusSucceeded} {
					k.mustSave(k.next("task-1", ends, status(s)))
					k.mustSave(k.next("task-1", everything("after the end")))
					k.same("after the end")
				}
			},
		},
		{
			name:    "save/large task",
			demands: "A task of 10,000 rows is kept like a small one; a change of one row leaves the others as they are.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", k.bed.Rows)
				some := []int{0, 1, k.bed.Rows / 2, k.bed.Rows - 1}
				for _, n := range some {
					r := newRow(n)
					r.Note = "changed"
					k.mustSave(k.next("task-1", rows(r), say("changed")))
				}
			},
		},
		{
			name:    "save/tasks apart",
			demands: "Tasks do not touch each other, even of one group with the same instances.",
			run: func(k *kit) {
				for n := range 4 {
					k.begin(fmt.Sprintf("task-%d", n), "group-1", 3)
					k.mustSave(k.next(fmt.Sprintf("task-%d", n), ends))
				}
				for round := range 3 {
					for n := range 4 {
						k.mustSave(k.next(fmt.Sprintf("task-%d", n), everything(fmt.Sprintf("round %d of %d", round, n))))
					}
				}
			},
		},
	}
}
