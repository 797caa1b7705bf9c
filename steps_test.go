package rollingupgrade_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// verifier is a Verify hook that remembers what it was asked.
type verifier struct {
	mu    sync.Mutex
	asked [][]string
	at    []time.Time
	says  func(id string, times int) ru.Verdict // times counts from 1
	times map[string]int
	sees  func(id string) // called for each instance asked about
}

func (v *verifier) hook(_ context.Context, _ ru.Summary, ids []string) ([]ru.Verdict, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked, v.at = append(v.asked, slices.Clone(ids)), append(v.at, time.Now())
	if v.times == nil {
		v.times = map[string]int{}
	}
	var all []ru.Verdict
	for _, id := range ids {
		v.times[id]++
		if v.sees != nil {
			v.sees(id)
		}
		verdict := ru.Verdict{Healthy: true}
		if v.says != nil {
			verdict = v.says(id, v.times[id])
		}
		verdict.InstanceID = id
		all = append(all, verdict)
	}
	return all, nil
}

// verifiedBed is a demo bed whose Runner has that hook.
func verifiedBed(t *testing.T, n int, v *verifier) *bed {
	return newBed(t, fake.Demo(fake.Config{}, n), ru.Config{Hooks: ru.Hooks{Verify: v.hook}})
}

// steps are the steps that an instance took.
func (b *bed) steps(id, instanceID string) []string {
	var all []string
	for _, e := range b.events(id, ru.EventStep) {
		if e.InstanceID == instanceID {
			all = append(all, e.To)
		}
	}
	return all
}

func TestS15_OrderOfSteps(t *testing.T) {
	for name, test := range map[string]struct {
		spec   ru.Spec
		verify bool
		want   []ru.Step
	}{
		"plain":            {imageSpec(2), false, []ru.Step{ru.EnteringStandby, ru.Updating, ru.ExitingStandby}},
		"drain":            {imageSpec(2, drain(time.Minute)), false, []ru.Step{ru.EnteringStandby, ru.Draining, ru.Updating, ru.ExitingStandby}},
		"verify":           {scriptSpec(2), true, []ru.Step{ru.EnteringStandby, ru.Updating, ru.Verifying, ru.ExitingStandby}},
		"drain and verify": {scriptSpec(2, drain(time.Minute)), true, []ru.Step{ru.EnteringStandby, ru.Draining, ru.Updating, ru.Verifying, ru.ExitingStandby}},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := demoBed(t, 2)
			if test.verify {
				b = verifiedBed(t, 2, &verifier{})
			}
			id := b.create(test.spec)
			b.runTo(id, ru.StatusSucceeded)
			var want []string
			for _, s := range test.want {
				want = append(want, string(s))
			}
			for _, i := range idRange(1, 2) {
				diff(t, "steps of "+i, want, b.steps(id, i))
			}
		})
	}
}

func drain(d time.Duration) func(*ru.Spec) {
	return func(s *ru.Spec) { s.Drain = d }
}

func TestS15_DrainWait(t *testing.T) {
	for _, wait := range []time.Duration{time.Second, 90 * time.Second, 3 * time.Hour} {
		for kind, first := range map[string]string{"image": "StopInstances", "script": "RunCommand"} {
			bubbled(t, kind+" "+wait.String(), func(t *testing.T) {
				b := demoBed(t, 2)
				spec := imageSpec(2, drain(wait))
				if kind == "script" {
					spec = scriptSpec(2, drain(wait))
				}
				b.runTo(b.create(spec), ru.StatusSucceeded)
				for _, i := range idRange(1, 2) {
					if rest := b.effectTime(first, i).Sub(b.effectTime("EnterStandby", i)); rest < wait || rest > wait+20*time.Second {
						t.Errorf("%s rested %s in Standby, want %s", i, rest, wait)
					}
				}
			})
		}
	}
}

func TestS15_VerifyBeforeBackInService(t *testing.T) {
	bubbled(t, "many at once", func(t *testing.T) {
		v := &verifier{}
		b := verifiedBed(t, 6, v)
		v.sees = func(id string) {
			if i := b.instance(id); i.Lifecycle != provider.Standby || i.ImageID != fake.DemoNewImage || i.Power != provider.Running {
				t.Errorf("%s is verified while it is %s and runs %s", id, i.Lifecycle, i.ImageID)
			}
		}
		b.runTo(b.create(imageSpec(2)), ru.StatusSucceeded)
		// A look may come when some of them run and others do not yet.
		diff(t, "asked", [][]string{idRange(1, 3), idRange(4, 6)}, joined(v.asked, 3))
		if len(v.asked) > 4 {
			t.Errorf("they were asked about one by one: %v", v.asked)
		}
	})
	bubbled(t, "until it is healthy", func(t *testing.T) {
		v := &verifier{says: func(id string, times int) ru.Verdict { return ru.Verdict{Healthy: id != "i-0001" || times > 4} }}
		b := verifiedBed(t, 3, v)
		b.runTo(b.create(scriptSpec(1, everything, func(s *ru.Spec) { s.Verify.Interval = 20 * time.Second })), ru.StatusSucceeded)
		diff(t, "asked", [][]string{idRange(1, 3), {"i-0001"}, {"i-0001"}, {"i-0001"}, {"i-0001"}}, v.asked)
		if back, healthy := b.effectTime("ExitStandby", "i-0001"), v.at[4]; back.Before(healthy) {
			t.Errorf("back in service at %s, healthy at %s", back, healthy)
		}
		if other := b.effectTime("ExitStandby", "i-0002"); !other.Before(v.at[2]) {
			t.Errorf("i-0002 was healthy at %s and went back at %s", v.at[0], other)
		}
		for n := 1; n < len(v.at); n++ {
			if d := v.at[n].Sub(v.at[n-1]); d < 19*time.Second || d > 25*time.Second {
				t.Errorf("asked again after %s, want 20s", d)
			}
		}
	})
	bubbled(t, "often enough in a row", func(t *testing.T) {
		// good, good, bad, good, good, good
		v := &verifier{says: func(_ string, times int) ru.Verdict { return ru.Verdict{Healthy: times != 3} }}
		b := verifiedBed(t, 2, v)
		b.runTo(b.create(scriptSpec(2, func(s *ru.Spec) { s.Verify.Successes = 3 })), ru.StatusSucceeded)
		diff(t, "times asked", map[string]int{"i-0001": 6, "i-0002": 6}, v.times)
	})
	bubbled(t, "until the deadline", func(t *testing.T) {
		v := &verifier{says: func(id string, times int) ru.Verdict {
			return ru.Verdict{Healthy: id == "i-0002", Text: fmt.Sprintf("HTTP 503, try %d", times)}
		}}
		b := verifiedBed(t, 3, v)
		began := time.Time{}
		v.sees = func(id string) {
			if began.IsZero() {
				began = time.Now()
			}
		}
		task := b.runTo(b.create(imageSpec(1, everything, func(s *ru.Spec) { s.Verify.Timeout = 3 * time.Minute })), ru.StatusFailurePaused)
		diff(t, "statuses", map[string]string{"i-0001": "failed", "i-0002": "succeeded", "i-0003": "failed"}, statuses(task))
		last := fmt.Sprintf("HTTP 503, try %d", v.times["i-0003"])
		if e := rowOf(task, "i-0003").Error; e.Step != ru.Verifying || !strings.Contains(e.Text, last) {
			t.Errorf("error %+v, want %q", e, last)
		}
		if took := v.at[len(v.at)-1].Sub(began); took < 3*time.Minute || took > 4*time.Minute {
			t.Errorf("it was asked for %s", took)
		}
		diff(t, "back in service", []string{"i-0002"}, b.inState(provider.InService))
	})
	bubbled(t, "no verdict is not healthy", func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{}, 2), ru.Config{Hooks: ru.Hooks{
			Verify: func(context.Context, ru.Summary, []string) ([]ru.Verdict, error) { return nil, nil },
		}})
		task := b.runTo(b.create(scriptSpec(2)), ru.StatusFailurePaused)
		diff(t, "status", "failed", shown(rowOf(task, "i-0001")))
		diff(t, "effects", []string{"EnterStandby", "RunCommand"}, b.effects("i-0001"))
	})
	bubbled(t, "an error is the verdict for all", func(t *testing.T) {
		b := newBed(t, fake.Demo(fake.Config{}, 3), ru.Config{Hooks: ru.Hooks{
			Verify: func(context.Context, ru.Summary, []string) ([]ru.Verdict, error) {
				return nil, errors.New("monitoring is down")
			},
		}})
		task := b.runTo(b.create(scriptSpec(1, everything)), ru.StatusFailurePaused)
		for _, i := range idRange(1, 3) {
			if e := rowOf(task, i).Error; e == nil || !strings.Contains(e.Text, "monitoring is down") {
				t.Errorf("error of %s: %+v", i, e)
			}
		}
		diff(t, "in Standby", idRange(1, 3), b.inState(provider.Standby))
	})
}

// While an instance is updated its load balancer weight is zero.
func TestS15_NoTrafficDuringTheUpdate(t *testing.T) {
	for _, kind := range []string{"image", "script"} {
		bubbled(t, kind, func(t *testing.T) {
			b := demoBed(t, 4)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0003") })
			spec := imageSpec(2, func(s *ru.Spec) { s.Targets.IncludeProtected = true })
			if kind == "script" {
				spec = scriptSpec(2, func(s *ru.Spec) { s.Targets.IncludeProtected = true })
			}
			id := b.create(spec)
			b.start(id)
			updated := map[string]bool{}
			b.until(id, "ended", func(task *ru.Task) bool {
				for _, i := range b.cloud.Snapshot(fake.DemoGroup) {
					row := rowOf(task, i.ID)
					if i.Power == provider.Running && row.Step != ru.Updating && row.Step != ru.Verifying {
						continue
					}
					updated[i.ID] = true
					if i.Weight != 0 {
						t.Errorf("%s (%s, %s) has weight %d while it is %s", i.ID, i.Lifecycle, i.Power, i.Weight, row.Step)
					}
				}
				return task.Status.Ended()
			})
			diff(t, "seen at their update", idRange(1, 4), slices.Sorted(maps.Keys(updated)))
			for _, i := range b.cloud.Snapshot(fake.DemoGroup) {
				diff(t, "weight of "+i.ID+" at the end", 50, i.Weight)
			}
			for _, e := range b.cloud.Effects() {
				if slices.Contains([]string{"StopInstances", "ReplaceSystemDisk", "StartInstances", "RunCommand"}, e.Action) && e.Lifecycle != provider.Standby {
					t.Errorf("%s while it is %s", e, e.Lifecycle)
				}
			}
		})
	}
}

// An instance that somebody else puts back in service before its update has begun is not updated there.
func TestS15_NotUpdatedOutsideOfStandby(t *testing.T) {
	for kind, spec := range map[string]ru.Spec{"image": imageSpec(2, drain(5*time.Minute)), "script": scriptSpec(2, drain(5*time.Minute))} {
		bubbled(t, kind, func(t *testing.T) {
			b := demoBed(t, 2)
			id := b.create(spec)
			wait := b.start(id)
			b.untilStep(id, "i-0001", ru.Draining)
			b.cloud.Now(func(w *fake.World) { w.SetLifecycle(provider.InService, "i-0001") })
			task := wait()
			b.wantStatus(task, ru.StatusFailurePaused)
			diff(t, "effects", []string{"EnterStandby"}, b.effects("i-0001"))
			if e := rowOf(task, "i-0001").Error; e == nil || !strings.Contains(e.Text, "somebody else took it out of Standby") {
				t.Errorf("error: %+v", e)
			}
			// A retry takes it to Standby once more.
			b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
			b.runTo(id, ru.StatusSucceeded)
			diff(t, "times in Standby", 2, b.cloud.CountEffects("EnterStandby", "i-0001"))
			diff(t, "times back in service", 1, b.exits("i-0001"))
			diff(t, "in service", idRange(1, 2), b.inState(provider.InService))
		})
	}
}

// exits demands that every ExitStandby met an instance that is Running with no replacement open, and says how many there were.
func (b *bed) exits(instanceID string) int {
	b.t.Helper()
	n := 0
	for _, e := range b.cloud.Effects() {
		if e.Action != "ExitStandby" || e.InstanceID != instanceID {
			continue
		}
		n++
		if e.Power != provider.Running {
			b.t.Errorf("%s while it is %s", e, e.Power)
		}
	}
	return n
}

func TestS15_OnlyRunningInstancesGoBack(t *testing.T) {
	bubbled(t, "a script that shuts its instance down", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(scriptSpec(2))
		wait := b.start(id)
		b.until(id, "the script runs", func(*ru.Task) bool { return slices.Contains(b.effects("i-0001"), "RunCommand") })
		b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, "i-0001") })
		task := wait()
		b.wantStatus(task, ru.StatusFailurePaused)
		diff(t, "times back in service", 0, b.exits("i-0001"))
		row := rowOf(task, "i-0001")
		if row.Status != ru.InstanceFailed || row.Step != ru.ExitingStandby || !strings.Contains(row.Error.Text, "Stopped") {
			t.Errorf("row: %+v", row)
		}
		// The script has run: a retry only brings it back, and again only once it is Running.
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusFailurePaused)
		diff(t, "times back in service, still Stopped", 0, b.exits("i-0001"))
		b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Running, "i-0001") })
		b.ok(b.r.Retry(b.ctx(), id, []string{"i-0001"}))
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "times back in service", 1, b.exits("i-0001"))
		diff(t, "scripts run", 1, b.instance("i-0001").ScriptRuns)
	})
	bubbled(t, "one that restarts is waited for", func(t *testing.T) {
		v := &verifier{}
		b := verifiedBed(t, 2, v)
		up := time.Time{}
		v.sees = func(id string) {
			if id == "i-0001" {
				b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Starting, id) })
				up = time.Now().Add(5 * time.Minute)
				b.cloud.After(5*time.Minute, func(w *fake.World) { w.SetPower(provider.Running, id) })
			}
		}
		b.runTo(b.create(scriptSpec(2)), ru.StatusSucceeded)
		diff(t, "times back in service", 1, b.exits("i-0001"))
		if back := b.effectTime("ExitStandby", "i-0001"); back.Before(up) {
			t.Errorf("back in service at %s, Running at %s", back, up)
		}
	})
	bubbled(t, "one that never runs again fails at its deadline", func(t *testing.T) {
		v := &verifier{}
		b := verifiedBed(t, 2, v)
		v.sees = func(id string) {
			b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Starting, id) })
		}
		began := time.Now()
		task := b.runTo(b.create(scriptSpec(2, func(s *ru.Spec) { s.Timeouts.ExitStandby = 4 * time.Minute })), ru.StatusFailurePaused)
		diff(t, "times back in service", 0, b.exits("i-0001"))
		if row := rowOf(task, "i-0001"); row.Step != ru.ExitingStandby || !strings.Contains(row.Error.Text, "Starting") {
			t.Errorf("row: %+v", row)
		}
		if took := time.Since(began); took > 7*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
	bubbled(t, "one that stops while its way back is throttled", func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.Inject(fake.Throttle("ExitStandby", 2))
		id := b.create(scriptSpec(2))
		wait := b.start(id)
		b.until(id, "throttled", func(*ru.Task) bool { return slices.Contains(b.ops(), "ExitStandby") })
		b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, "i-0001") })
		b.wantStatus(wait(), ru.StatusFailurePaused)
		diff(t, "times back in service", 0, b.exits("i-0001"))
	})
	bubbled(t, "one whose disk is being replaced", func(t *testing.T) {
		v := &verifier{}
		b := verifiedBed(t, 2, v)
		v.sees = func(id string) {
			if id == "i-0001" { // somebody gives it yet another disk
				b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, id) })
				_, err := b.cloud.API().ReplaceSystemDisk(b.ctx(), fake.ReplaceSystemDiskRequest{InstanceID: id, ImageID: fake.DemoNewImage, SizeGiB: 40, Token: "somebody"})
				b.ok(err)
				b.cloud.Now(func(w *fake.World) { w.SetPower(provider.Running, id) }) // the replacement alone must hold it back
			}
		}
		b.start(b.create(scriptSpec(2)))
		time.Sleep(3 * time.Minute)
		if i := b.instance("i-0001"); !i.DiskReplacing || i.Power != provider.Running {
			t.Fatalf("the test does not bring about what it is about: %+v", i)
		}
		diff(t, "times back in service while the replacement is open", 0, b.exits("i-0001"))
		time.Sleep(10 * time.Minute)
		diff(t, "times back in service", 1, b.exits("i-0001"))
	})
}
