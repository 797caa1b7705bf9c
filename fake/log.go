package fake

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Call is one call of the client: a method of the Provider, or a wire call that the client made itself.
type Call struct {
	Seq     int // from 1
	Op      string
	GroupID string
	Targets []string
	CallID  string
	Start   time.Time
	End     time.Time // zero while it is under way
	// Err is the error of the whole call, or those of single targets.
	Err string
}

// String is one line without anything that changes from run to run in a testing/synctest bubble.
func (c Call) String() string {
	took := "..."
	if !c.End.IsZero() {
		took = c.End.Sub(c.Start).String()
	}
	s := fmt.Sprintf("%04d %s %s %s [%s] %s", c.Seq, c.Start.UTC().Format("15:04:05.000000000"), c.Op, c.GroupID, strings.Join(c.Targets, " "), took)
	if c.CallID != "" {
		s += " " + c.CallID
	}
	if c.Err != "" {
		s += " error: " + c.Err
	}
	return s
}

// An Effect is a change of state that the client brought about: an accepted order, for one instance or (with an
// empty InstanceID) for the group. Action is the wire call; "HealthCheck" is what the cloud
// does by itself because of what the client did.
type Effect struct {
	Time       time.Time
	Action     string
	GroupID    string
	InstanceID string
	// CallID is that of the Provider method; Token the client token on the wire.
	CallID, Token string
	// Lifecycle and Power are the instance's before the effect.
	Lifecycle provider.Lifecycle
	Power     provider.Power
	Detail    string
}

// String is one line.
func (e Effect) String() string {
	return fmt.Sprintf("%s %s %s %s %s", e.Time.UTC().Format("15:04:05.000000000"), e.Action, or2(e.InstanceID, e.GroupID), e.CallID, e.Detail)
}

// Calls returns the calls so far, in the order in which they were handled.
//
// Methods of the Provider appear under their own names: Group, Members, Instances, EnterStandby, ExitStandby, SetProtection,
// Start, SuspendProcesses, ResumeProcesses, Update, Inspect, Configuration, SetConfigurationImage. The
// wire calls that they make are not listed; what came of them is in [Cloud.Effects].
func (c *Cloud) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Call, len(c.calls))
	for n, call := range c.calls {
		out[n] = *call
		out[n].Targets = slices.Clone(call.Targets)
	}
	return out
}

// Effects returns the changes of state that the client brought about, in order.
func (c *Cloud) Effects() []Effect {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(time.Now())
	return slices.Clone(c.effects)
}

// CountEffects counts the effects of an action on an instance (or on any, with an empty ID).
func (c *Cloud) CountEffects(action, instanceID string) int {
	n := 0
	for _, e := range c.Effects() {
		if e.Action == action && (instanceID == "" || e.InstanceID == instanceID) {
			n++
		}
	}
	return n
}

// Violations returns what a correct client never does: calls that the cloud refused although nothing happened that the client could not know
// (no injected fault, no change from outside), and calls that the cloud accepted but that do damage, such as an instance that goes
// back in service while it is not Running. A test of a client should find it empty.
func (c *Cloud) Violations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.violations)
}

// ClearLog forgets calls, effects and violations.
func (c *Cloud) ClearLog() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls, c.effects, c.violations, c.callSeq = nil, nil, nil, 0
}

// logCall notes the begin of a call; nil if logging is off. c.mu is held.
func (c *Cloud) logCall(now time.Time, op, groupID string, targets []string, callID string) *Call {
	if c.cfg.NoLog {
		return nil
	}
	c.callSeq++
	call := &Call{Seq: c.callSeq, Op: op, GroupID: groupID, Targets: slices.Clone(targets), CallID: callID, Start: now}
	c.calls = append(c.calls, call)
	return call
}

// endCall notes the end of a call.
func (c *Cloud) endCall(call *Call, err error) {
	if call == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	call.End = time.Now()
	if err != nil {
		call.Err = err.Error()
	}
}

func (c *Cloud) recordEffect(e Effect, i *instance) {
	if c.cfg.NoLog {
		return
	}
	e.Time = c.now
	if i != nil {
		e.InstanceID, e.Lifecycle, e.Power = i.id, i.lifecycle, i.power
		if i.group != nil {
			e.GroupID = i.group.id
		}
	}
	c.effects = append(c.effects, e)
}

// violate notes what a correct client never does.
func (c *Cloud) violate(who caller, format string, args ...any) {
	s := fmt.Sprintf("%s %s", c.now.UTC().Format("15:04:05.000000000"), fmt.Sprintf(format, args...))
	if who.op != "" {
		s += fmt.Sprintf(" (in %s %s)", who.op, who.callID)
	}
	c.violations = append(c.violations, s)
}
