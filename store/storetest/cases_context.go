package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

func contextCases() []draft {
	return []draft{
		{
			name: "context/done",
			demands: "With a context that is done every method returns an error that wraps the context's and none of the sentinels, and a write has " +
				"taken place whole or not at all when the method returns.",
			run: func(k *kit) {
				canceled, cancel := context.WithCancel(k.ctx)
				cancel()
				late, cancel := context.WithDeadline(k.ctx, time.Now().Add(-time.Hour))
				defer cancel()
				k.begin("task-1", "group-1", 2)
				k.mustSave(k.next("task-1", everything("kept")))
				for n, ctx := range []context.Context{canceled, late} {
					c := k.with(ctx)
					refused := func(method string, err error) {
						if !errors.Is(err, ctx.Err()) {
							k.errorf("%s: error %v, want one that wraps %q", method, err, ctx.Err())
						}
						k.unclassed(method, err)
					}
					_, err := c.load("task-1")
					refused("Load", err)
					_, err = c.head("task-1")
					refused("Head", err)
					_, err = c.events("task-1", 0)
					refused("Events", err)
					_, err = c.output("task-1", "i-0000")
					refused("Output", err)
					_, err = c.list(filter{})
					refused("List", err)
					refused("Save", k.attempt(c, k.next("task-1", everything("interrupted"))))
					refused("Create", k.attemptCreate(c, made(k.fresh(fmt.Sprintf("new-%d", n), fmt.Sprintf("group-new-%d", n), 2))))
					k.same("after that")
				}
			},
		},
		{
			name: "context/canceled on the way",
			demands: "A write whose context is canceled at any moment takes place whole or not at all; without an error it has. After an error it may " +
				"take place late, as long as nothing else was saved under that version. The store goes on to work.",
			run: func(k *kit) {
				chance := rand.New(rand.NewPCG(1, 2))
				for n := range 40 {
					id := fmt.Sprintf("task-%d", n)
					k.begin(id, "group-1", 3)
					ctx, cancel := context.WithCancel(k.ctx)
					timer := time.AfterFunc(time.Duration(chance.IntN(300))*time.Microsecond, cancel)
					k.interrupted(k.with(ctx), k.next(id, everything("interrupted")))
					k.interruptedCreate(k.with(ctx), made(k.fresh(fmt.Sprintf("after-%d", n), fmt.Sprintf("group-after-%d", n), 3)))
					timer.Stop()
					cancel()
					k.mustSave(k.next(id, ends))
				}
			},
		},
		{
			name:    "context/canceled while reading",
			demands: "An iteration whose context is canceled yields the rest or an error: it never looks complete when it is not.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				for range 40 {
					k.mustSave(k.next("task-1", say("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")))
				}
				for n := 2; n < 42; n++ {
					k.begin(fmt.Sprintf("task-%d", n), fmt.Sprintf("group-%d", n), 0)
				}
				for _, at := range []int{1, 7, 39, 40, 300} {
					ctx, cancel := context.WithCancel(k.ctx)
					seen, failed := 0, false
					for _, err := range k.s.Events(ctx, "task-1", 0) {
						if err != nil {
							failed = true
						} else if seen++; seen == at {
							cancel()
						}
					}
					cancel()
					if want := len(k.want["task-1"].events); seen != want && !failed {
						k.errorf("Events, canceled after %d: %d of %d events and no error", at, seen, want)
					}
					ctx, cancel = context.WithCancel(k.ctx)
					seen, failed = 0, false
					for _, err := range k.s.List(ctx, filter{}) {
						if err != nil {
							failed = true
						} else if seen++; seen == at {
							cancel()
						}
					}
					cancel()
					if seen != len(k.want) && !failed {
						k.errorf("List, canceled after %d: %d of %d tasks and no error", at, seen, len(k.want))
					}
				}
			},
		},
	}
}

// unclassed holds that an error does not claim what it cannot know.
func (k *kit) unclassed(what string, err error) {
	for _, s := range sentinels {
		if errors.Is(err, s) {
			k.errorf("%s: error %q wraps %q, which is not the reason", what, err, s)
		}
	}
}

// attempt saves through c. If that returns an error it notes what has become of the change.
func (k *kit) attempt(c *kit, ch change) error {
	kept := clone(ch)
	err := c.save(ch)
	if err != nil && k.mustHead(kept.Head.ID).Nonce == kept.Head.Nonce {
		k.keep(kept)
	}
	return err
}

func (k *kit) attemptCreate(c *kit, cr creation) error {
	kept := clone(cr)
	err := c.create(cr)
	if err != nil {
		if h, herr := k.head(kept.Task.ID); herr == nil && h.Nonce == kept.Task.Nonce {
			k.keepCreation(kept)
		} else {
			k.absent("after error "+err.Error(), kept.Task.ID)
		}
	}
	return err
}

// interrupted saves through c, whose context ends on the way, and then something else.
func (k *kit) interrupted(c *kit, ch change) {
	id, kept, nonce := ch.Head.ID, clone(ch), ch.Head.Nonce
	err := c.save(ch)
	k.unclassed("Save", err)
	if err != nil {
		err := k.save(k.next(id, say("goes on")))
		if errors.Is(err, rollingupgrade.ErrVersionConflict) && k.mustHead(id).Nonce == nonce { // it has taken place
			k.keep(kept)
		} else if err != nil {
			k.fatalf("save after a canceled one: %v", err)
		}
	}
	k.sameTask("after a canceled save", id, k.want[id])
}

// interruptedCreate creates through c, whose context ends on the way, and then once more.
func (k *kit) interruptedCreate(c *kit, cr creation) {
	id, kept, again, nonce := cr.Task.ID, clone(cr), clone(cr), cr.Task.Nonce
	err := c.create(cr)
	k.unclassed("Create", err)
	if err != nil {
		err := k.create(again)
		if errors.Is(err, rollingupgrade.ErrTaskExists) && k.mustHead(id).Nonce == nonce { // it has taken place
			k.keepCreation(kept)
		} else if err != nil {
			k.fatalf("creation after a canceled one: %v", err)
		}
	}
	k.sameTask("after a canceled creation", id, k.want[id])
}

func iterationCases() []draft {
	return []draft{
		{
			name:    "iteration/stop",
			demands: "Events and List end at once when the loop is left, and hold nothing open.",
			run: func(k *kit) {
				for n := range 20 {
					k.begin(fmt.Sprintf("task-%d", n), fmt.Sprintf("group-%d", n), 1)
				}
				k.mustSave(k.next("task-0", say("a", "b", "c", "d", "e")))
				for range 50 {
					for e, err := range k.s.Events(k.ctx, "task-0", 0) {
						if err != nil || e.Seq != 1 {
							k.fatalf("first event: number %d, error %v", e.Seq, err)
						}
						break
					}
					for h, err := range k.s.List(k.ctx, filter{}) {
						if err != nil || h.ID != "task-19" {
							k.fatalf("first task: %v, error %v", h, err)
						}
						break
					}
					for range k.s.Events(k.ctx, "task-?", 0) {
						break
					}
				}
				k.mustSave(k.next("task-0", everything("after the stops")))
			},
		},
		{
			name:    "iteration/stops after an error",
			demands: "After an error Events and List yield nothing more, though the loop goes on.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				ctx, cancel := context.WithCancel(k.ctx)
				cancel()
				n := 0
				for range k.s.Events(k.ctx, "task-?", 0) {
					n++
				}
				for range k.s.Events(ctx, "task-1", 0) {
					n += 10
				}
				for range k.s.List(ctx, filter{}) {
					n += 100
				}
				if n != 111 {
					k.errorf("Events of an unknown task, Events and List without a context yielded %d, %d and %d times, want once each", n%10, n/10%10, n/100)
				}
			},
		},
		{
			name: "iteration/store in use",
			demands: "The body of a loop over Events or List may call every method of the store, Save and Create included: an iteration holds no lock and " +
				"not the only connection.",
			run: func(k *kit) {
				for n := range 3 {
					k.begin(fmt.Sprintf("task-%d", n), fmt.Sprintf("group-%d", n), 2)
				}
				k.mustSave(k.next("task-0", say("a", "b"), prints("i-0000", "x")))
				tasks, events := 0, 0
				for h, err := range k.s.List(k.ctx, filter{}) {
					if err != nil {
						k.fatalf("list: %v", err)
					}
					tasks++
					k.same("within List")
					k.mustSave(k.next(h.ID, everything("within List")))
					k.begin("in-list-"+h.ID, "group-in-list-"+h.ID, 1)
					for e, err := range k.s.Events(k.ctx, "task-0", 0) {
						if err != nil {
							k.fatalf("events: %v", err)
						}
						if e.Seq <= 3 {
							events++
							k.same("within Events")
							k.mustSave(k.next("task-0", say("within Events")))
						}
					}
				}
				if tasks < 3 || events != 3*tasks {
					k.errorf("the loops yielded %d tasks and %d events, want at least 3 and 3 for each", tasks, events)
				}
			},
		},
	}
}
