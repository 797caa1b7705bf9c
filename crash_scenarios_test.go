package rollingupgrade_test

import (
	"context"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// spec is an image upgrade, or with script a script upgrade, in so many batches.
func sweepSpec(script bool, batches int) ru.Spec {
	s := ru.Spec{
		GroupID: fake.DemoGroup, Update: ru.Image(fake.DemoNewImage), Rollback: ru.Image(fake.DemoOldImage),
		Batches: ru.InBatches(batches), ClientToken: "sweep",
	}
	if script {
		s.Update, s.Rollback = ru.Script(provider.Shell, "up"), ru.Script(provider.Shell, "down")
	}
	return s
}

// failsOnce is an instance that fails the next update.
func failsOnce() fake.Behavior {
	return fake.Behavior{FailReplaces: 1, Scripts: []fake.ScriptResult{{ExitCode: 1}, {}}}
}

// once makes instance id fail the first update.
func once(id string) func(*fake.Cloud) {
	return func(c *fake.Cloud) { c.SetBehavior(id, failsOnce()) }
}

// always makes it fail every update.
func always(id string) func(*fake.Cloud) {
	return func(c *fake.Cloud) {
		c.SetBehavior(id, fake.Behavior{FailReplaces: 1000, Scripts: []fake.ScriptResult{{ExitCode: 1}}})
	}
}

// updating reports whether an instance of a task is being updated.
func updating(id string) func(t *shownTask) bool {
	return func(t *shownTask) bool {
		r := t.row(id)
		return r.Status == ru.InstanceRunning && r.Step == ru.Updating && r.Underway
	}
}

// rollBackAtPause runs a task to its first pause and rolls it back there.
func rollBackAtPause(spec ru.Spec, rs ru.RollbackSpec) func(o *operator) {
	return func(o *operator) {
		id := o.create(spec)
		o.runToPause(id)
		rs.ClientToken = "back"
		o.lead(o.rollback(id, rs))
	}
}

// rollBackAtEnd leads a task to its end and rolls it back.
func rollBackAtEnd(spec ru.Spec, rs ru.RollbackSpec) func(o *operator) {
	return func(o *operator) {
		id := o.create(spec)
		o.lead(id)
		rs.ClientToken = "back"
		o.lead(o.rollback(id, rs))
	}
}

func with(s ru.Spec, change func(*ru.Spec)) ru.Spec {
	change(&s)
	return s
}

// How much of the sweep a scenario belongs to: the small part is run with the race detector and with -short, the middle one by
// default, and all of it with -sweep=full and with CI=true.
var (
	smallScenarios  = []string{"image cancel and restore in a batch", "script upgrade, retried and skipped", "script drained and verified"}
	middleScenarios = append([]string{
		"image upgrade", "image rollback of a waiting task", "image protected", "image set after the first batch, rolled back",
		"script pauses, retried", "script rollback of a task with failures",
		"script racing commands, told, one fails", "script upgrade, canceled instance, one at a time", "script, commands cannot be found",
		"script cancel, then another task",
	}, smallScenarios...)
)

func scenarios() []*scenario {
	var all []*scenario
	for _, script := range []bool{false, true} {
		kind := "image"
		if script {
			kind = "script"
		}
		for _, s := range kindScenarios(script) {
			s.name = kind + " " + s.name
			s.roughLate = script || s.failing != ""
			all = append(all, s)
		}
	}
	return append(all, imageScenarios()...)
}

// kindScenarios are done with images and with scripts.
func kindScenarios(script bool) []*scenario {
	every := func(s *ru.Spec) { s.Pause.Mode = ru.PauseEveryBatch }
	first := func(s *ru.Spec) { s.Pause.Mode = ru.PauseFirstBatch }
	return []*scenario{
		{name: "upgrade", n: 6, act: func(o *operator) { o.lead(o.create(sweepSpec(script, 3))) }},
		{name: "upgrade, retried", n: 5, failing: "i-0003", setup: once("i-0003"), act: func(o *operator) { o.lead(o.create(sweepSpec(script, 2))) }},
		{name: "upgrade, retried and skipped", n: 4, failing: "i-0003", setup: always("i-0003"), act: func(o *operator) { o.lead(o.create(sweepSpec(script, 2))) }},
		{name: "upgrade, canceled instance, one at a time", n: 4, failing: "i-0002", setup: always("i-0002"), deaf: true, act: func(o *operator) {
			o.decide = func(*ru.Instance) ru.Command { return ru.CommandCancelInstances }
			id := o.create(with(sweepSpec(script, 2), func(s *ru.Spec) { s.MaxInFlight = 1 }))
			o.lead(id)
			o.must("restore", o.command(id, ru.CommandRestore))
			o.lead(id)
		}},
		{name: "pauses", n: 4, deaf: true, act: func(o *operator) { o.lead(o.create(with(sweepSpec(script, 3), every))) }},
		{name: "pauses, retried", n: 4, failing: "i-0004", setup: once("i-0004"), act: func(o *operator) { o.lead(o.create(with(sweepSpec(script, 2), every))) }},
		{name: "rollback", n: 4, act: rollBackAtEnd(sweepSpec(script, 2), ru.RollbackSpec{})},
		{name: "rollback, retried", n: 3, failing: "i-0002", act: func(o *operator) {
			id := o.create(sweepSpec(script, 2))
			o.lead(id)
			o.g.cloud.SetBehavior("i-0002", failsOnce())
			o.lead(o.rollback(id, ru.RollbackSpec{ClientToken: "back"}))
		}},
		{name: "rollback of a waiting task", n: 4, act: rollBackAtPause(with(sweepSpec(script, 2), first), ru.RollbackSpec{Batches: ru.InBatches(2)})},
		{name: "rollback of a task with failures", n: 4, failing: "i-0002", setup: always("i-0002"), act: rollBackAtPause(with(sweepSpec(script, 1), func(s *ru.Spec) { s.MinInService = -1 }), ru.RollbackSpec{Scope: ru.ScopeAttempted, Batches: ru.InBatches(2)})},
		{name: "cancel and restore in a batch", n: 6, varies: []string{"i-0003", "i-0004"}, act: func(o *operator) {
			o.when(updating("i-0004"), func(id string) { o.must("cancel", o.command(id, cancelAndRestore)) })
			o.lead(o.create(sweepSpec(script, 3)))
		}},
		{name: "cancel and restore in a batch, deaf, one failed", n: 4, deaf: true, failing: "i-0001", setup: always("i-0001"), varies: []string{"i-0003", "i-0004"}, act: func(o *operator) {
			o.when(updating("i-0003"), func(id string) { o.must("cancel", o.command(id, cancelAndRestore)) })
			o.lead(o.create(sweepSpec(script, 2)))
		}},
		{name: "cancel, then another task", n: 4, varies: []string{"i-0003", "i-0004"}, act: func(o *operator) {
			o.when(updating("i-0003"), func(id string) {
				if id == o.g.inv.order[0] {
					o.must("cancel", o.command(id, ru.CommandCancel))
				}
			})
			o.lead(o.create(sweepSpec(script, 2)))
			id := o.create(with(sweepSpec(script, 1), func(s *ru.Spec) { s.ClientToken, s.MinInService = "second", -1 }))
			o.lead(id)
			o.must("restore", o.command(id, ru.CommandRestore))
			o.lead(id)
		}},
		{name: "racing commands", n: 6, deaf: true, varies: []string{"i-0001", "i-0002"}, act: func(o *operator) {
			o.when(updating("i-0001"), func(id string) {
				o.must("pause", o.command(id, ru.CommandPause))
				o.must("skip", o.command(id, ru.CommandSkip, "i-0001", "i-0005"))
				o.must("cancel", o.command(id, ru.CommandCancelInstances, "i-0002", "i-0004"))
			})
			id := o.create(sweepSpec(script, 3))
			o.lead(id)
			o.must("restore", o.command(id, ru.CommandRestore))
			o.lead(id)
		}},
		{name: "racing commands, told, one fails", n: 6, failing: "i-0002", setup: always("i-0002"), varies: []string{"i-0001"}, act: func(o *operator) {
			o.when(updating("i-0001"), func(id string) {
				o.must("skip", o.command(id, ru.CommandSkip, "i-0001"))
				o.must("pause", o.command(id, ru.CommandPause))
			})
			o.lead(o.create(with(sweepSpec(script, 2), func(s *ru.Spec) { s.MaxInFlight = 2 })))
		}},
		{name: "drained and verified", n: 3, cfg: ru.Config{Hooks: ru.Hooks{Verify: alwaysHealthy()}}, act: func(o *operator) {
			o.lead(o.create(with(sweepSpec(script, 2), func(s *ru.Spec) { s.Drain, s.Verify.Successes = 30*time.Second, 2 })))
		}},
		{name: "protected", n: 5, setup: func(c *fake.Cloud) {
			c.Now(func(w *fake.World) { w.SetLifecycle(provider.Protected, "i-0001", "i-0003") })
		}, act: func(o *operator) {
			o.lead(o.create(with(sweepSpec(script, 2), func(s *ru.Spec) { s.Targets.IncludeProtected = true })))
		}},
	}
}

// alwaysHealthy calls all instances healthy.
func alwaysHealthy() func(context.Context, ru.Summary, []string) ([]ru.Verdict, error) {
	return func(_ context.Context, _ ru.Summary, ids []string) ([]ru.Verdict, error) {
		var all []ru.Verdict
		for _, id := range ids {
			all = append(all, ru.Verdict{InstanceID: id, Healthy: true})
		}
		return all, nil
	}
}

// imageScenarios are about what only image updates, or only scripts, have.
func imageScenarios() []*scenario {
	user := func(c *fake.Cloud) {
		c.Now(func(w *fake.World) { w.Suspend(fake.DemoGroup, provider.HealthCheck, provider.AlarmNotification) })
	}
	return []*scenario{
		{name: "image set after the first batch, rolled back", n: 3, act: rollBackAtPause(with(sweepSpec(false, 2), func(s *ru.Spec) {
			s.Configuration, s.Pause.Mode = ru.ConfigurationAfterFirstBatch, ru.PauseFirstBatch
		}), ru.RollbackSpec{ToBefore: true})},
		{name: "image, the user's processes stay suspended", n: 3, setup: user, act: func(o *operator) { o.lead(o.create(sweepSpec(false, 2))) }},
		{name: "image, several calls for each batch", n: 6, cloud: fake.Config{ReplaceTargets: 2}, act: func(o *operator) {
			o.lead(o.create(with(sweepSpec(false, 1), func(s *ru.Spec) { s.MinInService = -1 })))
		}},
		{name: "image, one after the other by the provider's pace", n: 4, pace: 1, act: func(o *operator) { o.lead(o.create(sweepSpec(false, 2))) }},
		{name: "script, one fails while the provider's pace holds some back", n: 4, pace: 2, roughLate: true, failing: "i-0002", setup: always("i-0002"), act: func(o *operator) {
			o.lead(o.create(with(sweepSpec(true, 1), func(s *ru.Spec) { s.MinInService = -1 })))
		}},
		{name: "image, started by itself", n: 3, cloud: fake.Config{AutoStartAfterReplace: true}, act: func(o *operator) { o.lead(o.create(sweepSpec(false, 2))) }},
		{name: "script, commands cannot be found", n: 4, cloud: fake.Config{NoCommandLookup: true}, unknown: true, act: func(o *operator) { o.lead(o.create(sweepSpec(true, 2))) }},
		{name: "script that cannot be stopped, canceled", n: 4, cloud: fake.Config{StopLetsScriptsRun: true}, roughLate: true, act: func(o *operator) {
			o.when(updating("i-0001"), func(id string) { o.must("cancel", o.command(id, ru.CommandCancelInstances, "i-0001")) })
			id := o.create(sweepSpec(true, 2))
			o.lead(id)
			o.must("restore", o.command(id, ru.CommandRestore))
			o.lead(id)
		}},
	}
}
