package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

func pageCases() []draft {
	return []draft{
		{
			name: "list/kind and creation",
			demands: "Filter.Kind selects one kind, CreatedFrom and CreatedBefore tasks that were created at the one or later and before the other, to " +
				"the nanosecond; all of them together with the other fields.",
			run: kindAndCreation,
		},
		{
			name: "list/pages",
			demands: "After lists what is behind a place, which need not be that of a task that is there: pages of any size, each from the Position of the last " +
				"task of the page before, are the whole listing, tasks of one CreatedAt included, with every filter.",
			run: pages,
		},
		{
			name: "list/pages while tasks come and go",
			demands: "Tasks that are created, saved or deleted between two pages do not move the place of the next one: what was there all the time comes " +
				"exactly once and in order.",
			run: pagesMeanwhile,
		},
	}
}

// dated creates so many tasks of all kinds and statuses, four of each time, in a scrambled order.
func (k *kit) dated(tasks int) (at func(n int) time.Time) {
	start := k.now()
	at = func(n int) time.Time { return start.Add(time.Duration(n)) }
	kinds := []rollingupgrade.TaskKind{rollingupgrade.Upgrade, rollingupgrade.Upgrade, rollingupgrade.Rollback}
	statuses := []rollingupgrade.Status{rollingupgrade.StatusSucceeded, rollingupgrade.StatusFailed, rollingupgrade.StatusRunning, rollingupgrade.StatusCanceled}
	for i := range tasks {
		n := i * 7 % tasks
		t := k.fresh(fmt.Sprintf("task-%02d", n), fmt.Sprintf("group-%d", n%5), 0)
		t.CreatedAt, t.Kind, t.Status, t.HoldsGroup = at(n/4), kinds[n%3], statuses[n%4], false
		k.mustCreate(made(t))
	}
	return at
}

func kindAndCreation(k *kit) {
	at := k.dated(40)
	zone := time.FixedZone("", -7*3600)
	running := []rollingupgrade.Status{rollingupgrade.StatusRunning}
	for _, f := range []filter{
		{Kind: rollingupgrade.Upgrade},
		{Kind: rollingupgrade.Rollback},
		{Kind: "roll"},
		{Kind: "\x00"},
		{CreatedFrom: at(4)},
		{CreatedBefore: at(4)},
		{CreatedFrom: at(4), CreatedBefore: at(5)},
		{CreatedFrom: at(4).In(zone), CreatedBefore: at(6).In(zone)},
		{CreatedFrom: at(5), CreatedBefore: at(4)},
		{CreatedFrom: at(5), CreatedBefore: at(5)},
		{CreatedFrom: at(-100), CreatedBefore: at(100)},
		{CreatedFrom: at(100)},
		{CreatedFrom: time.Unix(-1<<34, 0), CreatedBefore: time.Unix(1<<35, 0)},
		{CreatedFrom: at(2), CreatedBefore: at(7), GroupID: "group-1"},
		{CreatedFrom: at(2), CreatedBefore: at(7), Kind: rollingupgrade.Rollback, Limit: 2},
		{CreatedFrom: at(2), Kind: rollingupgrade.Upgrade, Status: running},
		{CreatedBefore: at(8), Runnable: runnableAt},
		{Kind: rollingupgrade.Rollback, Runnable: runnableAt},
		{Kind: rollingupgrade.Rollback, HoldsGroup: true},
		{Kind: rollingupgrade.Upgrade, GroupID: "group-2", Status: running},
	} {
		k.limited(f)
	}
	k.mustSave(k.next("task-20", func(c *change) { c.Head.Kind = rollingupgrade.Upgrade }, status(rollingupgrade.StatusRunning)))
	k.limited(filter{Kind: rollingupgrade.Upgrade})
	k.limited(filter{Kind: rollingupgrade.Rollback})
	k.limited(filter{Kind: rollingupgrade.Upgrade, Status: running})
}

func pages(k *kit) {
	at := k.dated(40)
	for _, f := range []filter{
		{},
		{GroupID: "group-3"},
		{Kind: rollingupgrade.Rollback},
		{Status: []rollingupgrade.Status{rollingupgrade.StatusFailed, rollingupgrade.StatusCanceled}},
		{Runnable: runnableAt},
		{CreatedFrom: at(2), CreatedBefore: at(8)},
		{CreatedFrom: at(2), CreatedBefore: at(8), Kind: rollingupgrade.Upgrade, GroupID: "group-1"},
	} {
		for _, f.Limit = range []int{1, 3, 4, 39, 40, 41} {
			k.paged(f)
		}
	}
	for _, p := range []rollingupgrade.Position{
		{CreatedAt: at(5), ID: "task-21"},                                    // of a task
		{CreatedAt: at(5).In(time.FixedZone("", 3600)), ID: "task-21"},       // the same instant
		{CreatedAt: at(5), ID: "task-21x"}, {CreatedAt: at(5), ID: "task-2"}, // between tasks
		{CreatedAt: at(5)}, {CreatedAt: at(5), ID: "zzz"}, {CreatedAt: at(5), ID: "\x00"}, // at the ends of an instant
		{CreatedAt: at(9), ID: "task-21"}, {CreatedAt: at(1), ID: "task-21"}, // of a task of another time
		{CreatedAt: at(100)}, {CreatedAt: at(-100), ID: "task-00"}, {ID: "task-21"}, // before and behind all
	} {
		k.limited(filter{After: p})
		k.limited(filter{After: p, Limit: 3})
		k.limited(filter{After: p, Limit: 3, CreatedFrom: at(3), CreatedBefore: at(5)})
		k.limited(filter{After: p, Limit: 3, GroupID: "group-1"})
	}
}

// paged holds that pages of f.Limit tasks are the listing that the model says.
func (k *kit) paged(f filter) {
	size, whole := f.Limit, f
	whole.Limit = 0
	want := ids(k.modeled(whole))
	var got []string
	for {
		page := k.mustList(f)
		got = append(got, ids(page)...)
		if len(page) > f.Limit {
			k.fatalf("a page of %+v has %d tasks", f, len(page))
		}
		if len(page) < f.Limit || len(got) > len(want)+f.Limit {
			break
		}
		f.After = page[len(page)-1].Position()
	}
	if d := diff(want, got); d != "" {
		k.errorf("list %+v in pages of %d (-want +got):\n%s", whole, size, d)
	}
}

func pagesMeanwhile(k *kit) {
	const tasks = 30
	at := k.dated(tasks)
	pruner, _ := k.s.(rollingupgrade.Pruner)
	gone := map[string]bool{}
	var want, got []string
	for _, h := range k.mustList(filter{}) {
		want = append(want, h.ID)
	}
	f := filter{Limit: 4}
	for n := 0; ; n++ {
		page := k.mustList(f)
		for _, h := range page {
			if strings.HasPrefix(h.ID, "task") { // was there at the beginning
				got = append(got, h.ID)
			}
		}
		if len(page) < f.Limit {
			break
		}
		f.After = page[len(page)-1].Position()
		for m := range 3 {
			young := k.fresh(fmt.Sprintf("younger-%d-%d", n, m), "group-1", 0)
			young.CreatedAt, young.HoldsGroup = at(1000+n), false
			k.mustCreate(made(young))
		}
		older := k.fresh(fmt.Sprintf("older-%d", n), "group-1", 0)
		older.CreatedAt, older.HoldsGroup = at(-1000-n), false
		if n < 3 {
			k.mustCreate(made(older))
		}
		k.mustSave(k.next(page[0].ID, everything("saved between pages")))
		if pruner != nil { // the place itself, and one that has not been listed
			last := page[len(page)-1].ID
			k.mustDelete(last)
			if next := fmt.Sprintf("task-%02d", n); !gone[next] && k.want[next] != nil && n < 3 {
				gone[next] = true
				k.mustDelete(next)
			}
		}
		if n > 10*tasks {
			k.fatalf("the pages do not end")
		}
	}
	var all []string
	for _, id := range want {
		if !gone[id] {
			all = append(all, id)
		}
	}
	if d := diff(all, got); d != "" {
		k.errorf("tasks that were there all the time, in pages of %d (-want +got):\n%s", f.Limit, d)
	}
}
