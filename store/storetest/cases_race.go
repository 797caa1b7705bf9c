package storetest

import (
	"fmt"
	"sync/atomic"

	"github.com/rollingupgrade/rollingupgrade"
)

func raceCases() []draft {
	return []draft{
		{
			name: "race/N3_saves of one version",
			demands: "Of saves that follow the same version exactly one succeeds, the others get ErrVersionConflict; " +
				"what the winners wrote is all there, and nothing of the losers.",
			run: racingSaves,
		},
		{
			name:    "race/N3_takers of a lease",
			demands: "Of Runners that take a lease at the same time exactly one gets it.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				other := k.beside()
				for fence := range int64(20) {
					h := k.mustHead("task-1")
					won := atomic.Int32{}
					k.together(8, func(i int) {
						on := k
						if i%2 == 1 {
							on = other
						}
						mine := clone(*h)
						c := k.step(&mine, func(c *change) {
							c.Head.Lease = rollingupgrade.Lease{Owner: fmt.Sprintf("runner-%d", i), Renewal: c.Head.Lease.Renewal, Fence: fence + 1}
						})
						if err := on.save(c); err == nil {
							won.Add(1)
						} else {
							k.refused("a loser", err, rollingupgrade.ErrVersionConflict)
						}
					})
					if won.Load() != 1 {
						k.fatalf("%d of 8 took the lease", won.Load())
					}
				}
			},
		},
		{
			name: "race/whole records",
			demands: "Load returns head and rows of one version, though others save: never a head with rows of another version. The same holds for Head, " +
				"Events and Output read after one another: later ones are not older.",
			run: wholeRecords,
		},
		{
			name:    "race/everything at once",
			demands: "All methods may be called from many goroutines; tasks do not disturb each other. (Run it with the race detector.)",
			run:     everythingAtOnce,
		},
	}
}

// racingSaves has workers save on top of the same version, round after round. What has won is counted in the record.
func racingSaves(k *kit) {
	const workers, rounds = 8, 25
	other := k.beside()
	k.begin("task-1", "group-1", workers)
	counts := make([]int, workers)
	for round := range rounds {
		t := k.mustLoad("task-1")
		for n := range t.Instances {
			if t.Instances[n].Calls != counts[n] {
				k.errorf("row %d counts %d saves, want %d", n, t.Instances[n].Calls, counts[n])
			}
		}
		var won, sum atomic.Int32
		k.together(workers, func(i int) {
			on := k
			if i%2 == 1 {
				on = other
			}
			row := clone(t.Instances[i])
			row.Calls++
			h, mark := clone(t.Head), fmt.Sprintf("round %d, worker %d", round, i)
			err := on.save(k.step(&h, rows(row), say(mark), prints(row.ID, mark), func(c *change) { c.Head.Progress.Total++ }))
			if err == nil {
				won.Add(1)
				sum.Add(int32(i))
			} else {
				k.refused("a loser", err, rollingupgrade.ErrVersionConflict)
			}
		})
		if won.Load() != 1 {
			k.fatalf("%d of %d saves on top of version %d succeeded, want 1", won.Load(), workers, t.Version)
		}
		counts[sum.Load()]++
	}
	if h := k.mustHead("task-1"); h.Version != 1+rounds || h.Progress.Total != rounds {
		k.errorf("version %d and count %d after %d saves", h.Version, h.Progress.Total, rounds)
	}
}

// wholeRecords has a writer change everything at once and readers compare.
func wholeRecords(k *kit) {
	const saves, width = 100, 6
	k.begin("task-1", "group-1", width)
	k.mustSave(k.next("task-1", prints("i-0000", "0")))
	first := k.mustHead("task-1")
	other := k.beside()
	var done atomic.Bool
	k.together(4, func(i int) {
		if i == 0 {
			defer done.Store(true)
			for n := range saves {
				k.mustSave(k.next("task-1", func(c *change) {
					c.Head.Opened = n + 1
					for r := range width {
						row := newRow(r)
						row.Calls = n + 1
						c.Rows = append(c.Rows, row)
					}
				}, say("x"), prints("i-0000", fmt.Sprint(n+1))))
			}
			return
		}
		on := k
		if i == 3 {
			on = other
		}
		for version := int64(0); !done.Load(); {
			t := on.mustLoad("task-1")
			if t.Version < version {
				k.fatalf("version %d was loaded after version %d", t.Version, version)
			}
			version = t.Version
			for n := range t.Instances {
				if t.Instances[n].Calls != t.Opened {
					k.fatalf("row %d is of save %d, the head of save %d", n, t.Instances[n].Calls, t.Opened)
				}
			}
			o, err := on.output("task-1", "i-0000")
			if err != nil {
				k.fatalf("output: %v", err)
			}
			var printed int
			if _, err := fmt.Sscan(o.Text, &printed); err != nil || printed < t.Opened {
				k.fatalf("output %q was read after save %d", o.Text, t.Opened)
			}
			if h := on.mustHead("task-1"); h.Version < first.Version+int64(printed) {
				k.fatalf("head of version %d was read after the output of save %d", h.Version, printed)
			}
		}
	})
}

func everythingAtOnce(k *kit) {
	const workers, rounds = 8, 8
	other := k.beside()
	k.together(workers, func(i int) {
		on := k
		if i%2 == 1 {
			on = other
		}
		for n := range rounds {
			id := fmt.Sprintf("task-%d-%d", i, n)
			t := k.fresh(id, fmt.Sprintf("group-%d", i), 3)
			c := made(t)
			if n > 0 {
				p := k.next(fmt.Sprintf("task-%d-%d", i, n-1), ends, say("taken over"))
				c.Prior = &p
			}
			on.mustCreate(c)
			for m := range 4 {
				on.mustSave(k.next(id, everything(fmt.Sprintf("save %d", m))))
			}
			if got := on.mustLoad(id); got.Version != 5 || len(got.Instances) != 3 || got.Instances[0].Note != "save 3" {
				k.fatalf("task %s: version %d, %d rows", id, got.Version, len(got.Instances))
			}
			if got := on.mustEvents(id, 1); len(got) != 4 {
				k.fatalf("task %s: %d events", id, len(got))
			}
			if o, err := on.output(id, "i-0000"); err != nil || o.Text != "save 3" {
				k.fatalf("task %s: output %q, error %v", id, o.Text, err)
			}
			if got := ids(on.mustList(filter{GroupID: t.GroupID, HoldsGroup: true})); len(got) != 1 || got[0] != id {
				k.fatalf("group %s is held by %q, want %s", t.GroupID, got, id)
			}
		}
	})
}
