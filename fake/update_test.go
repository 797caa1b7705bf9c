package fake_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func TestImageUpdateGivesANewDiskThatTakesAfterTheOldOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.NewCloud(fake.Config{})
		c.AddImages(provider.Image{ID: fake.DemoNewImage})
		c.AddGroup(fake.GroupSpec{ID: fake.DemoGroup, UserData: "Y29uZmln", LoadBalancers: []string{"lb-1"}})
		ids := c.AddInstances(fake.DemoGroup, 3, fake.InstanceSpec{
			KeyPair: "kp-1", Disk: provider.Disk{SizeGiB: 80, Encrypted: true, KMSKeyID: "key-1", SnapshotPolicyID: "sp-1"},
		})
		enter(t, c, ids...)
		start := time.Now()
		for id, p := range drive(t, c, toV2, ids...) {
			if p.Err != nil || p.Outcome != provider.Updated {
				t.Errorf("%s: %+v", id, p)
			}
			v, _ := c.InstanceView(id)
			if v.ImageID != fake.DemoNewImage || v.KeyPair != "kp-1" || v.UserData != "Y29uZmln" || v.Power != provider.Running {
				t.Errorf("instance after the update: %+v", v)
			}
			if d := v.Disk; d.SizeGiB != 80 || !d.Encrypted || d.KMSKeyID != "key-1" || d.SnapshotPolicyID != "" {
				t.Errorf("disk after the update: %+v", d)
			}
			for _, action := range []string{"StopInstances", "ReplaceSystemDisk", "StartInstances"} {
				if n := c.CountEffects(action, id); n != 1 {
					t.Errorf("%s: %d times %s", id, n, action)
				}
			}
		}
		if took := time.Since(start); took < 5*time.Minute || took > 7*time.Minute {
			t.Errorf("took %v", took)
		}
		noViolations(t, c)
	})
}

func TestImageUpdateOfManyReplacesALimitedNumberPerCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{ReplaceTargets: 4}, 10)
		ids := c.InstanceIDs(fake.DemoGroup)
		enter(t, c, ids...)
		drive(t, c, toV2, ids...)
		if n := c.CountEffects("ReplaceSystemDisk", ""); n != 10 {
			t.Errorf("%d replacements", n)
		}
	})
}

func TestImageUpdateThatStartsByItselfIsDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{AutoStartAfterReplace: true}, 1)
		enter(t, c, "i-0001")
		if p := drive(t, c, toV2, "i-0001")["i-0001"]; p.Outcome != provider.Updated {
			t.Errorf("%+v", p)
		}
		if n := c.CountEffects("StartInstances", ""); n != 0 {
			t.Errorf("started %d times", n)
		}
		noViolations(t, c)
	})
}

func TestImageUpdateReportsWhatCameToNothing(t *testing.T) {
	for name, b := range map[string]fake.Behavior{"replace": {FailReplaces: 1}, "start": {FailStarts: 1}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := fake.Demo(fake.Config{}, 1)
				c.SetBehavior("i-0001", b)
				enter(t, c, "i-0001")
				p := drive(t, c, toV2, "i-0001")["i-0001"]
				if !errors.Is(p.Err, provider.ErrFailed) || p.State == nil || !p.Stopped {
					t.Errorf("%+v", p)
				}
			})
		})
	}
}

func TestImageUpdateRefusesAnImageBeforeTouchingTheInstance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{}, 1)
		c.AddImages(provider.Image{ID: "data", DataDisks: true}, provider.Image{ID: "big", SizeGiB: 100})
		enter(t, c, "i-0001")
		for _, id := range []string{"missing", "data", "big"} {
			u := provider.Update{Kind: provider.ImageUpdate, Image: &provider.ImageSpec{ImageID: id}}
			if p := drive(t, c, u, "i-0001")["i-0001"]; !errors.Is(p.Err, provider.ErrInvalid) {
				t.Errorf("%s: %+v", id, p)
			}
		}
		if n := c.CountEffects("StopInstances", ""); n != 0 {
			t.Errorf("stopped %d times", n)
		}
	})
}

func TestScriptEndsWithExitCodeAndOutput(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := fake.Demo(fake.Config{}, 3)
		c.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{{ExitCode: 3, Output: "no"}, {Output: "yes"}}})
		c.SetBehavior("i-0002", fake.Behavior{Scripts: []fake.ScriptResult{{Output: string(make([]byte, 25<<10))}}})
		c.SetBehavior("i-0003", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: 2 * time.Minute}}})
		ended := drive(t, c, shell("true"), c.InstanceIDs(fake.DemoGroup)...)
		if p := ended["i-0001"]; !errors.Is(p.Err, provider.ErrFailed) || p.Output.ExitCode != 3 || !p.Output.Exited || p.Output.Text != "no" {
			t.Errorf("%+v %+v", p, p.Output)
		}
		if p := ended["i-0002"]; p.Outcome != provider.Updated || len(p.Output.Text) != 24<<10 || p.Output.Dropped != 1<<10 {
			t.Errorf("%+v", p)
		}
		if p := ended["i-0003"]; !errors.Is(p.Err, provider.ErrFailed) || p.Output.Code != "ExecutionTimeout" || p.Output.Exited {
			t.Errorf("%+v %+v", p, p.Output)
		}
		if n := c.CountEffects("RunCommand", ""); n != 3 {
			t.Errorf("%d runs", n)
		}
		noViolations(t, c)
	})
}

func TestScriptThatMayHaveBeenSentIsFoundAgain(t *testing.T) {
	ctx := context.Background()
	for _, tt := range []struct {
		name  string
		cfg   fake.Config
		stale bool
		want  error
		runs  int
	}{
		{name: "resent", runs: 1},
		{name: "resent, tokens forgotten", cfg: fake.Config{TokenMemory: -1}, runs: 1},
		{name: "resent, no lookup", cfg: fake.Config{NoCommandLookup: true}, runs: 1},
		{name: "stale", stale: true, runs: 1},
		{name: "stale, no lookup", cfg: fake.Config{NoCommandLookup: true}, stale: true, want: provider.ErrOutcomeUnknown, runs: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := fake.Demo(tt.cfg, 1)
				look, err := c.Update(ctx, fake.DemoGroup, shell("true"), targets("", "i-0001"))
				if err != nil || !look[0].Act {
					t.Fatal(look, err)
				}
				act := targets("call-1", "i-0001")
				act[0].State = look[0].State
				c.Inject(fake.LoseAnswer("Update", 1))
				if _, err := c.Update(ctx, fake.DemoGroup, shell("true"), act); !errors.Is(err, provider.ErrTransient) {
					t.Fatal(err)
				}
				act[0].Resent, act[0].Stale = true, tt.stale
				got, err := c.Update(ctx, fake.DemoGroup, shell("true"), act)
				if err != nil || !errors.Is(got[0].Err, tt.want) {
					t.Fatal(got, err)
				}
				if n := c.CountEffects("RunCommand", ""); n != tt.runs {
					t.Errorf("%d runs", n)
				}
				noViolations(t, c)
			})
		})
	}
}

func TestStopEndsAScriptOrLetsItEnd(t *testing.T) {
	ctx := context.Background()
	for name, letRun := range map[string]bool{"killed": false, "goes on": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := fake.Demo(fake.Config{StopLetsScriptsRun: letRun}, 1)
				act := targets("call-1", "i-0001")
				look, _ := c.Update(ctx, fake.DemoGroup, shell("true"), targets("", "i-0001"))
				act[0].State = look[0].State
				got, _ := c.Update(ctx, fake.DemoGroup, shell("true"), act)
				stop := targets("", "i-0001")
				stop[0].State, stop[0].Stop = got[0].State, true
				got, _ = c.Update(ctx, fake.DemoGroup, shell("true"), stop)
				if !got[0].Act || c.CountEffects("StopInvocation", "") != 0 {
					t.Fatalf("%+v", got)
				}
				stop[0].State, stop[0].CallID = got[0].State, "call-2"
				got, _ = c.Update(ctx, fake.DemoGroup, shell("true"), stop)
				time.Sleep(time.Minute)
				stop[0].State, stop[0].CallID = got[0].State, ""
				got, _ = c.Update(ctx, fake.DemoGroup, shell("true"), stop)
				want := provider.NotUpdated
				if letRun {
					want = provider.Updated
				}
				if !got[0].Done || got[0].Outcome != want {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

func TestUpdateOfAnUnknownKindIsInvalid(t *testing.T) {
	c := fake.Demo(fake.Instant(), 1)
	for _, u := range []provider.Update{{}, {Kind: "x"}, {Kind: provider.ImageUpdate}, {Kind: provider.ScriptUpdate}} {
		if _, err := c.Update(context.Background(), fake.DemoGroup, u, targets("", "i-0001")); !errors.Is(err, provider.ErrInvalid) {
			t.Errorf("%v: %v", u, err)
		}
	}
}
