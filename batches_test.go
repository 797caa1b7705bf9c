package rollingupgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

func sizes(all ...ru.Size) ru.BatchSpec { return ru.BatchSpec{Sizes: all} }

func number(n int) ru.Size  { return ru.Size{Instances: n} }
func percent(n int) ru.Size { return ru.Size{Percent: n} }

func TestS11_SplitBatches(t *testing.T) {
	for _, test := range []struct {
		name string
		n    int
		spec ru.BatchSpec
		want []int
	}{
		{"even", 10, ru.InBatches(2), []int{5, 5}},
		{"remainder", 10, ru.InBatches(3), []int{3, 3, 4}},
		{"two larger ones", 11, ru.InBatches(3), []int{3, 4, 4}},
		{"one batch", 7, ru.InBatches(1), []int{7}},
		{"one each", 4, ru.InBatches(4), []int{1, 1, 1, 1}},
		{"clamped", 3, ru.InBatches(5), []int{1, 1, 1}},
		{"clamped from far", 2, ru.InBatches(1_000_000), []int{1, 1}},
		{"single instance", 1, ru.InBatches(9), []int{1}},
		{"no instances", 0, ru.InBatches(3), nil},
		{"canary first", 100, ru.InBatches(30), append(slices.Repeat([]int{3}, 20), slices.Repeat([]int{4}, 10)...)},

		{"at most, even", 10, ru.BatchSpec{MaxSize: 5}, []int{5, 5}},
		{"at most, balanced", 10, ru.BatchSpec{MaxSize: 4}, []int{3, 3, 4}},
		{"at most, as few as possible", 9, ru.BatchSpec{MaxSize: 8}, []int{4, 5}},
		{"at most one", 3, ru.BatchSpec{MaxSize: 1}, []int{1, 1, 1}},
		{"at most more than there are", 3, ru.BatchSpec{MaxSize: 1000}, []int{3}},
		{"at most, no instances", 0, ru.BatchSpec{MaxSize: 2}, nil},

		{"sizes", 6, sizes(number(1), number(2), number(3)), []int{1, 2, 3}},
		{"last size repeats", 10, sizes(number(1), number(4)), []int{1, 4, 4, 1}},
		{"one size repeats", 5, sizes(number(2)), []int{2, 2, 1}},
		{"more sizes than needed", 3, sizes(number(1), number(2), number(9)), []int{1, 2}},
		{"first size takes all", 3, sizes(number(50), number(1)), []int{3}},
		{"percentages", 10, sizes(percent(10), percent(40), percent(50)), []int{1, 4, 5}},
		{"percentages round up", 11, sizes(percent(10), percent(45)), []int{2, 5, 4}},
		{"percentages of all, not of the rest", 10, sizes(percent(50)), []int{5, 5}},
		{"small percentage is at least one", 3, sizes(percent(1), percent(100)), []int{1, 2}},
		{"hundred percent", 7, sizes(percent(100)), []int{7}},
		{"mixed", 20, sizes(number(1), percent(20), percent(50)), []int{1, 4, 10, 5}},
		{"sizes, no instances", 0, sizes(percent(10)), nil},
		{"percentage of very many", 1_000_003, sizes(percent(50), percent(100)), []int{500_002, 500_001}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ru.SplitBatches(test.n, test.spec)
			if err != nil {
				t.Fatal(err)
			}
			diff(t, "sizes", test.want, got)
		})
	}
}

func TestS11_ErrorsNameTheField(t *testing.T) {
	for _, test := range []struct {
		name  string
		n     int
		spec  ru.BatchSpec
		field string
	}{
		{"nothing set", 5, ru.BatchSpec{}, "Batches.Count"},
		{"nothing set and no instances", 0, ru.BatchSpec{}, "Batches.Count"},
		{"negative count", 5, ru.InBatches(-1), "Batches.Count"},
		{"smallest count", 5, ru.InBatches(-1 << 63), "Batches.Count"},
		{"negative maximum", 5, ru.BatchSpec{MaxSize: -3}, "Batches.MaxSize"},
		{"count and maximum", 5, ru.BatchSpec{Count: 2, MaxSize: 3}, "Batches"},
		{"count and sizes", 5, ru.BatchSpec{Count: 2, Sizes: []ru.Size{number(1)}}, "Batches"},
		{"sizes and maximum", 5, ru.BatchSpec{MaxSize: 2, Sizes: []ru.Size{number(1)}}, "Batches"},
		{"size of nothing", 5, sizes(number(1), number(0)), "Batches.Sizes[1]"},
		{"negative size", 5, sizes(number(-1)), "Batches.Sizes[0]"},
		{"negative percentage", 5, sizes(number(1), number(2), percent(-1)), "Batches.Sizes[2]"},
		{"more than all", 5, sizes(percent(101)), "Batches.Sizes[0]"},
		{"number and percentage", 5, sizes(ru.Size{Instances: 1, Percent: 10}), "Batches.Sizes[0]"},
		{"negative number and percentage", 5, sizes(ru.Size{Instances: -1, Percent: 10}), "Batches.Sizes[0]"},
		{"negative instances", -1, ru.InBatches(2), "n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ru.SplitBatches(test.n, test.spec)
			wantField(t, err, test.field)
			diff(t, "sizes", []int(nil), got)
		})
	}
	for n, field := range map[int]string{0: "Spec.Batches.Count", -1: "Spec.Batches.Count"} {
		bubbled(t, fmt.Sprintf("create with %d batches", n), func(t *testing.T) {
			b := demoBed(t, 3)
			_, err := b.r.Create(b.ctx(), imageSpec(n))
			wantField(t, err, field)
			b.untouched()
			diff(t, "tasks", 0, b.tasks())
		})
	}
}

// What the user asked for and what it came to are both kept.
func TestS11_AskedAndEffective(t *testing.T) {
	for _, test := range []struct {
		name      string
		batches   ru.BatchSpec
		asked     int
		effective []int
	}{
		{"as asked", ru.InBatches(2), 2, []int{2, 3}},
		{"clamped", ru.InBatches(8), 8, []int{1, 1, 1, 1, 1}},
		{"no number", ru.BatchSpec{MaxSize: 3}, 0, []int{2, 3}},
		{"sizes", sizes(number(1), percent(40)), 0, []int{1, 2, 2}},
	} {
		bubbled(t, test.name, func(t *testing.T) {
			b := demoBed(t, 5)
			spec := scriptSpec(1)
			spec.Batches = test.batches
			plan, err := b.r.Plan(b.ctx(), spec)
			b.ok(err)
			diff(t, "asked, in the plan", test.asked, plan.AskedBatches)
			var planned []int
			for _, p := range plan.Batches {
				planned = append(planned, len(p.InstanceIDs))
			}
			diff(t, "sizes in the plan", test.effective, planned)

			task := b.runTo(b.create(spec), ru.StatusSucceeded)
			diff(t, "asked", test.asked, task.AskedBatches)
			diff(t, "sizes", test.effective, task.Sizes)
			var worked []int
			for n, batch := range batches(task) {
				worked = append(worked, len(batch))
				diff(t, "instances of the plan", plan.Batches[n].InstanceIDs, batch)
			}
			diff(t, "sizes worked on", test.effective, worked)
		})
	}
}

// Each batch of the plan says how many instances are in service meanwhile.
func TestS11_InServiceDuringEachBatch(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 7)
		b.cloud.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{}) // i-0008, left alone
		spec := scriptSpec(3, func(s *ru.Spec) { s.Targets.Exclude = []string{"i-0008"} })
		plan, err := b.r.Plan(b.ctx(), spec)
		b.ok(err)
		var left []int
		for _, batch := range plan.Batches {
			left = append(left, batch.InService)
		}
		diff(t, "in service", []int{6, 6, 5}, left)
		diff(t, "in service now", 8, plan.InService)

		spec.MaxInFlight = 1
		plan, err = b.r.Plan(b.ctx(), spec)
		b.ok(err)
		diff(t, "in service, one at a time", []int{7, 7, 7}, []int{plan.Batches[0].InService, plan.Batches[1].InService, plan.Batches[2].InService})
	})
}

// The order of the instances is kept, none is lost and none is worked on twice, whatever the division.
func TestS11_OrderIsKept(t *testing.T) {
	for n := 1; n <= 9; n++ {
		for count := 1; count <= 10; count++ {
			bubbled(t, fmt.Sprintf("%d in %d", n, count), func(t *testing.T) {
				b := demoBed(t, n)
				plan, err := b.r.Plan(b.ctx(), scriptSpec(count))
				b.ok(err)
				var all []string
				for i, batch := range plan.Batches {
					diff(t, "number of the batch", i+1, batch.Number)
					all = append(all, batch.InstanceIDs...)
				}
				diff(t, "instances", idRange(1, n), all)
			})
		}
	}
}

func FuzzSplitBatches(f *testing.F) {
	f.Add(10, 3, 0, 0, 0)
	f.Add(10, 0, 4, 0, 0)
	f.Add(11, 0, 0, 1, 45)
	f.Add(1, 1_000_000, 0, 0, 0)
	f.Add(99_999, 0, 0, 0, 1)
	f.Add(-1, 1, 0, 0, 0)
	f.Fuzz(func(t *testing.T, n, count, maxSize, first, then int) {
		if n > 200_000 {
			n %= 200_000 // memory, not the rule
		}
		spec := ru.BatchSpec{Count: count, MaxSize: maxSize}
		for _, z := range []ru.Size{number(first), percent(then)} {
			if z != (ru.Size{}) {
				spec.Sizes = append(spec.Sizes, z)
			}
		}
		got, err := ru.SplitBatches(n, spec)
		ok := n >= 0 && (count > 0 && maxSize == 0 && spec.Sizes == nil || count == 0 && maxSize > 0 && spec.Sizes == nil ||
			count == 0 && maxSize == 0 && spec.Sizes != nil && first >= 0 && then >= 0 && then <= 100)
		if ok != (err == nil) {
			t.Fatalf("SplitBatches(%d, %+v): %v", n, spec, err)
		}
		if err != nil {
			wantError(t, err, ru.ErrInvalid)
			return
		}
		sum := 0
		for _, size := range got {
			if size < 1 {
				t.Fatalf("a batch of %d in %v", size, got)
			}
			sum += size
		}
		if sum != n {
			t.Fatalf("%d instances are divided into %v, which is %d", n, got, sum)
		}
		if n == 0 || spec.Sizes != nil {
			return
		}
		if !slices.IsSorted(got) || got[len(got)-1]-got[0] > 1 {
			t.Errorf("%v is not balanced with the larger ones last", got)
		}
		switch {
		case count > 0 && len(got) != min(count, n):
			t.Errorf("%d batches, asked for %d of %d instances", len(got), count, n)
		case maxSize > 0 && (got[len(got)-1] > maxSize || len(got) > 1 && (len(got)-1)*maxSize >= n):
			t.Errorf("%v: at most %d each, and as few as possible", got, maxSize)
		}
	})
}

// The plan says in words what was asked for.
func TestS11_PlanSaysWhatWasAskedFor(t *testing.T) {
	for asked, batches := range map[string]ru.BatchSpec{
		"2 batches":            ru.InBatches(2),
		"batches of at most 3": {MaxSize: 3},
		"batches of 1, 40 % (the last one repeats)": sizes(number(1), percent(40)),
	} {
		bubbled(t, asked, func(t *testing.T) {
			b := demoBed(t, 5)
			plan, err := b.r.Plan(b.ctx(), scriptSpec(1, func(s *ru.Spec) { s.Batches = batches }))
			b.ok(err)
			if text := strings.Join(plan.Policy, "\n"); !strings.Contains(text, "(asked: "+asked+")") {
				t.Errorf("plan:\n%s", text)
			}
		})
	}
}
