package rollingupgrade

import (
	"errors"
	"slices"
	"time"
)

// PrunePolicy says which ended tasks [Runner.Prune] forgets: those that are beyond every bound that is set. One
// at least must be set: the zero PrunePolicy is refused, so that a forgotten setting does not cost the history.
type PrunePolicy struct {
	// OlderThan forgets tasks that ended at least so long ago, their last restore included; zero means at any time.
	OlderThan time.Duration
	// Keep spares the newest tasks of each group, so many, those that have not ended included; zero spares none.
	Keep int
	// GroupID limits it to one scaling group; empty means all.
	GroupID string
}

func (p *PrunePolicy) validate() error {
	c := &checker{}
	c.duration("PrunePolicy.OlderThan", p.OlderThan)
	c.count("PrunePolicy.Keep", p.Keep, 0)
	if p.GroupID != "" {
		c.id("PrunePolicy.GroupID", p.GroupID)
	}
	if p.OlderThan == 0 && p.Keep == 0 {
		c.field("PrunePolicy", "is empty; set OlderThan or Keep")
	}
	return errors.Join(c.errs...)
}

// A trace is what pruning needs of a head.
type trace struct {
	id, group, next, source string
	version                 int64
	ended                   bool // and at rest: no restore is at work, and it holds no group
	endedAt                 time.Time
	touched                 bool
	known                   bool // its schema is not newer than this version's
}

func traceOf(h *Head) *trace {
	t := &trace{
		id: h.ID, group: h.GroupID, next: h.NextID, source: h.SourceID, version: h.Version,
		ended: h.Status.Ended() && !h.Restore.Active() && !h.HoldsGroup, endedAt: h.EndedAt,
		touched: h.Touched, known: h.Schema <= SchemaVersion,
	}
	if h.Restore != nil && h.Restore.EndedAt.After(t.endedAt) {
		t.endedAt = h.Restore.EndedAt
	}
	return t
}

// prunable returns the tasks that may go, by chain, each after the one before it in its group, so that whoever stops in between
// leaves no gap. It is given all tasks of the groups concerned, newest first.
//
// A chain is followed by NextID, which never changes once it is set. What a rollback or a later task may still need is at its end: the newest
// task, which owns the group's leftovers, and what comes before it back to the last task that has touched an
// instance, for that one can be rolled back. Tasks are only taken from the beginning of a chain.
func prunable(tasks []*trace, p *PrunePolicy, now time.Time) [][]*trace {
	byID := make(map[string]*trace, len(tasks))
	follows := make(map[string]bool, len(tasks))
	rolledBack := map[string]bool{} // sources of rollbacks that have not ended
	for _, t := range tasks {
		byID[t.id] = t
		follows[t.next] = true
		if t.source != "" && !t.ended {
			rolledBack[t.source] = true
		}
	}
	var gone [][]*trace
	for _, first := range slices.Backward(tasks) {
		if follows[first.id] {
			continue
		}
		var chain []*trace
		for t := first; t != nil; t = byID[t.next] {
			chain = append(chain, t)
			delete(byID, t.id) // whatever a damaged record says, no task comes twice
		}
		end := min(needed(chain), len(chain)-p.Keep)
		for n := range chain {
			if t := chain[n]; n >= end || !t.ended || !t.known || rolledBack[t.id] || now.Sub(t.endedAt) < p.OlderThan {
				chain = chain[:n]
				break
			}
		}
		if len(chain) > 0 {
			gone = append(gone, chain)
		}
	}
	return gone
}

// needed is the place in a chain from which on tasks are needed whatever a policy says.
func needed(chain []*trace) int {
	for n, t := range slices.Backward(chain) {
		if t.touched {
			return n
		}
	}
	return len(chain) - 1 // nothing can be rolled back
}
