package openapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Request is one request as it came in, and what became of it.
type Request struct {
	Time            time.Time
	Version, Action string
	Method, Host    string
	TLS             bool
	RequestID       string
	// Params are the action's own parameters, as text.
	Params map[string]string
	// Status is the answer's; zero if the connection was cut or the answer is not there yet.
	Status int
	// Code is the service's error code, or the fault's reply.
	Code string
	// Err says what exactly was wrong.
	Err string
}

// String is one line.
func (r Request) String() string {
	var params []string
	for _, k := range slices.Sorted(maps.Keys(r.Params)) {
		params = append(params, k+"="+r.Params[k])
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s [%s] %d %s", r.Time.UTC().Format("15:04:05.000000"), r.Action, strings.Join(params, " "), r.Status, r.Code))
}

// Requests returns the requests so far, in the order in which they had their turn. Parameters may hold secrets.
func (h *Handler) Requests() []Request {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Request, len(h.requests))
	for n, r := range h.requests {
		out[n] = *r
		out[n].Params = maps.Clone(r.Params)
	}
	return out
}

// Count counts the requests of an action so far.
func (h *Handler) Count(action string) int {
	n := 0
	for _, r := range h.Requests() {
		if r.Action == action {
			n++
		}
	}
	return n
}

// Mismatches returns what a client that makes each request anew does not send: repeated parameters with gaps, with a value
// twice, or with other values than the context of the call says ([Intend]).
func (h *Handler) Mismatches() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.mismatches)
}

// Suspicions returns repeated parameters that may hold the end of the list of the call before, as they do when a client
// shortens the list of a request and sends it again. A client may also have meant them so.
func (h *Handler) Suspicions() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.suspicions)
}

// ClearLog forgets requests, mismatches and suspicions.
func (h *Handler) ClearLog() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.requests, h.mismatches, h.suspicions = nil, nil, nil
}

// logged notes a request whose turn has come. h.mu is held.
func (h *Handler) logged(c *call) {
	if !h.cfg.NoLog {
		h.requests = append(h.requests, c.entry)
	}
}

// logRefused notes a request that never has a turn.
func (h *Handler) logRefused(c *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.logged(c)
}

// ended notes what became of a request.
func (h *Handler) ended(c *call, status int, code string, err error) {
	h.mu.Lock()
	c.entry.Status, c.entry.Code = status, code
	if err != nil {
		c.entry.Err = err.Error()
	}
	done := *c.entry
	h.mu.Unlock()
	if h.cfg.Observe != nil {
		h.cfg.Observe(done)
	}
}

type intendKey struct{}

// Intend returns a context that says which instances (or other values) the call's repeated parameter is to name.
// [Handler.Transport] holds the request against it. For other repeated parameters than InstanceId use [IntendList].
func Intend(ctx context.Context, ids ...string) context.Context {
	return IntendList(ctx, "InstanceId", ids...)
}

// IntendList is [Intend] for a repeated parameter of any name.
func IntendList(ctx context.Context, name string, values ...string) context.Context {
	return context.WithValue(ctx, intendKey{}, intention{name, slices.Clone(values)})
}

type intention struct {
	name   string
	values []string
}

// watchLists looks for repeated parameters that a reused request leaves behind.
func (h *Handler) watchLists(c *call) {
	seen := make(map[string]map[int]string)
	for name, value := range c.params {
		at := strings.LastIndexByte(name, '.')
		if at < 0 {
			continue
		}
		if n, err := strconv.Atoi(name[at+1:]); err == nil {
			if seen[name[:at]] == nil {
				seen[name[:at]] = make(map[int]string)
			}
			seen[name[:at]][n] = value
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		numbers := slices.Sorted(maps.Keys(seen[name]))
		values := make([]string, len(numbers))
		for at, n := range numbers {
			values[at] = seen[name][n]
		}
		list := c.name + " " + name
		note := func(format string, args ...any) {
			h.mismatches = append(h.mismatches, fmt.Sprintf("%s %v: ", list, values)+fmt.Sprintf(format, args...))
		}
		if last := numbers[len(numbers)-1]; numbers[0] != 1 || last != len(numbers) {
			note("the numbers are %v", numbers)
		}
		if sorted := slices.Sorted(slices.Values(values)); len(slices.Compact(sorted)) < len(values) {
			note("a value is there twice")
		}
		if kept := leftOver(h.lists[list], values); kept > 0 {
			h.suspicions = append(h.suspicions, fmt.Sprintf("%s %v: the last %d are those of the call before, %v", list, values, kept, h.lists[list]))
		}
		h.lists[list] = values
	}
	if want, ok := c.ctx.Value(intendKey{}).(intention); ok {
		var got []string
		for _, n := range slices.Sorted(maps.Keys(seen[want.name])) {
			got = append(got, seen[want.name][n])
		}
		if !slices.Equal(got, want.values) {
			h.mismatches = append(h.mismatches, fmt.Sprintf("%s %s %v: %v was intended", c.name, want.name, got, want.values))
		}
	}
}

// leftOver is how many values at the end of now look left over from the list before: both are equally long, the first values
// differ and the last ones are the same.
func leftOver(before, now []string) int {
	if len(before) != len(now) || slices.Equal(before, now) {
		return 0
	}
	n := 0
	for n < len(now) && now[len(now)-1-n] == before[len(before)-1-n] {
		n++
	}
	return n
}
