package rollingupgrade_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func (g *rig) ctx() context.Context { return context.Background() }

// catchUp holds every effect that has happened since against the record as it stands.
func (v *invariants) catchUp() {
	for _, s := range v.cloud.Violations()[v.violations:] {
		v.violations++
		v.fault("violation: %s", s)
	}
	all := v.cloud.Effects()
	for _, e := range all[v.effects:] {
		v.effects++
		v.effect(e)
	}
}

// owner finds the task and the row that name a call, or the task whose ledger does.
func (v *invariants) owner(e fake.Effect) (*shownTask, *shownRow) {
	for _, id := range slices.Backward(v.order) {
		t := v.tasks[id]
		if r := t.rows[e.InstanceID]; r != nil && r.callID == e.CallID {
			return t, r
		}
		if c := t.head.Ledger.Call; c != nil && (c.ID == e.CallID || e.CallID == "" && e.InstanceID == "") {
			return t, nil
		}
	}
	return nil, nil
}

// effect holds I1, I2, I4 and I5 for one effect.
func (v *invariants) effect(e fake.Effect) {
	if e.Action == "HealthCheck" {
		if !v.foreign {
			v.fault("S14: %s", e)
		}
		return
	}
	t, r := v.owner(e)
	if t == nil {
		if v.onWire != nil && v.onWire(e.CallID) {
			v.wire++
			return
		}
		v.fault("N2: the record does not name %s", e)
		return
	}
	if r == nil {
		v.groupEffect(t, e)
		return
	}
	if missing := v.running(); len(missing) > 0 && !v.foreign && t.head.Phase != "" {
		v.fault("S14: %s while %v are not suspended", e, missing)
	}
	key := effectKey{t.head.ID, e.InstanceID, e.Action, r.Attempt}
	if e.Action == "SetInstancesProtection" {
		key.action += e.Detail
	}
	if t.head.Status.Ended() {
		key.action += " (restore)"
	}
	v.made[key]++
	if n := v.made[key]; n > 1 && !v.repeatable(e, t) {
		v.fault("I5: %s for the %d. time in attempt %d", e, n, r.Attempt)
	}
	v.presupposed(t, r, e)
}

// repeatable reports whether an effect may happen again in one attempt: others have undone it.
func (v *invariants) repeatable(e fake.Effect, t *shownTask) bool {
	switch e.Action {
	case "ReplaceSystemDisk", "StartInstances", "StopInstances":
		return v.nothing[e.InstanceID]
	case "RunCommand":
		return false
	}
	return v.foreign
}

// presupposed holds I2: what an effect presupposes, and I1.
func (v *invariants) presupposed(t *shownTask, r *shownRow, e fake.Effect) {
	bad := func(why string) { v.fault("I2: %s: %s (it is %s, %s)", e, why, e.Lifecycle, e.Power) }
	switch e.Action {
	case "EnterStandby":
		v.enter(t, r, e)
	case "StopInstances", "ReplaceSystemDisk", "RunCommand":
		if e.Lifecycle != provider.Standby && !v.foreign {
			bad("not in Standby")
		}
		if e.Action == "ReplaceSystemDisk" && e.Power != provider.Stopped {
			bad("not Stopped")
		}
		if t.head.Status.Ended() {
			bad("the task has ended")
		}
		if e.Action == "RunCommand" {
			v.script[e.InstanceID] = e
		}
	case "StopInvocation":
		delete(v.script, e.InstanceID)
	case "ExitStandby":
		if e.Power != provider.Running && !v.foreign {
			bad("not Running")
		}
		if ran, ok := v.script[e.InstanceID]; ok && v.runTime != nil && e.Time.Sub(ran.Time).Nanoseconds() < v.runTime(e.InstanceID) {
			bad("its script is at work")
		}
		if v.out[e.InstanceID] == "" && !v.foreign {
			bad("it was not put in Standby by us (N5)")
		}
		if r.Status == ru.InstanceLeftover && !t.head.Status.Ended() && v.changed(t, r) {
			bad("taken over and changed (S30)")
		}
		delete(v.out, e.InstanceID)
	}
}

// changed reports whether an instance that was taken over is another than it was before the first change.
func (v *invariants) changed(t *shownTask, r *shownRow) bool {
	if t.head.Spec.Update.Script != nil {
		return r.Begun
	}
	i, _ := v.cloud.InstanceView(r.ID)
	return r.Before == nil || i.ImageID != r.Before.ImageID
}

// enter holds I1 and N1 for an instance that enters Standby.
func (v *invariants) enter(t *shownTask, r *shownRow, e fake.Effect) {
	if t.head.Status != ru.StatusRunning && t.head.Status != ru.StatusCanceling {
		v.fault("S25: %s while the task is %s", e, t.head.Status)
	}
	atWork := 0
	for id, task := range v.out {
		if id == e.InstanceID {
			continue
		}
		o := t.rows[id]
		if i, _ := v.cloud.InstanceView(id); v.foreign && i.Lifecycle != provider.Standby {
			continue // others moved it
		}
		switch {
		case o == nil && v.foreign: // others moved it out and in again
		case o == nil:
			v.fault("I1: %s is in Standby because of task %s and task %s does not know it", id, task, t.head.ID)
		case o.Status == ru.InstanceRunning || o.Status == ru.InstanceFailed && o.Mark == "":
			atWork++
			if o.Batch != r.Batch {
				v.fault("I1: %s of batch %d enters Standby while %s of batch %d is out", r.ID, r.Batch, id, o.Batch)
			}
		}
	}
	v.out[e.InstanceID] = t.head.ID
	if n := t.head.Sizes[r.Batch-1]; atWork+1 > n {
		v.fault("I1: %d of batch %d are out, its size is %d", atWork+1, r.Batch, n)
	}
	running := 0
	for id := range v.out {
		if o := t.rows[id]; o != nil && o.Status == ru.InstanceRunning && o.Attempt == 1 {
			running++
		}
	}
	if limit := t.head.Spec.MaxInFlight; limit > 0 && running > limit {
		v.fault("S22: %d are at work at once, allowed are %d", running, limit)
	}
}

// running are the processes that act although a task is at work.
func (v *invariants) running() []provider.Process {
	var missing []provider.Process
	for _, p := range provider.Processes() {
		if !v.ours[p] && !slices.Contains(v.user, p) {
			missing = append(missing, p)
		}
	}
	return missing
}

// groupEffect holds I4 and N5 for an effect on the group.
func (v *invariants) groupEffect(t *shownTask, e fake.Effect) {
	switch e.Action {
	case "SuspendProcesses", "ResumeProcesses":
		for name := range strings.FieldsSeq(strings.Trim(e.Detail, "[]")) {
			p := provider.Process(name)
			if !slices.Contains(t.head.Ledger.Ours, p) {
				v.fault("I4: %s, which the ledger does not name", e)
			}
			if e.Action == "ResumeProcesses" && slices.Contains(v.user, p) && !v.foreign {
				v.fault("I4: %s, which the user had suspended", e)
			}
			v.ours[p] = e.Action == "SuspendProcesses"
		}
		if e.Action == "ResumeProcesses" && !t.head.Status.Ended() {
			for _, id := range t.ids {
				if r := t.rows[id]; r.Status == ru.InstanceRunning || r.Status == ru.InstanceFailed && r.Mark == "" {
					v.fault("S14: %s while %s is %s", e, id, r.Status)
				}
			}
		}
	case "ModifyScalingConfiguration":
		l := t.head.Ledger.Image
		if l == nil || e.Detail != l.New.ImageID && e.Detail != l.Old.ImageID {
			v.fault("N5: %s, which the ledger does not name", e)
		}
	default:
		v.fault("N5: unexpected %s", e)
	}
}

// end compares the cloud with what the newest task says is left over: what the library changed and did not put back
// is listed, and nothing else is (I3, I4, N4, S24).
func (v *invariants) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.catchUp()
	if v.foreign || len(v.order) == 0 {
		return
	}
	var newest *ru.Task
	for _, id := range v.order {
		if v.tasks[id].head.NextID == "" {
			newest, _ = v.g.store.Load(v.g.ctx(), id)
		}
	}
	listed := map[string]bool{}
	for _, l := range newest.Leftovers() {
		listed[fmt.Sprintf("%s %s%s%s", l.Kind, l.InstanceID, l.Process, l.ConfigurationID)] = true
	}
	left := slices.DeleteFunc(newest.Leftovers(), func(l ru.Leftover) bool { // an image taken over from an earlier task is not N4's
		return l.Kind == ru.LeftoverImage && l.OriginID != newest.ID
	})
	if len(left) > 0 && newest.Status == ru.StatusSucceeded && newest.Progress.Skipped == 0 {
		if !slices.ContainsFunc(newest.Instances, func(i ru.Instance) bool { return i.Status == ru.InstanceLeftover }) {
			v.fault("N4: succeeded with leftovers %v", left)
		}
	}
	is := map[string]bool{}
	for id, was := range v.start {
		now, _ := v.cloud.InstanceView(id)
		if now.Lifecycle == provider.Standby && was.Lifecycle != provider.Standby {
			is["standby "+id] = true
		}
		if now.Power != provider.Running && was.Power == provider.Running {
			is["stopped "+id] = true
		}
		if was.Lifecycle == provider.Protected && now.Lifecycle != provider.Protected {
			is["protection "+id] = true
		}
		if now.Lifecycle == was.Lifecycle && now.Weight != was.Weight {
			v.fault("I3: %s has weight %d, before it was %d", id, now.Weight, was.Weight)
		}
	}
	group, _ := v.cloud.GroupView(fake.DemoGroup)
	for _, p := range group.Suspended {
		if !slices.Contains(v.user, p) {
			is["process "+string(p)] = true
		}
	}
	for _, p := range v.user {
		if !slices.Contains(group.Suspended, p) {
			v.fault("I4: %s was suspended by the user and is not any more", p)
		}
	}
	for what := range is {
		if !listed[what] {
			v.fault("I3: %s is left over and not listed", what)
		}
	}
	for what := range listed {
		if !is[what] && !strings.HasPrefix(what, string(ru.LeftoverImage)) {
			v.fault("I3: %s is listed and not left over", what)
		}
	}
	v.effectsAreKnown()
}

// effectsAreKnown holds I6: whatever an update did is noted in the record.
func (v *invariants) effectsAreKnown() {
	for k := range v.made {
		if k.action != "ReplaceSystemDisk" && k.action != "RunCommand" {
			continue
		}
		if r := v.tasks[k.task].row(k.instance); !r.Begun && r.callID == "" {
			v.fault("I6: %s of %s is not in the record of %s", k.action, k.instance, k.task)
		}
	}
}
