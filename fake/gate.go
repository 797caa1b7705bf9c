package fake

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// slot is for how long calls are gathered before they are handled in order.
const slot = int64(time.Microsecond)

// request is a call that waits for its turn.
type request struct {
	ctx     context.Context
	slot    int64
	op      string
	groupID string
	targets []string
	callID  string
	run     func(now time.Time)
	done    bool
	refused error // the context's error, if it was over at the call's turn
}

// gather runs f under c.mu, with the model brought up to now.
//
// Calls that arrive at one instant run in the order (op, group, targets, call ID), whatever order
// the scheduler woke their callers in: each waits for the end of its microsecond, and the first to
// wake handles all that arrived before. If ctx ends first, f may or may not have run.
func (c *Cloud) gather(ctx context.Context, op, groupID string, targets []string, callID string, f func(now time.Time)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	now := time.Now().UnixNano()
	r := &request{ctx: ctx, slot: now / slot, op: op, groupID: groupID, targets: targets, callID: callID, run: f}
	c.mu.Lock()
	c.waiting = append(c.waiting, r)
	c.mu.Unlock()

	err := sleep(ctx, time.Duration((r.slot+1)*slot-now))
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if i := slices.Index(c.waiting, r); i >= 0 {
			c.waiting = slices.Delete(c.waiting, i, i+1)
		}
		return err
	}
	if !r.done {
		c.handle(r.slot)
	}
	return r.refused
}

// handle runs all calls that arrived up to slot s.
func (c *Cloud) handle(s int64) {
	var batch, later []*request
	for _, r := range c.waiting {
		if r.slot <= s {
			batch = append(batch, r)
		} else {
			later = append(later, r)
		}
	}
	c.waiting = later
	slices.SortStableFunc(batch, func(a, b *request) int {
		return cmp.Or(
			cmp.Compare(a.slot, b.slot),
			strings.Compare(a.op, b.op),
			strings.Compare(a.groupID, b.groupID),
			slices.Compare(a.targets, b.targets),
			strings.Compare(a.callID, b.callID))
	})
	now := time.Now()
	c.advance(now)
	for _, r := range batch {
		r.done = true
		if r.refused = r.ctx.Err(); r.refused == nil {
			r.run(now)
		}
	}
}

// wakeAt returns when a call that takes d from now on is to wake: an instant that no other call wakes at,
// because goroutines that wake at the same instant run in random order.
func (c *Cloud) wakeAt(now time.Time, d time.Duration) time.Time {
	if len(c.wakes) > 4096 {
		for at := range c.wakes {
			if at < now.UnixNano() {
				delete(c.wakes, at)
			}
		}
	}
	at := now.Add(d)
	for c.wakes[at.UnixNano()] {
		at = at.Add(1)
	}
	c.wakes[at.UnixNano()] = true
	return at
}

// sleep waits for d or until ctx is done, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// caller is what a wire call knows of the Provider method that makes it.
type caller struct {
	op     string
	callID string
	quick  bool // the method has a latency of its own
}

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	who, _ := ctx.Value(callerKey{}).(caller)
	return who
}

// wire makes one wire call: it waits for its turn, lets faults interfere, runs f under c.mu and answers after the latency.
// Calls that no Provider method makes are logged.
func (c *Cloud) wire(ctx context.Context, action, groupID string, targets []string, token string, f func(now time.Time, who caller) error) error {
	who := callerOf(ctx)
	direct := who.op == ""
	if direct {
		who.callID = token
	}
	var answer error
	var wake time.Time
	var entry *Call
	err := c.gather(ctx, action, groupID, targets, who.callID, func(now time.Time) {
		turn := turnOf(ctx, now)
		v := verdict{err: turn.Err}
		if turn.Err == nil {
			v = c.match(now, action, groupID, targets, who.op)
		}
		if direct {
			entry = c.logCall(now, action, groupID, targets, token)
		}
		switch {
		case v.err == nil:
			answer = f(now, who)
		case v.lost:
			_ = f(now, who)
			answer = v.err
		default:
			answer = v.err
		}
		d := v.delay + turn.Delay
		switch {
		case turn.quick:
			d += c.took("latency "+action, first(targets, groupID), c.cfg.Latency.Write)
		case !who.quick:
			d += c.latencyOf(action, first(targets, groupID))
		}
		if d > 0 {
			wake = c.wakeAt(now, d)
		}
	})
	if err != nil {
		return err
	}
	if !wake.IsZero() {
		err = sleep(ctx, time.Until(wake))
	}
	if err == nil {
		err = answer
	}
	c.endCall(entry, err)
	return err
}

func first(ids []string, otherwise string) string {
	if len(ids) > 0 {
		return ids[0]
	}
	return otherwise
}
