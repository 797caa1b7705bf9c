package rollingupgrade_test

import (
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A call that is accepted and not there yet is asked for again and again, but not without rest.
func TestN6_AcceptedCallDoesNotSpin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		accepted := time.Now()
		b.twist(twisted{enter: func(out []provider.Progress, err error) ([]provider.Progress, error) {
			for n := range out {
				out[n].Done = time.Since(accepted) > 2*time.Minute // and no advice how long to wait
			}
			return out, err
		}}, ru.Config{})
		b.wantStatus(b.runFor(b.create(scriptSpec(2, func(s *ru.Spec) { s.Targets.Include = []string{"i-0001", "i-0002"} })), time.Hour), ru.StatusSucceeded)
		if n := b.calls("EnterStandby"); n > 60 {
			t.Errorf("%d calls of EnterStandby in 2 minutes", n)
		}
	})
}

// An instance that is refused "because of others" although there are none is tried again with rests, and fails at its deadline.
func TestN6_RefusedAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 4)
		b.cloud.Inject(fake.Fault{Op: "EnterStandby", Target: "i-0001", Err: provider.ErrRefused, Delay: 200 * time.Millisecond})
		task := b.runFor(b.create(scriptSpec(2)), 12*time.Minute)
		b.wantStatus(task, ru.StatusFailurePaused)
		diff(t, "statuses", map[string]string{"i-0001": "failed", "i-0002": "succeeded", "i-0003": "pending", "i-0004": "pending"}, statuses(task))
		if n := b.calls("EnterStandby"); n > 60 {
			t.Errorf("%d calls of EnterStandby in 10 minutes", n)
		}
	})
}

// The rests between the tries of a call about the group grow.
func TestS5_N6_GroupCallsDoNotSpin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(scriptSpec(2))
		b.cloud.ClearLog()
		b.cloud.Inject(fake.Fault{Op: "Group", Err: provider.ErrThrottled})
		b.wantStatus(b.runFor(id, time.Hour), ru.StatusFailed)
		if n := b.calls("Group"); n > 40 {
			t.Errorf("%d looks at the group in 10 minutes", n)
		}
	})
}

// A call whose answer was lost is looked for as long as the settings say, and not longer.
func TestN2_LostCallIsLookedForInTime(t *testing.T) {
	const trust, lookup = 5 * time.Minute, 2 * time.Minute // the defaults
	bubbled(t, "found late", func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.Inject(fake.Fault{Op: "EnterStandby", Target: "i-0001", Until: trust + lookup - 30*time.Second, Count: -1, Lost: true})
		b.runTo(b.create(scriptSpec(2)), ru.StatusSucceeded)
		diff(t, "times in Standby", 1, b.cloud.CountEffects("EnterStandby", "i-0001"))
	})
	bubbled(t, "not found", func(t *testing.T) {
		b := demoBed(t, 2)
		b.cloud.Inject(fake.Fault{Op: "EnterStandby", Target: "i-0001", Lost: true})
		row := rowOf(b.runTo(b.create(scriptSpec(2)), ru.StatusFailurePaused), "i-0001")
		diff(t, "kind of error", "outcome unknown", row.Error.Kind)
		if took := row.Error.At.Sub(row.StartedAt); took < trust+lookup || took > trust+lookup+time.Minute {
			t.Errorf("it was looked for during %s", took)
		}
	})
	bubbled(t, "the time in which nobody drove the task does not count", func(t *testing.T) {
		b := demoBed(t, 2)
		id := b.create(scriptSpec(2))
		b.cloud.Inject(fake.Fault{Op: "EnterStandby", Lost: true})
		if row := rowOf(b.runFor(id, 10*time.Second), "i-0001"); row.Call == nil || row.Call.Op != "EnterStandby" {
			t.Fatalf("row: %+v", row)
		}
		time.Sleep(24 * time.Hour)
		b.cloud.ClearFaults()
		b.cloud.Inject(fake.Fault{Op: "EnterStandby", Nth: 1, Count: 3, Err: provider.ErrTransient})
		b.runTo(id, ru.StatusSucceeded)
		diff(t, "times in Standby", 1, b.cloud.CountEffects("EnterStandby", "i-0001"))
	})
}

// An instance that left the group while it was stopped is brought to run without haste: it is looked at, and started, with rests that grow.
func TestS19_N6_LeftTheGroupDoesNotSpin(t *testing.T) {
	for name, test := range map[string]struct {
		steps  fake.Steps
		behave fake.Behavior
		says   string
	}{
		"stops for long":        {fake.Steps{Stop: 5 * time.Minute}, fake.Behavior{}, "started again"},
		"starts for long":       {fake.Steps{Start: 5 * time.Minute}, fake.Behavior{}, "started again"},
		"does not stay started": {fake.Steps{Start: -1}, fake.Behavior{FailStarts: 1000}, "is Stopped"},
	} {
		bubbled(t, name, func(t *testing.T) {
			b := newBed(t, fake.Demo(fake.Config{Steps: test.steps}, 2), ru.Config{})
			b.cloud.SetBehavior("i-0001", test.behave)
			id := b.create(imageSpec(2, func(s *ru.Spec) { s.Timeouts.Update = 10 * time.Minute }))
			wait := b.start(id)
			b.until(id, "it is Stopping", func(*ru.Task) bool { return b.instance("i-0001").Power == provider.Stopping })
			b.cloud.Now(func(w *fake.World) { w.Detach("i-0001") })
			b.cloud.ClearLog()
			task := b.until(id, "it is gone", func(t *ru.Task) bool { return rowOf(t, "i-0001").Status == ru.InstanceGone })
			b.wantGone(task, "i-0001", test.says)
			if n := b.calls("Instances"); n > 50 {
				t.Errorf("%d looks at it", n)
			}
			if n := b.calls("Start"); n < 1 || n > 40 {
				t.Errorf("%d times started", n)
			}
			b.ok(b.r.Cancel(b.ctx(), id, ""))
			wait()
		})
	}
}
