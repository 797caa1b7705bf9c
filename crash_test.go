package rollingupgrade_test

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
)

var (
	sweepFlag = flag.String("sweep", "", "how much of the crash sweep to run: small (the default with -race and -short), middle (the default), full (the default with CI=true), or a part of a scenario's name")
	pointFlag = flag.String("point", "", "run only the points of the sweep whose name contains this")
)

// A scenario is what is done while the sweep strikes.
type scenario struct {
	name  string
	n     int // instances
	cloud fake.Config
	cfg   ru.Config
	deaf  bool
	pace  int // see [rig]
	setup func(c *fake.Cloud)
	// act leads the scenario from Create to its end.
	act func(o *operator)
	// failing is an instance some of whose replacements come to nothing.
	failing string
	// varies names instances whose image and outcome depend on the moment at which a command reaches them.
	varies []string
	// unknown says that the outcome of an update may stay unknown, and roughLate that it may where the next process comes late;
	// then the operator retries it. The number of attempts and scripts is not compared there.
	unknown, roughLate bool
}

// ending is what is left of a run: what must be the same with and without a strike.
type ending struct {
	lines      []string
	rough      []string // the same without what a retry of an unknown outcome changes
	problems   []string
	boundaries []boundary
	requests   []boundary     // on the wire
	calls      map[string]int // by instance
	fired      bool
	deaths     int
}

// quick are the durations of the model: short, so that a run has few looks.
var quick = fake.Steps{Stop: 6 * time.Second, Replace: 15 * time.Second, Start: 6 * time.Second, Agent: 2 * time.Second, Script: 5 * time.Second}

// play runs a scenario in a bubble of its own, with or without a strike.
func (s *scenario) play(t *testing.T, at strike) (e ending) {
	synctest.Test(t, func(t *testing.T) {
		cloudCfg := s.cloud
		if cloudCfg.Steps == (fake.Steps{}) {
			cloudCfg.Steps = quick
		}
		cloud := fake.Demo(cloudCfg, s.n)
		if s.setup != nil {
			s.setup(cloud)
		}
		g := newRig(t, cloud, s.cfg)
		g.strike, g.deaf, g.pace = at, s.deaf, s.pace
		g.inv.runTime = func(string) int64 { return int64(cloudCfg.Steps.Script) }
		g.inv.nothing = map[string]bool{s.failing: true}
		g.inv.begin()
		o := newOperator(g)
		s.act(o)
		o.racing.Wait()
		g.inv.end()
		o.checkCommands()
		e = s.ending(g)
		if *pointFlag != "" && testing.Verbose() {
			g.report()
		}
		for _, p := range []*process{g.driver, o.clerk} {
			if p != nil {
				p.stop()
			}
		}
		time.Sleep(10 * time.Minute) // what is left of dead processes comes to its end
	})
	return e
}

func (s *scenario) ending(g *rig) ending {
	e := ending{boundaries: g.boundaries, requests: g.requests, fired: g.fired, deaths: g.deaths, calls: map[string]int{}}
	say := func(format string, args ...any) {
		e.lines = append(e.lines, fmt.Sprintf(format, args...))
		for n, a := range args {
			if _, ok := a.(times); ok {
				args[n] = "*"
			}
		}
		e.rough = append(e.rough, fmt.Sprintf(format, args...))
	}
	for _, i := range g.cloud.Snapshot(fake.DemoGroup) {
		image, scripts := i.ImageID, any(times(i.ScriptRuns))
		if slices.Contains(s.varies, i.ID) {
			image, scripts = "*", "*"
		}
		say("%s %s %s %s scripts=%v weight=%d key=%q data=%q", i.ID, i.Lifecycle, i.Power, image, scripts, i.Weight, i.KeyPair, i.UserData)
	}
	group, _ := g.cloud.GroupView(fake.DemoGroup)
	say("group suspended=%v", group.Suspended)
	say("configuration %s", g.inv.image())
	for n, id := range g.inv.order {
		t, err := g.store.Load(g.ctx(), id)
		if err != nil {
			g.t.Fatal(err)
		}
		reason := strings.ReplaceAll(t.Reason, id, "task")
		say("task %d %s %s holds=%t reason=%q progress=%+v", n+1, t.Kind, t.Status, t.HoldsGroup, reason, t.Progress)
		if r := t.Restore; r != nil {
			say("task %d restored active=%t error=%q", n+1, r.Active(), r.Error)
		}
		for k := range t.Instances {
			i := &t.Instances[k]
			outcome := string(i.Outcome)
			if slices.Contains(s.varies, i.ID) {
				outcome = "*"
				if problem := inconsistent(g, t, i); problem != "" {
					g.inv.problem("I6: %s", problem)
				}
			}
			say("task %d %s batch=%d %s %s attempt=%v outcome=%s standby=%t lifted=%t stopped=%t",
				n+1, i.ID, i.Batch, i.Status, i.Mark, times(i.Attempt), outcome, i.InStandby, i.Lifted, i.Stopped)
		}
		for _, l := range t.Leftovers() {
			say("task %d leaves %s %s%s%s", n+1, l.Kind, l.InstanceID, l.Process, l.ConfigurationID)
		}
	}
	for _, c := range g.cloud.Calls() {
		for _, id := range c.Targets {
			e.calls[id]++
		}
	}
	e.problems = slices.Clone(g.inv.problems)
	return e
}

// times is a number that a retry of an unknown outcome changes.
type times int

// inconsistent says where the outcome of an instance differs from what the cloud shows.
func inconsistent(g *rig, t *ru.Task, i *ru.Instance) string {
	v, ok := g.cloud.InstanceView(i.ID)
	if !ok || t.Spec.Update.Image == nil || i.Batch == 0 || t.NextID != "" {
		return ""
	}
	updated := v.ImageID == t.Spec.Update.Image.ImageID
	if updated != (i.Outcome == "updated") {
		return fmt.Sprintf("%s runs %s and its outcome is %q", i.ID, v.ImageID, i.Outcome)
	}
	return ""
}

// points are all strikes at some boundaries.
func (s *scenario) points(at []boundary) (all []strike) {
	for _, m := range []mode{diesAtOnce, diesLate, lives} {
		for _, b := range at {
			for _, site := range b.sites(m) {
				all = append(all, strike{b.key, site, m})
			}
		}
	}
	return all
}

// demanded is how many points the counts of the undisturbed run ask for: a call can be struck at three sites in each of the two
// ways to die, and at two by a process that lives; a save at two in each of the three; a call about several instances also midway.
func demanded(base ending) int {
	n := 0
	for _, b := range base.boundaries {
		switch {
		case b.call && b.many:
			n += 4 + 4 + 2
		case b.call:
			n += 3 + 3 + 2
		default:
			n += 2 + 2 + 2
		}
	}
	return n
}

// spare is how many calls about an instance a strike may add (I12): six, and as many looks again where it took away what was learnt.
const spare = 12

// more is how many calls a retry of an unknown outcome adds.
func (s *scenario) more(at strike) int {
	if s.unknown || at.mode == diesLate && s.roughLate {
		return 40
	}
	return 0
}

func (s *scenario) judge(t *testing.T, base ending, at strike, e ending) bool {
	ok := true
	fail := func(format string, args ...any) {
		ok = false
		t.Errorf("%s: %s: "+format, append([]any{s.name, at}, args...)...)
	}
	if !e.fired {
		fail("was not reached")
	}
	if at.mode == lives && e.deaths != 0 || at.mode != lives && e.deaths != 1 {
		fail("%d deaths", e.deaths)
	}
	if len(e.problems) > 0 {
		fail("\n\t%s", strings.Join(e.problems, "\n\t"))
	}
	want, got := base.lines, e.lines
	if s.unknown || at.mode == diesLate && s.roughLate {
		want, got = base.rough, e.rough // how often is held by I5
	}
	if d := cmp.Diff(want, got); d != "" {
		fail("the end differs (-undisturbed +struck):\n%s", d)
	}
	// A death may take what was learnt about waiting with it: then an instance needs as many looks as those of the first batch.
	most := 0
	for _, n := range base.calls {
		most = max(most, n)
	}
	for id, n := range e.calls {
		again := 0
		if id == s.failing { // its second attempt waits for as long, and knows as little
			again = spare / 2
		}
		if n > most+spare+again+s.more(at) && !slices.Contains(s.varies, id) {
			fail("I12: %d calls about %s, undisturbed %d, and %d about one of the first batch", n, id, base.calls[id], most)
		}
	}
	return ok
}

// TestCrashSweep_N1_N2_N3_N4_N5 strikes at every call and every save of every scenario.
func TestCrashSweep_N1_N2_N3_N4_N5(t *testing.T) {
	part := "middle"
	switch {
	case raceEnabled || testing.Short():
		part = "small"
	case os.Getenv("CI") == "true":
		part = "full"
	}
	if *sweepFlag != "" {
		part = *sweepFlag
	}
	var swept atomic.Int64
	chosen := chosenScenarios(t, part)
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // many short lives
	t.Run("scenarios", func(t *testing.T) {
		for _, s := range chosen {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				swept.Add(int64(s.sweep(t)))
			})
		}
	})
	t.Logf("swept %d points of %d of %d scenarios (-sweep=%s)", swept.Load(), len(chosen), len(scenarios()), part)
	if (part == "full" || part == "middle") && *pointFlag == "" && !t.Failed() && swept.Load() < 10_000 {
		t.Errorf("swept %d points, at least 10000 are wanted", swept.Load())
	}
}

// chosenScenarios are those of a part of the sweep; -sweep chooses another part.
func chosenScenarios(t *testing.T, part string) (chosen []*scenario) {
	t.Helper()
	if *sweepFlag != "" {
		part = *sweepFlag
	}
	all := scenarios()
	for _, s := range all {
		if part == "full" || part == "middle" && slices.Contains(middleScenarios, s.name) || part == "small" && slices.Contains(smallScenarios, s.name) ||
			strings.Contains(s.name, part) {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 || part == "middle" && len(chosen) != len(middleScenarios) || part == "small" && len(chosen) != len(smallScenarios) {
		t.Fatalf("-sweep=%s chooses %d of %d scenarios", part, len(chosen), len(all))
	}
	return chosen
}

func (s *scenario) sweep(t *testing.T) int {
	base := s.play(t, strike{})
	if len(base.problems) > 0 {
		t.Fatalf("undisturbed:\n\t%s\n%s", strings.Join(base.problems, "\n\t"), strings.Join(base.lines, "\n"))
	}
	calls, saves := 0, 0
	for _, b := range base.boundaries {
		if b.call {
			calls++
		} else {
			saves++
		}
	}
	swept := s.strikeAt(t, base, s.points(base.boundaries))
	if want := demanded(base); swept != want && *pointFlag == "" {
		t.Errorf("swept %d points, %d calls and %d saves demand %d", swept, calls, saves, want)
	}
	t.Logf("%s: %d calls and %d saves demand %d points, all swept", s.name, calls, saves, swept)
	return swept
}

// strikeAt plays the scenario once for each point and returns how many there were.
func (s *scenario) strikeAt(t *testing.T, base ending, points []strike) (swept int) {
	failed := 0
	for _, at := range points {
		if !strings.Contains(at.String(), *pointFlag) {
			continue
		}
		swept++
		if !s.judge(t, base, at, s.play(t, at)) {
			if failed++; failed == 5 {
				t.Fatal("enough")
			}
		}
	}
	return swept
}
