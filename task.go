package rollingupgrade

import (
	"encoding/json"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// SchemaVersion is the number of the record's form. Stores keep it with every task; records of
// older numbers keep loading, newer ones are refused with [ErrNewerSchema].
const SchemaVersion = 1

// A Task is one rolling upgrade or one rollback of one scaling group: the record that a
// [Store] keeps, and all that survives the death of a process. It is plain data.
type Task struct {
	Head
	// Instances has a row for every instance the task knows of, in the order of their
	// batches: rows of batch 0 (up to date, or left over from an earlier task) come first.
	Instances []Instance `json:"instances"`
}

// TaskKind tells upgrades from rollbacks.
type TaskKind string

// The kinds of task.
const (
	Upgrade  TaskKind = "upgrade"
	Rollback TaskKind = "rollback"
)

// Head is the small part of a task that changes often: everything but the instances, the events
// and the outputs.
type Head struct {
	Schema int      `json:"schema"`
	ID     string   `json:"id"`
	Kind   TaskKind `json:"kind"`
	// GroupID is the scaling group.
	GroupID string `json:"group_id"`
	// SourceID is the task that a rollback rolls back.
	SourceID string `json:"source_id,omitempty"`
	// PriorID is the task of the group that came before this one, and NextID the one that came after it and
	// took over its leftovers. An empty NextID marks the newest task of the group.
	PriorID string `json:"prior_id,omitempty"`
	NextID  string `json:"next_id,omitempty"`

	Spec     Spec         `json:"spec"`
	SpecHash string       `json:"spec_hash"`
	Rollback RollbackSpec `json:"rollback,omitzero"`

	Status Status `json:"status"`
	Phase  Phase  `json:"phase,omitempty"`
	// Stage is what the phase is busy with.
	Stage      Stage     `json:"stage,omitempty"`
	StageSince time.Time `json:"stage_since,omitzero"`
	// Reason says why the task is in its status, for a person.
	Reason string `json:"reason,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`

	// Batch is the number of the batch at work, from 1; 0 before the first.
	Batch int `json:"batch,omitempty"`
	// Sizes are the sizes of the batches, once the plan is final.
	Sizes []int `json:"sizes,omitempty"`
	// AskedBatches is the number of batches asked for, where it is a number; len(Sizes) is what it came to.
	AskedBatches int `json:"asked_batches,omitempty"`
	// Opened is the number of the batch whose beginning has been announced.
	Opened int `json:"opened,omitempty"`
	// BatchSince and TaskSince are when the batch and the task began, moved on by the time spent in pauses.
	BatchSince time.Time `json:"batch_since,omitzero"`
	TaskSince  time.Time `json:"task_since,omitzero"`
	// Progress counts the instances of the plan.
	Progress Progress `json:"progress"`

	// Pause is why and since when the task waits for the operator; nil if it does not.
	Pause *Pause `json:"pause,omitempty"`
	// PauseAsked is a pause that takes effect when nothing is in flight.
	PauseAsked *Pause `json:"pause_asked,omitempty"`
	// Expired notes deadlines of the batch and of the task that have passed already and paused the task once.
	Expired []string `json:"expired,omitempty"`

	Ledger  Ledger   `json:"ledger"`
	Restore *Restore `json:"restore,omitempty"`

	// Learned is how long the phases of the update have been seen to take.
	Learned map[string]PhaseTime `json:"learned,omitempty"`

	// Joined are instances that joined the group after the plan was final; they were not touched.
	Joined []string `json:"joined,omitempty"`
	// Touched says that the task has begun to change instances.
	Touched bool `json:"touched,omitempty"`

	Lease Lease `json:"lease,omitzero"`
	// SavedAt is when a driver saved the task last, or when a command gave a task without a driver something to do.
	SavedAt time.Time `json:"saved_at,omitzero"`
	// WakeAt is when a task that has no owner wants to be looked at again; zero means never.
	WakeAt time.Time `json:"wake_at,omitzero"`
	// HoldsGroup says that no other task of the group may begin. A store keeps it unique per group.
	HoldsGroup bool `json:"holds_group,omitempty"`
	// Requests are the newest commands that carried a request ID.
	Requests []Request `json:"requests,omitempty"`

	// Version grows by one with every save; Nonce names the save that made it.
	Version int64 `json:"version"`
	// Recent are the nonces of the last few saves, so that a save whose answer was lost is found even if somebody has saved since.
	Nonce    string   `json:"nonce,omitempty"`
	Recent   []string `json:"recent,omitempty"`
	EventSeq int64    `json:"event_seq"`
}

// Status is the state of a task.
type Status string

// The statuses of a task. See [Task.Explain] for what leads out of each.
const (
	// StatusPending: created, no Runner has begun. Left by Run, Serve or Cancel.
	StatusPending Status = "pending"
	// StatusRunning: at work; Phase says at what.
	StatusRunning Status = "running"
	// StatusBatchPaused: nothing is in flight and the task waits for Continue; Pause says why.
	StatusBatchPaused Status = "batch_paused"
	// StatusFailurePaused: nothing is in flight and failed instances wait for a decision.
	StatusFailurePaused Status = "failure_paused"
	// StatusCanceling: canceled, and what is in flight comes to a safe end.
	StatusCanceling Status = "canceling"
	// StatusCanceled: ended by Cancel or by a rollback of a waiting task.
	StatusCanceled Status = "canceled"
	// StatusSucceeded: ended, and no instance is failed.
	StatusSucceeded Status = "succeeded"
	// StatusFailed: ended with failed instances, or before it could touch any; Reason says.
	StatusFailed Status = "failed"
)

// Ended reports whether the task has ended. An ended task may still be restoring.
func (s Status) Ended() bool {
	return s == StatusCanceled || s == StatusSucceeded || s == StatusFailed
}

// Waiting reports whether the task waits for the operator.
func (s Status) Waiting() bool { return s == StatusBatchPaused || s == StatusFailurePaused }

// Phase is what a running task is doing.
type Phase string

// The phases of a running task.
const (
	Preparing Phase = "preparing"
	Upgrading Phase = "upgrading"
	Finishing Phase = "finishing"
)

// Stage is a step within a phase that concerns the group or a whole batch.
type Stage string

// The stages, in their order within each phase.
const (
	stageReading    Stage = "reading group"          // preparing: read what is suspended
	stageSuspending Stage = "suspending processes"   // preparing
	stageSettling   Stage = "waiting for activities" // preparing
	stageListing    Stage = "listing members"        // preparing: the plan becomes final
	stageReturning  Stage = "returning leftovers"    // preparing, rollbacks: unchanged instances go back in service
	stageUndoing    Stage = "undoing the suspension" // preparing: ends failed
	stageOpening    Stage = "opening batch"          // upgrading: look at the group and the batch's instances
	stageSuspended  Stage = "suspending again"       // upgrading: a process of ours was resumed by somebody else
	stageBefore     Stage = "before-batch hook"      // upgrading
	stageWorking    Stage = "working"                // upgrading
	stageEarlyImage Stage = "setting image early"    // upgrading: configuration image after the first batch
	stageAfter      Stage = "after-batch hook"       // upgrading
	stageNext       Stage = "next batch"             // upgrading: what follows a pause
	stageImage      Stage = "setting image"          // finishing: configuration image
	stageChecking   Stage = "checking group"         // finishing: what is still suspended, who joined
	stageResuming   Stage = "resuming processes"     // finishing
	stageJoined     Stage = "looking for newcomers"  // canceling
	stageMoving     Stage = "moving instances"       // restore
	stageReverting  Stage = "putting the image back" // restore
	stageReleasing  Stage = "resuming what is left"  // restore
)

// Instance is the row of one instance.
type Instance struct {
	ID string `json:"id"`
	// Pos is the row's place among the rows of the task, in the order in which they are worked on.
	Pos int `json:"pos"`
	// Batch is the instance's batch, from 1; 0 for instances that the task does not work on.
	Batch  int            `json:"batch"`
	Status InstanceStatus `json:"status"`
	Step   Step           `json:"step,omitempty"`
	Mark   Mark           `json:"mark,omitempty"`
	// Attempt counts the attempts, from 1; 0 before the first.
	Attempt int `json:"attempt,omitempty"`
	// Decision is what the operator decided about an instance at work; it takes effect at a safe end.
	Decision Decision `json:"decision,omitempty"`
	// DecidedBy is the cause of Decision.
	DecidedBy Cause `json:"decided_by,omitempty"`
	// Error is why the instance failed; it is kept when the failure is skipped or canceled.
	Error *Failure `json:"error,omitempty"`
	// Outcome is how the update really ended, whatever was decided.
	Outcome provider.Outcome `json:"outcome,omitempty"`
	// ExitCode is the exit code of the last script run; nil if none ended.
	ExitCode *int `json:"exit_code,omitempty"`

	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	StepSince time.Time `json:"step_since,omitzero"`
	// AttemptSince is when the attempt began.
	AttemptSince time.Time `json:"attempt_since,omitzero"`

	// Before is the instance before the first change.
	Before *provider.Before `json:"before,omitempty"`
	// Update replaces the task's update for this instance, in a rollback to what each instance had.
	Update *provider.Update `json:"update,omitempty"`

	// Call is the side effect that was begun and whose outcome is not yet known.
	Call *Call `json:"call,omitempty"`
	// Calls counts the calls of this row, so that each has a name of its own.
	Calls int `json:"calls,omitempty"`
	// Alone says that the next call carries only this instance, because a call was refused as a whole.
	Alone bool `json:"alone,omitempty"`
	// State is the provider's opaque progress, Act and MaxTargets what it said about the next call.
	State      json.RawMessage `json:"state,omitempty"`
	Act        bool            `json:"act,omitempty"`
	MaxTargets int             `json:"max_targets,omitempty"`

	// ActedAt is when the update's last side effect was sent: what is waited for began then.
	ActedAt time.Time `json:"acted_at,omitzero"`
	// Begun says that a side effect of the update may have been made, in any attempt.
	Begun bool `json:"begun,omitempty"`
	// Underway says that the update has begun and the instance has not reached a safe end since.
	Underway bool `json:"underway,omitempty"`
	// InStandby says that the instance is in Standby because of this task or one it took over from.
	InStandby bool `json:"in_standby,omitempty"`
	// Lifted says that protection was lifted and not set again.
	Lifted bool `json:"lifted,omitempty"`
	// Stopped says that the update has stopped the instance and not started it again.
	Stopped bool `json:"stopped,omitempty"`
	// Missing says that the instance was not found where it should be; it is asked for by ID.
	Missing bool `json:"missing,omitempty"`
	// Left says that the instance left the group while it was stopped by the task; it is started before it ends as gone.
	Left bool `json:"left,omitempty"`
	// Healthy counts the verdicts in a row that said healthy.
	Healthy int `json:"healthy,omitempty"`
	// AskHook says that the failed-instance hook has not yet been asked about this failure.
	AskHook bool `json:"ask_hook,omitempty"`
	// OriginID is the task that left this instance behind, for rows taken over.
	OriginID string `json:"origin_id,omitempty"`
	// Note says why the instance is left alone.
	Note string `json:"note,omitempty"`
	// Stays says why a restore left the instance in Standby.
	Stays string `json:"stays,omitempty"`
}

// InstanceStatus is the state of an instance in a task.
type InstanceStatus string

// The statuses of an instance.
const (
	InstancePending   InstanceStatus = "pending"
	InstanceRunning   InstanceStatus = "running"
	InstanceSucceeded InstanceStatus = "succeeded"
	InstanceFailed    InstanceStatus = "failed"
	InstanceGone      InstanceStatus = "gone"
	// InstanceLeftover is a row that is not part of the plan: an instance in Standby taken over from an earlier task.
	InstanceLeftover InstanceStatus = "leftover"
	// InstanceExcluded is a row that is not part of the plan: a member that is left alone; Note says why.
	InstanceExcluded InstanceStatus = "excluded"
)

// Step is what is being done with a running instance, or what failed.
type Step string

// The steps, in their order.
const (
	EnteringStandby Step = "entering standby"
	Draining        Step = "draining"
	Updating        Step = "updating"
	Verifying       Step = "verifying"
	ExitingStandby  Step = "exiting standby"
)

// Mark qualifies a status.
type Mark string

// The marks.
const (
	// Skipped marks a succeeded instance on which the operator went on.
	Skipped Mark = "skipped"
	// UpToDate marks a succeeded instance that ran the wished image before the task.
	UpToDate Mark = "up to date"
	// CanceledMark marks a failed instance that was canceled, by a decision or with the whole task.
	CanceledMark Mark = "canceled"
	// Interrupted marks a failed instance that was at work when the whole task was canceled.
	Interrupted Mark = "interrupted"
)

// Failure is why an instance failed, as data.
type Failure struct {
	At      time.Time `json:"at"`
	Step    Step      `json:"step"`
	Attempt int       `json:"attempt"`
	// Kind is the name of the error's class, such as "outcome unknown" or "permission denied".
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Call names a side effect before it is made.
type Call struct {
	ID string    `json:"id"`
	Op string    `json:"op"`
	At time.Time `json:"at"`
	// Idle is for how long of the time since then nobody drove the task and could look for the outcome.
	Idle time.Duration `json:"idle,omitempty"`
	// Stop is set on calls that ask for a safe end.
	Stop bool `json:"stop,omitempty"`
}

// Ledger is what the task has changed, or may have changed, on the group.
type Ledger struct {
	// Suspended are the processes that the user had suspended when the task began.
	Suspended []provider.Process `json:"suspended,omitempty"`
	// Ours are the processes that this task (or one it took over from) suspended, or was about to, and has not resumed.
	Ours []provider.Process `json:"ours,omitempty"`
	// SuspendedAt is when the processes were suspended last: for a while after that a look may not show it yet.
	SuspendedAt time.Time `json:"suspended_at,omitzero"`
	// Call is a group-level call whose outcome is not yet known.
	Call *Call `json:"call,omitempty"`
	// Calls counts the group-level calls.
	Calls int `json:"calls,omitempty"`
	// Image is the change of the scaling configuration's image.
	Image *ImageChange `json:"image,omitempty"`
}

// ImageChange is a change of the image of a scaling configuration.
type ImageChange struct {
	Old provider.Configuration `json:"old"`
	New provider.Configuration `json:"new"`
	// Done says that the call has been answered; before that it may or may not have happened.
	Done bool `json:"done,omitempty"`
	// TaskID is the task that made the change.
	TaskID string `json:"task_id"`
}

// Progress counts the instances of a plan by status. Total is their sum.
type Progress struct {
	Total     int `json:"total"`
	Pending   int `json:"pending"`
	Running   int `json:"running"`
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Gone      int `json:"gone"`
	// Skipped and UpToDate are part of Succeeded, Canceled is part of Failed.
	Skipped  int `json:"skipped"`
	UpToDate int `json:"up_to_date"`
	Canceled int `json:"canceled"`
}

// PauseWhy is why a task pauses.
type PauseWhy string

// The reasons for a pause.
const (
	PausedByPolicy   PauseWhy = "policy"
	PausedByOperator PauseWhy = "operator"
	PausedByHook     PauseWhy = "hook"
	PausedByFailure  PauseWhy = "failure"
	// PausedByError: a step that concerns the whole group failed; Continue tries it again.
	PausedByError PauseWhy = "error"
	// PausedByDeadline: the batch or the task took longer than its limit; Continue goes on without it.
	PausedByDeadline PauseWhy = "deadline"
	// PausedByCapacity: the next batch would leave fewer instances in service than the spec demands; Continue looks again.
	PausedByCapacity PauseWhy = "capacity"
)

// Pause is a wait for the operator.
type Pause struct {
	Why   PauseWhy  `json:"why"`
	Text  string    `json:"text,omitempty"`
	Since time.Time `json:"since"`
	// Until is when OnLimit happens; zero waits for ever.
	Until   time.Time    `json:"until,omitzero"`
	OnLimit PauseOutcome `json:"on_limit,omitempty"`
	// AskHook says that the pause hook has not yet been asked.
	AskHook bool `json:"ask_hook,omitempty"`
}

// Restore is a call that puts back what a task left behind.
type Restore struct {
	Filter RestoreFilter `json:"filter"`
	// Then are filters that were asked for meanwhile; they follow one after the other.
	Then    []RestoreFilter `json:"then,omitempty"`
	Since   time.Time       `json:"since"`
	EndedAt time.Time       `json:"ended_at,omitzero"`
	// Error is why the last try did not put back everything; empty if it did, or goes on.
	Error string `json:"error,omitempty"`
	// Cause is who asked.
	Cause Cause `json:"cause"`
}

// Active reports whether the restore is still at work.
func (r *Restore) Active() bool { return r != nil && r.EndedAt.IsZero() }

// Lease is the ownership of a task by a Runner. No clocks are compared between
// machines: who wants to take over watches Renewal stay the same.
type Lease struct {
	Owner    string        `json:"owner,omitempty"`
	Life     string        `json:"life,omitempty"` // the store's life, see [ExclusiveStore]
	Duration time.Duration `json:"duration,omitempty"`
	Renewal  int64         `json:"renewal,omitempty"`
	Fence    int64         `json:"fence,omitempty"`
}

// Request is a command that was done under a request ID.
type Request struct {
	ID   string `json:"id"`
	Hash string `json:"hash"`
}

// Summary is a task as lists and hooks see it: a copy, without instances.
type Summary struct {
	ID          string
	Kind        TaskKind
	GroupID     string
	Description string
	SourceID    string
	NextID      string
	Status      Status
	Phase       Phase
	Reason      string
	Batch       int
	Batches     int
	Progress    Progress
	Pause       *Pause
	CreatedAt   time.Time
	StartedAt   time.Time
	EndedAt     time.Time
	// Restoring says that a restore is at work.
	Restoring bool
}

// Summary returns the head as lists and hooks see it.
func (h *Head) Summary() Summary {
	s := Summary{
		ID: h.ID, Kind: h.Kind, GroupID: h.GroupID, Description: h.Spec.Description, SourceID: h.SourceID, NextID: h.NextID,
		Status: h.Status, Phase: h.Phase, Reason: h.Reason, Batch: h.Batch, Batches: len(h.Sizes), Progress: h.Progress,
		CreatedAt: h.CreatedAt, StartedAt: h.StartedAt, EndedAt: h.EndedAt, Restoring: h.Restore.Active(),
	}
	if h.Pause != nil {
		p := *h.Pause
		s.Pause = &p
	}
	return s
}

// Runnable reports whether a Runner has something to do for the task at now: Serve uses it, and stores
// may use it to answer [Filter.Runnable].
func (h *Head) Runnable(now time.Time) bool {
	switch {
	case h.Restore.Active():
		return true
	case h.Status.Ended():
		return false
	case h.Status.Waiting():
		if h.Pause != nil && h.Pause.AskHook {
			return true
		}
		return !h.WakeAt.IsZero() && !h.WakeAt.After(now)
	}
	return true
}
