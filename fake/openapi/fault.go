package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

// A Reply is what a fault sends in place of the answer.
type Reply string

// The replies. A client that gets one of the last four does not know whether the call had its effect.
const (
	ReplyAnswer  Reply = ""            // the true answer; only late
	ReplyError   Reply = "error"       // Status and Code
	ReplyCut     Reply = "cut"         // no byte; the connection is cut
	ReplyCutBody Reply = "cut body"    // half of the body, then the connection is cut
	ReplyEmpty   Reply = "empty"       // status 200 and an empty body
	ReplyBroken  Reply = "broken JSON" // status 200 and half of the JSON
)

// A Fault makes calls go wrong on the wire. It is data; [Handler.Inject] puts it to work.
type Fault struct {
	// Action is such as "EnterStandby"; empty matches any.
	Action string
	// Target is a parameter's value that the call must have, such as an instance or a group; empty matches any.
	Target string
	// Nth is the first match that goes wrong, from 1; zero counts as 1.
	Nth int
	// Count is how many matches go wrong from Nth on. Zero means one if Nth is given, else every one. Negative means
	// every one from Nth on.
	Count int
	// After and Until bound the time since Inject in which calls match; zero means no bound.
	After, Until time.Duration
	// Chance is the share of those matches that go wrong after all, drawn from Config.Seed; zero means all.
	Chance float64

	// Reply is what the client gets.
	Reply Reply
	// Effect lets the call have its effect. ReplyAnswer always does.
	Effect bool
	// Status and Code are those of ReplyError. Default 503, ServiceUnavailable.
	Status int
	Code   string
	// RetryAfter is sent in the header x-acs-retry-after, in milliseconds; zero sends none.
	RetryAfter time.Duration
	// Delay makes the reply come so much later.
	Delay time.Duration
}

// String says what the fault does, in one line.
func (f Fault) String() string {
	return fmt.Sprintf("%q %q nth=%d count=%d chance=%g reply=%q effect=%t %d %s delay=%v",
		f.Action, f.Target, f.Nth, f.Count, f.Chance, f.Reply, f.Effect, f.Status, f.Code, f.Delay)
}

// Throttle returns a fault: the first n calls of action are throttled, with the advice to come back after that time.
func Throttle(action string, n int, retryAfter time.Duration) Fault {
	return Fault{Action: action, Nth: 1, Count: n, Reply: ReplyError, Status: 400, Code: "Throttling.User", RetryAfter: retryAfter}
}

// Refuse returns a fault: the first n calls of action are refused with a code, such as "BackendServer.configuring".
func Refuse(action string, n int, status int, code string) Fault {
	return Fault{Action: action, Nth: 1, Count: n, Reply: ReplyError, Status: status, Code: code}
}

// Unavailable returns a fault: the nth call of action answers 503, with or without its effect.
func Unavailable(action string, nth int, effect bool) Fault {
	return Fault{Action: action, Nth: nth, Reply: ReplyError, Status: 503, Code: "ServiceUnavailable", Effect: effect}
}

// Internal returns a fault: the nth call of action answers 500, with or without its effect.
func Internal(action string, nth int, effect bool) Fault {
	return Fault{Action: action, Nth: nth, Reply: ReplyError, Status: 500, Code: "InternalError", Effect: effect}
}

// Lose returns a fault: the nth call of action has its effect, but its answer is lost in the way of reply.
func Lose(action string, nth int, reply Reply) Fault {
	return Fault{Action: action, Nth: nth, Reply: reply, Effect: true}
}

// Slow returns a fault: the nth call of action answers so much later.
func Slow(action string, nth int, delay time.Duration) Fault {
	return Fault{Action: action, Nth: nth, Delay: delay}
}

type fault struct {
	Fault
	number   uint64
	injected time.Time
	matched  int
	fired    int
}

// Inject puts faults to work, in addition to those that are there. Where several match one call, the first one that replies
// wins and the delays add up.
func (h *Handler) Inject(faults ...Fault) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range faults {
		if f.Reply == ReplyError && f.Status == 0 {
			f.Status = http.StatusServiceUnavailable
		}
		if f.Reply == ReplyError && f.Code == "" {
			f.Code = "ServiceUnavailable"
		}
		h.faults = append(h.faults, &fault{Fault: f, number: uint64(len(h.faults)), injected: time.Now()})
	}
}

// ClearFaults takes all faults away.
func (h *Handler) ClearFaults() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = nil
}

// PendingFaults returns the faults that have not done all that they were to do.
func (h *Handler) PendingFaults() []Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	var pending []Fault
	for _, f := range h.faults {
		if f.fired < max(1, f.Count) {
			pending = append(pending, f.Fault)
		}
	}
	return pending
}

// errNoEffect is what the cloud answers to a call that a fault keeps from it.
var errNoEffect = errors.New("openapi: a fault kept the call from the cloud")

// window counts the calls of an action in one minute.
type window struct {
	minute time.Time
	calls  int
}

// turn is asked when it is the call's turn: it looks for faults and at the rates.
func (c *call) turn(now time.Time) fake.Turn {
	h := c.h
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logged(c)
	var t fake.Turn
	if f := h.throttled(c.name, now); f != nil {
		c.fault, t.Err = f, errNoEffect
		return t
	}
	for _, f := range h.faults {
		if !h.fires(f, c, now) {
			continue
		}
		f.fired++
		t.Delay += f.Delay
		if c.fault == nil && f.Reply != ReplyAnswer {
			copied := f.Fault
			if c.fault = &copied; !f.Effect {
				t.Err = errNoEffect
			}
		}
	}
	return t
}

// throttled counts the call and is a fault if there were too many in this minute.
func (h *Handler) throttled(action string, now time.Time) *Fault {
	limit, set := h.cfg.Rates[action]
	if !set {
		return nil
	}
	w := h.windows[action]
	if minute := now.Truncate(time.Minute); !w.minute.Equal(minute) {
		w = window{minute: minute}
	}
	w.calls++
	h.windows[action] = w
	if w.calls <= limit {
		return nil
	}
	f := Throttle(action, 1, w.minute.Add(time.Minute).Sub(now))
	return &f
}

func (h *Handler) fires(f *fault, c *call, now time.Time) bool {
	if f.Action != "" && f.Action != c.name || f.Target != "" && !c.names(f.Target) {
		return false
	}
	since := now.Sub(f.injected)
	if f.After > 0 && since < f.After || f.Until > 0 && since >= f.Until {
		return false
	}
	f.matched++
	from := max(1, f.Nth)
	switch {
	case f.matched < from:
		return false
	case f.Count > 0 && f.matched >= from+f.Count:
		return false
	case f.Count == 0 && f.Nth > 0 && f.matched != from:
		return false
	}
	return f.Chance <= 0 || h.draw(f, c) < f.Chance
}

// draw returns a number in [0,1). It depends on the seed, the fault, the call's parameters and how often that
// was drawn, not on the order in which calls arrive.
func (h *Handler) draw(f *fault, c *call) float64 {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%d %d %s %s", h.cfg.Seed, f.number, c.name, c.text(func(string) bool { return true }))
	key := hash.Sum64()
	h.draws[key]++
	x := key + uint64(h.draws[key])*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}

// names reports whether a parameter of the call is target, or a list that has it.
func (c *call) names(target string) bool {
	for _, v := range c.params {
		var list []string
		if v == target || len(v) > 1 && v[0] == '[' && json.Unmarshal([]byte(v), &list) == nil && slices.Contains(list, target) {
			return true
		}
	}
	return false
}

// replyFault sends what a fault wants. answer and err are the true ones if the call had its effect.
func (h *Handler) replyFault(w http.ResponseWriter, c *call, answer obj, err error) {
	f := c.fault
	if errors.Is(err, errNoEffect) {
		err = nil
	}
	body := c.body(answer)
	switch f.Reply {
	case ReplyError:
		if f.RetryAfter > 0 {
			w.Header().Set("x-acs-retry-after", strconv.FormatInt(max(1, f.RetryAfter.Milliseconds()), 10))
		}
		h.replyError(w, c, &fake.APIError{Action: c.name, Code: f.Code, HTTPStatus: f.Status, Message: "a fault of the wire", Err: err}, "")
	case ReplyEmpty:
		h.ended(c, http.StatusOK, string(f.Reply), err)
		c.head(w, http.StatusOK, 0)
	case ReplyBroken:
		h.ended(c, http.StatusOK, string(f.Reply), err)
		c.head(w, http.StatusOK, len(body)/2)
		w.Write(body[:len(body)/2])
	case ReplyCutBody:
		h.ended(c, http.StatusOK, string(f.Reply), err)
		c.head(w, http.StatusOK, len(body))
		_, _ = w.Write(body[:len(body)/2]) // the connection is cut whatever came of it
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		h.ended(c, 0, string(f.Reply), err)
		panic(http.ErrAbortHandler)
	}
}
