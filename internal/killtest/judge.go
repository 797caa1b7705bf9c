package killtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// letters write the life of an instance in a task as a word.
var letters = map[string]string{
	"EnterStandby": "e", "StopInstances": "s", "ReplaceSystemDisk": "r", "ModifyInstanceAttribute": "d", "StartInstances": "a",
	"RunCommand": "c", "StopInvocation": "h", "ExitStandby": "x",
}

// A word of an instance that took the straight way, and of any.
var (
	straightImage  = regexp.MustCompile(`^u?esrd?axp?$`)
	straightScript = regexp.MustCompile(`^u?ecxp?$`)
	anyImage       = regexp.MustCompile(`^u?e?(s?r?d?a?)*x?p?$`)
	anyScript      = regexp.MustCompile(`^u?e?(ch?)*x?p?$`)
)

// judgeEffects holds N2: nothing is done twice in one attempt. And N1, S15: things are done in their order, and each as it presupposes.
func (w *witness) judgeEffects() {
	made := map[string]int{}
	words := map[*ru.Instance]string{}
	ends := w.scriptEnds()
	for _, e := range w.effects {
		if e.name == nil {
			continue
		}
		action := e.Action
		if action == "SetInstancesProtection" {
			action += " " + e.Detail
		}
		key := fmt.Sprintf("%s %s %s of %s, attempt %d, restore %t", action, e.InstanceID, e.GroupID, e.task.ID, e.name.Attempt, e.name.Ended)
		if e.InstanceID == "" {
			key = action + " " + e.GroupID + " " + e.request.Call
		}
		if made[key]++; made[key] > 1 && !w.nothing[e.InstanceID] {
			w.fault("N2: for the %d. time: %s (%s)", made[key], key, e)
		}
		if e.InstanceID == "" {
			continue
		}
		w.presupposed(e, ends)
		if e.row != nil && !e.name.Ended {
			letter := letters[e.Action]
			if e.Action == "SetInstancesProtection" {
				letter = map[string]string{"false": "u", "true": "p"}[e.Detail]
			}
			words[e.row] += letter
		}
	}
	for _, id := range w.order {
		t := w.tasks[id]
		for n := range t.Instances {
			w.word(t, &t.Instances[n], words[&t.Instances[n]])
		}
	}
}

// word holds the order of what was done to an instance.
func (w *witness) word(t *ru.Task, i *ru.Instance, word string) {
	straight, legal := straightImage, anyImage
	if t.Spec.Update.Script != nil {
		straight, legal = straightScript, anyScript
	}
	switch {
	case i.Batch == 0 && strings.Trim(word, "xp") != "":
		w.fault("N5: %s of %s is not in the plan: %q", i.ID, t.ID, word)
	case !legal.MatchString(word):
		w.fault("S15: %s of %s went the way %q", i.ID, t.ID, word)
	case i.Batch > 0 && i.Status == ru.InstanceSucceeded && i.Mark == "" && i.Attempt == 1 && i.OriginID == "" && !w.nothing[i.ID] && !straight.MatchString(word):
		w.fault("N2: %s of %s succeeded in the first attempt on the way %q", i.ID, t.ID, word)
	case i.Batch > 0 && i.Status == ru.InstanceSucceeded && i.Mark == "" && !strings.ContainsAny(word, "rc"):
		w.fault("S17: %s of %s succeeded on the way %q", i.ID, t.ID, word)
	}
}

// scriptEnds says when the scripts of each instance end.
func (w *witness) scriptEnds() map[string][]fake.ResultView {
	ends := map[string][]fake.ResultView{}
	for _, v := range w.testimony.Invocations {
		for _, r := range v.Results {
			ends[r.InstanceID] = append(ends[r.InstanceID], r)
		}
	}
	return ends
}

// presupposed holds S15: what each effect presupposes.
func (w *witness) presupposed(e *effect, ends map[string][]fake.ResultView) {
	bad := func(why string) { w.fault("S15: %s: %s (it is %s, %s)", e, why, e.Lifecycle, e.Power) }
	switch e.Action {
	case "StopInstances", "ReplaceSystemDisk", "RunCommand":
		if e.Lifecycle != provider.Standby {
			bad("not in Standby")
		}
		if e.Action == "ReplaceSystemDisk" && e.Power != provider.Stopped {
			bad("not Stopped")
		}
		if e.name.Ended {
			bad("the task has ended")
		}
	case "ExitStandby":
		if e.Power != provider.Running {
			bad("not Running")
		}
		for _, r := range ends[e.InstanceID] {
			if !r.Start.After(e.Time) && r.End.After(e.Time) {
				bad("its script is at work")
			}
		}
	}
}

// judgeBatches holds N1 and S16: nothing of a batch happens before all that happens of the batches before it; and who else is out
// of service is listed.
func (w *witness) judgeBatches() {
	type span struct{ first, last *effect }
	spans := map[string]map[int]*span{}
	out := map[string]*effect{} // by instance, those that a task has put in Standby
	for _, e := range w.effects {
		if e.name == nil || e.row == nil {
			continue
		}
		if !e.name.Ended && e.row.Batch > 0 {
			if spans[e.task.ID] == nil {
				spans[e.task.ID] = map[int]*span{}
			}
			s := spans[e.task.ID][e.row.Batch]
			if s == nil {
				s = &span{first: e}
				spans[e.task.ID][e.row.Batch] = s
			}
			s.last = e
		}
		switch e.Action {
		case "EnterStandby":
			w.beside(e, out)
			out[e.InstanceID] = e
		case "ExitStandby":
			if out[e.InstanceID] == nil {
				w.fault("N5: %s: it was not put in Standby by us", e)
			}
			delete(out, e.InstanceID)
		}
	}
	for id, batches := range spans {
		for b, s := range batches {
			for before, was := range batches {
				if before < b && was.last.at >= s.first.at {
					w.fault("N1: %s of batch %d of %s, after %s of batch %d", was.last, before, id, s.first, b)
				}
			}
		}
	}
}

// beside looks at who is out of service when another instance enters Standby.
func (w *witness) beside(e *effect, out map[string]*effect) {
	for id, o := range out {
		if o.task.GroupID != e.task.GroupID || id == e.InstanceID {
			continue
		}
		if o.task == e.task {
			if o.row.Batch != e.row.Batch && o.row.Mark == "" && o.row.Status != ru.InstanceFailed {
				w.fault("N1: %s of batch %d while %s of batch %d is out", e, e.row.Batch, id, o.row.Batch)
			}
			continue
		}
		n := slices.IndexFunc(e.task.Instances, func(i ru.Instance) bool { return i.ID == id })
		if n < 0 || e.task.Instances[n].OriginID == "" {
			w.fault("N1: %s while %s is out because of %s, which the task does not know", e, id, o.task.ID)
		}
	}
}

// judgeProcesses holds S14: while anything is done to an instance all processes are suspended, and what the user had suspended is never resumed.
func (w *witness) judgeProcesses() {
	resumed := map[string]bool{} // tasks
	users, suspended := map[string][]provider.Process{}, map[string]map[provider.Process]bool{}
	for _, c := range w.round.scenes {
		users[c.spec.GroupID] = c.suspended
		suspended[c.spec.GroupID] = map[provider.Process]bool{}
		for _, p := range c.suspended {
			suspended[c.spec.GroupID][p] = true
		}
	}
	for _, e := range w.effects {
		now := suspended[e.GroupID]
		switch {
		case e.Action == "SuspendProcesses" || e.Action == "ResumeProcesses":
			for name := range strings.FieldsSeq(strings.Trim(e.Detail, "[]")) {
				p := provider.Process(name)
				if slices.Contains(users[e.GroupID], p) {
					w.fault("N5: %s, which the user had suspended", e)
				}
				now[p] = e.Action == "SuspendProcesses"
			}
			if e.task != nil && e.Action == "ResumeProcesses" {
				resumed[e.task.ID] = true
			}
		case e.InstanceID == "", e.name != nil && e.name.Ended && resumed[e.task.ID]: // a restore of what the task had left at its end
		default:
			for _, p := range provider.Processes() {
				if !now[p] {
					w.fault("S14: %s in %s while %s is not suspended", e, e.GroupID, p)
				}
			}
		}
	}
}

// judgeRecords holds that every task is there, has ended, and its record is of one piece.
func (w *witness) judgeRecords() {
	upgrades := map[string]int{}
	for _, id := range w.order {
		t := w.tasks[id]
		if t.Kind == ru.Upgrade {
			upgrades[t.GroupID]++
		}
		if !w.round.operator.tasks[id] {
			w.fault("S13: task %s of %s was made and nobody was told", id, t.GroupID)
		}
		if !t.Status.Ended() || t.Restore.Active() || t.HoldsGroup || t.Lease.Owner != "" {
			w.fault("task %s of %s is %s, holds its group: %t, owner %q", id, t.GroupID, t.Status, t.HoldsGroup, t.Lease.Owner)
		}
		var p ru.Progress
		for n := range t.Instances {
			count(&p, &t.Instances[n])
		}
		if p != t.Progress && len(t.Sizes) > 0 {
			w.fault("S32: progress of %s is said to be %+v and is %+v", id, t.Progress, p)
		}
		if p.Running > 0 || t.Status == ru.StatusSucceeded && p.Failed+p.Pending > 0 {
			w.fault("S24: %s %s with %+v", id, t.Status, p)
		}
		for n, e := range w.events[id] {
			if e.Seq != int64(n)+1 {
				w.fault("S35: event %d of %s has the number %d", n+1, id, e.Seq)
			}
		}
		if n := len(w.events[id]); int64(n) != t.EventSeq {
			w.fault("S35: %s has %d events, not %d", id, n, t.EventSeq)
		}
	}
	for id := range w.round.operator.tasks {
		if w.tasks[id] == nil {
			w.fault("task %s is lost", id)
		}
	}
	for _, c := range w.round.scenes {
		if n := upgrades[c.spec.GroupID]; n != 1 {
			w.fault("S13: %s has %d upgrades", c.spec.GroupID, n)
		}
	}
}

func count(p *ru.Progress, i *ru.Instance) {
	if i.Batch == 0 && i.Mark != ru.UpToDate {
		return
	}
	p.Total++
	switch i.Status {
	case ru.InstancePending:
		p.Pending++
	case ru.InstanceRunning:
		p.Running++
	case ru.InstanceSucceeded:
		p.Succeeded++
	case ru.InstanceFailed:
		p.Failed++
	case ru.InstanceGone:
		p.Gone++
	}
	switch i.Mark {
	case ru.Skipped:
		p.Skipped++
	case ru.UpToDate:
		p.UpToDate++
	case ru.CanceledMark, ru.Interrupted:
		p.Canceled++
	}
}

// judgeEnd holds N4 and S24: what is not as it was before is listed, and nothing else is.
func (w *witness) judgeEnd() {
	listed, is := map[string]bool{}, map[string]bool{}
	skipped := map[string]bool{} // groups in which the operator went on without an instance
	image := map[string]string{}
	for _, id := range slices.Backward(w.order) { // oldest first
		t := w.tasks[id]
		for n := range t.Instances {
			i := &t.Instances[n]
			if i.Batch > 0 && i.Begun && t.Spec.Update.Image != nil {
				image[i.ID] = ""
				if i.Status == ru.InstanceSucceeded && i.Mark == "" {
					image[i.ID] = t.Spec.Update.Image.ImageID
				}
			}
		}
		skipped[t.GroupID] = skipped[t.GroupID] || t.Status != ru.StatusSucceeded || t.Progress.Skipped > 0
		for _, l := range t.Leftovers() {
			if l.Kind != ru.LeftoverImage {
				listed[fmt.Sprintf("%s %s%s of %s", l.Kind, l.InstanceID, l.Process, t.GroupID)] = true
			}
		}
	}
	for _, i := range w.testimony.Instances {
		was := w.before[i.ID]
		if i.Lifecycle == provider.Standby {
			is[fmt.Sprintf("standby %s of %s", i.ID, i.GroupID)] = true
		} else if i.Lifecycle != was {
			is[fmt.Sprintf("protection %s of %s", i.ID, i.GroupID)] = true
		}
		if i.Power != provider.Running {
			is[fmt.Sprintf("stopped %s of %s", i.ID, i.GroupID)] = true
		}
		if want := image[i.ID]; want != "" && i.ImageID != want {
			w.fault("S17: %s runs %s, the record says %s", i.ID, i.ImageID, want)
		}
	}
	for n, g := range w.testimony.Groups {
		user := w.round.scenes[n].suspended
		for _, p := range g.Suspended {
			if !slices.Contains(user, p) {
				is[fmt.Sprintf("process %s of %s", p, g.ID)] = true
			}
		}
		for _, p := range user {
			if !slices.Contains(g.Suspended, p) {
				w.fault("N5: %s of %s was suspended by the user and is not any more", p, g.ID)
			}
		}
		if g.Total != w.round.set.Instances {
			w.fault("N5: %s has %d instances", g.ID, g.Total)
		}
	}
	for what := range is {
		if !listed[what] {
			w.fault("N4: %s is left over and not listed", what)
		}
		for g, ok := range skipped {
			if !ok && strings.HasSuffix(what, g) {
				w.fault("N4: %s is left over, and all succeeded", what)
			}
		}
	}
	for what := range listed {
		if !is[what] {
			w.fault("S24: %s is listed and not left over", what)
		}
	}
}

// start reads the lifecycle state of each instance before anything happened, and whose first replacement comes to nothing, so that another one in
// the same attempt is no second one.
func (w *witness) start() {
	w.before, w.nothing = map[string]provider.Lifecycle{}, map[string]bool{}
	cloud := newCloud(&w.round.set)
	for _, c := range w.round.scenes {
		for n, i := range cloud.Snapshot(c.spec.GroupID) {
			w.before[i.ID] = i.Lifecycle
			w.nothing[i.ID] = n < c.badDisks
		}
	}
}

// median and longest of durations.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "none"
	}
	s := slices.Sorted(slices.Values(all))
	return fmt.Sprintf("median %.2f s, longest %.2f s", s[len(s)/2].Seconds(), s[len(s)-1].Seconds())
}
