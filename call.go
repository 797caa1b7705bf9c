package rollingupgrade

import (
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// The operations of calls. Those that make a side effect are named in the record before they are made.
const (
	opLook         = "Look" // Group, Members and Instances, as far as asked for
	opSuspend      = "SuspendProcesses"
	opResume       = "ResumeProcesses"
	opUnprotect    = "Unprotect"
	opProtect      = "Protect"
	opEnter        = "EnterStandby"
	opExit         = "ExitStandby"
	opStart        = "Start"
	opUpdate       = "Update"
	opReadImage    = "Configuration"
	opSetImage     = "SetConfigurationImage"
	opBeforeBatch  = "BeforeBatch"
	opAfterBatch   = "AfterBatch"
	opPaused       = "Paused"
	opFailed       = "Failed"
	opVerify       = "Verify"
	opRollbackTask = "Rollback" // the Runner's own command, because a hook or a limit asked for it
)

// A call is what the driver does next, outside the record.
type call struct {
	op string
	at time.Time // when it was made
	id string    // names the side effect; empty for looks and hooks
	// subject says which part of the machine waits for the outcome.
	subject subject
	stage   Stage // the stage that asked, for group-level calls

	rows    []rowRef          // the rows that the call is about
	targets []provider.Target // for provider calls about instances
	update  provider.Update

	wantGroup, wantMembers bool     // opLook
	ids                    []string // opLook
	processes              []provider.Process
	configuration          provider.Configuration

	summary Summary
	batch   Batch
	pause   Pause
	failure InstanceFailure

	sortKey string
}

// subject is the part of a machine that a call belongs to.
type subject int

const (
	ofGroup subject = iota // one at a time
	ofRows
	ofHook // one at a time
)

// rowRef says which life of a row a call was made for.
type rowRef struct {
	id      string
	step    Step
	attempt int
}

// An outcome is what came of a call.
type outcome struct {
	call      *call
	progress  []provider.Progress
	group     *provider.Group
	members   []provider.Instance
	instances []provider.Instance
	config    provider.Configuration
	verdicts  []Verdict
	decision  Decision
	err       error
	notSent   bool // the lease was nearly over, or there was no slot: the call did not go out
}

// acts reports whether the call makes a side effect that the record names.
func (c *call) acts() bool { return c.id != "" }

// started notes that the driver has begun the call.
func (m *machine) started(c *call) {
	switch c.subject {
	case ofGroup:
		m.group.busy = true
	case ofHook:
		m.hook = true
	}
	if len(c.rows) > 0 {
		m.busyRows++
	}
	for _, r := range c.rows {
		if i, ok := m.index[r.id]; ok && c.op != opFailed { // a failure is asked about; the row itself may be retried meanwhile
			m.mem[i].busy, m.due[i] = true, never
			if c.acts() {
				m.mem[i].fresh = false
			}
		}
	}
}

// ended is the opposite of started.
func (m *machine) ended(c *call) {
	switch c.subject {
	case ofGroup:
		m.group.busy = false
	case ofHook:
		m.hook = false
	}
	if len(c.rows) > 0 {
		m.busyRows--
	}
	for _, r := range c.rows {
		if i, ok := m.index[r.id]; ok && c.op != opFailed && m.t.Instances[i].Attempt == r.attempt {
			m.mem[i].busy, m.due[i] = false, 0
		}
	}
}

// unsent notes that a call did not go out after all.
func (m *machine) unsent(c *call) {
	m.ended(c)
	for _, r := range c.rows {
		if i, ok := m.index[r.id]; ok && c.acts() && !c.resent(r.id) {
			m.mem[i].fresh = true
		}
	}
}

// resent reports whether the call may have been sent before.
func (c *call) resent(id string) bool {
	for _, t := range c.targets {
		if t.InstanceID == id {
			return t.Resent
		}
	}
	return false
}

// stale reports whether the cloud may have forgotten the token of a call. A clock that went backwards counts as stale.
func (m *machine) stale(c *Call) bool {
	age := m.now.Sub(c.At)
	return age > m.env.tokenTrust || age < 0
}

// lost reports whether a call has been looked for long enough.
func (m *machine) lost(c *Call) bool {
	age := m.now.Sub(c.At) - c.Idle
	return age > m.env.tokenTrust+m.env.lookup
}

// groupLook returns a look about the group, if it is time for one.
func (m *machine) groupLook(c *call) []*call {
	c.op, c.wantGroup = opLook, true
	return m.groupCall(c)
}

// groupCall returns c if no group-level call is in flight and it is time for one.
func (m *machine) groupCall(c *call) []*call {
	if m.group.busy {
		return nil
	}
	if m.group.nextAt.After(m.now) {
		m.wake(m.group.nextAt)
		return nil
	}
	c.subject, c.stage, c.summary = ofGroup, m.t.Stage, m.t.Summary()
	if m.t.Ledger.Call != nil && c.op == m.t.Ledger.Call.Op {
		c.id = m.t.Ledger.Call.ID
	}
	return []*call{c}
}

// hookCall returns c if no hook of the task is being called.
func (m *machine) hookCall(c *call) []*call {
	if m.hook {
		return nil
	}
	c.subject, c.stage, c.summary = ofHook, m.t.Stage, m.t.Summary()
	return []*call{c}
}

// groupRetry plans the next try of a group-level step, and reports false if err does not pass by itself or limit is over.
func (m *machine) groupRetry(err error, limit time.Duration) bool {
	m.group.last = err
	if !provider.Retryable(err) || m.now.Sub(m.t.StageSince) > limit {
		return false
	}
	m.group.nextAt = m.now.Add(m.env.backoff(m.group.tries))
	m.group.tries++
	return true
}

func (m *machine) groupLimit() time.Duration { return or(m.t.Spec.Timeouts.Group, 10*time.Minute) }
