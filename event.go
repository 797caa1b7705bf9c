package rollingupgrade

import "time"

// An Event is a state change of a task, kept with it in order.
type Event struct {
	// Seq numbers the events of a task from 1, without gaps.
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time"`
	// Kind is what happened.
	Kind EventKind `json:"kind"`
	// Cause is who or what brought it about.
	Cause Cause `json:"cause"`
	// InstanceID and Batch say what it concerns; empty and 0 for the task as a whole.
	InstanceID string `json:"instance_id,omitempty"`
	Batch      int    `json:"batch,omitempty"`
	// From and To are the statuses or steps of a change.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Text says it for a person.
	Text string `json:"text,omitempty"`
}

// EventKind is what an event reports.
type EventKind string

// The kinds of event.
const (
	EventCreated       EventKind = "created"
	EventStatus        EventKind = "status"         // the task's status changed from From to To
	EventPlanned       EventKind = "planned"        // the plan is final
	EventProcesses     EventKind = "processes"      // processes suspended or resumed
	EventForeignChange EventKind = "foreign_change" // somebody else changed what the task relies on
	EventBatchStarted  EventKind = "batch_started"  //
	EventBatchEnded    EventKind = "batch_ended"    //
	EventInstance      EventKind = "instance"       // an instance's status changed from From to To
	EventStep          EventKind = "step"           // an instance's step changed from From to To
	EventDecision      EventKind = "decision"       // a decision about an instance was made
	EventCommand       EventKind = "command"        // a command was accepted
	EventImage         EventKind = "image"          // the scaling configuration's image changed
	EventRestore       EventKind = "restore"        // a restore began, put something back, or ended
	EventTakenOver     EventKind = "taken_over"     // leftovers went to a later task
	EventJoined        EventKind = "joined"         // instances joined the group during the task
	EventHook          EventKind = "hook"           // a hook failed, hung or vetoed
)

// Cause is who or what brought an event about.
type Cause string

// The causes.
const (
	ByOperator Cause = "operator"
	ByPolicy   Cause = "policy"
	ByHook     Cause = "hook"
	ByProvider Cause = "provider"
)
