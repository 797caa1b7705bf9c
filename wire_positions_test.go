package rollingupgrade_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// TestWire_EveryPosition_N1_N2_N3_N4_N5 plays an upgrade with a failure and its rollback, and a cancel with restore, in every position of every
// switch, while answers are lost; and the upgrade once more with a driver that dies just when an update was sent.
func TestWire_EveryPosition_N1_N2_N3_N4_N5(t *testing.T) {
	onlyOnWire(t)
	for _, at := range positions() {
		for _, script := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/script=%t", at, script), func(t *testing.T) {
				t.Parallel()
				play := func(name string, f func(w *wirePlay, t *testing.T)) {
					t.Run(name, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { playOnWire(t, at, script, f) })
					})
				}
				if at.blind && script {
					play("blind", (*wirePlay).blind)
					return
				}
				play("upgrade and rollback", (*wirePlay).upgrade)
				play("upgrade and rollback, driver dies", (*wirePlay).upgradeAndDie)
				play("cancel and restore", (*wirePlay).cancel)
				if script {
					play("silent agent", (*wirePlay).silent)
				}
			})
		}
	}
}

// A wirePlay is one play in one position. Its group has five instances: i-0004 is protected, i-0005 has an encrypted disk.
type wirePlay struct {
	*operator
	line     *line
	at       position
	script   bool
	upgraded string // the task of the upgrade
}

func playOnWire(t *testing.T, at position, script bool, f func(w *wirePlay, t *testing.T)) {
	l := lineWith(t, fake.Config{Steps: quick}, func(cfg fake.Config) *fake.Cloud {
		c := fake.Demo(cfg, 3)
		c.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Lifecycle: provider.Protected})
		c.AddInstances(fake.DemoGroup, 1, fake.InstanceSpec{Disk: provider.Disk{Encrypted: true, KMSKeyID: "key-1"}})
		return c
	}, at)
	g := newRigOn(t, l, ru.Config{})
	g.inv.nothing = map[string]bool{"i-0002": true}
	g.inv.begin()
	w := &wirePlay{operator: newOperator(g), line: l, at: at, script: script}
	f(w, t)
	w.racing.Wait()
	g.inv.end()
	w.checkCommands()
	for _, p := range g.inv.problems {
		t.Error(p)
	}
	for _, p := range []*process{g.driver, w.clerk} {
		if p != nil {
			p.stop()
		}
	}
	time.Sleep(10 * time.Minute)
}

// spec is in two batches, two instances and three.
func (w *wirePlay) spec() ru.Spec {
	return with(sweepSpec(w.script, 2), func(s *ru.Spec) { s.Targets.IncludeProtected = true })
}

// changing are the actions by which updates of a kind change something.
func (w *wirePlay) changing() []string {
	group := []string{"SuspendProcesses", "EnterStandby", "ExitStandby", "ResumeProcesses"}
	if w.script {
		return append(group, "RunCommand")
	}
	group = append(group, "StopInstances", "ReplaceSystemDisk", "ModifyScalingConfiguration")
	if w.at.of == "fake.AutoStartAfterReplace" {
		return group // nobody else starts them
	}
	return append(group, "StartInstances")
}

// loseAnswers has the first answer to each action that changes something lost.
func (w *wirePlay) loseAnswers() {
	for n, action := range w.changing() {
		reply := []openapi.Reply{openapi.ReplyCut, openapi.ReplyCutBody, openapi.ReplyEmpty, openapi.ReplyBroken, openapi.ReplyError}[n%5]
		w.line.wire.Inject(openapi.Lose(action, 1, reply))
	}
}

// allLost demands that all of these answers were lost.
func (w *wirePlay) allLost(t *testing.T) {
	t.Helper()
	if p := w.line.wire.PendingFaults(); len(p) > 0 {
		t.Errorf("faults that did not happen: %v", p)
	}
}

// effect is what an update does to an instance.
func (w *wirePlay) effect() string {
	if w.script {
		return "RunCommand"
	}
	return "ReplaceSystemDisk"
}

// inOrder demands that the group is as it was at first, and runs an image.
func (w *wirePlay) inOrder(t *testing.T, image string) {
	t.Helper()
	var want, got []string
	for _, i := range w.g.cloud.Snapshot(fake.DemoGroup) {
		was := w.g.inv.start[i.ID]
		want = append(want, fmt.Sprintf("%s %s Running %s weight=%d encrypted=%t %s", i.ID, was.Lifecycle, image, was.Weight, was.Disk.Encrypted, was.Disk.KMSKeyID))
		got = append(got, fmt.Sprintf("%s %s %s %s weight=%d encrypted=%t %s", i.ID, i.Lifecycle, i.Power, i.ImageID, i.Weight, i.Disk.Encrypted, i.Disk.KMSKeyID))
	}
	diff(t, "group", want, got)
	g, _ := w.g.cloud.GroupView(fake.DemoGroup)
	if len(g.Suspended) > 0 || len(want) != 5 {
		t.Errorf("suspended: %v, %d members", g.Suspended, len(want))
	}
}

// upgrade is an upgrade in which i-0002 fails once, and its rollback.
func (w *wirePlay) upgrade(t *testing.T) {
	w.g.cloud.SetBehavior("i-0002", failsOnce())
	w.g.cloud.After(20*time.Second, func(c *fake.World) { c.StartActivity(fake.DemoGroup, 15*time.Second, 0, 0) })
	w.loseAnswers()
	w.there(t, true)
	w.back(t, true)
	w.allLost(t)
}

func (w *wirePlay) upgradeAndDie(t *testing.T) {
	w.g.cloud.SetBehavior("i-0002", failsOnce())
	w.late.Store(true)
	w.g.onCall = func(_ *process, b boundary) (site, mode, bool) {
		return after, diesLate, w.g.deaths == 0 && strings.HasPrefix(b.key, "Update ru-")
	}
	known := !w.script || !w.at.lost // else its outcome is unknown, and the operator has it run again
	w.there(t, known)
	w.back(t, known)
	if w.g.deaths != 1 {
		t.Errorf("%d deaths", w.g.deaths)
	}
}

// there leads the upgrade. exact says that no instance is updated more often than once, and i-0002 once more.
func (w *wirePlay) there(t *testing.T, exact bool) {
	t.Helper()
	w.upgraded = w.create(w.spec())
	w.ends(t, w.upgraded, ru.StatusSucceeded)
	if w.script {
		w.inOrder(t, fake.DemoOldImage)
	} else {
		w.inOrder(t, fake.DemoNewImage)
	}
	if exact {
		diff(t, "updates", map[string]int{"i-0001": 1, "i-0002": 2, "i-0003": 1, "i-0004": 1, "i-0005": 1}, w.updates())
	}
}

// back leads the rollback.
func (w *wirePlay) back(t *testing.T, exact bool) {
	t.Helper()
	w.ends(t, w.rollback(w.upgraded, ru.RollbackSpec{ClientToken: "back"}), ru.StatusSucceeded)
	w.inOrder(t, fake.DemoOldImage)
	if exact {
		diff(t, "updates", map[string]int{"i-0001": 2, "i-0002": 3, "i-0003": 2, "i-0004": 2, "i-0005": 2}, w.updates())
	}
}

// updates is how often each instance was updated.
func (w *wirePlay) updates() map[string]int {
	all := map[string]int{}
	for _, id := range effects(w.g.cloud, w.effect()) {
		all[id]++
	}
	return all
}

// ends leads a task to its end, which must be in status want and leave nothing.
func (w *wirePlay) ends(t *testing.T, id string, want ru.Status) *ru.Task {
	t.Helper()
	task := w.lead(id)
	if task.Status != want || len(task.Leftovers()) > 0 {
		t.Errorf("task is %s (%s) and leaves %v, want %s", task.Status, task.Reason, leftoverLines(task), want)
		w.g.report()
	}
	return task
}

// cancel is a cancel with restore while i-0003 is being updated.
func (w *wirePlay) cancel(t *testing.T) {
	w.loseAnswers()
	w.when(updating("i-0003"), func(id string) { w.must("cancel", w.command(id, cancelAndRestore)) })
	w.ends(t, w.create(w.spec()), ru.StatusCanceled)
	for _, i := range w.g.cloud.Snapshot(fake.DemoGroup) {
		if was := w.g.inv.start[i.ID]; i.Lifecycle != was.Lifecycle || i.Power != provider.Running || i.Weight != was.Weight {
			t.Errorf("%s is left %s, %s with weight %d", i.ID, i.Lifecycle, i.Power, i.Weight)
		}
	}
	if g, _ := w.g.cloud.GroupView(fake.DemoGroup); len(g.Suspended) > 0 {
		t.Errorf("suspended: %v", g.Suspended)
	}
	for id, n := range w.updates() {
		if n > 1 {
			t.Errorf("%s was updated %d times", id, n)
		}
	}
	if task := w.get(w.g.inv.order[0]); task.Progress.Canceled == 0 {
		t.Errorf("nothing was canceled: %+v", task.Progress)
	}
}

// silent is an upgrade during which the agent of i-0002 is silent.
func (w *wirePlay) silent(t *testing.T) {
	w.g.cloud.Now(func(c *fake.World) { c.SetAgentOffline(time.Hour, "i-0002") })
	task := w.lead(w.create(w.spec()))
	if task.Status != ru.StatusSucceeded || task.Progress.Skipped != 1 || task.Progress.Succeeded != 5 {
		t.Errorf("task is %s (%s) with %+v", task.Status, task.Reason, task.Progress)
	}
	got := w.updates()
	delete(got, "i-0002")
	diff(t, "scripts of the others", map[string]int{"i-0001": 1, "i-0003": 1, "i-0004": 1, "i-0005": 1}, got)
}

// blind is an upgrade by scripts whose results nobody can see: they fail as unknown and are not run again.
func (w *wirePlay) blind(t *testing.T) {
	task := w.run(w.create(w.spec()))
	if task.Status != ru.StatusFailurePaused {
		t.Fatalf("task is %s (%s)", task.Status, task.Reason)
	}
	for _, i := range task.Instances[:2] {
		if i.Status != ru.InstanceFailed || i.Error.Kind != provider.ErrOutcomeUnknown.Error() {
			t.Errorf("%s is %s: %+v", i.ID, i.Status, i.Error)
		}
	}
	time.Sleep(24 * time.Hour)
	w.run(task.ID)
	diff(t, "scripts", map[string]int{"i-0001": 1, "i-0002": 1}, w.updates())
}
