package rollingupgrade_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// one lets one instance begin every so often.
func one(every time.Duration) func(ask, n int) (int, time.Duration) {
	return func(_, n int) (int, time.Duration) { return min(1, n), every }
}

// slowly are the ways in which instances of a batch begin long after it was opened.
var slowly = []struct {
	name  string
	grant func(ask, n int) (int, time.Duration)
	spec  func(*ru.Spec)
}{
	{"paced", one(2 * time.Minute), func(*ru.Spec) {}},
	{"one at a time", func(_, n int) (int, time.Duration) { return n, 0 }, func(s *ru.Spec) { s.MaxInFlight = 1 }},
}

// Instances that begin long after their batch was opened are looked at again: what somebody has changed meanwhile is left alone.
func TestN5_ChangedBySomebodyBeforeItsTurn(t *testing.T) {
	for _, c := range slowly {
		for _, change := range []struct {
			name  string
			do    func(w *fake.World)
			ends  ru.Status
			after provider.Lifecycle // of i-0006
		}{
			{"in Standby", func(w *fake.World) { w.SetLifecycle(provider.Standby, "i-0006") }, ru.StatusFailurePaused, provider.Standby},
			{"protected", func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0006") }, ru.StatusFailurePaused, provider.Protected},
			{"released", func(w *fake.World) { w.Release("i-0006") }, ru.StatusSucceeded, ""},
		} {
			bubbled(t, c.name+"/"+change.name, func(t *testing.T) {
				b, _ := paceBed(t, 6, c.grant)
				b.rough = true // somebody else works on the group
				id := b.create(imageSpec(1, everything, c.spec))
				wait := b.start(id)
				time.Sleep(3 * time.Minute)
				b.cloud.Now(change.do)
				b.wantStatus(wait(), change.ends)
				diff(t, "calls about i-0006", 0, len(b.effects("i-0006")))
				diff(t, "it is", change.after, b.members()["i-0006"])
			})
		}
	}
}

// One that was looked at before a crash is looked at again by who takes over.
func TestN5_ChangedBySomebodyWhileNobodyDrove(t *testing.T) {
	for _, c := range slowly {
		bubbled(t, c.name, func(t *testing.T) {
			b, _ := paceBed(t, 6, c.grant)
			b.rough = true
			id := b.create(imageSpec(1, everything, c.spec))
			b.runFor(id, 5*time.Second)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Standby, "i-0002") })
			b.runTo(id, ru.StatusFailurePaused)
			diff(t, "calls about i-0002", 0, len(b.effects("i-0002")))
		})
	}
}

// What others take out of service while a batch goes on counts before further instances are taken out.
func TestS21_MinInServiceWhileABatchGoesOn(t *testing.T) {
	for _, c := range slowly {
		bubbled(t, c.name, func(t *testing.T) {
			b, _ := paceBed(t, 10, c.grant)
			b.rough = true
			id := b.create(imageSpec(2, func(s *ru.Spec) { s.MinInService = 5 }, c.spec))
			wait := b.start(id)
			time.Sleep(3 * time.Minute)
			b.cloud.Now(func(w *fake.World) {
				w.SetLifecycle(provider.Standby, "i-0006", "i-0007", "i-0008", "i-0009", "i-0010")
			})
			task := wait()
			b.wantStatus(task, ru.StatusBatchPaused)
			diff(t, "why", ru.PausedByCapacity, task.Pause.Why)
			began := 0
			for _, i := range task.Instances {
				if !i.StartedAt.IsZero() {
					began++
				}
			}
			if began > 3 {
				t.Errorf("%d instances began, and only the first three or fewer were out before the change", began)
			}
		})
	}
}

// Instances that have yet to begin are looked at as their turn comes, not all of them each time that one fails.
func TestS15_FailuresWhileTheProviderHoldsBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cloud := fake.Demo(fake.Config{Script: func(r fake.ScriptRun) fake.ScriptResult {
			s := fake.ScriptResult{Takes: 30 * time.Second}
			if strings.HasSuffix(r.InstanceID, "5") {
				s.ExitCode = 1
			}
			return s
		}}, 1000)
		b, p := newBed(t, cloud, ru.Config{}), &pacing{grant: func(_, n int) (int, time.Duration) { return min(20, n), 4 * time.Second }}
		b.use(func(f fake.Face) provider.Provider { p.Face = f; return p }, ru.Config{})
		b.run(b.create(scriptSpec(1, everything, func(s *ru.Spec) { s.Failure.Total = ru.Budget{Instances: 1000} })))
		if n := b.calls("Instances"); n > 100 {
			t.Errorf("%d calls of Instances for 1000 instances", n)
		}
	})
}

// A provider that lets nobody begin is not waited for without a limit, and is not asked without a rest.
func TestN6_ProviderThatLetsNobodyBegin(t *testing.T) {
	for _, wait := range []time.Duration{0, time.Second, time.Hour} {
		bubbled(t, wait.String(), func(t *testing.T) {
			b, p := paceBed(t, 3, func(int, int) (int, time.Duration) { return 0, wait })
			id := b.create(imageSpec(1, everything))
			began := time.Now()
			task := b.runFor(id, time.Minute)
			if text := task.Explain().WaitsFor; !strings.Contains(text, "3 not started (as fast as the rate limits") {
				t.Errorf("it waits for %s", text)
			}
			if len(p.asked) > 4*60 {
				t.Errorf("asked %d times in a minute", len(p.asked))
			}
			b.runTo(id, ru.StatusSucceeded)
			if took := time.Since(began); took > time.Hour {
				t.Errorf("three instances took %s", took)
			}
		})
	}
}

// A panic in Pace is no reason to let nobody begin, or to end the process.
func TestN6_PanicInPace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, _ := paceBed(t, 3, func(int, int) (int, time.Duration) { panic("boom") })
		b.runTo(b.create(imageSpec(1, everything)), ru.StatusSucceeded)
	})
}

// What was granted and not begun, since somebody else's save came first, is not lost.
func TestS15_GrantsOutliveALostSave(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var b *bed
		var id string
		b, p := paceBed(t, 20, func(ask, n int) (int, time.Duration) {
			if ask == 0 { // a command of another process comes between the decision and its save
				b.ok(b.r.CancelInstances(b.ctx(), id, []string{"i-0020"}))
			}
			return min(10, n), time.Minute
		})
		id = b.create(imageSpec(1, everything))
		b.run(id)
		diff(t, "asked for", []int{20, 9}, p.asked)
		diff(t, "entered Standby", "map[0s:10 1m0s:9]", fmt.Sprint(b.waves()))
	})
}

// Explain says why instances of the batch have not begun.
func TestS34_ExplainWhatHasNotBegun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		id := b.create(imageSpec(1, everything, func(s *ru.Spec) { s.MaxInFlight = 3 }))
		wait := b.start(id)
		b.untilStep(id, "i-0001", ru.Updating)
		e := b.task(id).Explain()
		diff(t, "waits for", "batch 1 of 1: 3 updating, 1 not started (MaxInFlight is 3)", e.WaitsFor)
		if text := e.Text(ru.Chinese); !strings.Contains(text, "1 台未开始（MaxInFlight 为 3）") {
			t.Error(text)
		}
		b.ok(b.r.Pause(b.ctx(), id, "look"))
		diff(t, "waits for", "batch 1 of 1: 3 updating, 1 not started", b.task(id).Explain().WaitsFor)
		wait()
		b.ok(b.r.Continue(b.ctx(), id))
		b.runTo(id, ru.StatusSucceeded)
	})
}
