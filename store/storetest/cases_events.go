package storetest

import (
	"fmt"
	"math"
	"sync"

	"github.com/rollingupgrade/rollingupgrade"
)

func eventCases() []draft {
	return []draft{
		{
			name:    "events/S35_after",
			demands: "Events yields exactly the events whose Seq is greater than after, in order, every field as it was given; none if there are none.",
			run: func(k *kit) {
				c := creation{Task: k.fresh("task-1", "group-1", 1), Events: filledEvents(1, 1, 3)}
				c.Task.EventSeq = 3
				k.mustCreate(c)
				k.mustSave(k.next("task-1", say("4", "5", "6", "7", "8", "9", "10", "11")))
				k.mustSave(k.next("task-1")) // none
				k.mustSave(k.next("task-1", say("12")))
				all := k.want["task-1"].events
				for _, after := range []int64{math.MinInt64, -1, 0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 100, math.MaxInt64} {
					want := all[min(max(after, 0), int64(len(all))):]
					if d := diff(want, k.mustEvents("task-1", after)); d != "" {
						k.errorf("events after %d (-want +got):\n%s", after, d)
					}
				}
				silent := k.fresh("task-2", "group-2", 1)
				k.mustCreate(creation{Task: silent})
				if got := k.mustEvents("task-2", 0); len(got) > 0 {
					k.errorf("a task without events has %d", len(got))
				}
			},
		},
		{
			name:    "events/S35_many",
			demands: "A log of 1,000 events has no gap, none twice and none out of order, wherever reading begins.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				k.begin("task-10", "group-2", 1)
				for n := 1; n < k.bed.Events; {
					c := k.next("task-1")
					for range min(1+n%97, k.bed.Events-n) {
						say(fmt.Sprintf("event %d", n))(&c)
						n++
					}
					k.mustSave(c)
				}
				all := k.want["task-1"].events
				for after := 0; after < len(all); after += 1 + len(all)/9 {
					if d := diff(all[after:], k.mustEvents("task-1", int64(after))); d != "" {
						k.errorf("events after %d (-want +got):\n%s", after, d)
					}
				}
			},
		},
		{
			name: "events/S35_while saves go on",
			demands: "A reader that goes on from the last event it has seen, while saves go on, gets all of them in order. What a head counts in " +
				"EventSeq is there for who reads the events after the head.",
			run: readWhileSaving,
		},
		{
			name:    "events/end",
			demands: "Events ends although saves go on: with the last event kept when it began, or a later one. It does not follow the log.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				for len(k.want["task-1"].events) < k.bed.Events {
					k.mustSave(k.next("task-1", say("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")))
				}
				begun := len(k.want["task-1"].events)
				seen := 0
				for e, err := range k.s.Events(k.ctx, "task-1", 0) {
					if seen++; err != nil || e.Seq != int64(seen) {
						k.fatalf("event %d: number %d, error %v", seen, e.Seq, err)
					}
					if seen > 2*begun {
						k.fatalf("%d events were kept at the beginning, %d have been read, and there is no end", begun, seen)
					}
					k.mustSave(k.next("task-1", say("one more")))
				}
				if seen < begun {
					k.errorf("%d events were kept at the beginning, %d were read", begun, seen)
				}
			},
		},
	}
}

// readWhileSaving has readers follow a log while it is written.
func readWhileSaving(k *kit) {
	const saves, readers = 100, 3
	k.begin("task-1", "group-1", 1)
	other := k.beside()
	var written sync.WaitGroup
	written.Add(1)
	done := make(chan struct{})
	var total int64
	k.together(readers+1, func(i int) {
		if i == 0 {
			defer written.Done()
			defer close(done)
			for n := range saves {
				c := k.next("task-1")
				for m := range n % 4 {
					say(fmt.Sprintf("save %d, event %d", n, m))(&c)
				}
				k.mustSave(c)
				total = c.Head.EventSeq
			}
			return
		}
		on := k
		if i%2 == 0 {
			on = other
		}
		var seen int64
		for last := false; ; {
			select {
			case <-done:
				last = true
			default:
			}
			h := on.mustHead("task-1")
			for _, e := range on.mustEvents("task-1", seen) {
				if e.Seq != seen+1 {
					k.fatalf("event %d follows event %d", e.Seq, seen)
				}
				seen = e.Seq
			}
			if seen < h.EventSeq {
				k.fatalf("the head counts %d events, %d are there", h.EventSeq, seen)
			}
			if last {
				break
			}
		}
		written.Wait()
		if seen != total {
			k.errorf("read %d events of %d", seen, total)
		}
	})
}

func outputCases() []draft {
	return []draft{
		{
			name: "output/kept apart",
			demands: "Outputs are kept by task and instance, replaced by a later Save and by nothing else. The largest, 24 KiB of any " +
				"characters, comes back whole.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 5)
				k.begin("task-2", "group-2", 5)
				k.mustSave(k.next("task-1", prints("i-0000", "one"), prints("i-0001", "two")))
				k.mustSave(k.next("task-2", prints("i-0000", "of the other task")))
				k.same("after the first outputs")
				k.mustSave(k.next("task-1", prints("i-0001", "replaced"), prints("i-0002", "three")))
				k.mustSave(k.next("task-1", everything("replaced too"), ends))
				k.same("after outputs were replaced")
				const most = 24 << 10
				k.mustSave(k.next("task-1", prints("i-0000", fill24("\x00", most)), prints("i-0001", fill24("é\"\n", most)), prints("i-0003", fill24(awkward, most)),
					func(c *change) { c.Outputs["i-0002"] = filled[output](1) }))
				k.same("after the largest outputs")
				k.mustSave(k.next("task-1", say("no output")))
				k.mustSave(k.next("task-1", func(c *change) { c.Outputs = map[string]output{"i-0000": {}} }))
			},
		},
		{
			name:    "output/none",
			demands: "Output returns ErrNoOutput for an instance of a known task that has none.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", prints("i-0000", "x")))
				for _, i := range []string{"i-0001", "i-0002", "task-1", "i-000", "i-00000", "I-0000"} {
					o, err := k.output("task-1", i)
					k.refused("output of "+i, err, rollingupgrade.ErrNoOutput)
					if o != (output{}) {
						k.errorf("output of %s with an error: %+v", i, o)
					}
				}
			},
		},
	}
}

// fill24 repeats s up to n bytes.
func fill24(s string, n int) string {
	b := make([]byte, 0, n)
	for len(b)+len(s) <= n {
		b = append(b, s...)
	}
	return string(b)
}
