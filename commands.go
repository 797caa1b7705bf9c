package rollingupgrade

import (
	"fmt"
	"slices"
)

// RequestID makes a command repeatable: a command with the ID of one that was done already does nothing and succeeds.
// At most 256 bytes. A task remembers its newest 128 request IDs.
type RequestID string

// maxRequests bounds the request IDs that a head keeps.
const maxRequests = 128

// A command changes the record at an operator's request.
type command struct {
	name      Command
	instances []string
	fromStart bool
	filter    *RestoreFilter
	reason    string
}

// applyCommand carries out a command on the record, or returns a typed error and changes nothing.
func (m *machine) applyCommand(c command) error {
	rows, err := m.commandRows(c)
	if err != nil {
		return err
	}
	if err := check(m.t, c.name, rows); err != nil {
		return err
	}
	switch c.name {
	case CommandPause:
		m.commandPause(c)
	case CommandContinue:
		m.commanded(c, "")
		m.resume(onContinue, ByOperator, "")
	case CommandRetry:
		for _, i := range rows {
			m.retry(i, c.fromStart, ByOperator)
		}
		m.decided(true)
	case CommandSkip:
		m.decideInstances(rows, DecideSkip)
	case CommandCancelInstances:
		m.decideInstances(rows, DecideCancel)
	case CommandCancel:
		m.commandCancel(c)
	case CommandRestore:
		return m.commandRestore(c)
	}
	return nil
}

// commandRows finds the rows that a command names.
func (m *machine) commandRows(c command) ([]*Instance, error) {
	switch c.name {
	case CommandRetry, CommandSkip, CommandCancelInstances:
	default:
		return nil, m.knowsAll(c)
	}
	if len(c.instances) == 0 {
		return nil, &FieldError{"instanceIDs", "name at least one instance"}
	}
	if lookup(c.name, m.t.Status) == nil {
		return nil, check(m.t, c.name, nil)
	}
	var rows []*Instance
	seen := make(map[string]bool, len(c.instances))
	for _, id := range c.instances {
		i := m.row(id)
		if i == nil || i.Status == InstanceLeftover || i.Status == InstanceExcluded || i.Status == InstancePending && i.Batch == 0 { // the last: of a plan that is not final
			return nil, &OpError{string(c.name), clip(id), fmt.Errorf("%w %s", ErrUnknownInstance, m.t.ID)}
		}
		if !seen[id] {
			rows = append(rows, i)
		}
		seen[id] = true
	}
	return rows, nil
}

// knowsAll refuses a filter that names instances which the task does not have.
func (m *machine) knowsAll(c command) error {
	if c.filter == nil {
		return nil
	}
	for _, id := range c.filter.InstanceIDs {
		if m.row(id) == nil {
			return &OpError{string(c.name), clip(id), fmt.Errorf("%w %s", ErrUnknownInstance, m.t.ID)}
		}
	}
	return nil
}

// commanded notes that a command was accepted.
func (m *machine) commanded(c command, text string) {
	m.event(Event{Kind: EventCommand, Cause: ByOperator, Batch: m.t.Batch, To: string(c.name), Text: text})
}

func (m *machine) commandPause(c command) {
	if p := m.t.PauseAsked; p != nil && p.Why == PausedByOperator {
		return
	}
	m.t.PauseAsked = &Pause{Why: PausedByOperator, Text: or(c.reason, "the operator asked for a pause")}
	m.commanded(c, c.reason)
}

// decideInstances carries out skip or cancel: at once where nothing is at work, else at the next safe end.
func (m *machine) decideInstances(rows []*Instance, d Decision) {
	for _, i := range rows {
		if i.Status != InstanceRunning {
			m.mark(i, d, ByOperator)
			continue
		}
		if i.Decision == d {
			continue
		}
		if i.Decision == "" {
			i.StepSince = m.now // the way to the safe end has a deadline of its own
		}
		i.Decision, i.DecidedBy = d, ByOperator
		m.track(i).nextAt = m.now
		m.touch(i)
		m.event(Event{Kind: EventDecision, Cause: ByOperator, InstanceID: i.ID, Batch: i.Batch, To: string(d), Text: "noted; it takes effect at a safe end"})
	}
	m.decided(false)
}

// decided ends a failure pause when an instance is tried again or when none is undecided any more.
func (m *machine) decided(retried bool) {
	if m.t.Status != StatusFailurePaused {
		return
	}
	if !retried && m.tally.undecided > 0 {
		return
	}
	m.resume(onDecisions, ByOperator, "")
}

func (m *machine) commandCancel(c command) {
	restore := (*Restore)(nil)
	if c.filter != nil {
		restore = &Restore{Filter: *c.filter, Since: m.now, Cause: ByOperator}
	}
	m.commanded(c, c.reason)
	if m.t.Status == StatusCanceling {
		switch {
		case restore == nil:
		case m.t.Restore == nil:
			m.t.Restore = restore
		default:
			m.t.Restore.after(*c.filter)
		}
		return
	}
	m.cancel(ByOperator, or(c.reason, "canceled by the operator"), restore)
}

func (m *machine) commandRestore(c command) error {
	if m.t.NextID != "" {
		return &CommandError{
			Command: c.name, TaskID: m.t.ID, Status: m.t.Status, Legal: legal(m.t.Status),
			Err: fmt.Errorf("%w: its leftovers belong to task %s", ErrNotLatest, m.t.NextID),
		}
	}
	if m.t.Restore.Active() {
		if m.t.Restore.after(*c.filter) {
			m.commanded(c, "after the one that is at work")
		}
		return nil
	}
	m.commanded(c, "")
	m.t.Restore = &Restore{Filter: *c.filter, Since: m.now, Cause: ByOperator}
	m.t.HoldsGroup = true
	m.awaken()
	m.stage("", "")
	return nil
}

// after has a further filter restored when the restore at work has ended. It reports false if that is nothing new.
func (r *Restore) after(f RestoreFilter) bool {
	same := func(g RestoreFilter) bool {
		return slices.Equal(f.InstanceIDs, g.InstanceIDs) && slices.Equal(f.Kinds, g.Kinds)
	}
	if same(r.Filter) || slices.ContainsFunc(r.Then, same) {
		return false
	}
	r.Then = append(slices.Clip(r.Then), f)
	return true
}

// rememberRequest notes that a command was done under a request ID.
func (m *machine) rememberRequest(id RequestID, hash string) {
	if id == "" {
		return
	}
	m.t.Requests = append(m.t.Requests, Request{ID: string(id), Hash: hash})
	if n := len(m.t.Requests); n > maxRequests {
		m.t.Requests = slices.Clone(m.t.Requests[n-maxRequests:])
	}
	m.touchHead()
}

// repeated reports whether the command was done under the same request ID before.
func (m *machine) repeated(id RequestID, hash string) (bool, error) {
	if id == "" {
		return false, nil
	}
	for _, r := range m.t.Requests {
		if r.ID == string(id) {
			if r.Hash != hash {
				return false, &OpError{"request", clip(string(id)), ErrRequestMismatch}
			}
			return true, nil
		}
	}
	return false, nil
}

// hash names what a command asks for.
func (c *command) hash() string {
	return hashOf([]any{c.name, c.instances, c.fromStart, c.filter, c.reason})
}
