package rollingupgrade

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// LeftoverKind is what a leftover is about.
type LeftoverKind string

// The kinds of leftover.
const (
	LeftoverProcess    LeftoverKind = "process"    // suspended by the task and not resumed
	LeftoverStandby    LeftoverKind = "standby"    // an instance that the task put in Standby
	LeftoverStopped    LeftoverKind = "stopped"    // an instance that the task stopped
	LeftoverProtection LeftoverKind = "protection" // protection that the task lifted
	LeftoverImage      LeftoverKind = "image"      // the scaling configuration's image that the task changed
)

// A Leftover is something that a task changed and has not put back.
type Leftover struct {
	Kind LeftoverKind
	// InstanceID, Process or ConfigurationID name it, according to Kind.
	InstanceID      string
	Process         provider.Process
	ConfigurationID string
	// OriginID is the task that made the change; the task itself unless it took the leftover over.
	OriginID string
	// Reason says why it is left over.
	Reason string
}

// Leftovers returns what an ended or waiting task has changed and not put back, minus
// what a later task took over. While a task is at work it shows what would be left if it ended now.
func (t *Task) Leftovers() []Leftover {
	if t.NextID != "" {
		return nil
	}
	var left []Leftover
	for n := range t.Instances {
		left = append(left, t.Instances[n].leftovers(t.ID)...)
	}
	if l := t.Ledger.Image; t.leavesImage() {
		reason := "changed to " + l.New.ImageID + " from " + l.Old.ImageID
		if !l.Done {
			reason = "may have been " + reason
		}
		left = append(left, Leftover{Kind: LeftoverImage, ConfigurationID: l.Old.ID, OriginID: l.TaskID, Reason: reason})
	}
	for _, p := range t.Ledger.Ours {
		left = append(left, Leftover{Kind: LeftoverProcess, Process: p, OriginID: t.ID, Reason: "suspended by the task"})
	}
	return left
}

// leavesImage reports whether the configuration's image is something left over: a task that succeeds has set it for good, but
// not the one that it took over.
func (h *Head) leavesImage() bool {
	l := h.Ledger.Image
	return l != nil && (h.Status != StatusSucceeded || l.TaskID != h.ID)
}

func (i *Instance) leftovers(taskID string) []Leftover {
	if i.Status == InstanceGone && !i.Stopped {
		return nil
	}
	var left []Leftover
	add := func(k LeftoverKind, reason string) {
		left = append(left, Leftover{Kind: k, InstanceID: i.ID, OriginID: or(i.OriginID, taskID), Reason: reason})
	}
	if i.Stopped {
		add(LeftoverStopped, "stopped for the update")
	}
	if i.InStandby || i.Call != nil && i.Call.Op == opEnter {
		add(LeftoverStandby, i.why())
	}
	if i.Lifted {
		add(LeftoverProtection, "protection lifted before Standby")
	}
	return left
}

// why says why an instance is in Standby.
func (i *Instance) why() string {
	switch {
	case i.Stays != "":
		return i.Stays
	case i.Status == InstanceLeftover:
		return i.Note
	case i.Mark == Interrupted:
		outcome := strings.ReplaceAll(string(i.Outcome), "_", " ")
		if !i.Begun {
			outcome = "not updated"
		}
		return "at work when the task was canceled, " + or(outcome, "outcome unknown")
	case i.Mark != "":
		return string(i.Mark)
	case i.Status == InstanceRunning:
		return "at work"
	}
	return string(i.Status)
}

// RestoreFilter selects leftovers. The zero RestoreFilter selects all but the configuration image.
type RestoreFilter struct {
	// InstanceIDs selects instances; empty selects all.
	InstanceIDs []string `json:"instance_ids,omitempty"`
	// Kinds selects kinds; empty selects all but LeftoverImage, and with InstanceIDs all that are about instances.
	Kinds []LeftoverKind `json:"kinds,omitempty"`
}

func (f RestoreFilter) kind(k LeftoverKind) bool {
	if len(f.Kinds) == 0 {
		return k != LeftoverImage && (k != LeftoverProcess || len(f.InstanceIDs) == 0)
	}
	return slices.Contains(f.Kinds, k)
}

func (f RestoreFilter) instance(i *Instance) bool {
	return len(f.InstanceIDs) == 0 || slices.Contains(f.InstanceIDs, i.ID)
}

// putsBack reports whether a restore is at work. One that was asked for with a cancel begins when the task has ended.
func (m *machine) putsBack() bool { return m.t.Restore.Active() && m.t.Status.Ended() }

// restoring puts back what the task left behind: instances first, then the configuration image, then the processes.
func (m *machine) restoring() ([]*call, bool) {
	switch m.t.Stage {
	case stageMoving:
		p := grouping{m: m, need: m.restoreNeed}
		for n := range m.t.Instances {
			if i := &m.t.Instances[n]; m.toRestore(i) && !m.track(i).busy {
				p.add(i)
			}
		}
		if calls := p.calls(); len(calls) > 0 || m.restoreOpen() {
			return calls, false
		}
		m.stage("", stageReleasing)
		if m.t.Ledger.Image != nil && m.env.setsImage && m.t.Restore.Filter.kind(LeftoverImage) && len(m.t.Restore.Filter.Kinds) > 0 {
			m.stage("", stageReverting)
		}
		return nil, true
	case stageReverting:
		return m.settingImage()
	case stageReleasing:
		if len(m.t.Ledger.Ours) == 0 || !m.t.Restore.Filter.kind(LeftoverProcess) {
			m.endRestore()
			return nil, true
		}
		return m.resuming()
	}
	m.event(Event{Kind: EventRestore, Cause: m.t.Restore.Cause, Text: "began"})
	m.prepareMoves(func(i *Instance) bool { return m.t.Restore.Filter.instance(i) })
	m.stage("", stageMoving)
	return nil, true
}

// prepareMoves resets what an earlier restore noted on the rows.
func (m *machine) prepareMoves(which func(*Instance) bool) {
	for n := range m.t.Instances {
		i := &m.t.Instances[n]
		if i.Call != nil && i.Call.Op == opEnter {
			i.InStandby = true // or so it may be; the look tells
		}
		if (i.InStandby || i.Lifted || i.Stopped) && which(i) {
			i.Stays, i.StepSince, i.Alone = "", m.now, false
			if i.Call != nil && i.Call.Op != opExit && i.Call.Op != opProtect && i.Call.Op != opStart {
				i.Call = nil
			}
			*m.track(i) = track{stood: m.track(i).stood}
			m.touch(i)
		}
	}
}

// toRestore reports whether the restore at work is not finished with a row.
func (m *machine) toRestore(i *Instance) bool {
	if i.Stays != "" {
		return false
	}
	if m.t.Stage == stageReturning {
		return i.Status == InstanceLeftover && (i.InStandby || i.Lifted)
	}
	f := m.t.Restore.Filter
	return f.instance(i) && (i.InStandby && f.kind(LeftoverStandby) || i.Lifted && f.kind(LeftoverProtection) || i.Stopped && f.kind(LeftoverStopped))
}

// restoreOpen reports whether a row is still being restored.
func (m *machine) restoreOpen() bool {
	for n := range m.t.Instances {
		if i := &m.t.Instances[n]; m.toRestore(i) || m.track(i).busy {
			return true
		}
	}
	return false
}

// restoreNeed says which call a row needs next to be as it was.
func (m *machine) restoreNeed(i *Instance) *bucket {
	l, s := m.env.limits, m.track(i).seen
	f := RestoreFilter{}
	if m.putsBack() {
		f = m.t.Restore.Filter
	}
	switch {
	case s == nil || s.DiskReplacing || s.Power != provider.Running && s.Power != provider.Stopped:
		return &bucket{op: opLook, limit: l.Instances}
	case s.Power == provider.Stopped && f.kind(LeftoverStopped):
		return &bucket{op: opStart, act: true, limit: l.Start}
	case i.InStandby && f.kind(LeftoverStandby) && s.Power == provider.Running:
		return &bucket{op: opExit, act: true, limit: l.Standby}
	case i.Lifted && f.kind(LeftoverProtection) && !i.InStandby:
		return &bucket{op: opProtect, act: true, limit: l.Protection}
	}
	m.stays(i, fmt.Sprintf("is %s, and the restore was not asked for more", s.Power))
	return nil
}

// stays ends the restore of a row that cannot be put back.
func (m *machine) stays(i *Instance, why string) {
	i.Stays, i.Call = why, nil
	m.touch(i)
	m.event(Event{Kind: EventRestore, Cause: ByProvider, InstanceID: i.ID, Text: "stays as it is: " + why})
}

// applyRestoreLook takes what a look showed of an instance that is to be put back.
func (m *machine) applyRestoreLook(i *Instance, s *provider.Instance, err error) {
	if !m.toRestore(i) {
		return
	}
	t := m.track(i)
	if err != nil {
		m.restoreLater(i, err)
		return
	}
	m.touch(i)
	if s == nil || s.Lifecycle == "" {
		i.InStandby, i.Lifted = false, false
		if s == nil || s.Power == provider.Running || !i.Stopped {
			i.Stopped = false
			m.event(Event{Kind: EventRestore, Cause: ByProvider, InstanceID: i.ID, Text: "is no member of the group any more"})
			if i.Status == InstanceLeftover {
				m.instanceStatus(i, InstanceGone, "", ByProvider, "left the group")
			}
			return
		}
	} else if s.Lifecycle != provider.Standby && i.InStandby && m.entering(i) {
		m.restoreLater(i, fmt.Errorf("%w: is shown as %s, right after it was put in Standby", provider.ErrBusy, s.Lifecycle))
		return
	} else if s.Lifecycle != provider.Standby {
		i.InStandby = false
		i.Lifted = i.Lifted && s.Lifecycle != provider.Protected
	}
	if s.Power == provider.Running && !s.DiskReplacing {
		i.Stopped = false
	}
	t.seen, t.nextAt = s, m.now
	if !m.toRestore(i) {
		return
	}
	switch {
	case m.t.Stage == stageReturning && !m.unchanged(i, s):
		m.stays(i, "was changed, or is not Running")
	case s.DiskReplacing || s.Power != provider.Running && s.Power != provider.Stopped:
		m.restoreLater(i, fmt.Errorf("%w: is %s, disk replacement open: %t", provider.ErrBusy, s.Power, s.DiskReplacing))
	case s.Power == provider.Stopped && !i.Stopped && (!i.Begun || m.t.Spec.Update.Kind == provider.ScriptUpdate):
		m.stays(i, "is Stopped, and not by the task")
	case s.Power == provider.Stopped && t.tries > 0 && m.restoreOverdue(i):
		m.stays(i, "was started and is Stopped again")
	case s.Power == provider.Stopped:
		t.nextAt = m.startAt(t)
	}
}

// unchanged reports whether an instance taken over by a rollback is as it was before the source task.
func (m *machine) unchanged(i *Instance, s *provider.Instance) bool {
	if s.Power != provider.Running || s.DiskReplacing {
		return false
	}
	if m.t.Spec.Update.Kind == provider.ImageUpdate {
		return i.Before != nil && s.ImageID == i.Before.ImageID && !i.Underway
	}
	return !i.Begun
}

// applyRestoreAnswer takes a provider's answer about an instance that is being put back.
func (m *machine) applyRestoreAnswer(i *Instance, o *outcome, p *provider.Progress) {
	err := o.err
	if p != nil {
		err = p.Err
	} else if err == nil {
		err = provider.ErrNotBegun
	}
	switch {
	case err == nil && !p.Done && m.lost(i.Call) && m.restoreOverdue(i):
		m.stays(i, "the order was accepted, and it is not there")
	case err == nil && !p.Done:
		m.track(i).nextAt = m.now.Add(or(p.Wait, 2*time.Second))
	case err == nil:
		m.closeCall(i)
		m.done(i, o.call.op)
		m.event(Event{Kind: EventRestore, Cause: ByPolicy, InstanceID: i.ID, Text: o.call.op})
	case provider.Unknown(err):
		if m.lost(i.Call) {
			m.closeCall(i)
		}
		m.restoreLater(i, err)
	case isAny(err, provider.ErrThrottled, provider.ErrBusy, provider.ErrNotBegun, provider.ErrRefused, provider.ErrNotFound):
		i.Alone = isAny(err, provider.ErrRefused)
		m.closeCall(i)
		m.track(i).seen = nil
		m.restoreLater(i, err)
	default:
		m.stays(i, err.Error())
	}
}

// restoreLater plans the next try, or gives up.
func (m *machine) restoreLater(i *Instance, err error) {
	t := m.track(i)
	if m.restoreOverdue(i) {
		m.stays(i, fmt.Sprintf("could not be put back within %s: %v", m.restoreLimit(), err))
		return
	}
	t.nextAt = m.now.Add(m.env.backoff(t.tries))
	t.tries++
}

// restoreLimit is how long an instance may take to be put back.
func (m *machine) restoreLimit() time.Duration {
	return or(m.t.Spec.Timeouts.ExitStandby, 10*time.Minute)
}

func (m *machine) restoreOverdue(i *Instance) bool { return m.now.Sub(i.StepSince) > m.restoreLimit() }

// applyRestoring takes an outcome of the group-level stages of a restore.
func (m *machine) applyRestoring(o *outcome) {
	switch m.t.Stage {
	case stageReverting:
		m.applyImage(o)
	case stageReleasing:
		done, err := m.applyResuming(o)
		if err != nil {
			m.t.Restore.Error = joinText(m.t.Restore.Error, fmt.Sprintf("processes: %v", err))
		}
		if done || err != nil {
			m.endRestore()
		}
	}
}

// endRestore ends a restore and gives the group back.
func (m *machine) endRestore() {
	r := m.t.Restore
	stays := 0
	for n := range m.t.Instances {
		if i := &m.t.Instances[n]; i.Stays != "" && r.Filter.instance(i) {
			stays++
		}
	}
	if stays > 0 {
		r.Error = joinText(r.Error, fmt.Sprintf("%d instances stay as they are", stays))
	}
	r.EndedAt = m.now
	m.t.HoldsGroup = false
	m.stage("", "")
	m.event(Event{Kind: EventRestore, Cause: ByPolicy, Text: or(r.Error, "ended")})
	if len(r.Then) > 0 {
		m.t.Restore = &Restore{Filter: r.Then[0], Then: r.Then[1:], Since: m.now, Error: r.Error, Cause: r.Cause}
		m.t.HoldsGroup = true
	}
}

// returning puts back in service what a rollback took over and what was not changed.
func (m *machine) returning() ([]*call, bool) {
	p := grouping{m: m, need: m.restoreNeed}
	for n := range m.t.Instances {
		if i := &m.t.Instances[n]; m.toRestore(i) && !m.track(i).busy {
			p.add(i)
		}
	}
	if calls := p.calls(); len(calls) > 0 || m.restoreOpen() {
		return calls, false
	}
	m.stage(Upgrading, stageNext)
	return nil, true
}

func isAny(err error, classes ...error) bool {
	return slices.ContainsFunc(classes, func(c error) bool { return errors.Is(err, c) })
}
