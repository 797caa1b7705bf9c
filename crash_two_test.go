package rollingupgrade_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

// How long a frozen process sleeps: shorter than the lease, or longer than lease and margin, so that another takes over.
const (
	nap   = 100 * time.Second
	sleep = 10 * time.Minute
	lag   = 2 * time.Minute // of a save: what is left of the lease is too little for a call
)

// A frost freezes one process at its n-th boundary, as a stopped virtual machine does. Where in the boundary it freezes
// decides whether what it was about to do is already on its way.
type frost struct {
	n    int
	long time.Duration
	slow bool // nothing freezes: if the boundary is a save it is written, and its answer comes so late
	sent bool // the call is on the wire when the process freezes; else the process freezes before the engine's check
}

// TestTwoRunners_N3_FrozenDriverSavesNothing freezes the driver at every boundary for longer than its lease, lets a second one
// take over and wakes the first one up.
func TestTwoRunners_N3_FrozenDriverSavesNothing(t *testing.T) {
	for _, script := range []bool{false, true} {
		name := map[bool]string{false: "image", true: "script"}[script]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := playTwo(t, script, frost{})
			if len(base.problems) > 0 {
				t.Fatalf("undisturbed:\n\t%s", strings.Join(base.problems, "\n\t"))
			}
			step := 1
			if raceEnabled || testing.Short() {
				step = 5
			}
			points, between, wire := 0, 0, 0
			for n := 1; n <= base.count; n += step {
				for _, f := range []frost{{n: n, long: nap}, {n: n, long: nap, sent: true}, {n: n, long: sleep}, {n: n, long: sleep, sent: true}, {n: n, long: lag, slow: true}} {
					points++
					e := playTwo(t, script, f)
					between, wire = between+e.between, wire+e.wire
					if len(e.problems) > 0 || !e.froze && !f.slow {
						t.Errorf("frozen at boundary %d for %s (sent: %t, froze: %t):\n\t%s", n, f.long, f.sent, e.froze, strings.Join(e.problems, "\n\t"))
					}
					if d := cmp.Diff(base.lines, e.lines); d != "" {
						t.Errorf("frozen at boundary %d for %s (sent: %t): the end differs (-undisturbed +frozen):\n%s", n, f.long, f.sent, d)
					}
				}
			}
			t.Logf("%s: %d boundaries, every %d. struck in 5 ways: %d points; %d calls were on the wire, %d stood between the check of the lease and the wire", name, base.count, step, points, wire, between)
		})
	}
}

type twoEnding struct {
	count    int
	lines    []string
	problems []string
	froze    bool
	between  int // calls that stood between the check of the lease and the wire
	wire     int // calls that were on the wire
}

// A freezer makes every goroutine of a process stand still where it next meets the outside.
type freezer struct {
	frost
	g    *rig
	id   string
	woke chan struct{}

	mu            sync.Mutex
	at            int // boundaries so far
	frozen, froze bool
	between, wire int
}

// pass is called at each boundary of the process, after its engine has checked the lease.
func (z *freezer) pass(p *process, key string) {
	save := strings.HasPrefix(key, "save ")
	if owner := z.g.inv.owns(z.id); z.awake() && !save && owner != p.name {
		z.g.inv.problem("N3: %s begins a call (%s), and %q owns the task", p.name, key, owner)
	}
	z.mu.Lock()
	z.at++
	hit := z.at == z.n && !z.slow
	if hit {
		z.frozen, z.froze = true, true
		time.AfterFunc(z.long, func() {
			z.mu.Lock()
			z.frozen = false
			z.mu.Unlock()
			close(z.woke)
		})
	}
	stand := z.frozen && !(hit && z.sent)
	switch {
	case stand && !save:
		z.between++
	case hit && !save:
		z.wire++
	}
	z.mu.Unlock()
	if stand {
		<-z.woke
	}
}

// awake reports whether the process has been frozen and is awake again.
func (z *freezer) awake() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.froze && !z.frozen
}

// owns returns the owner of a task as the record has it.
func (v *invariants) owns(id string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.tasks[id].head.Lease.Owner
}

// playTwo runs an upgrade by two Runners that both serve the store, the first of which freezes.
func playTwo(t *testing.T, script bool, f frost) (e twoEnding) {
	synctest.Test(t, func(t *testing.T) {
		s := &scenario{name: "two", n: 4}
		cloud := fake.Demo(fake.Config{Steps: quick}, s.n)
		g := newRig(t, cloud, ru.Config{Poll: 5 * time.Second})
		g.inv.begin()
		o := newOperator(g)
		spec := sweepSpec(script, 2)
		id := o.create(spec)

		first, second := g.start(true, true), g.start(true, true)
		z := &freezer{frost: f, g: g, id: id, woke: make(chan struct{})}
		first.gate = func(key string) { z.pass(first, key) }
		first.slow = func(key string) {
			z.mu.Lock()
			hit := z.slow && z.at == z.n
			z.mu.Unlock()
			if hit {
				time.Sleep(z.long)
			}
		}
		done := make(chan error, 2)
		for _, p := range []*process{first, second} {
			go func() {
				defer func() {
					if r := recover(); r != nil {
						g.inv.problem("panic: %v", r)
					}
				}()
				done <- p.r.Run(o.ctx, id)
			}()
			time.Sleep(time.Second) // the first one takes the lease
		}
		for range 2 {
			select {
			case err := <-done:
				if err != nil {
					g.inv.problem("run: %v", err)
				}
			case <-time.After(24 * time.Hour):
				g.inv.problem("N6: still at work after a day")
				for _, p := range []*process{first, second} {
					p.kill()
				}
			}
		}
		time.Sleep(time.Hour)
		g.inv.end()
		end := s.ending(g)
		e = twoEnding{count: z.at, lines: end.lines, problems: end.problems, froze: z.froze, between: z.between, wire: z.wire}
		for _, p := range []*process{first, second} {
			p.stop()
		}
		time.Sleep(10 * time.Minute)
	})
	return e
}

// TestTwoRunners_N3_RaceForTheLease lets many Runners race for a task: one drives it, and the others wait beside him.
func TestTwoRunners_N3_RaceForTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.Demo(fake.Config{Steps: quick}, 4), ru.Config{})
		g.inv.begin()
		o := newOperator(g)
		id := o.create(sweepSpec(false, 2))
		var all []*process
		var wg sync.WaitGroup
		for range 8 {
			p := g.start(true, true)
			all = append(all, p)
			wg.Go(func() {
				if err := p.r.Run(o.ctx, id); err != nil {
					g.inv.problem("run: %v", err)
				}
			})
		}
		wg.Wait()
		g.inv.end()
		task := o.get(id)
		if task.Status != ru.StatusSucceeded || task.Lease.Fence != 1 {
			t.Errorf("task is %s, the lease was taken %d times", task.Status, task.Lease.Fence)
		}
		if len(g.inv.problems) > 0 {
			t.Error(fmt.Sprint(slices.Compact(g.inv.problems)))
		}
		for _, p := range all {
			p.stop()
		}
		time.Sleep(10 * time.Minute)
	})
}
