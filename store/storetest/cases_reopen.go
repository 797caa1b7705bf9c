package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/rollingupgrade/rollingupgrade"
)

func reopenCases() []draft {
	needsReopen := func(b Bed) string {
		if b.Reopen == nil {
			return "the data ends with the store"
		}
		return ""
	}
	return []draft{
		{
			name:  "reopen/everything is kept",
			needs: needsReopen,
			demands: "A write is durable when the method returns: another opening of the data, in another process or after the end of this one, has " +
				"all of it, and goes on from there.",
			run: func(k *kit) {
				c := creation{Task: filledTask("task-0", "group-0"), Events: filledEvents(3, 1, 3)}
				c.Task.EventSeq, c.Task.CreatedAt = 3, k.now()
				k.mustCreate(c)
				k.mustSave(k.next("task-0", func(c *change) { c.Outputs = map[string]output{"i-0000": filled[output](8)} }))
				for n := range 4 {
					k.s = k.reopen().s
					k.same("in another life")
					k.mustSave(k.next("task-0", everything(fmt.Sprintf("life %d", n)), rows(newRow(10-n))))
					k.begin(fmt.Sprintf("task-%d", n+1), fmt.Sprintf("group-%d", n+1), 2)
				}
			},
		},
		{
			name:    "reopen/rules hold on",
			needs:   needsReopen,
			demands: "Versions, held groups, taken IDs and numbers of events hold in every opening.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", ends))
				k.begin("task-2", "group-1", 2)
				stale := k.next("task-2", everything("lost"))
				k.mustSave(k.next("task-2", everything("kept")))
				for range 2 {
					k.s = k.reopen().s
					k.refused("an old version", k.save(clone(stale)), rollingupgrade.ErrVersionConflict)
					k.refused("a taken ID", k.create(made(k.fresh("task-1", "group-2", 1))), rollingupgrade.ErrTaskExists)
					k.busy("a held group", k.create(made(k.fresh("task-3", "group-1", 1))), "group-1", "task-2")
					k.busy("a held group", k.save(k.next("task-1", holds(true))), "group-1", "task-2")
					k.same("after the refusals")
				}
				k.mustSave(k.next("task-2", ends, say("goes on")))
				k.s = k.reopen().s
				k.mustSave(k.next("task-1", holds(true)))
			},
		},
		{
			name: "reopen/side by side",
			needs: func(b Bed) string {
				if b.Exclusive {
					return "the data cannot be opened twice at a time"
				}
				return needsReopen(b)
			},
			demands: "What is written through one opening is seen at once through the others: by reads, and by what refuses a write. Nothing is cached past a save.",
			run: func(k *kit) {
				all := []*kit{k, k.reopen(), k.reopen()}
				for n := range 9 {
					one, two := all[n%3], all[(n+1)%3]
					id, group := fmt.Sprintf("task-%d", n), fmt.Sprintf("group-%d", n)
					two.absent("before", id)
					one.begin(id, group, 2)
					two.busy("a held group", two.create(made(two.fresh("other-"+id, group, 1))), group, id)
					stale := two.next(id, everything("lost"))
					two.mustSave(two.next(id, everything("kept")))
					one.refused("an old version", one.save(stale), rollingupgrade.ErrVersionConflict)
					for _, on := range all {
						on.mustSave(on.next(id, everything("in turn")))
						for _, other := range all {
							other.sameTask("in turn", id, k.want[id])
						}
					}
					one.mustSave(one.next(id, ends))
					two.begin("next-"+id, group, 1)
					two.mustSave(two.next("next-"+id, ends))
				}
				for _, on := range all {
					on.same("in the end")
				}
			},
		},
	}
}

func randomCases() []draft {
	return []draft{{
		name: "random/writes",
		demands: "Whatever is written in whatever order, the store is what a simple model says: what fits is kept, what does not is refused with the right error " +
			"and changes nothing.",
		run: func(k *kit) {
			for seed := range uint64(3) {
				k.randomWrites(seed)
				if k.failure() != nil {
					k.fatalf("the random writes had seed %d", seed)
				}
			}
		},
	}}
}

// randomWrites does a few hundred writes, a third of which do not fit.
func (k *kit) randomWrites(seed uint64) {
	chance := rand.New(rand.NewPCG(seed, 7))
	taskID := func() string { return fmt.Sprintf("task-%d-%d", seed, chance.IntN(8)) }
	_, prunes := k.s.(rollingupgrade.Pruner)
	for n := range 90 {
		if prunes && chance.IntN(8) == 0 {
			k.randomDelete(chance, n, taskID())
		}
		if k.bed.Reopen != nil && chance.IntN(20) == 0 {
			k.s = k.reopen().s
		}
		id, edits := taskID(), k.randomEdits(chance, n)
		if k.want[id] != nil {
			c := k.next(id, edits...)
			if chance.IntN(6) == 0 {
				c.Head.Version += int64(chance.IntN(5) - 2)
			}
			wants := k.wants(c)
			k.outcome(fmt.Sprintf("write %d: save", n), k.save(c), wants)
			k.sameTask(fmt.Sprintf("after write %d", n), id, k.want[id])
		}
		if chance.IntN(3) > 0 && len(k.want) > 0 {
			continue
		}
		id = taskID()
		t := k.fresh(id, fmt.Sprintf("group-%d-%d", seed, chance.IntN(3)), chance.IntN(4))
		t.HoldsGroup = chance.IntN(3) > 0
		c := made(t)
		var wants []error
		freed := ""
		if prior := taskID(); k.want[prior] != nil && prior != id && chance.IntN(2) == 0 {
			p := k.next(prior, append(k.randomEdits(chance, n), ends)...)
			if chance.IntN(6) == 0 {
				p.Head.Version++
			}
			wants = k.wants(p)
			c.Prior, freed = &p, prior
		}
		if h := k.holder(t.GroupID); t.HoldsGroup && h != "" && h != freed {
			wants = append(wants, rollingupgrade.ErrGroupBusy)
		}
		if k.want[id] != nil {
			wants = []error{rollingupgrade.ErrTaskExists}
		}
		known := k.want[id] != nil
		k.outcome(fmt.Sprintf("write %d: create", n), k.create(c), wants)
		if freed != "" {
			k.sameTask(fmt.Sprintf("after write %d, the prior task", n), freed, k.want[freed])
		}
		if r := k.want[id]; r != nil {
			k.sameTask(fmt.Sprintf("after write %d", n), id, r)
		} else if !known {
			k.absent(fmt.Sprintf("after write %d", n), id)
		}
		k.settle()
	}
	k.same("after random writes")
}

// randomDelete deletes a task, or is refused: a third of the time the version is another one.
func (k *kit) randomDelete(chance *rand.Rand, n int, id string) {
	version, want := int64(1), rollingupgrade.ErrTaskNotFound
	if r := k.want[id]; r != nil {
		version, want = r.task.Version, nil
		if chance.IntN(3) == 0 {
			version, want = version+int64(1+chance.IntN(2))*int64(1-2*chance.IntN(2)), rollingupgrade.ErrVersionConflict
		}
	}
	what := fmt.Sprintf("write %d: delete", n)
	if err := k.remove(id, version); want != nil {
		k.refused(what, err, want)
	} else if err != nil {
		k.errorf("%s: error %v, but nothing speaks against it", what, err)
	}
	if r := k.want[id]; r != nil {
		k.sameTask("after "+what, id, r)
	} else {
		k.absent("after "+what, id)
	}
}

func (k *kit) randomEdits(chance *rand.Rand, n int) []func(*change) {
	var edits []func(*change)
	for _, e := range []func(*change){
		ends, holds(true), everything(fmt.Sprintf("write %d", n)), rows(newRow(1 + chance.IntN(8))), say("a", "b"),
		prints(fmt.Sprintf("i-%04d", chance.IntN(4)), fmt.Sprint(n)), status(rollingupgrade.StatusFailurePaused),
	} {
		if chance.IntN(3) == 0 {
			edits = append(edits, e)
		}
	}
	return edits
}

// holder is the task that holds a group.
func (k *kit) holder(group string) string {
	for id, r := range k.want {
		if r.task.HoldsGroup && r.task.GroupID == group {
			return id
		}
	}
	return ""
}

// wants lists what speaks against a change of a task that is there.
func (k *kit) wants(c change) (errs []error) {
	h := &k.want[c.Head.ID].task.Head
	if c.Head.Version != h.Version+1 {
		errs = append(errs, rollingupgrade.ErrVersionConflict)
	}
	if holder := k.holder(c.Head.GroupID); c.Head.HoldsGroup && holder != "" && holder != c.Head.ID {
		errs = append(errs, rollingupgrade.ErrGroupBusy)
	}
	return errs
}

// outcome holds that err is one of those that speak against a write, and nil if none does.
func (k *kit) outcome(what string, err error, wants []error) {
	if len(wants) == 0 {
		if err != nil {
			k.errorf("%s: error %v, but nothing speaks against it", what, err)
		}
		return
	}
	for _, w := range wants {
		if errors.Is(err, w) {
			k.refused(what, err, w)
			return
		}
	}
	k.errorf("%s: error %v, want one of %q", what, err, wants)
}
