package aliyun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Config says how to reach the cloud. Only Region is required.
type Config struct {
	// Region is such as "cn-hangzhou".
	Region string
	// Credential is any credential or credentials provider of the SDK. Nil means the SDK's default chain: environment, OIDC,
	// command-line profile, credentials file, instance role, credentials URI. Those that refresh themselves are asked by one
	// call at a time.
	Credential auth.Credential
	// Endpoints replace the SDK's own, for networks of an own kind and for tests.
	Endpoints Endpoints
	// Transport carries the requests. Nil means a pool of connections of its own that heeds the usual
	// proxy variables. It is shared by all calls and must be safe for concurrent use.
	Transport http.RoundTripper
	// UserAgent is added to the User-Agent of requests.
	UserAgent string
	// Timeout is how long one request may take; the context of a call may be shorter. Zero means 60 s: EnterStandby and
	// ExitStandby answer when the load balancers have been changed.
	Timeout time.Duration

	// Poll is how long it is not worth looking again at what is under way. Zero means 1 s, and for orders that do not
	// show yet 3 to 10 s; the Runner looks when it is worth it.
	Poll time.Duration

	// Rates replace the default rates of actions, by the action's name; the name "*" stands for all that have none of their own.
	Rates map[string]Rate
	// Share is the part of all rates that this process may use, where several share an account: 0.5 is half. Zero means all.
	Share float64

	// ReplaceTargets is how many system disks one call of Update replaces, one request each. Zero means 20.
	ReplaceTargets int
	// FindsCommands says that Cloud Assistant finds the invocations of commands that were not kept by the command's name
	// (unverified). Then a script that cannot be found within an hour was not begun. Otherwise its outcome is unknown, as it is
	// after that hour: nobody says for certain how long invocations are kept.
	FindsCommands bool
}

// Endpoints are host names, with a port if need be. With "http://" in front the requests are not encrypted; that is
// for a stand-in on the same machine only. Empty means the SDK's endpoint for the region.
type Endpoints struct {
	ESS, ECS string
}

// A Provider operates the scaling groups of one region. All methods are safe for concurrent use. Make one with [New].
type Provider struct {
	cfg    Config
	cred   credentialSource
	ess    endpoint
	ecs    endpoint
	base   http.RoundTripper
	limit  *limiter
	disks  diskHint
	recent *recent
}

var (
	_ provider.Provider            = (*Provider)(nil)
	_ provider.Inspector           = (*Provider)(nil)
	_ provider.ConfigurationSetter = (*Provider)(nil)
	_ provider.Pacer               = (*Provider)(nil)
)

// What one call takes.
const (
	maxInstances   = 100 // DescribeInstances, StopInstances, StartInstances, RunCommand, DescribeCloudAssistantStatus
	maxStandby     = 20  // EnterStandby, ExitStandby, SetInstancesProtection, InstanceId of DescribeScalingInstances
	maxHalt        = 50  // StopInvocation
	membersPage    = 50  // DescribeScalingInstances: 50 or 100, depending on the page of the documentation
	disksPage      = 500 // DescribeDisks
	pageSize       = 50  // all others
	atOnce         = 50  // requests that one method has open at a time
	agentGrace     = 5 * time.Minute
	maxCallID      = 40
	defaultLimit   = 60 * time.Second
	defaultDisks   = 20
	clientSlack    = 5 * time.Second
	connectTime    = 5 * time.Second
	idleTime       = 60 * time.Second
	connections    = 64
	leastToReplace = 5 * time.Second // time that must be left to begin another replacement
)

// New returns a Provider. It makes no request. All problems of cfg are reported together, as errors that wrap [provider.ErrInvalid].
func New(cfg Config) (*Provider, error) {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{provider.ErrInvalid}, args...)...))
	}
	if !validRegion(cfg.Region) {
		bad("region %q", cfg.Region)
	}
	if cfg.Share < 0 || cfg.Share > 1 {
		bad("share %g is not between 0 and 1", cfg.Share)
	}
	if cfg.Timeout < 0 {
		bad("timeout %s", cfg.Timeout)
	}
	if cfg.Poll < 0 {
		bad("poll %s", cfg.Poll)
	}
	if cfg.ReplaceTargets < 0 || cfg.ReplaceTargets > maxInstances {
		bad("%d replacements a call", cfg.ReplaceTargets)
	}
	for action, r := range cfg.Rates {
		if r.PerSecond == 0 || r.Burst < 0 {
			bad("rate of %s is %+v", action, r)
		}
	}
	p := &Provider{cfg: cfg, base: cfg.Transport, recent: newRecent()}
	var err error
	if p.ess, p.ecs, err = endpointsOf(cfg); err != nil {
		bad("%v", err)
	}
	if p.cred, err = newCredentialSource(cfg.Credential); err != nil {
		bad("credential: %v", err)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("aliyun: %w", errors.Join(errs...))
	}
	if p.base == nil {
		p.base = newTransport()
	}
	if p.cfg.Timeout == 0 {
		p.cfg.Timeout = defaultLimit
	}
	if p.cfg.ReplaceTargets == 0 {
		p.cfg.ReplaceTargets = defaultDisks
	}
	p.limit = newLimiter(cfg.Rates, cfg.Share)
	return p, nil
}

func validRegion(r string) bool {
	for _, c := range r {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return r != ""
}

// newTransport is a pool of connections.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTime, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 2 * connectTime, ForceAttemptHTTP2: true,
		MaxIdleConns: 2 * connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: idleTime,
	}
}

// Limits implements [provider.Provider].
func (p *Provider) Limits() provider.Limits {
	return provider.Limits{
		Instances: maxInstances, Standby: maxStandby, Protection: maxStandby, Start: maxInstances, Update: maxInstances,
	}
}

// checkTargets holds the contract of [provider.Target] against a call and returns the targets that fit into it.
func checkTargets(op string, targets []provider.Target, limit int) ([]provider.Target, error) {
	problem := ""
	seen := make(map[string]bool, len(targets))
	for _, t := range targets {
		switch {
		case t.InstanceID == "":
			problem = "a target without instance"
		case seen[t.InstanceID]:
			problem = "target " + t.InstanceID + " is given twice"
		case t.CallID != targets[0].CallID:
			problem = "targets have different call IDs"
		case t.CallID == "" && op != opUpdate:
			problem = "target " + t.InstanceID + " has no call ID"
		case t.CallID == "" && (t.Resent || t.Stale):
			problem = "target " + t.InstanceID + " is sent again without a call ID"
		case !validCallID(t.CallID):
			problem = fmt.Sprintf("call ID %q is not %d letters, digits and hyphens at most", t.CallID, maxCallID)
		}
		seen[t.InstanceID] = true
	}
	if problem != "" {
		return nil, fmt.Errorf("%s: %s: %w", op, problem, provider.ErrInvalid)
	}
	return targets[:min(limit, len(targets))], nil
}

func validCallID(id string) bool {
	return len(id) <= maxCallID && strings.IndexFunc(id, func(r rune) bool {
		return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
}

// The methods that answer per target.
const (
	opEnter   = "EnterStandby"
	opExit    = "ExitStandby"
	opProtect = "SetProtection"
	opStart   = "Start"
	opUpdate  = "Update"
)

// perTarget runs a method that answers per target. An error of f says that it made no side effect: it is returned for what could
// not be read beforehand. Unless the call may have been sent before, that is certain.
func perTarget(ctx context.Context, op string, targets []provider.Target, limit int, f func([]provider.Target) (answers, error)) ([]provider.Progress, error) {
	if len(targets) == 0 {
		return nil, ctx.Err()
	}
	fit, err := checkTargets(op, targets, limit)
	if err != nil {
		return nil, err
	}
	got, err := f(fit)
	acts := targets[0].CallID != "" && !slices.ContainsFunc(targets, func(t provider.Target) bool { return t.Resent || t.Stale })
	if err != nil && acts && provider.Unknown(err) {
		return nil, fmt.Errorf("%w: %w", provider.ErrNotBegun, err)
	}
	if err != nil {
		return nil, err
	}
	return got.inOrder(fit), nil
}

// answers are the answers of one call, by instance. A target without one was not begun.
type answers map[string]provider.Progress

func (a answers) inOrder(targets []provider.Target) []provider.Progress {
	out := make([]provider.Progress, 0, len(targets))
	for _, t := range targets {
		if p, ok := a[t.InstanceID]; ok {
			p.InstanceID = t.InstanceID
			out = append(out, p)
		}
	}
	return out
}

func (a answers) fail(id string, err error) { a[id] = provider.Progress{Err: err} }

func idsOf(targets []provider.Target) []string {
	ids := make([]string, len(targets))
	for n, t := range targets {
		ids[n] = t.InstanceID
	}
	return ids
}
