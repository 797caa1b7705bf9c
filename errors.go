package rollingupgrade

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of stores and of commands. Test with [errors.Is].
var (
	// ErrTaskNotFound means that the store has no task with that ID.
	ErrTaskNotFound = errors.New("task not found")
	// ErrTaskExists means that a task with that ID is there already.
	ErrTaskExists = errors.New("task exists")
	// ErrVersionConflict means that somebody else saved first; load and decide again.
	ErrVersionConflict = errors.New("task version conflict")
	// ErrGroupBusy means that another task holds the scaling group; see [GroupBusyError].
	ErrGroupBusy = errors.New("scaling group is held by another task")
	// ErrNoOutput means that no output is kept for the instance.
	ErrNoOutput = errors.New("no output")
	// ErrNewerSchema means that the record was written by a newer version of the library.
	ErrNewerSchema = errors.New("record has a newer schema")

	// ErrInvalid means that an argument or a field is not acceptable; see [FieldError].
	ErrInvalid = errors.New("invalid")
	// ErrIllegalCommand means that the command is not legal now; see [CommandError].
	ErrIllegalCommand = errors.New("command not legal now")
	// ErrUnknownInstance means that the task has no such instance.
	ErrUnknownInstance = errors.New("instance is not part of the task")
	// ErrRequestMismatch means that the request ID was used before for something else.
	ErrRequestMismatch = errors.New("request ID was used for another command")
	// ErrClientTokenMismatch means that the client token was used before with another spec.
	ErrClientTokenMismatch = errors.New("client token was used with another spec")
	// ErrPrecheck means that the plan has findings that forbid it; see [PrecheckError].
	ErrPrecheck = errors.New("precheck failed")
	// ErrNotLatest means that a later task of the group has been executed.
	ErrNotLatest = errors.New("not the most recent task of the group")
	// ErrIsRollback means that rollbacks cannot be rolled back.
	ErrIsRollback = errors.New("a rollback cannot be rolled back")
	// ErrNothingToRollBack means that no instance has completed the update.
	ErrNothingToRollBack = errors.New("no instance to roll back")
	// ErrLeaseLost means that another Runner has taken the task over.
	ErrLeaseLost = errors.New("task was taken over by another runner")
	// ErrPlanChanged means that the plan is not the one whose hash was insisted on; see [PrecheckError] for the present one.
	ErrPlanChanged = errors.New("plan has changed")
	// ErrInvalidTransition means that the table of transitions has no such edge.
	ErrInvalidTransition = errors.New("invalid transition")
)

// OpError says what was tried, on what.
type OpError struct {
	Op     string // such as "create", "suspend processes"
	Target string // the task, group or instance
	Err    error
}

// Error implements error.
func (e *OpError) Error() string {
	if e.Target == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Target + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// FieldError says which field is not acceptable. It wraps ErrInvalid.
type FieldError struct {
	Field   string // such as "Spec.Batches.Count"
	Problem string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Unwrap returns ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

// GroupBusyError names the task that holds the group. It wraps ErrGroupBusy.
type GroupBusyError struct {
	GroupID string
	// HolderID is the task that holds the group.
	HolderID string
}

// Error implements error.
func (e *GroupBusyError) Error() string {
	return fmt.Sprintf("scaling group %s is held by task %s: wait for it to end, or cancel it", e.GroupID, e.HolderID)
}

// Unwrap returns ErrGroupBusy.
func (e *GroupBusyError) Unwrap() error { return ErrGroupBusy }

// CommandError says why a command is not legal and which ones are. It wraps ErrIllegalCommand, or Err if that is set.
type CommandError struct {
	Command    Command
	TaskID     string
	Status     Status
	InstanceID string         // set where an instance forbids it
	Instance   InstanceStatus // that instance's status
	Legal      []Command      // the commands that are legal now
	Err        error          // a more exact cause, or nil
}

// Error implements error.
func (e *CommandError) Error() string {
	var b strings.Builder
	if e.InstanceID != "" {
		fmt.Fprintf(&b, "instance %s is %s: ", e.InstanceID, e.Instance)
	}
	fmt.Fprintf(&b, "%s is not legal while the task is %s", e.Command, e.Status)
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if len(e.Legal) == 0 {
		b.WriteString("; no command is legal")
	} else {
		b.WriteString("; legal now:")
		for i, c := range e.Legal {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(" " + string(c))
		}
	}
	return b.String()
}

// Unwrap returns ErrIllegalCommand and the more exact cause.
func (e *CommandError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrIllegalCommand}
	}
	return []error{ErrIllegalCommand, e.Err}
}

// PrecheckError carries the plan whose findings forbid it. It wraps ErrPrecheck, or ErrPlanChanged if
// the plan is another one than the one insisted on.
type PrecheckError struct {
	Plan *Plan
	// Changed says that the plan's hash is not Spec.PlanHash.
	Changed bool
}

// Error implements error.
func (e *PrecheckError) Error() string {
	var b strings.Builder
	b.WriteString("precheck of group " + e.Plan.GroupID + " failed")
	if e.Changed {
		b.WriteString("; the plan has changed, its hash is now " + e.Plan.Hash)
	}
	for _, f := range e.Plan.Findings {
		if f.Severity == SeverityError {
			b.WriteString("; " + f.String())
		}
	}
	return b.String()
}

// Unwrap returns ErrPrecheck, and ErrPlanChanged.
func (e *PrecheckError) Unwrap() []error {
	if e.Changed {
		return []error{ErrPrecheck, ErrPlanChanged}
	}
	return []error{ErrPrecheck}
}

// TransitionError names the edge that the table does not have. It wraps ErrInvalidTransition.
type TransitionError struct {
	From Status
	On   Trigger
}

// Error implements error.
func (e *TransitionError) Error() string {
	return fmt.Sprintf("no transition from %s on %s", e.From, e.On)
}

// Unwrap returns ErrInvalidTransition.
func (e *TransitionError) Unwrap() error { return ErrInvalidTransition }
