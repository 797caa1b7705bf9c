package fake_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func TestViolationsNameWhatACorrectClientNeverDoes(t *testing.T) {
	ctx := context.Background()
	health := func(c *fake.Cloud) {
		c.Now(func(w *fake.World) { w.Suspend(fake.DemoGroup, provider.HealthCheck) })
	}
	for _, tt := range []struct {
		name string
		do   func(c *fake.Cloud)
		want string // empty: none
	}{
		{name: "stop in service", want: "in service", do: func(c *fake.Cloud) { _ = c.API().StopInstances(ctx, []string{"i-0001"}) }},
		{name: "replace in service", want: "not in Standby", do: func(c *fake.Cloud) {
			health(c)
			_ = c.API().StopInstances(ctx, []string{"i-0001"})
			time.Sleep(time.Minute)
			_, _ = c.API().ReplaceSystemDisk(ctx, fake.ReplaceSystemDiskRequest{InstanceID: "i-0001", ImageID: fake.DemoNewImage})
		}},
		{name: "exit stopped", want: "ExitStandby: i-0001 is Stopping", do: func(c *fake.Cloud) {
			_ = c.API().EnterStandby(ctx, fake.DemoGroup, []string{"i-0001"}, "")
			_ = c.API().StopInstances(ctx, []string{"i-0001"})
			_ = c.API().ExitStandby(ctx, fake.DemoGroup, []string{"i-0001"}, "")
		}},
		{name: "exit with an open replacement", want: "open replacement", do: func(c *fake.Cloud) {
			_ = c.API().EnterStandby(ctx, fake.DemoGroup, []string{"i-0001"}, "")
			_ = c.API().StopInstances(ctx, []string{"i-0001"})
			time.Sleep(time.Minute)
			_, _ = c.API().ReplaceSystemDisk(ctx, fake.ReplaceSystemDiskRequest{InstanceID: "i-0001", ImageID: fake.DemoNewImage})
			_ = c.API().ExitStandby(ctx, fake.DemoGroup, []string{"i-0001"}, "")
		}},
		{name: "command twice", want: "a second time", do: func(c *fake.Cloud) {
			for range 2 {
				_, _ = c.API().RunCommand(ctx, fake.RunCommandRequest{Name: "n", InstanceIDs: []string{"i-0001"}, Script: *shell("x").Script})
			}
		}},
		{name: "stopped by somebody else", do: func(c *fake.Cloud) {
			_ = c.API().EnterStandby(ctx, fake.DemoGroup, []string{"i-0001"}, "")
			c.Now(func(w *fake.World) { w.SetPower(provider.Stopped, "i-0001") })
			_ = c.API().StopInstances(ctx, []string{"i-0001"})
		}},
		{name: "no such instance", want: "does not exist", do: func(c *fake.Cloud) { _ = c.API().StopInstances(ctx, []string{"i-9"}) }},
		{name: "released instance", do: func(c *fake.Cloud) { c.Release("i-0001"); _ = c.API().StopInstances(ctx, []string{"i-0001"}) }},
		{name: "too many targets", want: "at most 20", do: func(c *fake.Cloud) {
			_, _ = c.EnterStandby(ctx, fake.DemoGroup, targets("c", c.InstanceIDs(fake.DemoGroup)...))
		}},
		{name: "no call ID", want: "no call ID", do: func(c *fake.Cloud) { _, _ = c.EnterStandby(ctx, fake.DemoGroup, targets("", "i-0001")) }},
		{name: "long call ID", want: "40 letters", do: func(c *fake.Cloud) {
			_, _ = c.EnterStandby(ctx, fake.DemoGroup, targets(strings.Repeat("x", 41), "i-0001"))
		}},
		{name: "target twice", want: "given twice", do: func(c *fake.Cloud) {
			_, _ = c.EnterStandby(ctx, fake.DemoGroup, targets("c", "i-0001", "i-0001"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := fake.Demo(fake.Config{}, 25)
				tt.do(c)
				got := strings.Join(c.Violations(), "\n")
				if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
					t.Errorf("violations: %q, want %q", got, tt.want)
				}
			})
		})
	}
}

func TestAgentThatDoesNotAnswerRefusesScripts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := fake.Demo(fake.Config{}, 3)
		run := func(ids ...string) []provider.Progress {
			t.Helper()
			act := targets("call-"+ids[0], ids...)
			for n := range act {
				act[n].State = []byte(`{"phase":"run"}`)
			}
			got, err := c.Update(ctx, fake.DemoGroup, shell("true"), act)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		c.Now(func(w *fake.World) { w.SetAgentOffline(10*time.Minute, "i-0001") })
		if got := run("i-0001", "i-0002"); !errors.Is(got[0].Err, provider.ErrInvalidState) || !errors.Is(got[1].Err, provider.ErrRefused) {
			t.Errorf("offline: %+v", got)
		}
		got, err := c.Inspect(ctx, fake.DemoGroup, shell("true"), []string{"i-0001", "i-0002"})
		if err != nil || !got.Instances[0].AgentOffline || got.Instances[1].AgentOffline {
			t.Errorf("%+v %v", got, err)
		}
		time.Sleep(10 * time.Minute)
		if got := run("i-0001"); got[0].Err != nil {
			t.Errorf("online again: %+v", got)
		}
		enter(t, c, "i-0003")
		_ = c.API().StopInstances(ctx, []string{"i-0003"})
		time.Sleep(time.Minute)
		if _, err := c.Start(ctx, fake.DemoGroup, targets("s", "i-0003")); err != nil {
			t.Error(err)
		}
		time.Sleep(41 * time.Second)
		if got := run("i-0003"); !errors.Is(got[0].Err, provider.ErrBusy) {
			t.Errorf("just started: %+v", got)
		}
		noViolations(t, c)
	})
}

func TestScriptOnAnInstanceThatVanishes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{}, 2)
		c.After(10*time.Second, func(w *fake.World) { w.Release("i-0001") })
		ended := drive(t, c, shell("true"), "i-0001", "i-0002")
		if !errors.Is(ended["i-0001"].Err, provider.ErrNotFound) || ended["i-0002"].Outcome != provider.Updated {
			t.Errorf("%+v", ended)
		}
	})
}

func TestConfigurationImage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := fake.Demo(fake.Config{}, 1)
		c.AddGroup(fake.GroupSpec{ID: "asg-lt", LaunchTemplateID: "lt-1"})
		c.AddGroup(fake.GroupSpec{ID: "asg-data", DataDisks: []byte(`[1]`), DataDisksFromImage: true})
		set := func(group, id, image string) error {
			return c.SetConfigurationImage(ctx, group, provider.Configuration{ID: id, ImageID: image})
		}
		for range 2 {
			if err := set(fake.DemoGroup, "asc-asg-demo", fake.DemoNewImage); err != nil {
				t.Error(err)
			}
		}
		if n := c.CountEffects("ModifyScalingConfiguration", ""); n != 1 {
			t.Errorf("%d changes", n)
		}
		if got, err := c.Configuration(ctx, fake.DemoGroup); err != nil || got.ImageID != fake.DemoNewImage || got.LaunchTemplate {
			t.Errorf("%+v %v", got, err)
		}
		if got, err := c.Configuration(ctx, "asg-data"); err != nil || string(got.DataDisks) != "[1]" {
			t.Errorf("%+v %v", got, err)
		}
		if err := set("asg-data", "asc-asg-data", fake.DemoNewImage); err != nil {
			t.Error(err)
		}
		if got, err := c.Configuration(ctx, "asg-data"); err != nil || got.DataDisks != nil || got.DataDisksFromImage {
			t.Errorf("data disks that came with the image: %+v %v", got, err)
		}
		for _, err := range []error{
			set("asg-lt", "lt-1", fake.DemoNewImage), set(fake.DemoGroup, "asc-asg-demo", "img-x"),
		} {
			if !errors.Is(err, provider.ErrInvalid) {
				t.Error(err)
			}
		}
		if err := set(fake.DemoGroup, "asc-x", fake.DemoNewImage); !errors.Is(err, provider.ErrNotFound) {
			t.Error(err)
		}
		c.Now(func(w *fake.World) {
			w.AddConfiguration(fake.DemoGroup, provider.Configuration{ID: "asc-2", ImageID: fake.DemoOldImage})
			w.Activate(fake.DemoGroup, "asc-2")
		})
		if got, err := c.Configuration(ctx, fake.DemoGroup); err != nil || got.ID != "asc-2" {
			t.Errorf("%+v %v", got, err)
		}
		if got, err := c.Inspect(ctx, fake.DemoGroup, toV2, []string{"i-0001", "i-9"}); err != nil || got.Image == nil || len(got.Instances) != 1 || got.Instances[0].Disk.SizeGiB != 40 {
			t.Errorf("%+v %v", got, err)
		}
	})
}

func TestLatencies(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name string
		cfg  fake.Config
		set  string
		want time.Duration
	}{
		{name: "default: read and enter", want: 3050 * time.Millisecond},
		{name: "tenfold speed", cfg: fake.Config{Speed: 10}, want: 305 * time.Millisecond},
		{name: "instant", cfg: fake.Instant(), want: 0},
		{name: "of the method", set: "EnterStandby", want: time.Minute},
		{name: "of a wire call", set: "DescribeScalingInstances", want: 63 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := fake.Demo(tt.cfg, 1)
				if tt.set != "" {
					c.SetLatency(tt.set, time.Minute)
				}
				start := time.Now()
				if _, err := c.EnterStandby(ctx, fake.DemoGroup, targets("c", "i-0001")); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took < tt.want || took > tt.want+10*time.Microsecond {
					t.Errorf("took %v, want %v", took, tt.want)
				}
			})
		})
	}
}

func TestFaultsMatchByTimeAndCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := fake.Demo(fake.Instant(), 1)
		c.Inject(
			fake.Fault{Op: "Group", After: time.Minute, Until: 2 * time.Minute, Err: provider.ErrPermission},
			fake.Fault{Op: "Members", Nth: 2, Count: 2, Err: provider.ErrBusy},
			fake.Fault{Op: "DescribeImages", Err: provider.ErrThrottled},
			fake.Fault{Op: "Instances", Target: "i-0001", Nth: 1, Delay: time.Second})
		for _, want := range []error{nil, provider.ErrPermission, nil} {
			if _, err := c.Group(ctx, fake.DemoGroup); !errors.Is(err, want) {
				t.Errorf("Group: %v, want %v", err, want)
			}
			time.Sleep(time.Minute)
		}
		for _, want := range []error{nil, provider.ErrBusy, provider.ErrBusy, nil} {
			if _, err := c.Members(ctx, fake.DemoGroup); !errors.Is(err, want) {
				t.Errorf("Members: %v, want %v", err, want)
			}
		}
		start := time.Now()
		if _, err := c.Instances(ctx, fake.DemoGroup, []string{"i-0001"}); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < time.Second {
			t.Errorf("took %v", took)
		}
		if f := c.PendingFaults(); len(f) != 1 || f[0].Op != "DescribeImages" {
			t.Errorf("pending: %v", f)
		}
		if _, err := c.Update(ctx, fake.DemoGroup, toV2, targets("", "i-0001")); !errors.Is(err, provider.ErrThrottled) {
			t.Errorf("Update: %v", err)
		}
		c.ClearFaults()
		if _, err := c.Update(ctx, fake.DemoGroup, toV2, targets("", "i-0001")); err != nil {
			t.Error(err)
		}
	})
}

func TestGroupThatIsDeletedLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := fake.Demo(fake.Config{}, 2)
		c.After(time.Minute, func(w *fake.World) { w.DeleteGroup(fake.DemoGroup) })
		time.Sleep(2 * time.Minute)
		if _, err := c.Group(ctx, fake.DemoGroup); !errors.Is(err, provider.ErrNotFound) {
			t.Error(err)
		}
		if got, err := c.Instances(ctx, fake.DemoGroup, []string{"i-0001"}); err != nil || len(got) != 0 {
			t.Errorf("%v %v", got, err)
		}
		if got, err := c.EnterStandby(ctx, fake.DemoGroup, targets("c", "i-0001")); err != nil || !errors.Is(got[0].Err, provider.ErrNotFound) {
			t.Errorf("%v %v", got, err)
		}
	})
}

func TestDisksAndUserData(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := fake.Demo(fake.Config{}, 1)
		api := c.API()
		enter(t, c, "i-0001")
		_ = api.StopInstances(ctx, []string{"i-0001"})
		time.Sleep(time.Minute)
		id, err := api.ReplaceSystemDisk(ctx, fake.ReplaceSystemDiskRequest{InstanceID: "i-0001", ImageID: fake.DemoNewImage, Token: "t"})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := api.ReplaceSystemDisk(ctx, fake.ReplaceSystemDiskRequest{InstanceID: "i-0001", ImageID: fake.DemoNewImage, Token: "t"}); again != id || err != nil {
			t.Errorf("same token: %q, want %q, %v", again, id, err)
		}
		disks, err := api.DescribeDisks(ctx, "", []string{"d-0001", id})
		if err != nil || len(disks) != 1 || disks[0].InUse || disks[0].ImageID != fake.DemoNewImage || disks[0].InstanceID != "i-0001" {
			t.Errorf("%+v %v", disks, err)
		}
		if v, _ := c.InstanceView("i-0001"); v.ImageID != fake.DemoOldImage || !v.DiskReplacing {
			t.Errorf("too early: %+v", v)
		}
		time.Sleep(5 * time.Minute)
		disks, err = api.DescribeDisks(ctx, "i-0001", nil)
		if err != nil || len(disks) != 1 || !disks[0].InUse {
			t.Errorf("%+v %v", disks, err)
		}
		if err := api.ModifyInstanceAttribute(ctx, "i-0001", "eA=="); err != nil {
			t.Error(err)
		}
		if got, err := api.DescribeUserData(ctx, "i-0001"); got != "eA==" || err != nil {
			t.Error(got, err)
		}
	})
}

func TestWhatOthersDoShows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		c := fake.Demo(fake.Config{}, 6)
		c.Now(func(w *fake.World) {
			w.SetLifecycle(provider.Standby, "i-0005")
			w.SetLifecycle(provider.Protected, "i-0004")
			w.StartActivity(fake.DemoGroup, time.Minute, 0, 2) // the newest that are in service: i-0006, i-0003
			w.SetGroupState(fake.DemoGroup, provider.GroupInactive, true)
			w.SetRefresh(fake.DemoGroup, "ir-1")
			w.SetConfigurationImage(fake.DemoGroup, fake.DemoNewImage)
			w.RemoveImage(fake.DemoNewImage)
			w.SetImage("img-v0", "i-0001")
		})
		c.Detach("i-0002")
		g, err := c.Group(ctx, fake.DemoGroup)
		if err != nil || g.InService != 1 || g.Standby != 1 || g.Total != 5 || len(g.Activities) != 1 || g.State != provider.GroupInactive || !g.SystemSuspended {
			t.Errorf("%+v %v", g, err)
		}
		if got, err := c.Inspect(ctx, fake.DemoGroup, toV2, nil); err != nil || got.InstanceRefreshID != "ir-1" || got.Image != nil || got.Configuration.ImageID != fake.DemoNewImage {
			t.Errorf("%+v %v", got, err)
		}
		if _, err := c.EnterStandby(ctx, fake.DemoGroup, targets("c", "i-0001")); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		var left []string
		for _, v := range c.Snapshot(fake.DemoGroup) {
			left = append(left, v.ID+" "+string(v.Lifecycle)+" "+v.ImageID)
		}
		if got := strings.Join(left, ", "); got != "i-0001 InService img-v0, i-0004 Protected img-v1, i-0005 Standby img-v1" {
			t.Error(got)
		}
		if v, ok := c.GroupView(fake.DemoGroup); !ok || v.Total != 3 || len(v.Activities) != 0 {
			t.Errorf("%+v", v)
		}
		noViolations(t, c)
	})
}

func TestCloudMadeOutsideABubbleWorksInside(t *testing.T) {
	c := fake.Demo(fake.Config{}, 1)
	c.Inject(fake.Throttle("Group", 1))
	bubble(t, func(t *testing.T) {
		if _, err := c.Group(context.Background(), fake.DemoGroup); !errors.Is(err, provider.ErrThrottled) {
			t.Error(err)
		}
		enter(t, c, "i-0001")
		start := time.Now()
		drive(t, c, toV2, "i-0001")
		if took := time.Since(start); took < 5*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}
