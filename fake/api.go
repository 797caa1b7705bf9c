package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// An API is the wire level of a [Cloud]: the cloud's own actions, one call each, with what the real ones
// refuse. The Provider methods of Cloud are made of them. Lists come whole; paging
// is left to whoever speaks the wire protocol. Errors of the cloud are [*APIError].
type API struct{ c *Cloud }

// API returns the wire level of the cloud.
func (c *Cloud) API() API { return API{c} }

// An APIError is an error that the cloud answers.
type APIError struct {
	Action string
	// Code is the cloud's own, such as "IncorrectInstanceStatus".
	Code       string
	Message    string
	HTTPStatus int
	// Targets are the instances because of which the call was refused.
	Targets []string
	// Lost says that the call had its effect and only the answer was lost.
	Lost bool
	// Err is the sentinel of package provider that classifies the error.
	Err error
}

// Error implements error.
func (e *APIError) Error() string {
	s := e.Action + ": " + e.Code
	if len(e.Targets) > 0 {
		s += " " + strings.Join(e.Targets, " ")
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the classifying sentinel.
func (e *APIError) Unwrap() error { return e.Err }

// GroupView is a scaling group as the model has it.
type GroupView struct {
	ID, Name, Type    string
	State             provider.GroupState
	SystemSuspended   bool
	Suspended         []provider.Process
	MinSize, MaxSize  int
	DesiredCapacity   int // -1: none
	LoadBalancers     []string
	Weight            int
	ConfigurationID   string
	LaunchTemplateID  string
	InstanceRefreshID string
	Activities        []ActivityView // in progress
	// Count counts members by lifecycle state; Total counts all.
	Count map[provider.Lifecycle]int
	Total int
}

// ActivityView is a scaling activity.
type ActivityView struct {
	ID, GroupID, Text string
	Begin, End        time.Time
	InProgress        bool
}

// InstanceView is an instance as the model has it.
type InstanceView struct {
	ID      string
	GroupID string // empty for one that is no member
	// Lifecycle, Unhealthy, Attached, Weight and CustomWeight belong to the membership.
	Lifecycle    provider.Lifecycle
	Unhealthy    bool
	Attached     bool
	Weight       int // at the load balancer, now
	CustomWeight int // set individually; zero if none
	Created      time.Time

	Power      provider.Power
	Economical bool // stopped in a way that gives its capacity back
	ImageID    string
	OS, Arch   string
	KeyPair    string
	UserData   string // base64
	NoPassword bool
	Locks      []string
	Expired    bool
	Disk       provider.Disk
	// DiskReplacing says that the replacement is open: Disk is the new one, ImageID still the old one.
	DiskReplacing bool
	// Started is when it last became Running.
	Started time.Time
	// Ceased is when an order of the client last made it cease to run.
	Ceased      time.Time
	AgentOnline bool
	// ScriptRuns counts the scripts that it has run.
	ScriptRuns int
}

// DiskView is a system disk as the model has it.
type DiskView struct {
	provider.Disk
	InstanceID, ImageID string
	InUse               bool // not while it is being made
}

// ConfigurationView is a scaling configuration or launch template.
type ConfigurationView struct {
	provider.Configuration
	GroupID           string
	Active            bool // it feeds the group
	KeyPair, UserData string
}

func (c *Cloud) viewGroup(g *group) GroupView {
	v := GroupView{
		ID: g.id, Name: g.name, Type: g.kind, State: g.state, SystemSuspended: g.systemSuspended,
		Suspended: slices.Clone(g.suspended), MinSize: g.min, MaxSize: g.max, DesiredCapacity: g.desired,
		LoadBalancers: slices.Clone(g.loadBalancers), Weight: g.weight, InstanceRefreshID: g.refreshID,
		Count: make(map[provider.Lifecycle]int), Total: len(g.members),
	}
	if c.configs[g.configID].launchTemplate {
		v.LaunchTemplateID = g.configID
	} else {
		v.ConfigurationID = g.configID
	}
	for l, n := range g.count {
		if n > 0 {
			v.Count[l] = n
		}
	}
	for _, a := range c.open(g) {
		v.Activities = append(v.Activities, c.viewActivity(a))
	}
	return v
}

func (c *Cloud) viewActivity(a *activity) ActivityView {
	return ActivityView{ID: a.id, GroupID: a.groupID, Text: a.text, Begin: a.begin, End: a.end, InProgress: a.end.After(c.now)}
}

func (c *Cloud) viewInstance(i *instance) InstanceView {
	c.settle(i)
	v := InstanceView{
		ID: i.id, Lifecycle: i.lifecycle, Unhealthy: i.unhealthy, Attached: i.attached, Weight: i.weight, CustomWeight: i.custom,
		Created: i.created, Power: i.power, Economical: i.economical && i.power != provider.Running, ImageID: i.image, OS: i.os, Arch: i.arch, KeyPair: i.keyPair, UserData: i.userData,
		NoPassword: i.noPassword, Locks: slices.Clone(i.locks), Expired: i.expired, Disk: i.disk, DiskReplacing: i.replacing,
		Started: i.started, Ceased: i.ceased, AgentOnline: c.agentOnline(i), ScriptRuns: i.runs,
	}
	if i.group != nil {
		v.GroupID = i.group.id
	}
	return v
}

func (c *Cloud) viewConfiguration(cfg *configuration) ConfigurationView {
	return ConfigurationView{
		Configuration: provider.Configuration{
			ID: cfg.id, LaunchTemplate: cfg.launchTemplate, ImageID: cfg.imageID,
			DataDisks: slices.Clone(cfg.dataDisks), DataDisksFromImage: cfg.dataDisksFromImage,
		},
		GroupID: cfg.groupID, Active: c.groups[cfg.groupID] != nil && c.groups[cfg.groupID].configID == cfg.id, KeyPair: cfg.keyPair, UserData: cfg.userData,
	}
}

// GroupView shows a group without a call.
func (c *Cloud) GroupView(id string) (v GroupView, ok bool) {
	c.Now(func(*World) {
		if g := c.groups[id]; g != nil {
			v, ok = c.viewGroup(g), true
		}
	})
	return v, ok
}

// InstanceView shows an instance without a call; ok is false if it does not exist (any more).
func (c *Cloud) InstanceView(id string) (v InstanceView, ok bool) {
	c.Now(func(*World) {
		if i := c.instances[id]; i != nil {
			v, ok = c.viewInstance(i), true
		}
	})
	return v, ok
}

// Snapshot shows all members of a group without a call, in the order in which they joined.
func (c *Cloud) Snapshot(groupID string) (all []InstanceView) {
	c.Now(func(*World) {
		if g := c.groups[groupID]; g != nil {
			for _, i := range g.members {
				all = append(all, c.viewInstance(i))
			}
		}
	})
	return all
}

// InstanceIDs returns the IDs of a group's members without a call, in the order in which they joined.
func (c *Cloud) InstanceIDs(groupID string) (ids []string) {
	c.Now(func(*World) {
		if g := c.groups[groupID]; g != nil {
			for _, i := range g.members {
				ids = append(ids, i.id)
			}
		}
	})
	return ids
}

// remembered is the answer that belongs to a client token.
type remembered struct {
	params string
	at     time.Time
	answer any
}

// ForgetTokens makes the cloud forget all client tokens.
func (c *Cloud) ForgetTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
}

// recall looks a client token up. A token that was used with other parameters is an error.
func (c *Cloud) recall(who caller, action, token, params string) (answer any, ok bool, err error) {
	r, ok := c.tokens[action+" "+token]
	if token == "" || !ok || c.now.Sub(r.at) >= c.cfg.TokenMemory {
		return nil, false, nil
	}
	if r.params != params {
		c.violate(who, "%s: token %s used again with other parameters", action, token)
		return nil, false, &APIError{
			Action: action, Code: "IdempotentParameterMismatch", HTTPStatus: 403,
			Message: "the client token was used with other parameters", Err: provider.ErrInvalid,
		}
	}
	return r.answer, true, nil
}

func (c *Cloud) remember(action, token, params string, answer any) {
	if token != "" && c.cfg.TokenMemory > 0 {
		c.tokens[action+" "+token] = remembered{params: params, at: c.now, answer: answer}
	}
}

// params is what a token is compared by. The order of instances does not count.
func params(groupID string, ids []string, more ...any) string {
	return fmt.Sprint(groupID, slices.Sorted(slices.Values(ids)), more)
}

func (c *Cloud) findGroup(action, id string) (*group, error) {
	if g := c.groups[id]; g != nil {
		return g, nil
	}
	return nil, &APIError{Action: action, Code: "InvalidScalingGroupId.NotFound", HTTPStatus: 404, Message: id, Err: provider.ErrNotFound}
}

// refuse is the refusal of a whole call because of some instances.
// It is the client's fault unless something from outside happened to all of them.
func (c *Cloud) refuse(who caller, action, code string, status int, class error, message string, ids ...string) error {
	for _, id := range ids {
		if i := c.instances[id]; i == nil && !c.gone[id] || i != nil && !i.foreign {
			c.violate(who, "%s refused: %s %s: %s", action, code, id, message)
		}
	}
	return &APIError{Action: action, Code: code, HTTPStatus: status, Message: message, Targets: ids, Err: class}
}

// members returns the named instances if all are members of g.
func (c *Cloud) memberList(who caller, action string, g *group, ids []string) (fit []*instance, err error) {
	var missing []string
	for _, id := range ids {
		i := c.instances[id]
		if i == nil || i.group != g {
			missing = append(missing, id)
			continue
		}
		c.settle(i)
		fit = append(fit, i)
	}
	if len(missing) > 0 {
		err = c.refuse(who, action, "InvalidInstanceId.NotFound", 404, provider.ErrNotFound, "no member of "+g.id, missing...)
	}
	return fit, err
}

// existing returns the named instances if all exist.
func (c *Cloud) existing(who caller, action string, ids []string) (fit []*instance, err error) {
	var missing []string
	for _, id := range ids {
		if i := c.instances[id]; i != nil {
			c.settle(i)
			fit = append(fit, i)
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		err = c.refuse(who, action, "InvalidInstanceId.NotFound", 404, provider.ErrNotFound, "does not exist", missing...)
	}
	return fit, err
}

// tooMany refuses a call that names too many instances or none.
func (c *Cloud) tooMany(who caller, action string, ids []string, limit int) error {
	if len(ids) > 0 && len(ids) <= limit {
		return nil
	}
	c.violate(who, "%s refused: %d instances, at most %d are allowed", action, len(ids), limit)
	return &APIError{
		Action: action, Code: "InvalidParameter.TooManyInstanceIds", HTTPStatus: 403,
		Message: fmt.Sprintf("%d instances, 1 to %d are allowed", len(ids), limit), Err: provider.ErrInvalid,
	}
}

// DescribeInstances reports the instances among ids that exist, in the order of ids.
// With a groupID and no ids it reports all members of that group.
func (a API) DescribeInstances(ctx context.Context, groupID string, ids []string) (out []InstanceView, err error) {
	err = a.c.wire(ctx, "DescribeInstances", groupID, ids, "", func(time.Time, caller) error {
		out = a.c.views(groupID, ids)
		return nil
	})
	return clean(out, err)
}

func (c *Cloud) views(groupID string, ids []string) []InstanceView {
	var out []InstanceView
	if g := c.groups[groupID]; g != nil && len(ids) == 0 {
		out = make([]InstanceView, 0, len(g.members))
		for _, i := range g.members {
			out = append(out, c.viewInstance(i))
		}
		return out
	}
	for _, id := range ids {
		if i := c.instances[id]; i != nil {
			out = append(out, c.viewInstance(i))
		}
	}
	return out
}

// clean drops an answer that comes with an error: the client does not see it.
func clean[T any](v T, err error) (T, error) {
	if err != nil {
		var zero T
		return zero, err
	}
	return v, nil
}
