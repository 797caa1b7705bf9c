package rollingupgrade

import (
	"errors"
	"fmt"
	"slices"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// RollbackSpec says how a task is rolled back. The zero RollbackSpec rolls back what was completed to the
// source's rollback counterpart, in the source's batches, without pauses.
type RollbackSpec struct {
	// Description is free text for later tracing.
	Description string `json:"description,omitempty"`
	// Update replaces the source's rollback counterpart. It must be of the same kind and, for scripts, of the same type.
	Update Update `json:"update,omitzero"`
	// ToBefore returns each instance to the image that it had before the source task. Only for image updates, and not with Update.
	ToBefore bool `json:"to_before,omitempty"`
	// Scope is which instances are rolled back.
	Scope RollbackScope `json:"scope,omitempty"`
	// Batches says how they are divided; zero means as in the source.
	Batches BatchSpec `json:"batches,omitzero"`
	// Pause and Failure are the rollback's own policies.
	Pause   PausePolicy   `json:"pause,omitzero"`
	Failure FailurePolicy `json:"failure,omitzero"`
	// MinInService is how many instances must stay in service, -1 allows that a batch takes out everything; zero means as in the source.
	MinInService int `json:"min_in_service,omitempty"`
	// ClientToken and PlanHash are as in [Spec].
	ClientToken string `json:"client_token,omitempty"`
	PlanHash    string `json:"plan_hash,omitempty"`
}

// RollbackScope says which instances are rolled back.
type RollbackScope string

// The scopes. The zero RollbackScope is ScopeCompleted.
const (
	// ScopeCompleted takes the instances that have completed the update.
	ScopeCompleted RollbackScope = "completed"
	// ScopeAttempted also takes those whose update was begun, and works on these first.
	ScopeAttempted RollbackScope = "attempted"
)

// spec is the rollback as a task of its own.
func (r *RollbackSpec) spec(source *Spec) Spec {
	s := Spec{
		GroupID: source.GroupID, Description: r.Description, Update: r.Update, Batches: r.Batches, Pause: r.Pause, Failure: r.Failure,
		MinInService: source.MinInService, MaxInFlight: source.MaxInFlight, Drain: source.Drain, Verify: source.Verify,
		Configuration: ConfigurationAfterSuccess, Consent: source.Consent, Timeouts: source.Timeouts,
		ClientToken: r.ClientToken, PlanHash: r.PlanHash,
	}
	if r.MinInService != 0 {
		s.MinInService = r.MinInService
	}
	s.Targets.IncludeProtected = source.Targets.IncludeProtected
	if s.Update.Kind == "" {
		s.Update = source.Rollback
	}
	if s.Batches.Count == 0 && len(s.Batches.Sizes) == 0 && s.Batches.MaxSize == 0 {
		s.Batches = source.Batches
	}
	return s
}

// validate reports what is wrong with r as a rollback of source.
func (r *RollbackSpec) validate(source *Spec, s *Spec) error {
	c := &checker{}
	switch r.Scope {
	case "", ScopeCompleted, ScopeAttempted:
	default:
		c.field("RollbackSpec.Scope", fmt.Sprintf("unknown scope %q", clip(string(r.Scope))))
	}
	switch {
	case r.ToBefore && source.Update.Kind != provider.ImageUpdate:
		c.field("RollbackSpec.ToBefore", "is only for image updates")
	case r.ToBefore && r.Update.Kind != "":
		c.field("RollbackSpec.ToBefore", "not together with Update")
	case r.ToBefore:
	case s.Update.Kind == "":
		c.field("RollbackSpec.Update", "must be set: the source task has no rollback counterpart")
	default:
		c.counterpart("RollbackSpec.Update", source.Update, s.Update)
	}
	if len(c.errs) == 0 {
		c.add(s.Validate())
	}
	return errors.Join(c.errs...)
}

// completed reports whether the instance has completed the update, whatever became of it afterwards;
// skipped and canceled ones have not.
func (i *Instance) completed() bool {
	return i.Status == InstanceSucceeded && i.Mark == "" || i.Mark == Interrupted && i.Outcome == provider.Updated
}

// attempted reports whether the update was begun but not completed.
func (i *Instance) attempted() bool {
	return !i.completed() && i.Begun && (i.Status == InstanceFailed || i.Mark == Skipped)
}

// rollbackRows are the rows of a rollback of source. What is left over stands in tail, the newest task
// of the group, which is the source itself unless tasks came later that touched nothing.
func rollbackRows(source, tail *Task, r *RollbackSpec) []Instance {
	left := inheritRows(tail)
	leftover := make(map[string]int, len(left))
	for n := range left {
		leftover[left[n].ID] = n
	}
	var first, then []Instance
	for n := range source.Instances {
		i := &source.Instances[n]
		attempted := r.Scope == ScopeAttempted && i.attempted()
		if !attempted && !i.completed() {
			continue
		}
		row := Instance{ID: i.ID, Status: InstancePending}
		if n, ok := leftover[i.ID]; ok {
			row.InStandby, row.Lifted, row.Stopped, row.OriginID = left[n].InStandby, left[n].Lifted, left[n].Stopped, left[n].OriginID
			row.Begun, row.Underway = left[n].Begun, left[n].Underway
			left[n].ID = ""
		}
		if r.ToBefore && i.Before != nil {
			u := Image(i.Before.ImageID)
			row.Update = &u
		}
		if attempted {
			first = append(first, row)
		} else {
			then = append(then, row)
		}
	}
	left = slices.DeleteFunc(left, func(i Instance) bool { return i.ID == "" })
	rows := slices.Concat(left, first, then)
	for n := range rows {
		rows[n].Pos = n
	}
	return rows
}

// inheritRows are the instances that prior leaves behind, as rows of the task that takes them over.
func inheritRows(prior *Task) []Instance {
	if prior == nil {
		return nil
	}
	var rows []Instance
	for n := range prior.Instances {
		i := &prior.Instances[n]
		if len(i.leftovers(prior.ID)) == 0 {
			continue
		}
		rows = append(rows, Instance{
			ID: i.ID, Pos: len(rows), Status: InstanceLeftover, OriginID: or(i.OriginID, prior.ID), Note: i.why(),
			Before: i.Before, Begun: i.began(), Underway: i.Underway, InStandby: i.InStandby || i.Call != nil && i.Call.Op == opEnter,
			Lifted: i.Lifted, Stopped: i.Stopped,
		})
	}
	return rows
}

// inheritLedger is what prior leaves suspended or changed on the group.
func inheritLedger(prior *Task) Ledger {
	if prior == nil {
		return Ledger{}
	}
	l := Ledger{Ours: slices.Clone(prior.Ledger.Ours)}
	if prior.leavesImage() {
		l.Image = prior.Ledger.Image
	}
	return l
}

// executed reports whether a task counts as executed, so that an older one cannot be rolled back any more.
func (h *Head) executed() bool { return h.Touched || !h.Status.Ended() }
