package aliyun_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// replacing sets the rate of ReplaceSystemDisk.
func replacing(rate aliyun.Rate) func(c *aliyun.Config) {
	return func(c *aliyun.Config) {
		c.Rates = map[string]aliyun.Rate{"*": {PerSecond: -1}, "ReplaceSystemDisk": rate}
	}
}

// TestPace holds that image updates may begin as fast as ReplaceSystemDisk may be called, in parts that fill a call of EnterStandby.
func TestPace(t *testing.T) {
	type ask struct {
		after time.Duration
		n     int
		now   int
		wait  time.Duration
	}
	image, script := imageUpdate(fake.DemoNewImage), scriptUpdate("true")
	for _, tt := range []struct {
		name   string
		rate   aliyun.Rate
		update provider.Update
		asks   []ask
	}{
		{"unlimited", aliyun.Rate{PerSecond: -1}, image, []ask{{0, 10000, 10000, 0}}},
		{"scripts share calls", aliyun.Rate{PerSecond: 1}, script, []ask{{0, 10000, 10000, 0}}},
		{"a burst, then the rate", aliyun.Rate{PerSecond: 5, Burst: 50}, image, []ask{{0, 100, 40, 2 * time.Second}, {0, 60, 0, 2 * time.Second}, {2 * time.Second, 60, 20, 4 * time.Second}, {8 * time.Second, 40, 40, 0}}},
		{"few are left", aliyun.Rate{PerSecond: 5, Burst: 50}, image, []ask{{0, 47, 47, 0}, {0, 7, 0, 800 * time.Millisecond}, {800 * time.Millisecond, 7, 7, 0}}},
		{"a small burst", aliyun.Rate{PerSecond: 2, Burst: 4}, image, []ask{{0, 9, 4, 2 * time.Second}, {2 * time.Second, 5, 4, 500 * time.Millisecond}, {500 * time.Millisecond, 1, 1, 0}}},
		{"no burst given", aliyun.Rate{PerSecond: 2}, image, []ask{{0, 9, 2, time.Second}}},
		{"a minute's calls at once", aliyun.Rate{PerSecond: 5, Burst: 300}, image, []ask{{0, 1000, 300, 61 * time.Second}, {60 * time.Second, 700, 0, time.Second}, {time.Second, 700, 300, 61 * time.Second}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := newRig(fake.Config{}, openapi.Config{}, 1, replacing(tt.rate))
				if err != nil {
					t.Fatal(err)
				}
				for _, a := range tt.asks {
					time.Sleep(a.after)
					now, wait := r.Pace(tt.update, a.n)
					if now != a.now || (wait-a.wait).Abs() > time.Millisecond {
						t.Errorf("at %s: Pace(%d) is %d, %s; want %d, %s", time.Now().Format("04:05.0"), a.n, now, wait, a.now, a.wait)
					}
				}
			})
		})
	}
}

// TestPaceIsFair holds that those who ask for a few do not keep one waiting who asks for many: each asker has its turn.
func TestPaceIsFair(t *testing.T) {
	for _, c := range []struct {
		askers, n int
		rest      time.Duration // until the next batch
	}{{1, 5, time.Millisecond}, {30, 19, time.Minute}, {120, 5, time.Minute}} {
		synctest.Test(t, func(t *testing.T) {
			r, err := newRig(fake.Config{}, openapi.Config{}, 1, replacing(aliyun.Rate{PerSecond: 5, Burst: 50}))
			if err != nil {
				t.Fatal(err)
			}
			image, end := imageUpdate(fake.DemoNewImage), time.Now().Add(2*time.Hour)
			granted := make([]int, c.askers+1)
			var wait sync.WaitGroup
			ask := func(k, n int, rest time.Duration) {
				time.Sleep(time.Duration(k) * 173 * time.Millisecond)
				for left := n; time.Now().Before(end); {
					now, again := r.Pace(image, left)
					granted[k] += now
					if left -= now; left == 0 {
						left, again = n, rest
					}
					time.Sleep(max(again, time.Millisecond))
				}
			}
			for k := range c.askers {
				wait.Go(func() { ask(k+1, c.n, c.rest) })
			}
			wait.Go(func() { ask(0, 100000, 0) })
			wait.Wait()
			all := 0
			for _, n := range granted {
				all += n
			}
			if fair := all / len(granted); granted[0] < fair*2/3 {
				t.Errorf("%d askers of %d: of %d the one that asks for many got %d, its share is %d", c.askers, c.n, all, granted[0], fair)
			}
			if most := 2*3600*5 + 100; all > most {
				t.Errorf("%d were granted, the rate makes %d", all, most)
			}
		})
	}
}

// TestPaceFollowsTheService holds that throttling slows the pace down, and that asking for it does not use up the calls.
func TestPaceFollowsTheService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := newRig(fake.Config{}, openapi.Config{}, 4, replacing(aliyun.Rate{PerSecond: 8, Burst: 40}))
		if err != nil {
			t.Fatal(err)
		}
		image := imageUpdate(fake.DemoNewImage)
		if now, wait := r.Pace(image, 100); now != 40 || wait != 2500*time.Millisecond {
			t.Fatalf("Pace(100) is %d, %s", now, wait)
		}
		ids := r.cloud.InstanceIDs(fake.DemoGroup)
		if _, err := r.EnterStandby(t.Context(), fake.DemoGroup, []provider.Target{{InstanceID: ids[0], CallID: "enter"}}); err != nil {
			t.Fatal(err)
		}
		r.wire.Inject(openapi.Throttle("ReplaceSystemDisk", 1, 20*time.Second))
		target, acts, replaced := provider.Target{InstanceID: ids[0], Attempt: 1}, false, false
		for n := 0; n < 100 && !replaced; n++ {
			if target.CallID = ""; acts {
				target.CallID = "act"
			}
			got, err := r.Update(t.Context(), fake.DemoGroup, image, []provider.Target{target})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) > 0 { // else it was not sent for now
				if got[0].Err != nil {
					t.Fatal(got[0].Err)
				}
				target.State, acts = got[0].State, got[0].Act
			}
			replaced = r.cloud.CountEffects("ReplaceSystemDisk", ids[0]) > 0
			time.Sleep(time.Second)
		}
		if n := r.wire.Count("ReplaceSystemDisk"); n != 2 {
			t.Errorf("%d calls of ReplaceSystemDisk, want 2", n)
		}
		now, wait := r.Pace(image, 100)
		if now != 40 || wait < 3500*time.Millisecond || wait > 5*time.Second { // half the rate, and what one call that went well has given back
			t.Errorf("after throttling Pace(100) is %d, %s", now, wait)
		}
	})
}

// TestNobodyWaitsInStandbyForTheRate holds that instances are out of service for as long as their own update takes, however low the rate is.
func TestNobodyWaitsInStandbyForTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 120
		r, err := newRig(fake.Config{}, openapi.Config{}, n, replacing(aliyun.Rate{PerSecond: 0.5, Burst: 20}))
		if err != nil {
			t.Fatal(err)
		}
		runner, err := ru.New(r.Provider, ru.NewMemoryStore(), ru.Config{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := runner.Create(t.Context(), ru.Spec{GroupID: fake.DemoGroup, Update: ru.Image(fake.DemoNewImage), Rollback: ru.Image(fake.DemoOldImage), Batches: ru.InBatches(1), MinInService: -1})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := runner.Run(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		since := map[string]time.Time{}
		var longest, shortest time.Duration
		for _, e := range r.cloud.Effects() {
			switch e.Action {
			case "EnterStandby":
				since[e.InstanceID] = e.Time
			case "ExitStandby":
				d := e.Time.Sub(since[e.InstanceID])
				if longest = max(longest, d); shortest == 0 || d < shortest {
					shortest = d
				}
			}
		}
		if len(since) != n || longest > shortest+shortest/2 {
			t.Errorf("%d instances were out of service from %s to %s", len(since), shortest, longest)
		}
		if least := 200 * time.Second; took < least || took > least+2*longest {
			t.Errorf("the task took %s: at half a call a second the last of 100 further calls goes after %s", took, least)
		}
	})
}
