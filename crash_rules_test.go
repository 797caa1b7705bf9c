package rollingupgrade_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// onRig runs a test in a bubble on a demo group of n instances, under the invariants.
func onRig(t *testing.T, n int, cfg fake.Config, setup func(c *fake.Cloud), act func(t *testing.T, o *operator)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Steps = quick
		cloud := fake.Demo(cfg, n)
		if setup != nil {
			setup(cloud)
		}
		g := newRig(t, cloud, ru.Config{})
		g.inv.nothing = map[string]bool{}
		g.inv.begin()
		o := newOperator(g)
		act(t, o)
		o.racing.Wait()
		g.inv.end()
		o.checkCommands()
		for _, p := range g.inv.problems {
			t.Error(p)
		}
		for _, p := range []*process{g.driver, o.clerk} {
			if p != nil {
				p.stop()
			}
		}
		time.Sleep(10 * time.Minute)
	})
}

// effects are the instances of an action's effects, in order.
func effects(c *fake.Cloud, action string) (ids []string) {
	for _, e := range c.Effects() {
		if e.Action == action {
			ids = append(ids, e.InstanceID)
		}
	}
	return ids
}

func TestN1_OneBatchIsOutOfService(t *testing.T) {
	onRig(t, 7, fake.Config{}, always("i-0002"), func(t *testing.T, o *operator) {
		task := o.lead(o.create(sweepSpec(false, 3)))
		batch := map[string]int{}
		for _, i := range task.Instances {
			batch[i.ID] = i.Batch
		}
		out, most := map[string]bool{}, 0
		for _, e := range o.g.cloud.Effects() {
			switch e.Action {
			case "EnterStandby":
				for id := range out {
					if batch[id] != batch[e.InstanceID] && id != "i-0002" { // which was skipped
						t.Errorf("%s enters Standby while %s of batch %d is out", e.InstanceID, id, batch[id])
					}
				}
				out[e.InstanceID] = true
			case "ExitStandby":
				delete(out, e.InstanceID)
			}
			most = max(most, len(out))
		}
		if want := map[string]bool{"i-0002": true}; most != 4 || !cmp.Equal(out, want) {
			t.Errorf("%d were out at most, at the end %v", most, out)
		}
		if want := []string{"standby i-0002", "stopped i-0002"}; !cmp.Equal(leftoverLines(task), want) {
			t.Errorf("leftovers %v", leftoverLines(task))
		}
	})
}

func leftoverLines(t *ru.Task) (all []string) {
	for _, l := range t.Leftovers() {
		all = append(all, fmt.Sprintf("%s %s%s%s", l.Kind, l.InstanceID, l.Process, l.ConfigurationID))
	}
	slices.Sort(all)
	return all
}

func TestN2_UnknownOutcomeIsNotRunAgain(t *testing.T) {
	onRig(t, 2, fake.Config{NoCommandLookup: true}, nil, func(t *testing.T, o *operator) {
		g := o.g
		g.onCall = func(_ *process, b boundary) (site, mode, bool) { // the script has been sent, and its process dies
			hit := strings.HasPrefix(b.key, "Update ru-") && g.deaths == 0
			return after, diesLate, hit
		}
		o.late.Store(true)
		id := o.create(sweepSpec(true, 2))
		task := o.run(id)
		if task.Status != ru.StatusFailurePaused || task.Instances[0].Error == nil || task.Instances[0].Error.Kind != provider.ErrOutcomeUnknown.Error() {
			t.Fatalf("%s %+v", task.Status, task.Instances[0].Error)
		}
		time.Sleep(24 * time.Hour)
		o.run(id)
		if got := effects(g.cloud, "RunCommand"); !cmp.Equal(got, []string{"i-0001"}) {
			t.Errorf("scripts ran on %v", got)
		}
		if task := o.lead(id); task.Status != ru.StatusSucceeded || task.Instances[0].Attempt != 2 {
			t.Errorf("%s after %d attempts", task.Status, task.Instances[0].Attempt)
		}
	})
}

// An answer that says "nothing has happened" says so of its own sending: an earlier one may have had its effect.
func TestN2_RefusedResendingForgetsNothing(t *testing.T) {
	for _, op := range []string{"EnterStandby", "ExitStandby", "Update"} {
		for _, refusal := range []error{provider.ErrPermission, provider.ErrThrottled, provider.ErrBusy, provider.ErrInvalid} {
			t.Run(fmt.Sprintf("%s/%s", op, refusal), func(t *testing.T) {
				n := 1
				if op == "Update" {
					n = 2 // its first call only looks
				}
				setup := func(c *fake.Cloud) {
					c.Inject(fake.LoseAnswer(op, n), fake.Fault{Op: op, Nth: n + 1, Count: -1, Err: refusal})
				}
				onRig(t, 3, fake.Config{}, setup, func(t *testing.T, o *operator) {
					id := o.create(sweepSpec(true, 3))
					task := o.run(id)
					if task.Status != ru.StatusFailurePaused || !slices.Contains(leftoverLines(task), "standby i-0001") {
						t.Errorf("task is %s and leaves %v", task.Status, leftoverLines(task))
					}
					o.g.cloud.ClearFaults()
					if task = o.lead(id); task.Status != ru.StatusSucceeded || len(task.Leftovers()) > 0 {
						t.Errorf("task is %s and leaves %v", task.Status, leftoverLines(task))
					}
				})
			})
		}
	}
}

func TestN4_SuccessLeavesNothing(t *testing.T) {
	for _, script := range []bool{false, true} {
		onRig(t, 5, fake.Config{}, once("i-0003"), func(t *testing.T, o *operator) {
			task := o.lead(o.create(sweepSpec(script, 2)))
			group, _ := o.g.cloud.GroupView(fake.DemoGroup)
			if task.Status != ru.StatusSucceeded || len(task.Leftovers()) > 0 || len(group.Suspended) > 0 || group.Count[provider.InService] != 5 {
				t.Errorf("%s leaves %v, suspended %v, %v", task.Status, leftoverLines(task), group.Suspended, group.Count)
			}
		})
	}
}

func TestN5_NothingElseIsTouched(t *testing.T) {
	var others []string
	setup := func(c *fake.Cloud) {
		others = append(others, c.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: provider.Protected})...)
		others = append(others, c.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: provider.Standby})...)
		others = append(others, c.AddInstances("", 1, fake.InstanceSpec{})...)
		others = append(others, c.AddGroup(fake.GroupSpec{ID: "asg-other", Instances: 2})...)
		c.Now(func(w *fake.World) { w.Suspend(fake.DemoGroup, provider.AlarmNotification) })
		c.After(30*time.Second, func(w *fake.World) {
			others = append(others, w.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{})...)
		})
	}
	onRig(t, 4, fake.Config{}, setup, func(t *testing.T, o *operator) {
		o.when(updating("i-0003"), func(id string) { o.must("cancel", o.command(id, cancelAndRestore)) })
		task := o.lead(o.create(sweepSpec(false, 2)))
		for _, e := range o.g.cloud.Effects() {
			if slices.Contains(others, e.InstanceID) || e.GroupID == "asg-other" || strings.Contains(e.Detail, string(provider.AlarmNotification)) {
				t.Errorf("touched: %s", e)
			}
		}
		group, _ := o.g.cloud.GroupView(fake.DemoGroup)
		if want := []provider.Process{provider.AlarmNotification}; !cmp.Equal(group.Suspended, want) || task.Status != ru.StatusCanceled {
			t.Errorf("%s, suspended %v", task.Status, group.Suspended)
		}
	})
}

// Whatever never works again, the task comes to an end or waits for a person, and a cancel leads out of there.
func TestN6_EveryWaitHasALimit(t *testing.T) {
	ops := []string{
		"Group", "Members", "Instances", "EnterStandby", "ExitStandby", "SuspendProcesses", "ResumeProcesses", "Update",
		"Configuration", "SetConfigurationImage", "StopInstances", "ReplaceSystemDisk", "StartInstances", "RunCommand", "DescribeInvocationResults",
	}
	errs := []error{provider.ErrTransient, provider.ErrPermission, provider.ErrThrottled, provider.ErrBusy, provider.ErrInvalidState, provider.ErrNotBegun}
	if raceEnabled || testing.Short() {
		errs = errs[:2]
	}
	for _, err := range errs {
		for _, op := range ops {
			for _, script := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/script=%t", err, op, script), func(t *testing.T) {
					onRig(t, 3, fake.Config{}, nil, func(t *testing.T, o *operator) {
						id := o.create(sweepSpec(script, 2))
						o.g.inv.foreign = true // what cannot be done is left over
						o.g.cloud.Inject(fake.Fault{Op: op, Err: err})
						task := o.run(id)
						if !task.Status.Ended() && !task.Status.Waiting() {
							t.Fatalf("task is %s", task.Status)
						}
						if !task.Status.Ended() {
							o.must("cancel", o.command(id, ru.CommandCancel))
						}
						o.must("restore", o.command(id, ru.CommandRestore))
						if task = o.run(id); !task.Status.Ended() || task.Restore.Active() {
							t.Errorf("task is %s, restoring %t", task.Status, task.Restore.Active())
						}
						o.g.cloud.ClearFaults()
						o.must("restore", o.command(id, ru.CommandRestore))
						task = o.run(id)
						group, _ := o.g.cloud.GroupView(fake.DemoGroup)
						if group.Count[provider.InService] != 3 || len(group.Suspended) > 0 {
							t.Errorf("%s %s: %v, suspended %v, leaves %v, %s", task.Status, task.Reason, group.Count, group.Suspended, leftoverLines(task), task.Restore.Error)
						}
					})
				})
			}
		}
	}
}

func TestS25_CancelAtEveryMomentRestoresEverything(t *testing.T) {
	for _, script := range []bool{false, true} {
		for at := time.Second; at < 90*time.Second; at += 3 * time.Second {
			t.Run(fmt.Sprintf("script=%t/%s", script, at), func(t *testing.T) {
				onRig(t, 4, fake.Config{}, nil, func(t *testing.T, o *operator) {
					id := o.create(sweepSpec(script, 2))
					o.racing.Go(func() {
						time.Sleep(at)
						if err := o.command(id, ru.CommandCancel); err != nil && !errors.Is(err, ru.ErrIllegalCommand) {
							t.Error(err)
						}
					})
					task := o.run(id)
					o.racing.Wait()
					for range 2 { // a second time it has nothing to do
						o.must("restore", o.command(id, ru.CommandRestore))
						task = o.run(id)
					}
					if task.Restore.Error != "" || len(slices.DeleteFunc(leftoverLines(task), func(l string) bool { return strings.HasPrefix(l, "configuration") })) > 0 {
						t.Errorf("%s: %s leaves %v", task.Status, task.Restore.Error, leftoverLines(task))
					}
					for _, i := range o.g.cloud.Snapshot(fake.DemoGroup) {
						if i.Lifecycle != provider.InService || i.Power != provider.Running {
							t.Errorf("%s is %s and %s", i.ID, i.Lifecycle, i.Power)
						}
					}
				})
			})
		}
	}
}

func TestS26_LeftoversBelongToTheLaterTask(t *testing.T) {
	onRig(t, 4, fake.Config{}, nil, func(t *testing.T, o *operator) {
		o.when(updating("i-0003"), func(id string) {
			if id == o.g.inv.order[0] {
				o.must("cancel", o.command(id, ru.CommandCancel))
			}
		})
		first := o.lead(o.create(sweepSpec(false, 2)))
		left := leftoverLines(first)
		if len(left) != 7 { // two instances in Standby, five processes
			t.Errorf("the first task leaves %v", left)
		}
		second := o.lead(o.create(with(sweepSpec(false, 1), func(s *ru.Spec) { s.ClientToken, s.MinInService = "second", -1 })))
		first = o.get(first.ID)
		if len(first.Leftovers()) > 0 || first.NextID != second.ID {
			t.Errorf("the first task still leaves %v", leftoverLines(first))
		}
		if err := o.command(first.ID, ru.CommandRestore); !errors.Is(err, ru.ErrNotLatest) {
			t.Errorf("restore of the first task: %v", err)
		}
		group, _ := o.g.cloud.GroupView(fake.DemoGroup)
		if len(group.Suspended) > 0 || second.Status != ru.StatusSucceeded {
			t.Errorf("after the second task (%s) %v are suspended", second.Status, group.Suspended)
		}
		if want := []string{"standby i-0003", "standby i-0004"}; !cmp.Equal(leftoverLines(second), want) {
			t.Errorf("the second task leaves %v", leftoverLines(second))
		}
		for _, l := range second.Leftovers() {
			if l.OriginID != first.ID {
				t.Errorf("%s is said to be of %s", l, l.OriginID)
			}
		}
		o.must("restore", o.command(second.ID, ru.CommandRestore))
		if second = o.run(second.ID); len(second.Leftovers()) > 0 {
			t.Errorf("after the restore the second task leaves %v", leftoverLines(second))
		}
	})
}
