package rollingupgrade_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func (s *schedule) one(p int) bool { return s.r.IntN(100) < p }

func pick[T any](s *schedule, all ...T) T { return all[s.r.IntN(len(all))] }

// line draws a line to a cloud; over the wire with some switches in other positions than usual.
func (s *schedule) line(t testing.TB) *line {
	if !*wireFlag {
		return lineTo(t, s.cloud(fake.Config{Steps: quick}))
	}
	return lineWith(t, fake.Config{Steps: quick}, s.cloud, s.positions()...)
}

// positions draws up to three switches. Of those that weaken what tells one sending of a script from two there is one at most.
func (s *schedule) positions() (at []position) {
	weak := false
	for range s.r.IntN(4) {
		p := pick(s, positions()...)
		if p.blind || p.weak && weak {
			continue
		}
		weak = weak || p.weak
		at = append(at, p)
		s.note("%s", p)
	}
	s.weak = weak
	return at
}

// cloud draws a group and what is special about its instances.
func (s *schedule) cloud(cfg fake.Config) *fake.Cloud {
	on := func(is *bool, p int) { *is = s.one(p) || *is }
	on(&cfg.PartialStandby, 20)
	on(&cfg.AutoStartAfterReplace, 10)
	on(&cfg.StopLetsScriptsRun, 20)
	on(&cfg.ActivitiesBlock, 20)
	if none := s.one(10); !s.weak {
		cfg.NoCommandLookup = none
	}
	cfg.ReplaceTargets = 1 + s.r.IntN(4)
	if s.one(30) {
		cfg.Seed, cfg.Jitter, cfg.Tail = s.seed, 0.5, 0.05
	}
	c := fake.NewCloud(cfg)
	c.AddImages(provider.Image{ID: fake.DemoOldImage}, provider.Image{ID: fake.DemoNewImage})
	s.n = 1 + s.r.IntN(8)
	g := fake.GroupSpec{ID: fake.DemoGroup, Instances: s.n, ImageID: fake.DemoOldImage}
	if s.one(70) {
		g.LoadBalancers = []string{"lb-1"}
	}
	if s.one(15) {
		g.LaunchTemplateID = "lt-1"
	}
	if s.one(20) {
		g.Suspended = []provider.Process{pick(s, provider.Processes()...)}
	}
	ids := c.AddGroup(g)
	if s.one(30) {
		c.AddInstances(fake.DemoGroup, 1+s.r.IntN(2), fake.InstanceSpec{Lifecycle: provider.Protected})
	}
	if s.one(20) {
		c.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: provider.Standby})
	}
	if s.one(15) {
		c.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{ImageID: fake.DemoNewImage})
	}
	for _, id := range ids {
		switch s.r.IntN(12) {
		case 0:
			c.SetBehavior(id, fake.Behavior{FailReplaces: 1 + s.r.IntN(2), Scripts: []fake.ScriptResult{{ExitCode: 1}, {}}})
			s.note("%s fails once", id)
		case 1:
			c.SetBehavior(id, fake.Behavior{FailStarts: 1 + s.r.IntN(2), Scripts: []fake.ScriptResult{{Takes: 5 * time.Minute}, {Code: "Aborted"}, {}}})
			s.note("%s starts badly", id)
		case 2:
			c.SetBehavior(id, fake.Behavior{StopTakes: time.Minute, AgentTakes: 5 * time.Minute, Scripts: []fake.ScriptResult{{Takes: 50 * time.Second}}})
			s.note("%s is slow", id)
		}
	}
	s.others(c, ids)
	return c
}

// others draws what other people and the cloud do meanwhile.
func (s *schedule) others(c *fake.Cloud, ids []string) {
	if s.foreign = s.one(35); !s.foreign {
		return
	}
	for range 1 + s.r.IntN(3) {
		at := time.Duration(s.r.IntN(180))*time.Second + time.Duration(s.r.IntN(1000))*time.Millisecond
		id := ids[s.r.IntN(len(ids))]
		what := pick(s, "release", "detach", "resume", "agent", "join", "standby", "in service", "activity")
		s.note("%s: %s %s", at, what, id)
		p := pick(s, provider.Processes()...)
		c.After(at, func(w *fake.World) {
			switch what {
			case "release":
				w.Release(id)
			case "detach":
				w.Detach(id)
			case "resume":
				w.Resume(fake.DemoGroup, p)
			case "agent":
				w.SetAgentOffline(3*time.Minute, id)
			case "join":
				w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{})
			case "standby":
				w.SetLifecycle(provider.Standby, id)
			case "in service":
				w.SetLifecycle(provider.InService, id)
			case "activity":
				w.StartActivity(fake.DemoGroup, 30*time.Second, 0, 0)
			}
		})
	}
}

// faults draws calls that fail.
func (s *schedule) faults() {
	ops := []string{
		"Group", "Members", "Instances", "EnterStandby", "ExitStandby", "SetProtection", "Start", "SuspendProcesses", "ResumeProcesses",
		"Update", "Configuration", "SetConfigurationImage", "StopInstances", "ReplaceSystemDisk", "StartInstances", "RunCommand", "",
	}
	s.wireFaults()
	for range s.r.IntN(5) {
		f := fake.Fault{Op: pick(s, ops...), Nth: 1 + s.r.IntN(6), Count: 1 + s.r.IntN(3)}
		switch s.r.IntN(7) {
		case 0, 1:
			f.Err = provider.ErrThrottled
		case 2:
			f.Err = provider.ErrBusy
		case 3:
			f.Err = provider.ErrTransient
		case 4:
			f.Lost = true
		case 5:
			f.Delay = pick(s, 10*time.Second, 50*time.Second, 90*time.Second)
			f.Lost = s.one(30)
		case 6:
			f.Err = provider.ErrPermission
			f.Count = 1
		}
		s.note("%s", f)
		s.g.cloud.Inject(f)
	}
}

// wireFaults draws faults of the wire: some calls, or for some minutes a share of all.
func (s *schedule) wireFaults() {
	wire := s.g.line.wire
	if wire == nil {
		return
	}
	actions := []string{
		"DescribeScalingGroups", "DescribeScalingInstances", "DescribeInstances", "DescribeDisks", "DescribeScalingConfigurations", "EnterStandby", "ExitStandby",
		"SetInstancesProtection", "SuspendProcesses", "ResumeProcesses", "StopInstances", "ReplaceSystemDisk", "StartInstances", "RunCommand", "StopInvocation",
		"DescribeInvocations", "DescribeInvocationResults", "ModifyScalingConfiguration", "",
	}
	for range s.r.IntN(8) {
		f := openapi.Fault{Action: pick(s, actions...), Nth: 1 + s.r.IntN(6), Count: 1 + s.r.IntN(3)}
		if s.one(40) {
			f.Nth, f.Count, f.Until, f.Chance = 0, 0, time.Duration(1+s.r.IntN(10))*time.Minute, float64(1+s.r.IntN(10))/100
		}
		switch s.r.IntN(8) {
		case 0:
			f.Reply, f.Status, f.Code, f.RetryAfter = openapi.ReplyError, 400, "Throttling.User", time.Duration(s.r.IntN(8))*time.Second
		case 1:
			f.Reply, f.Status, f.Code, f.Effect = openapi.ReplyError, 500, "InternalError", s.one(50)
		case 2:
			f.Reply, f.Effect = openapi.ReplyError, s.one(50)
		case 3:
			f.Delay = pick(s, 10*time.Second, 50*time.Second, 90*time.Second)
		default:
			f.Reply, f.Effect = pick(s, openapi.ReplyCut, openapi.ReplyCutBody, openapi.ReplyEmpty, openapi.ReplyBroken), s.one(70)
		}
		s.note("wire: %s", f)
		wire.Inject(f)
	}
}

// drawSpec draws a spec.
func (s *schedule) drawSpec(token string) ru.Spec {
	spec := sweepSpec(s.one(50), 1)
	spec.ClientToken = token
	spec.MinInService = pick(s, -1, -1, 0, 1)
	switch s.r.IntN(3) {
	case 0:
		spec.Batches = ru.InBatches(1 + s.r.IntN(s.n+1))
	case 1:
		spec.Batches = ru.BatchSpec{MaxSize: 1 + s.r.IntN(s.n+1)}
	default:
		spec.Batches = ru.BatchSpec{Sizes: []ru.Size{{Instances: 1}, {Percent: 1 + s.r.IntN(100)}}}
	}
	spec.Pause.Mode = pick(s, ru.PauseNever, ru.PauseFirstBatch, ru.PauseEveryBatch)
	spec.Pause.AfterLast = s.one(20)
	if s.one(15) {
		spec.Pause.Limit, spec.Pause.OnLimit = time.Minute, pick(s, ru.OnLimitContinue, ru.OnLimitCancel, ru.OnLimitRollback)
	}
	if s.one(15) {
		spec.Failure.Limit, spec.Failure.OnLimit = time.Minute, pick(s, ru.OnLimitCancel, ru.OnLimitRollback)
	}
	if s.one(20) {
		spec.Failure.PerBatch.Instances = 1
	}
	if s.one(10) {
		spec.Failure.Total.Percent = 30
	}
	if s.one(40) {
		spec.MaxInFlight = 1 + s.r.IntN(3)
	}
	if s.one(25) {
		spec.Drain = time.Duration(1+s.r.IntN(60)) * time.Second
	}
	spec.Verify.Successes = s.r.IntN(3)
	spec.Targets.IncludeProtected, spec.Targets.SkipUpToDate = s.one(50), s.one(50)
	spec.Configuration = pick(s, ru.ConfigurationAfterSuccess, ru.ConfigurationAfterFirstBatch, ru.ConfigurationNever)
	if s.one(10) {
		spec.Timeouts.Instance, spec.Timeouts.Batch, spec.Timeouts.Task = 3*time.Minute, 4*time.Minute, 8*time.Minute
	}
	if spec.Update.Script != nil && s.one(20) {
		spec.Update.Script.Timeout = 10 * time.Second
	}
	s.note("spec %s min=%d flight=%d pause=%s config=%s %s", spec.Update.Kind, spec.MinInService, spec.MaxInFlight, spec.Pause.Mode, spec.Configuration, fmt.Sprintf("%+v", spec.Batches))
	return spec
}

// hooks draws a Verify hook: an instance is unhealthy at first in some schedules.
func (s *schedule) hooks() ru.Hooks {
	if !s.one(40) {
		return ru.Hooks{}
	}
	begin := time.Now()
	return ru.Hooks{Verify: func(_ context.Context, _ ru.Summary, ids []string) ([]ru.Verdict, error) {
		var all []ru.Verdict
		for _, id := range ids {
			well := time.Since(begin) > time.Duration(s.draw(200, "well "+id))*time.Second || s.chance(80, "well at once "+id)
			all = append(all, ru.Verdict{InstanceID: id, Healthy: well, Text: "not yet"})
		}
		return all, nil
	}}
}
