package fake_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func TestStandbyTakesTheWeightAndGivesItBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := fake.Demo(fake.Config{}, 3)
		enter(t, c, "i-0001")
		if v, _ := c.InstanceView("i-0001"); v.Lifecycle != provider.Standby || v.Weight != 0 {
			t.Errorf("%+v", v)
		}
		again, err := c.EnterStandby(ctx, fake.DemoGroup, targets("again", "i-0001"))
		if err != nil || !again[0].Done {
			t.Errorf("%+v %v", again, err)
		}
		if _, err := c.ExitStandby(ctx, fake.DemoGroup, targets("exit", "i-0001")); err != nil {
			t.Error(err)
		}
		if v, _ := c.InstanceView("i-0001"); v.Lifecycle != provider.InService || v.Weight != 50 {
			t.Errorf("%+v", v)
		}
		if n := c.CountEffects("EnterStandby", "i-0001"); n != 1 {
			t.Errorf("%d effects", n)
		}
		noViolations(t, c)
	})
}

func TestOneUnfitInstanceRefusesTheWholeCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{}, 2)
		c.Release("i-0002")
		got, err := c.EnterStandby(context.Background(), fake.DemoGroup, targets("c", "i-0001", "i-0002"))
		if err != nil || !errors.Is(got[0].Err, provider.ErrRefused) || !errors.Is(got[1].Err, provider.ErrNotFound) || errors.Is(got[0].Err, provider.ErrNotFound) {
			t.Errorf("%+v %v", got, err)
		}
		noViolations(t, c)
	})
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{PartialStandby: true}, 2)
		c.Release("i-0002")
		got, err := c.EnterStandby(context.Background(), fake.DemoGroup, targets("c", "i-0001", "i-0002"))
		if err != nil || !got[0].Done || !errors.Is(got[1].Err, provider.ErrNotFound) {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func TestWireCallsRefuseWhatTheCloudRefuses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := fake.Demo(fake.Config{}, 4)
		api := c.API()
		c.Now(func(w *fake.World) { w.Suspend(fake.DemoGroup, provider.HealthCheck) })
		must := func(what string, err error, code string, class error) {
			t.Helper()
			var e *fake.APIError
			if !errors.As(err, &e) || e.Code != code || !errors.Is(err, class) {
				t.Errorf("%s: got %v, want %s", what, err, code)
			}
		}
		if err := api.EnterStandby(ctx, fake.DemoGroup, []string{"i-0001", "i-0002"}, "tok"); err != nil {
			t.Fatal(err)
		}
		if err := api.EnterStandby(ctx, fake.DemoGroup, []string{"i-0002", "i-0001"}, "tok"); err != nil {
			t.Errorf("same token: %v", err)
		}
		noViolations(t, c)
		must("token", api.EnterStandby(ctx, fake.DemoGroup, []string{"i-0001"}, "tok"), "IdempotentParameterMismatch", provider.ErrInvalid)
		must("twice", api.EnterStandby(ctx, fake.DemoGroup, []string{"i-0001"}, "t2"), "IncorrectInstanceStatus", provider.ErrInvalidState)
		must("group", api.EnterStandby(ctx, "asg-x", []string{"i-0001"}, "t3"), "InvalidScalingGroupId.NotFound", provider.ErrNotFound)
		must("exit", api.ExitStandby(ctx, fake.DemoGroup, []string{"i-0003"}, "t4"), "IncorrectInstanceStatus", provider.ErrInvalidState)
		_, err := api.ReplaceSystemDisk(ctx, fake.ReplaceSystemDiskRequest{InstanceID: "i-0001", ImageID: "img-v2"})
		must("running", err, "IncorrectInstanceStatus", provider.ErrInvalidState)
		if err := api.StopInstances(ctx, []string{"i-0001"}); err != nil {
			t.Fatal(err)
		}
		must("stop twice", api.StopInstances(ctx, []string{"i-0001"}), "IncorrectInstanceStatus", provider.ErrInvalidState)
		time.Sleep(time.Minute)
		_, err = api.ReplaceSystemDisk(ctx, fake.ReplaceSystemDiskRequest{InstanceID: "i-0001", ImageID: "img-v2", SizeGiB: 30})
		must("smaller", err, "InvalidSystemDiskSize.LessThanMinSize", provider.ErrInvalid)
		if _, err := api.ReplaceSystemDisk(ctx, fake.ReplaceSystemDiskRequest{InstanceID: "i-0001", ImageID: "img-v2"}); err != nil {
			t.Fatal(err)
		}
		must("start too early", api.StartInstances(ctx, []string{"i-0001"}), "IncorrectInstanceStatus", provider.ErrInvalidState)
		_, err = api.RunCommand(ctx, fake.RunCommandRequest{InstanceIDs: []string{"i-0001", "i-0002"}, Script: *shell("x").Script})
		must("script on a stopped one", err, "InstanceNotRunning", provider.ErrInvalidState)
		must("many", api.StopInstances(ctx, make([]string, 101)), "InvalidParameter.TooManyInstanceIds", provider.ErrInvalid)
		if n := len(c.Violations()); n != 9 { // all but the missing group
			t.Errorf("%d violations:\n%s", n, strings.Join(c.Violations(), "\n"))
		}
	})
}

func TestHealthCheckReleasesWhatIsStoppedInService(t *testing.T) {
	for name, suspended := range map[string]bool{"on": false, "suspended": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := fake.Demo(fake.Config{}, 2)
				if suspended {
					c.Now(func(w *fake.World) { w.Suspend(fake.DemoGroup, provider.HealthCheck) })
				}
				if err := c.API().StopInstances(context.Background(), []string{"i-0001"}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(10 * time.Minute)
				if _, exists := c.InstanceView("i-0001"); exists != suspended {
					t.Errorf("exists: %v", exists)
				}
				if n := len(c.Violations()); (n == 0) != suspended {
					t.Errorf("%d violations", n)
				}
				if suspended {
					c.Now(func(w *fake.World) { w.Resume(fake.DemoGroup, provider.HealthCheck) })
					time.Sleep(10 * time.Minute)
					if _, exists := c.InstanceView("i-0001"); exists {
						t.Error("still there")
					}
				}
			})
		})
	}
}

func TestChangesFromOutsideHappenAtTheirTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{}, 3)
		c.After(10*time.Minute, func(w *fake.World) { w.Release("i-0001"); w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{}) })
		c.After(5*time.Minute, func(w *fake.World) { w.Detach("i-0002") })
		time.Sleep(7 * time.Minute)
		if got := fmt.Sprint(c.InstanceIDs(fake.DemoGroup)); got != "[i-0001 i-0003]" {
			t.Error(got)
		}
		time.Sleep(7 * time.Minute)
		if got := fmt.Sprint(c.InstanceIDs(fake.DemoGroup)); got != "[i-0003 i-0004]" {
			t.Error(got)
		}
		got, err := c.Instances(context.Background(), fake.DemoGroup, []string{"i-0003", "i-0001", "i-0002"})
		if err != nil || len(got) != 2 || got[0].ID != "i-0003" || got[1].Lifecycle != "" {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func TestSuspendedProcessesDoNotAct(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{}, 3)
		c.Now(func(w *fake.World) {
			w.Suspend(fake.DemoGroup, provider.ScaleOut, provider.ScaleIn)
			if id := w.StartActivity(fake.DemoGroup, time.Minute, 2, 1); id != "" {
				t.Error("acts although suspended")
			}
			w.SetDesiredCapacity(fake.DemoGroup, 5)
		})
		time.Sleep(time.Hour)
		if n := len(c.Snapshot(fake.DemoGroup)); n != 3 {
			t.Errorf("%d members", n)
		}
		c.Now(func(w *fake.World) { w.Resume(fake.DemoGroup, provider.ScaleOut) })
		time.Sleep(70 * time.Second)
		if g, err := c.Group(context.Background(), fake.DemoGroup); err != nil || len(g.Activities) != 1 || g.InService != 3 || g.Total != 5 {
			t.Errorf("%+v %v", g, err)
		}
		time.Sleep(time.Hour)
		if g, err := c.Group(context.Background(), fake.DemoGroup); err != nil || len(g.Activities) != 0 || g.InService != 5 {
			t.Errorf("%+v %v", g, err)
		}
	})
}

func TestFaults(t *testing.T) {
	ctx := context.Background()
	t.Run("nth match, throttled, nothing happened", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := fake.Demo(fake.Config{}, 3)
			c.Inject(fake.Fault{Op: "EnterStandby", Nth: 2, Err: provider.ErrThrottled})
			enter(t, c, "i-0001")
			if _, err := c.EnterStandby(ctx, fake.DemoGroup, targets("c", "i-0002")); !errors.Is(err, provider.ErrThrottled) {
				t.Error(err)
			}
			enter(t, c, "i-0003")
			if n := c.CountEffects("EnterStandby", ""); n != 2 {
				t.Errorf("%d effects", n)
			}
			if f := c.PendingFaults(); len(f) != 0 {
				t.Errorf("pending: %v", f)
			}
			c.Inject(fake.Throttle("Update", 3))
			if f := c.PendingFaults(); len(f) != 1 {
				t.Errorf("pending: %v", f)
			}
		})
	})
	t.Run("target only", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := fake.Demo(fake.Config{}, 3)
			c.Inject(fake.Fault{Op: "EnterStandby", Target: "i-0002", Nth: 1, Err: provider.ErrBusy})
			got, err := c.EnterStandby(ctx, fake.DemoGroup, targets("c", "i-0001", "i-0002", "i-0003"))
			if err != nil || !got[0].Done || !errors.Is(got[1].Err, provider.ErrBusy) || !got[2].Done {
				t.Errorf("%+v %v", got, err)
			}
			c.Inject(fake.Fault{Op: "ExitStandby", Target: "i-0001", Nth: 1, Err: provider.ErrBusy, Whole: true})
			got, err = c.ExitStandby(ctx, fake.DemoGroup, targets("c", "i-0001", "i-0003"))
			if err != nil || !errors.Is(got[0].Err, provider.ErrBusy) || !errors.Is(got[1].Err, provider.ErrRefused) {
				t.Errorf("%+v %v", got, err)
			}
		})
	})
	t.Run("answer lost", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := fake.Demo(fake.Config{}, 3)
			c.Inject(fake.Fault{Op: "EnterStandby", Target: "i-0001", Nth: 1, Lost: true})
			got, err := c.EnterStandby(ctx, fake.DemoGroup, targets("c", "i-0001"))
			if err != nil || !errors.Is(got[0].Err, provider.ErrTransient) {
				t.Errorf("%+v %v", got, err)
			}
			if n := c.CountEffects("EnterStandby", ""); n != 1 {
				t.Errorf("%d effects", n)
			}
		})
	})
	t.Run("inside a method", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := fake.Demo(fake.Config{}, 2)
			enter(t, c, "i-0001", "i-0002")
			c.Inject(fake.Fault{Op: "StopInstances", Target: "i-0002", Nth: 1, Err: provider.ErrInvalidState})
			ended := drive(t, c, toV2, "i-0001", "i-0002")
			if !errors.Is(ended["i-0001"].Err, provider.ErrRefused) || !errors.Is(ended["i-0002"].Err, provider.ErrInvalidState) {
				t.Errorf("%+v", ended)
			}
		})
	})
}

func TestCanceledContextEndsCallsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{}, 1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		start := time.Now()
		got, err := c.EnterStandby(ctx, fake.DemoGroup, targets("c", "i-0001"))
		if err == nil {
			err = got[0].Err
		}
		if !errors.Is(err, context.DeadlineExceeded) || !provider.Unknown(err) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestCallLogIsTheSameEveryTime has many goroutines call at the same instants.
func TestCallLogIsTheSameEveryTime(t *testing.T) {
	run := func() (log string) {
		synctest.Test(t, func(t *testing.T) {
			ctx := context.Background()
			c := fake.Demo(fake.Config{Seed: 7, Jitter: 0.1, Tail: 0.1}, 30)
			c.Inject(fake.Fault{Op: "EnterStandby", Nth: 7, Err: provider.ErrThrottled})
			var wg sync.WaitGroup
			for _, id := range c.InstanceIDs(fake.DemoGroup) {
				wg.Go(func() {
					for n := range 5 {
						_, _ = c.EnterStandby(ctx, fake.DemoGroup, targets(fmt.Sprintf("e%d", n), id))
						_, _ = c.Instances(ctx, fake.DemoGroup, []string{id})
						_, _ = c.ExitStandby(ctx, fake.DemoGroup, targets(fmt.Sprintf("x%d", n), id))
					}
				})
			}
			wg.Wait()
			var b strings.Builder
			for _, call := range c.Calls() {
				fmt.Fprintln(&b, call)
			}
			for _, e := range c.Effects() {
				fmt.Fprintln(&b, e)
			}
			log = b.String()
		})
		return log
	}
	want := run()
	for range 20 {
		if got := run(); got != want {
			t.Fatalf("another log:\n%s\nwant:\n%s", got, want)
		}
	}
}

func TestMembersPage(t *testing.T) {
	c := fake.Demo(fake.Config{}, 7)
	c.Look(func(v fake.View) {
		all := v.Members(fake.DemoGroup)
		for _, p := range []struct{ from, to, first, last int }{{0, 3, 0, 3}, {3, 6, 3, 6}, {6, 9, 6, 7}, {7, 9, 7, 7}, {9, 12, 7, 7}, {-2, 2, 0, 2}} {
			if diff := cmp.Diff(all[p.first:p.last], v.MembersPage(fake.DemoGroup, p.from, p.to), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("members %d to %d (-want +got):\n%s", p.from, p.to, diff)
			}
		}
		if got := v.MembersPage("asg-none", 0, 5); len(got) > 0 {
			t.Errorf("a group that does not exist has %v", got)
		}
	})
}
