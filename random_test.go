package rollingupgrade_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

var (
	randomSeed = flag.Uint64("random.seed", 0, "play only the random schedule with this seed")
	randomFor  = flag.Duration("random.for", 0, "how long to play random schedules; default 5s, 20s with CI=true, 2s with -short")
)

// TestRandomSchedules_N1_N2_N3_N4_N5_N6 plays random specs, clouds, faults, commands and deaths, and holds the invariants at
// every save and every effect. The same seed plays the same schedule.
func TestRandomSchedules_N1_N2_N3_N4_N5_N6(t *testing.T) {
	if *randomSeed != 0 {
		playRandom(t, *randomSeed)
		return
	}
	limit := *randomFor
	switch {
	case limit != 0:
	case testing.Short():
		limit = 2 * time.Second
	case os.Getenv("CI") == "true":
		limit = 20 * time.Second
	default:
		limit = 5 * time.Second
	}
	begin := time.Now()
	first := uint64(begin.UnixNano())
	var played, tasks, deaths, commands, foreign atomic.Int64
	t.Run("schedules", func(t *testing.T) {
		for worker := range uint64(2) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for seed := first + worker; (time.Since(begin) < limit || played.Load() < 20) && !t.Failed(); seed += 2 {
					s := playRandom(t, seed)
					played.Add(1)
					tasks.Add(int64(s.tasks))
					deaths.Add(int64(s.deaths))
					commands.Add(int64(s.commands))
					if s.foreign {
						foreign.Add(1)
					}
				}
			})
		}
	})
	t.Logf("played %d schedules with %d tasks besides rollbacks, %d deaths and %d commands, in %d of them others interfered; the first seed was %d",
		played.Load(), tasks.Load(), deaths.Load(), commands.Load(), foreign.Load(), first)
	if tasks.Load() < played.Load()/2 && !t.Failed() {
		t.Errorf("%d schedules made %d tasks", played.Load(), tasks.Load())
	}
}

// A schedule is one random schedule.
type schedule struct {
	seed     uint64
	r        *rand.Rand // for what is drawn before the start
	g        *rig
	o        *operator
	n        int
	spec     ru.Spec
	tasks    int
	deaths   int
	strikes  int
	commands int
	foreign  bool
	weak     bool // what tells one sending of a script from two is weakened already
	mu       sync.Mutex
	notes    []string // what was drawn, for a report
}

func playRandom(t *testing.T, seed uint64) *schedule {
	s := &schedule{seed: seed, r: rand.New(rand.NewPCG(seed, 1))}
	synctest.Test(t, func(t *testing.T) {
		l := s.line(t)
		cloud := l.cloud
		s.spec = s.drawSpec(fmt.Sprint("random-", seed))
		s.g = newRigOn(t, l, ru.Config{Hooks: s.hooks(), Parallel: 1 + s.r.IntN(6), ParallelTotal: 6})
		s.g.deaf, s.g.pace = s.r.IntN(2) == 0, s.r.IntN(4)
		s.g.inv.foreign = s.foreign
		s.g.inv.nothing = map[string]bool{}
		for _, id := range cloud.InstanceIDs(fake.DemoGroup) {
			s.g.inv.nothing[id] = true // I5 is held for scripts; a replacement that came to nothing may be made again
		}
		s.g.inv.begin()
		s.o = newOperator(s.g)
		s.g.onCall = s.strike
		s.g.inv.onSave = s.saved
		s.faults()
		s.play()
		s.o.racing.Wait()
		s.g.inv.end()
		s.o.checkCommands()
		s.deaths, s.commands = s.g.deaths, s.o.commands
		for _, p := range []*process{s.g.driver, s.o.clerk} {
			if p != nil {
				p.stop()
			}
		}
		time.Sleep(10 * time.Minute)
		if len(s.g.inv.problems) > 0 {
			if *randomSeed != 0 {
				s.g.report()
			}
			t.Errorf("seed %d (replay with -random.seed=%d):\n\t%s\nschedule: %s", seed, seed,
				strings.Join(s.g.inv.problems, "\n\t"), strings.Join(s.notes, "; "))
		}
	})
	return s
}

func (s *schedule) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// chance reports true in p of 100 cases, drawn from the seed and key: it does not depend on the order in which goroutines ask.
func (s *schedule) chance(p int, key string) bool { return s.draw(100, key) < p }

// draw returns a number below n, drawn from the seed and key.
func (s *schedule) draw(n int, key string) int {
	h := s.seed*0x9e3779b97f4a7c15 + 0x1234567
	for _, b := range []byte(key) {
		h = (h ^ uint64(b)) * 0x100000001b3
		h ^= h >> 29
	}
	h *= 0xff51afd7ed558ccd
	h ^= h >> 32
	return int(h % uint64(n))
}

// strike draws deaths and lost answers, at most eight of them.
func (s *schedule) strike(_ *process, b boundary) (site, mode, bool) {
	if s.strikes >= 8 || !s.chance(1+s.draw(8, "how often"), "strike "+b.key) {
		return 0, 0, false
	}
	s.strikes++
	m := mode(s.draw(3, "mode "+b.key))
	sites := b.sites(m)
	at := sites[s.draw(len(sites), "site "+b.key)]
	s.note("%s", strike{b.key, at, m})
	s.o.late.Store(m == diesLate)
	return at, m, true
}
