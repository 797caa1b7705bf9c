package fake

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Fault makes calls fail. It is data; [Cloud.Inject] puts it to work.
//
//	cloud.Inject(fake.Fault{Op: "EnterStandby", Nth: 2, Err: provider.ErrThrottled})
//	cloud.Inject(fake.Fault{Op: "Update", Target: "i-0003", Nth: 1, Lost: true})
type Fault struct {
	// Op is a method of the Provider ("EnterStandby", "Update") or a wire call ("StopInstances"); see [Cloud.Calls].
	// Empty matches every method. A wire call that has the same name as the method that makes it is
	// not matched a second time.
	Op string
	// Target is an instance or group that the call must name; empty matches any.
	//
	// In a method of the Provider, a fault with a Target concerns that instance's answer only: the
	// rest of the call goes on without it. In a wire call the whole call is refused.
	Target string
	// Nth is the first match that fails, from 1; zero counts as 1.
	Nth int
	// Count is how many matches fail from Nth on. Zero means one if Nth is given, else every one. Negative means
	// every one from Nth on.
	Count int
	// After and Until bound the time since Inject in which calls match; zero means no bound.
	After, Until time.Duration
	// Err is what the call answers. It should wrap a sentinel of package provider. With Lost the default is provider.ErrTransient;
	// without Lost and Err, the fault only delays.
	Err error
	// Lost lets the effect happen; only the answer is lost.
	Lost bool
	// Whole makes a fault with a Target refuse a whole method call: the other targets get provider.ErrRefused.
	Whole bool
	// Delay makes the answer come so much later. Config.Speed does not divide it.
	Delay time.Duration
}

// String says what the fault does, in one line.
func (f Fault) String() string {
	s := fmt.Sprintf("%s %s nth=%d count=%d", or2(f.Op, "*"), or2(f.Target, "*"), f.Nth, f.Count)
	if f.Lost {
		s += " lost"
	}
	if f.Delay != 0 {
		s += " delay=" + f.Delay.String()
	}
	if f.Err != nil {
		s += " err=" + f.Err.Error()
	}
	return s
}

func or2(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Throttle returns a fault: the first n calls of op are throttled.
func Throttle(op string, n int) Fault {
	return Fault{Op: op, Nth: 1, Count: n, Err: provider.ErrThrottled}
}

// LoseAnswer returns a fault: the nth call of op has its effect, but its answer is lost.
func LoseAnswer(op string, nth int) Fault { return Fault{Op: op, Nth: nth, Lost: true} }

type fault struct {
	Fault
	injected time.Time
	matched  int
	fired    int
}

// Inject puts faults to work, in addition to those that are there. Where several match one call, the
// first one with an error wins and the delays add up.
func (c *Cloud) Inject(faults ...Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range faults {
		if f.Lost && f.Err == nil {
			f.Err = provider.ErrTransient
		}
		c.faults = append(c.faults, &fault{Fault: f, injected: time.Now()})
	}
}

// ClearFaults takes all faults away.
func (c *Cloud) ClearFaults() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
}

// PendingFaults returns the faults that have not done all that they were to do: those that failed fewer calls
// than Count says, and those without a Count that never fired.
func (c *Cloud) PendingFaults() []Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	var pending []Fault
	for _, f := range c.faults {
		if f.fired < max(1, f.Count) {
			pending = append(pending, f.Fault)
		}
	}
	return pending
}

// verdict is what the faults do to one call.
type verdict struct {
	err    error
	lost   bool
	whole  bool
	target string
	delay  time.Duration
}

// match counts the call against all faults. inside is the Provider method that makes this wire call, if one does.
func (c *Cloud) match(now time.Time, op, groupID string, targets []string, inside string) (v verdict) {
	if op == inside {
		return v
	}
	for _, f := range c.faults {
		if f.Op != op && (f.Op != "" || inside != "") {
			continue
		}
		if f.Target != "" && f.Target != groupID && !slices.Contains(targets, f.Target) {
			continue
		}
		since := now.Sub(f.injected)
		if f.After > 0 && since < f.After || f.Until > 0 && since >= f.Until {
			continue
		}
		f.matched++
		if !f.fires() {
			continue
		}
		f.fired++
		v.delay += f.Delay
		if v.err == nil && f.Err != nil {
			v.lost, v.whole = f.Lost, f.Whole
			if f.Target != groupID {
				v.target = f.Target
			}
			v.err = injected(op, f.Fault, v.target)
		}
	}
	return v
}

func (f *fault) fires() bool {
	from := max(1, f.Nth)
	switch {
	case f.matched < from:
		return false
	case f.Count > 0:
		return f.matched < from+f.Count
	case f.Count == 0 && f.Nth > 0:
		return f.matched == from
	}
	return true
}

// injected is the error of a fault, in the cloud's form.
func injected(op string, f Fault, target string) error {
	if own := new(*APIError); errors.As(f.Err, own) {
		return f.Err
	}
	e := &APIError{Action: op, Code: "InternalError", HTTPStatus: 500, Message: "injected fault", Err: f.Err, Lost: f.Lost}
	if target != "" {
		e.Targets = []string{target}
	}
	for _, k := range []struct {
		class  error
		code   string
		status int
	}{
		{provider.ErrThrottled, "Throttling", 400},
		{provider.ErrBusy, "IncorrectScalingGroupStatus", 400},
		{provider.ErrNotFound, "InvalidInstanceId.NotFound", 404},
		{provider.ErrPermission, "Forbidden.Unauthorized", 403},
		{provider.ErrInvalid, "InvalidParameter", 400},
		{provider.ErrInvalidState, "IncorrectInstanceStatus", 403},
	} {
		if errors.Is(f.Err, k.class) {
			e.Code, e.HTTPStatus = k.code, k.status
		}
	}
	return e
}
