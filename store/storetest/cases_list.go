package storetest

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

func listCases() []draft {
	return []draft{
		{
			name: "list/filters",
			demands: "List yields the heads that fit every part of the filter: group, any of the statuses, Runnable (as Head.Runnable says, WakeAt " +
				"included), HoldsGroup (whatever the status), and no more than Limit.",
			run: func(k *kit) {
				for _, x := range listed(k) {
					k.mustCreate(made(x))
				}
				k.filters()
			},
		},
		{
			name:    "list/filters follow saves",
			demands: "What List finds by is what the last Save wrote: status, WakeAt, Restore and HoldsGroup move with it.",
			run: func(k *kit) {
				for _, x := range listed(k) {
					t := k.fresh(x.ID, x.GroupID, 0)
					t.CreatedAt, t.HoldsGroup = x.CreatedAt, false
					k.mustCreate(made(t))
				}
				turned := []func(h *head){
					func(h *head) {
						h.Status, h.Restore, h.WakeAt = rollingupgrade.StatusFailed, &rollingupgrade.Restore{}, h.CreatedAt
					},
					func(h *head) {
						h.Status, h.Pause = rollingupgrade.StatusBatchPaused, &rollingupgrade.Pause{AskHook: true}
					},
					func(h *head) { h.Status = rollingupgrade.StatusSucceeded },
					func(h *head) { h.Status, h.WakeAt = rollingupgrade.StatusFailurePaused, h.CreatedAt },
				}
				for n := range len(turned) + 1 {
					for _, x := range listed(k) {
						k.mustSave(k.next(x.ID, func(c *change) {
							h := x.Head
							h.HoldsGroup = false
							if n < len(turned) {
								turned[n](&h)
							} else {
								h = x.Head
							}
							h.Version, h.Nonce, h.EventSeq = c.Head.Version, c.Head.Nonce, c.Head.EventSeq
							c.Head = &h
						}))
					}
				}
				k.filters()
			},
		},
		{
			name: "list/newest first",
			demands: "List is sorted by CreatedAt, to the nanosecond, and then by ID, both descending, whatever the order of the creations and saves. " +
				"Limit takes the newest.",
			run: func(k *kit) {
				at := k.now()
				for n, off := range []time.Duration{0, 1, -1, time.Hour, 0, -time.Hour, 0, 1000, time.Second, 0, -366 * 24 * time.Hour, 999, 10 * 366 * 24 * time.Hour} {
					t := k.fresh(fmt.Sprintf("task-%d", n*7%13), fmt.Sprintf("group-%d", n%3), 0)
					t.CreatedAt, t.HoldsGroup = at.Add(off), false
					k.mustCreate(made(t))
				}
				k.same("after creation")
				k.mustSave(k.next("task-5", say("saved last")))
				k.mustSave(k.next("task-0", ends))
				k.same("after saves")
				for limit := 1; limit < 15; limit++ {
					k.limited(filter{Limit: limit})
					k.limited(filter{Limit: limit, GroupID: "group-1"})
					k.limited(filter{Limit: limit, Status: []rollingupgrade.Status{rollingupgrade.StatusPending}})
				}
			},
		},
		{
			name:    "list/many tasks",
			demands: "1,000 tasks are listed like ten: each once, in order, with every filter; a listing that is stopped early or limited ends there.",
			run:     manyTasks,
		},
		{
			name:    "list/while tasks are saved",
			demands: "While others create and save, a listing of all yields every task that was there from its beginning exactly once and in order.",
			run:     listWhileSaving,
		},
	}
}

// runnableAt is the time for which the tasks of listed are made.
var runnableAt = time.Date(2027, 6, 5, 4, 3, 2, 1, time.UTC)

// listed returns tasks in all states that a filter tells apart.
func listed(k *kit) []*task {
	restoring := func(h *head) { h.Restore = &rollingupgrade.Restore{Since: runnableAt} }
	wakes := func(d time.Duration) func(*head) { return func(h *head) { h.WakeAt = runnableAt.Add(d) } }
	var out []*task
	for n, x := range []struct {
		id, group string
		status    rollingupgrade.Status
		holds     bool
		with      func(*head)
	}{
		{"a", "g-1", rollingupgrade.StatusSucceeded, false, nil},
		{"b", "g-1", rollingupgrade.StatusFailed, true, restoring},
		{"c", "g-2", rollingupgrade.StatusPending, true, nil},
		{"d", "g-2", rollingupgrade.StatusRunning, false, nil},
		{"e", "g-3", rollingupgrade.StatusBatchPaused, true, nil},
		{"f", "g-4", rollingupgrade.StatusBatchPaused, true, wakes(0)},
		{"g", "g-5", rollingupgrade.StatusFailurePaused, true, wakes(1)},
		{"h", "g-6", rollingupgrade.StatusFailurePaused, true, wakes(-time.Hour)},
		{"i", "g-7", rollingupgrade.StatusBatchPaused, true, func(h *head) { h.Pause = &rollingupgrade.Pause{AskHook: true} }},
		{"j", "g-8", rollingupgrade.StatusCanceling, true, wakes(time.Hour)},
		{"k", "g-1", rollingupgrade.StatusCanceled, false, func(h *head) { h.Restore = &rollingupgrade.Restore{Since: runnableAt, EndedAt: runnableAt} }},
		{"l", "g-9", rollingupgrade.StatusCanceled, true, restoring},
		{"m", "g-10", rollingupgrade.StatusSucceeded, true, nil},
		{"n", "g-1", rollingupgrade.StatusSucceeded, false, wakes(-time.Hour)},
	} {
		t := k.fresh(x.id, x.group, 0)
		t.Status, t.HoldsGroup, t.CreatedAt = x.status, x.holds, runnableAt.Add(-time.Duration((n*5)%14)*time.Minute)
		if x.with != nil {
			x.with(&t.Head)
		}
		out = append(out, t)
	}
	return out
}

// filters holds what is found among the tasks of listed. Newest first they are a d g j m b e h k n c f i l.
func (k *kit) filters() {
	of := func(s ...rollingupgrade.Status) []rollingupgrade.Status { return s }
	for _, x := range []struct {
		f    filter
		want string
	}{
		{filter{}, "a d g j m b e h k n c f i l"},
		{filter{GroupID: "g-1"}, "a b k n"},
		{filter{GroupID: "g-10"}, "m"},
		{filter{GroupID: "g"}, ""},
		{filter{Status: of(rollingupgrade.StatusSucceeded)}, "a m n"},
		{filter{Status: of(rollingupgrade.StatusBatchPaused, rollingupgrade.StatusFailurePaused)}, "g e h f i"},
		{filter{Status: of(rollingupgrade.StatusCanceled, rollingupgrade.StatusPending, rollingupgrade.StatusCanceled)}, "k c l"},
		{filter{Status: of("succeed")}, ""},
		{filter{HoldsGroup: true}, "g j m b e h c f i l"},
		{filter{Runnable: runnableAt}, "d j b h c f i l"},
		{filter{Runnable: runnableAt.Add(-1)}, "d j b h c i l"},
		{filter{Runnable: runnableAt.Add(1)}, "d g j b h c f i l"},
		{filter{Runnable: runnableAt.Add(-2 * time.Hour)}, "d j b c i l"},
		{filter{Runnable: runnableAt.In(time.FixedZone("", 5*3600))}, "d j b h c f i l"},
		{filter{Runnable: runnableAt, GroupID: "g-1"}, "b"},
		{filter{Runnable: runnableAt, HoldsGroup: true}, "j b h c f i l"},
		{filter{Runnable: runnableAt, Limit: 3}, "d j b"},
		{filter{GroupID: "g-1", Limit: 2}, "a b"},
		{filter{GroupID: "g-1", HoldsGroup: true}, "b"},
		{filter{GroupID: "g-2", Status: of(rollingupgrade.StatusRunning)}, "d"},
		{filter{GroupID: "g-1", Status: of(rollingupgrade.StatusSucceeded), Limit: 1}, "a"},
		{filter{HoldsGroup: true, Limit: 1}, "g"},
		{filter{HoldsGroup: true, Status: of(rollingupgrade.StatusSucceeded)}, "m"},
		{filter{Limit: 1}, "a"},
		{filter{Limit: 14}, "a d g j m b e h k n c f i l"},
		{filter{Limit: 1000}, "a d g j m b e h k n c f i l"},
	} {
		got := ""
		for _, id := range ids(k.mustList(x.f)) {
			got += " " + id
		}
		if want := " " + x.want; got != want && got+want != " " {
			k.errorf("filter %+v finds%s, want%s", x.f, got, want)
		}
	}
}

// limited holds that a listing is what the model says.
func (k *kit) limited(f filter) {
	if d := diff(ids(k.modeled(f)), ids(k.mustList(f))); d != "" {
		k.errorf("list %+v (-want +got):\n%s", f, d)
	}
}

// modeled is the listing that the model says.
func (k *kit) modeled(f filter) []*head {
	k.model.Lock()
	var want []*head
	for _, r := range k.want {
		if f.Match(&r.task.Head) {
			want = append(want, &r.task.Head)
		}
	}
	k.model.Unlock()
	newestFirst(want)
	if f.Limit > 0 {
		want = want[:min(f.Limit, len(want))]
	}
	return want
}

func manyTasks(k *kit) {
	statuses := []rollingupgrade.Status{rollingupgrade.StatusPending, rollingupgrade.StatusSucceeded, rollingupgrade.StatusFailed, rollingupgrade.StatusBatchPaused}
	var next atomic.Int64
	k.together(8, func(int) {
		for {
			n := int(next.Add(1)) - 1
			if n >= k.bed.Tasks {
				return
			}
			t := k.fresh(fmt.Sprintf("task-%d", n), fmt.Sprintf("group-%d", n%7), 0)
			t.HoldsGroup, t.Status = false, statuses[n%4]
			t.CreatedAt = runnableAt.Add(time.Duration(n/2*37%k.bed.Tasks) * time.Microsecond)
			k.mustCreate(made(t))
		}
	})
	k.limited(filter{})
	k.paged(filter{Limit: 37})
	for _, f := range []filter{
		{GroupID: "group-3"},
		{Status: statuses[1:2]},
		{Status: statuses[1:3], GroupID: "group-5"},
		{Runnable: runnableAt},
		{HoldsGroup: true},
	} {
		k.limited(f)
		for _, f.Limit = range []int{1, 100, 256, k.bed.Tasks} {
			k.limited(f)
		}
		f.Limit = 37
		k.paged(f)
	}
	for _, stop := range []int{1, 10, k.bed.Tasks / 2} {
		seen := 0
		for _, err := range k.s.List(k.ctx, filter{}) {
			if err != nil {
				k.fatalf("list: %v", err)
			}
			if seen++; seen == stop {
				break
			}
		}
		if seen != stop {
			k.errorf("%d tasks listed before a stop at %d", seen, stop)
		}
	}
	k.loose = true // to look at each would take long
}

func listWhileSaving(k *kit) {
	const tasks, listings = 40, 12
	var all []string
	for n := range tasks {
		id := fmt.Sprintf("task-%02d", n)
		k.begin(id, "group-"+id, 1)
		all = append(all, id)
	}
	slices.Reverse(all)
	other := k.beside()
	var listers atomic.Int32
	listers.Store(2)
	k.together(4, func(i int) {
		if i < 2 { // each writes its own half
			for n := i; listers.Load() > 0 && n < 4000; n += 2 {
				k.mustSave(k.next(fmt.Sprintf("task-%02d", n%tasks), everything("saved"), holds(n/tasks%2 == 1)))
				if n%16 == i {
					k.begin(fmt.Sprintf("young-%d", n), fmt.Sprintf("group-young-%d", n), 0)
				}
			}
			return
		}
		defer listers.Add(-1)
		on := k
		if i == 3 {
			on = other
		}
		for range listings {
			var old []string
			heads := on.mustList(filter{})
			for _, h := range heads {
				if h.ID[:4] == "task" {
					old = append(old, h.ID)
				}
			}
			if d := diff(all, old); d != "" {
				k.fatalf("tasks that were there all the time (-want +got):\n%s", d)
			}
			sorted := slices.Clone(heads)
			newestFirst(sorted)
			if d := diff(ids(sorted), ids(heads)); d != "" {
				k.fatalf("order of the listing (-want +got):\n%s", d)
			}
		}
	})
}
