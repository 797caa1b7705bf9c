package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/rollingupgrade/rollingupgrade"
)

func deleteCases() []draft {
	pruner := able[rollingupgrade.Pruner]("Pruner")
	both := func(a, b func(Bed) string) func(Bed) string {
		return func(bed Bed) string {
			if why := a(bed); why != "" {
				return why
			}
			return b(bed)
		}
	}
	return []draft{
		{
			name:  "delete/whole",
			needs: pruner,
			demands: "Delete removes head, rows, events and outputs of a task and its place in every listing, for good, and nothing of other tasks, whatever " +
				"group and instances they share with it.",
			run: deleteWhole,
		},
		{
			name:  "delete/ID again",
			needs: pruner,
			demands: "The ID of a deleted task may be created again. The new task has nothing of the old one: no rows, no events, no outputs, no place " +
				"in listings, no versions.",
			run: func(k *kit) {
				for round := range 3 {
					k.begin("task-1", "group-1", 4-round)
					k.mustSave(k.next("task-1", everything("old"), say("a", "b"), prints("i-0001", "x"), ends))
					k.mustDelete("task-1")
					k.same("after Delete")
				}
				c := creation{Task: k.fresh("task-1", "group-2", 0)}
				c.Task.Kind = rollingupgrade.Rollback
				k.mustCreate(c)
				k.same("after another creation")
				for _, row := range []string{"i-0000", "i-0001"} {
					_, err := k.output("task-1", row)
					k.refused("output of the new task", err, rollingupgrade.ErrNoOutput)
				}
				k.limited(filter{GroupID: "group-1"})
				k.limited(filter{GroupID: "group-2", Kind: rollingupgrade.Rollback})
				k.mustSave(k.next("task-1", everything("new")))
			},
		},
		{
			name:  "delete/conflict",
			needs: pruner,
			demands: "Delete of any other version than the kept one returns ErrVersionConflict, that of an unknown task ErrTaskNotFound, and " +
				"nothing is changed.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", everything("kept")))
				k.mustSave(k.next("task-1", say("kept"), ends))
				for _, version := range []int64{2, 4, 1, 0, -1, 1 << 40} {
					k.refused(fmt.Sprintf("Delete of version %d", version), k.remove("task-1", version), rollingupgrade.ErrVersionConflict)
				}
				k.same("after the refusals")
				for _, id := range []string{"task-2", "", "TASK-1", "task-1 ", "task-1\x00", "a\xffb", "%", "group-1", "i-0000"} {
					k.refused("Delete of unknown "+short(id), k.remove(id, 3), rollingupgrade.ErrTaskNotFound)
				}
				k.same("after more of them")
				k.mustDelete("task-1")
				k.refused("Delete once more", k.remove("task-1", 3), rollingupgrade.ErrTaskNotFound)
				k.refused("Save of a deleted task", k.save(change{Head: &head{ID: "task-1", GroupID: "group-1", Version: 4}}), rollingupgrade.ErrTaskNotFound)
			},
		},
		{
			name:    "delete/group",
			needs:   pruner,
			demands: "A group that a deleted task held is free; one that another task holds is not.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				k.mustSave(k.next("task-1", ends))
				k.begin("task-2", "group-1", 1)
				k.mustDelete("task-1")
				k.busy("another task holds the group", k.create(made(k.fresh("task-3", "group-1", 1))), "group-1", "task-2")
				k.mustDelete("task-2")
				k.limited(filter{HoldsGroup: true})
				k.limited(filter{GroupID: "group-1"})
				k.begin("task-3", "group-1", 1)
				k.busy("the new task holds it", k.create(made(k.fresh("task-4", "group-1", 1))), "group-1", "task-3")
			},
		},
		{
			name:  "delete/racing saves",
			needs: pruner,
			demands: "Of a Delete, a Save and a Create with Prior that follow one version exactly one succeeds: a command is never lost to a Delete. A Save that comes " +
				"too late gets ErrTaskNotFound, a Delete ErrVersionConflict; of two Deletes the later one gets ErrTaskNotFound.",
			run: racingDeletes,
		},
		{
			name:  "delete/while reading",
			needs: pruner,
			demands: "Whoever reads while tasks are deleted gets all that was not: a listing goes on, and events end with the last one or with " +
				"ErrTaskNotFound, never as if there were no more.",
			run: deleteWhileReading,
		},
		{
			name:    "delete/context",
			needs:   pruner,
			demands: "With a context that is done Delete returns an error that wraps the context's and none of the sentinels, and has deleted nothing, or all.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				ctx, cancel := context.WithCancel(k.ctx)
				cancel()
				err := k.with(ctx).remove("task-1", 1)
				if !errors.Is(err, context.Canceled) {
					k.errorf("Delete: error %v, want one that wraps %q", err, context.Canceled)
				}
				k.unclassed("Delete", err)
				if _, err := k.head("task-1"); errors.Is(err, rollingupgrade.ErrTaskNotFound) {
					k.forget("task-1", 1)
				}
			},
		},
		{
			name: "delete/side by side",
			needs: both(pruner, func(b Bed) string {
				if b.Reopen == nil || b.Exclusive {
					return "the data cannot be opened twice at a time"
				}
				return ""
			}),
			demands: "A Delete is seen at once through other openings of the data.",
			run: func(k *kit) {
				other := k.reopen()
				for n := range 4 {
					id := fmt.Sprintf("task-%d", n)
					k.begin(id, "group-1", 2)
					other.mustSave(other.next(id, everything("there")))
					other.mustLoad(id)
					k.mustDelete(id)
					other.absent("after Delete through another opening", id)
					other.same("after Delete through another opening")
				}
			},
		},
		{
			name:    "delete/told",
			needs:   both(pruner, able[rollingupgrade.Notifier]("Notifier")),
			demands: "A Notifier tells of a Delete as it tells of a save.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				s := k.subscribe(k)
				k.mustDelete("task-1")
				s.expect("task-1")
				s.stop()
			},
		},
	}
}

// remove calls Delete and notes in the model that the task is gone.
func (k *kit) remove(id string, version int64) error {
	k.begun("Delete", id)
	err := k.s.(rollingupgrade.Pruner).Delete(k.ctx, id, version)
	if err == nil {
		k.forget(id, version)
	}
	return err
}

func (k *kit) forget(id string, version int64) {
	k.model.Lock()
	defer k.model.Unlock()
	if r := k.want[id]; r == nil || r.task.Version != version {
		k.errorf("Delete of version %d of task %s was accepted, which is not kept", version, short(id))
		return
	}
	delete(k.want, id)
}

// mustDelete deletes a task as it must be kept now.
func (k *kit) mustDelete(id string) {
	k.model.Lock()
	version := k.want[id].task.Version
	k.model.Unlock()
	if err := k.remove(id, version); err != nil {
		k.fatalf("delete version %d of task %s: %v", version, short(id), err)
	}
}

func deleteWhole(k *kit) {
	var all []string
	for n := range 6 {
		id := fmt.Sprintf("task-%d", n)
		k.begin(id, "group-1", 3) // the same instances in each
		k.mustSave(k.next(id, everything("task "+id), prints("i-0002", id), ends))
		all = append(all, id)
	}
	look := func(when string, gone ...string) {
		k.same(when)
		for _, id := range gone {
			k.absent(when, id)
		}
		k.limited(filter{GroupID: "group-1"})
		k.limited(filter{Status: []rollingupgrade.Status{rollingupgrade.StatusSucceeded}})
		k.limited(filter{Limit: 2})
	}
	k.mustDelete(all[2])
	look("after a Delete in the middle", all[2])
	k.mustDelete(all[5])
	k.mustDelete(all[0])
	look("after Deletes at the ends", all[0], all[2], all[5])
	if k.bed.Reopen != nil {
		k.s = k.reopen().s
		look("in another opening", all[0], all[2], all[5])
	}
	for _, n := range []int{1, 3, 4} {
		k.mustDelete(all[n])
	}
	look("when all are deleted", all...)
}

func racingDeletes(k *kit) {
	other := k.beside()
	for round := range 30 {
		id, group := fmt.Sprintf("task-%d", round), fmt.Sprintf("group-%d", round)
		k.begin(id, group, 2)
		k.mustSave(k.next(id, everything("x"), ends))
		saves := k.next(id, everything("saved"))
		prior := k.next(id, say("followed"))
		next := made(k.fresh("next-"+id, group, 1))
		next.Prior = &prior
		var won, deleted atomic.Int32
		k.together(4, func(i int) {
			var err error
			switch (i + round) % 4 { // whoever is started last is often first
			case 0:
				err = other.save(saves)
			case 1:
				err = k.create(next)
			default:
				on := []*kit{k, other}[i%2]
				if err = on.remove(id, 2); err == nil {
					deleted.Add(1)
				}
			}
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, rollingupgrade.ErrVersionConflict) && !errors.Is(err, rollingupgrade.ErrTaskNotFound):
				k.errorf("a loser: %v", err)
			}
		})
		if won.Load() != 1 {
			k.fatalf("%d of a Save, a Create and two Deletes of one version succeeded, want 1", won.Load())
		}
		if deleted.Load() == 1 {
			k.absent("after it was deleted", id)
			k.absent("its successor", "next-"+id)
		}
	}
}

func deleteWhileReading(k *kit) {
	const tasks, texts = 24, 1200
	var want, got []string
	for n := range tasks {
		id := fmt.Sprintf("task-%02d", n)
		k.begin(id, "group-"+id, 1)
		if n%2 == 0 {
			want = append([]string{id}, want...)
		}
	}
	n := tasks
	for h, err := range k.s.List(k.ctx, filter{}) {
		if err != nil {
			k.fatalf("list while tasks are deleted: %v", err)
		}
		if k.want[h.ID] != nil && len(want) > 0 && int(h.ID[6]-'0')%2 == 0 {
			got = append(got, h.ID)
		}
		if n == tasks {
			k.mustDelete(h.ID) // the one that was listed; the others have yet to come
		}
		if n--; n%2 == 1 && n > 2 {
			k.mustDelete(fmt.Sprintf("task-%02d", n-2))
		}
	}
	if d := diff(want, got); d != "" {
		k.errorf("tasks that were not deleted (-want +got):\n%s", d)
	}
	k.begin("task-x", "group-x", 1)
	said := make([]string, texts)
	k.mustSave(k.next("task-x", say(said...)))
	k.begin("task-y", "group-y", 1) // so that the store is not empty
	last, failed := int64(0), error(nil)
	for e, err := range k.s.Events(k.ctx, "task-x", 0) {
		if err != nil {
			failed = err
			continue
		}
		if last++; e.Seq != last {
			k.fatalf("event %d came as number %d", e.Seq, last)
		}
		if last == 3 {
			k.mustDelete("task-x")
		}
	}
	if failed != nil {
		k.refused("events of a task that was deleted meanwhile", failed, rollingupgrade.ErrTaskNotFound)
	} else if last != texts+1 {
		k.errorf("%d of %d events of a task that was deleted meanwhile, and no error", last, texts+1)
	}
}
