package storetest

import (
	"fmt"
	"sync"
	"time"

	"github.com/rollingupgrade/rollingupgrade"
)

// able returns what a case needs that concerns an optional ability.
func able[T any](name string) func(Bed) string {
	return func(b Bed) string {
		if b.New == nil {
			return "" // the case says it
		}
		s, err := b.New()
		if err != nil {
			return ""
		}
		if b.Close != nil {
			defer b.Close(s) //nolint:errcheck // nothing was written
		}
		if _, ok := s.(T); !ok {
			return "the store is no " + name
		}
		return ""
	}
}

func abilityCases() []draft {
	exclusive, notifier := able[rollingupgrade.ExclusiveStore]("ExclusiveStore"), able[rollingupgrade.Notifier]("Notifier")
	return []draft{
		{
			name:  "exclusive/life",
			needs: exclusive,
			demands: "An ExclusiveStore names its life: not empty, the same while it is open, another one for every opening. It says that nobody else " +
				"has the data open, so its bed is Exclusive or has no Reopen.",
			run: func(k *kit) {
				if k.bed.Reopen != nil && !k.bed.Exclusive {
					k.errorf("the store says that it excludes others, the bed that it does not")
				}
				seen := map[string]bool{}
				for n := range 3 {
					life := lifeOf(k.s)
					if life == "" || seen[life] {
						k.errorf("life %q is empty or was there before", life)
					}
					seen[life] = true
					k.begin(fmt.Sprintf("task-%d", n), fmt.Sprintf("group-%d", n), 1)
					if again := lifeOf(k.s); again != life {
						k.errorf("life %q became %q", life, again)
					}
					if k.bed.Reopen == nil {
						break
					}
					k.s = k.reopen().s
				}
				s, err := k.bed.New()
				if err != nil {
					k.fatalf("test bed: new store: %v", err)
				}
				if life := lifeOf(k.opened(s)); life == "" || seen[life] {
					k.errorf("life %q of another store is empty or was there before", life)
				}
			},
		},
		{
			name:  "notify/told",
			needs: notifier,
			demands: "A Notifier tells every subscriber the ID of a task after each save of it: Create, Save, and the Prior of a Create. When it tells, what was " +
				"saved can be read.",
			run: func(k *kit) {
				a, b := k.subscribe(k), k.subscribe(k)
				told := func(ids ...string) {
					for _, id := range ids {
						a.expect(id)
						b.expect(id)
					}
				}
				k.begin("task-1", "group-1", 2)
				told("task-1")
				for n := range 5 {
					k.mustSave(k.next("task-1", everything(fmt.Sprint(n))))
					told("task-1")
				}
				p := k.next("task-1", ends)
				c := made(k.fresh("task-2", "group-1", 1))
				c.Prior = &p
				k.mustCreate(c)
				told("task-1", "task-2")
				k.mustSave(k.next("task-2")) // the head alone
				told("task-2")
			},
		},
		{
			name:    "notify/visible when told",
			needs:   notifier,
			demands: "A reader that looks when it is told, and waits again, never waits for what has been saved already: a Notifier does not tell too early.",
			run:     visibleWhenTold,
		},
		{
			name:    "notify/stop",
			needs:   notifier,
			demands: "After stop no save that begins later is told to that subscriber; the others go on, and a later one can be added. Stop may be called twice.",
			run: func(k *kit) {
				k.begin("task-1", "group-1", 1)
				a, b := k.subscribe(k), k.subscribe(k)
				k.mustSave(k.next("task-1"))
				a.expect("task-1")
				b.expect("task-1")
				a.stop()
				a.stop()
				c := k.subscribe(k)
				for range 3 {
					k.mustSave(k.next("task-1"))
					b.expect("task-1")
					c.expect("task-1")
				}
				if n := a.count("task-1"); n > 0 {
					k.errorf("told %d times after stop", n)
				}
				b.stop()
				c.stop()
				k.mustSave(k.next("task-1"))
			},
		},
		{
			name:    "notify/at once",
			needs:   notifier,
			demands: "Subscribers may come and go while others save, from any goroutine.",
			run: func(k *kit) {
				const workers = 6
				for i := range workers {
					k.begin(fmt.Sprintf("task-%d", i), fmt.Sprintf("group-%d", i), 1)
				}
				k.together(workers, func(i int) {
					id := fmt.Sprintf("task-%d", i)
					for range 10 {
						s := k.subscribe(k)
						k.mustSave(k.next(id))
						s.expect(id)
						s.stop()
					}
				})
			},
		},
		{
			name: "notify/other openings",
			needs: func(b Bed) string {
				if b.Reopen == nil || b.Exclusive {
					return "the data cannot be opened twice at a time"
				}
				return notifier(b)
			},
			demands: "A Notifier tells of saves through every other opening of the data too, for a Runner that has one looks no more by itself.",
			run: func(k *kit) {
				other := k.reopen()
				a, b := k.subscribe(k), k.subscribe(other)
				k.begin("task-1", "group-1", 1)
				a.expect("task-1")
				b.expect("task-1")
				for n := range 6 {
					if n%2 == 0 {
						k.mustSave(k.next("task-1"))
					} else {
						other.mustSave(k.next("task-1"))
					}
					a.expect("task-1")
					b.expect("task-1")
				}
			},
		},
	}
}

func lifeOf(s rollingupgrade.Store) string { return s.(rollingupgrade.ExclusiveStore).Life() }

// A subscriber counts what it is told.
type subscriber struct {
	k    *kit
	stop func()
	mu   sync.Mutex
	n    map[string]int
	told chan struct{}
}

// subscribe subscribes to the store of on.
func (k *kit) subscribe(on *kit) *subscriber {
	s := &subscriber{k: k, n: map[string]int{}, told: make(chan struct{}, 1)}
	s.stop = on.s.(rollingupgrade.Notifier).Notify(func(id string) {
		s.mu.Lock()
		s.n[id]++
		s.mu.Unlock()
		select {
		case s.told <- struct{}{}:
		default:
		}
	})
	if s.stop == nil {
		k.fatalf("Notify returned no stop")
	}
	return s
}

// count returns how often a task was named since the last count.
func (s *subscriber) count(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.n[id]
	s.n[id] = 0
	return n
}

// expect waits until a task is named.
func (s *subscriber) expect(id string) {
	late := time.NewTimer(s.k.bed.Told)
	defer late.Stop()
	for s.count(id) == 0 {
		select {
		case <-s.told:
		case <-late.C:
			s.k.fatalf("not told of a save of task %s within %s", id, s.k.bed.Told)
		}
	}
}

// visibleWhenTold has a reader that looks at the head when it is told, and only then.
func visibleWhenTold(k *kit) {
	k.begin("task-1", "group-1", 1)
	look := make(chan chan struct{})
	seen := make(chan int64, 1000)
	over := make(chan struct{})
	defer close(over)
	go k.guard(func() {
		for {
			select {
			case <-over:
				return
			case looked := <-look:
				seen <- k.mustHead("task-1").Version
				close(looked)
			}
		}
	})
	stop := k.s.(rollingupgrade.Notifier).Notify(func(string) {
		// It must not block, so it gives the reader but a moment. A store that tells under its lock takes that long.
		patience := time.NewTimer(20 * time.Millisecond)
		defer patience.Stop()
		looked := make(chan struct{})
		select {
		case look <- looked:
		case <-patience.C:
			go func() {
				select {
				case look <- looked:
				case <-over:
				}
			}()
			return
		}
		select {
		case <-looked:
		case <-patience.C:
		}
	})
	defer stop()
	for range 10 {
		c := k.next("task-1", say("x"))
		version := c.Head.Version
		k.mustSave(c)
		late := time.NewTimer(k.bed.Told)
		for found := int64(0); found < version; {
			select {
			case found = <-seen:
			case <-late.C:
				k.fatalf("a reader that looked when it was told has not found version %d, though that was saved", version)
			}
		}
		late.Stop()
	}
}
