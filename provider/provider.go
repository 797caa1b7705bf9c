package provider

import (
	"context"
	"encoding/json"
	"time"
)

// A Provider operates the scaling groups and instances of one cloud.
//
// Providers report, the Runner decides: a method makes at most the side effect it
// was asked for and returns when the cloud has accepted it. It does not wait for
// the effect, does not retry, does not sleep in a rate limiter and holds no policy.
//
// Every method is safe for concurrent use, returns promptly when ctx is done, and
// is idempotent: "already there" is success. Errors wrap the sentinels of this
// package and keep the cloud's own error reachable with [errors.As].
//
// Optional abilities are found by type assertion: [Inspector], [ConfigurationSetter], [Pacer].
type Provider interface {
	Reader
	StandbyMover
	Protector
	Starter
	ProcessSuspender
	Updater

	// Limits says how many instances one call may carry.
	Limits() Limits
}

// A Reader reports what the cloud shows. It changes nothing.
type Reader interface {
	// Group reports one scaling group, activities in progress included.
	// It returns ErrNotFound if there is none with that ID.
	Group(ctx context.Context, groupID string) (Group, error)

	// Members lists every instance of the group, all pages, each one once.
	// It returns ErrNotFound if there is no such group.
	Members(ctx context.Context, groupID string) ([]Instance, error)

	// Instances reports the named instances, whether they are members of the group or not:
	// one that exists but is no member has an empty Lifecycle, one that does not exist is
	// absent from the answer. The order is that of ids. At most Limits.Instances ids a call.
	Instances(ctx context.Context, groupID string, ids []string) ([]Instance, error)
}

// A StandbyMover takes instances out of service and puts them back.
// With a load balancer attached, Standby sets the backend weight to zero.
//
// Every target carries a CallID; see [Target]. All targets of one method call share it.
type StandbyMover interface {
	EnterStandby(ctx context.Context, groupID string, targets []Target) ([]Progress, error)
	ExitStandby(ctx context.Context, groupID string, targets []Target) ([]Progress, error)
}

// A Protector sets or lifts the protection of instances from scale-in
// (lifecycle state Protected instead of InService).
type Protector interface {
	SetProtection(ctx context.Context, groupID string, targets []Target, protected bool) ([]Progress, error)
}

// A Starter starts instances that are Stopped. Progress.Done means that the order
// was accepted or the instance is Starting or Running already; the caller looks at
// the instance's power state for the rest.
type Starter interface {
	Start(ctx context.Context, groupID string, targets []Target) ([]Progress, error)
}

// A ProcessSuspender suspends and resumes scaling processes of a group. Processes
// already in the wished state are left as they are. The callID is the client token.
type ProcessSuspender interface {
	SuspendProcesses(ctx context.Context, groupID string, processes []Process, callID string) error
	ResumeProcesses(ctx context.Context, groupID string, processes []Process, callID string) error
}

// An Updater brings instances a step nearer to the target state of an update and is
// called again until each instance is done or failed.
//
// A call whose targets have no CallID only looks: it reads what it needs, changes
// nothing, and says in Progress.Act whether the next thing to do is a side effect.
// The first call of an attempt is always such a look. When Act is set, the Runner
// gives the instance a CallID, saves it together with Progress.State, and calls
// again; only then may the provider act, and only as that State says. So whatever a
// dead process may have begun is named in the record.
//
// All targets of one acting call share its CallID, and the call is sent again
// with the same targets until its outcome is known. If an answer settles only some of them,
// the others are sent again without these; a provider whose cloud ties a client token to the set of
// instances therefore looks a resent call up by its name before it sends anything. An answer with neither Done nor Err
// for a target means: the effect was accepted, look again after Wait. A target that
// is missing in the answer was not begun: nothing was done for it.
//
// The Runner sees to it that an instance is in Standby when its update begins. In the course of the update the instance
// may leave the group: right before a side effect that must not hit somebody else's instance, such as replacing its disk, the
// provider makes sure that it is still a member, and answers ErrNotFound if not. Starting one that the update has stopped is right
// in any case.
//
// Programs that embed the library implement Updater for their own kinds of update.
type Updater interface {
	Update(ctx context.Context, groupID string, u Update, targets []Target) ([]Progress, error)
}

// A Target names one instance in a call.
type Target struct {
	// InstanceID is the instance.
	InstanceID string
	// CallID names the side effect that this call makes, the same for all targets of the
	// call; empty in calls that only look. It is at most 40 ASCII characters (letters, digits,
	// hyphen), is derived from the task, the instances and their attempts, never from a process,
	// a clock or chance, and serves as client token and as the name under which a lost
	// side effect can be found again.
	CallID string
	// Resent says that a call with this CallID may have been sent before, by this process or
	// a dead one. Read the state first.
	Resent bool
	// Stale says that the first sending is so long ago that the cloud may have forgotten the
	// client token. The provider must find out what exists instead of sending again. It answers
	// ErrOutcomeUnknown if it cannot tell (yet), and ErrNotBegun if it is certain that
	// nothing happened.
	Stale bool
	// Stop asks an Updater for a safe end as early as possible: a script is asked to stop, an
	// instance whose disk was not yet replaced is started again, a replacement that
	// was sent is carried on until the instance runs. A provider that cannot stop carries on.
	Stop bool
	// Named is when CallID was named in the task's record, before it was sent for the first time; zero without a CallID.
	Named time.Time
	// Attempt counts the attempts to update this instance in this task, from 1.
	Attempt int
	// Since is when this attempt began. What a provider has learnt before that and that people can change (a scaling configuration,
	// an image) it reads again before it acts on it: a retry is there because somebody has mended something. Zero says nothing.
	Since time.Time
	// State is what the last Progress for this instance returned, nil at first.
	State json.RawMessage
	// Before is the instance as it was before this task first changed it.
	Before *Before
}

// Progress is the answer for one target.
type Progress struct {
	// InstanceID is the target's.
	InstanceID string
	// Done says that what was asked for has been reached. For an Updater: the instance is at a
	// safe end, and Outcome says which.
	Done bool
	// Outcome is set by an Updater with Done.
	Outcome Outcome
	// Fit says, with Done, that this call has seen the instance Running, with no replacement of its system disk open.
	// Then it goes back in service without another look.
	Fit bool
	// Act says that the next call should make a side effect, the one that State names.
	Act bool
	// State is handed back in the next call. It is kept in the task's record: keep it small,
	// and put no secret in it. An Updater may set it together with Err: it is where a retry
	// of this attempt's step starts from.
	State json.RawMessage
	// MaxTargets limits how many instances the next call may carry; zero means Limits.Update.
	MaxTargets int
	// Phase is a short word for what is being waited for ("stopping", "replacing"). The
	// Runner learns how long each phase takes.
	Phase string
	// Wait is how long it is not worth asking again; zero leaves it to the Runner. One that has learnt how long the
	// phase takes may ask sooner.
	Wait time.Duration
	// Stopped says that the update has (or may have) stopped the instance and has not yet
	// started it again.
	Stopped bool
	// Before completes what is known of the instance before the change; empty fields are ignored.
	Before *Before
	// Output is what a command printed, with Done or Err.
	Output *Output
	// Err is why this target failed, wrapped around a sentinel of this package. Errors that
	// [Retryable] accepts are tried again; all others fail the instance.
	Err error
}

// Outcome is how an update of one instance ended.
type Outcome string

// The outcomes.
const (
	// Updated means that the instance runs as the update wants it.
	Updated Outcome = "updated"
	// NotUpdated means that the update was stopped before it took effect.
	NotUpdated Outcome = "not_updated"
)

// Limits says how many instances one call may carry. Zero means any number.
type Limits struct {
	Instances  int // Reader.Instances
	Standby    int // EnterStandby and ExitStandby
	Protection int // SetProtection
	Start      int // Start
	Update     int // Update, unless a Progress said otherwise
}

// An Inspector reports what the checks before a task need to know and what is not worth
// reading in every call. It is an optional ability of a Provider; without
// it those checks are left out and the plan says so.
type Inspector interface {
	Inspect(ctx context.Context, groupID string, u Update, ids []string) (Inspection, error)
}

// A ConfigurationSetter reads and changes the image of the scaling configuration that new instances
// are made from. It is an optional ability of a Provider.
type ConfigurationSetter interface {
	// Configuration reports the group's active configuration source.
	Configuration(ctx context.Context, groupID string) (Configuration, error)
	// SetConfigurationImage sets the image (and, when not nil, the data disks) of the
	// scaling configuration want.ID. Setting what is set already is success.
	SetConfigurationImage(ctx context.Context, groupID string, want Configuration) error
}

// A Pacer knows how fast its cloud lets updates go on. It is an optional ability of a Provider: with it the Runner takes instances out of
// service only as fast as their updates can be ordered, so that none waits in Standby, stopped perhaps, for a rate limit.
type Pacer interface {
	// Pace says how many of n instances may be taken out of service now for u, and, if these are not all of them, how long to wait before
	// asking again; what it grants counts as used. It makes no call and returns at once. The Runner may leave out to ask, what it
	// asked for may come to nothing, and where for Timeouts.Group nothing is granted and nothing at work it lets one begin all the same:
	// the calls of the updates themselves are held to the limits in any case.
	Pace(u Update, n int) (now int, wait time.Duration)
}
