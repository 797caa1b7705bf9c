package rollingupgrade_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A site is where a fault strikes, seen from a call or a save.
type site int

const (
	never  site = iota // a call that is named in the record is not sent; a save is not written
	before             // a call has been sent and has read what it needs; its effect has not happened
	midway             // a call about several instances has had its effect on the first of them
	after              // the effect is there, or the save is written; the answer is lost
)

func (s site) String() string {
	return [...]string{"never sent", "before the effect", "midway", "answer lost"}[s]
}

// A mode is what a fault does to the process that it strikes.
type mode int

const (
	diesAtOnce mode = iota // the process dies, a new one takes over at once
	diesLate               // the process dies, a new one comes when tokens are neither trusted nor remembered any more
	lives                  // the process goes on without the answer
)

func (m mode) String() string {
	return [...]string{"dies, next at once", "dies, next late", "lives"}[m]
}

// A strike is a fault at one boundary; the zero strike is none.
type strike struct {
	key  string
	site site
	mode mode
}

func (s strike) String() string { return fmt.Sprintf("%s, %s, %s", s.key, s.site, s.mode) }

// A boundary is a call or a save of the undisturbed run.
type boundary struct {
	key  string
	call bool
	many bool // a call that acts on several instances, one after the other

	wire, reads bool // a request on the wire; one that only reads
}

// sites are the sites of a boundary at which a process can die, or live on without the answer.
func (b boundary) sites(m mode) []site {
	switch {
	case b.wire:
		return b.sitesOnWire(m)
	case !b.call || m == lives:
		return []site{never, after}
	case b.many:
		return []site{never, before, midway, after}
	}
	return []site{never, before, after}
}

// A rig is one cloud, one store and the processes that come and go over them, in one bubble.
type rig struct {
	t     testing.TB
	cloud *fake.Cloud
	line  *line
	store *ru.MemoryStore
	inv   *invariants
	cfg   ru.Config
	deaf  bool // drivers are not told of saves, so that they lose saves to commands
	pace  int  // so many updates may begin at once, and further ones 7 s later; zero is without limit

	mu         sync.Mutex
	strike     strike
	fired      bool
	deaths     int
	seen       map[string]int
	boundaries []boundary
	requests   []boundary                                      // on the wire
	onCall     func(p *process, b boundary) (site, mode, bool) // random strikes

	births int

	driver *process
}

func newRig(t testing.TB, cloud *fake.Cloud, cfg ru.Config) *rig {
	return newRigOn(t, lineTo(t, cloud), cfg)
}

func newRigOn(t testing.TB, l *line, cfg ru.Config) *rig {
	g := &rig{t: t, cloud: l.cloud, line: l, store: ru.NewMemoryStore(), cfg: cfg, seen: map[string]int{}}
	g.inv = newInvariants(g)
	return g
}

// A process is a Runner that can die: from then on no call and no save of it comes through, and every goroutine
// of it ends where it next meets the outside.
type process struct {
	g    *rig
	name string
	face fake.Face // the cloud as it sees it
	r    *ru.Runner
	ctx  context.Context // done when it is dead
	stop context.CancelFunc
	dead atomic.Bool
	late bool
	slow func(op string) // called after each save, before it is answered
	gate func(op string) // called before each call and save, for tests that freeze a process
}

// start begins a process. drives says that its store tells it of saves and has lives.
func (g *rig) start(drives, late bool) *process {
	g.mu.Lock()
	g.births++
	p := &process{g: g, name: fmt.Sprintf("process-%d", g.births), late: late}
	died := g.deaths > 0
	g.mu.Unlock()
	p.face = g.line.face(g.line.through(func(next http.RoundTripper) http.RoundTripper { return wired{p, next} }))
	p.ctx, p.stop = context.WithCancel(context.Background())
	cfg := g.cfg
	cfg.Owner = p.name
	if late && died {
		cfg.Poll = 20 * time.Second // it only watches a lease that nobody renews
	}
	s := &crashStore{p: p}
	var store ru.Store = s
	switch {
	case !drives:
	case late && g.deaf:
	case late:
		store = struct {
			*crashStore
			ru.Notifier
		}{s, notifier{s}}
	case g.deaf:
		store = struct {
			*crashStore
			ru.ExclusiveStore
		}{s, life{s}}
	default:
		store = struct {
			*crashStore
			ru.Notifier
			ru.ExclusiveStore
		}{s, notifier{s}, life{s}}
	}
	r, err := ru.New(&crashProvider{p: p}, store, cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	p.r = r
	return p
}

func (p *process) kill() {
	if p.dead.CompareAndSwap(false, true) {
		p.g.mu.Lock()
		p.g.deaths++
		p.g.mu.Unlock()
		p.stop()
	}
}

// live ends the goroutine if its process is dead.
func (p *process) live() {
	if p.dead.Load() {
		runtime.Goexit()
	}
}

func (p *process) die() {
	p.kill()
	runtime.Goexit()
}

// bind ends ctx when the process dies.
func (p *process) bind(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// reach notes that a process is at a boundary and says whether something strikes there.
func (g *rig) reach(p *process, b boundary) (site, mode, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b.key = g.numbered(b.key)
	g.boundaries = append(g.boundaries, b)
	if g.onCall != nil {
		return g.onCall(p, b)
	}
	if g.fired || b.key != g.strike.key {
		return 0, 0, false
	}
	g.fired = true
	return g.strike.site, g.strike.mode, true
}

// numbered tells the boundaries with one key apart. g.mu is held.
func (g *rig) numbered(key string) string {
	g.seen[key]++
	return fmt.Sprintf("%s#%d", key, g.seen[key])
}

var errLost = fmt.Errorf("connection reset: %w", provider.ErrTransient)

// through carries out a call of a process, or what strikes it.
func through[T any](ctx context.Context, p *process, b boundary, f func(context.Context) (T, error)) (T, error) {
	var none T
	p.g.inv.mayCall(p, b.key)
	if p.gate != nil {
		p.gate(b.key)
	}
	p.live()
	s, m, hit := p.g.reach(p, b)
	bound, release := p.bind(ctx)
	defer release()
	if !hit {
		v, err := f(bound)
		p.live()
		p.g.inv.look()
		return v, err
	}
	switch {
	case m == lives && s == never:
		rest(ctx, time.Second)
	case m == lives:
		_, _ = f(bound)
		p.live()
	case s == never:
		p.die()
	case s == before:
		timer := time.AfterFunc(20*time.Millisecond, p.kill)
		defer timer.Stop()
		_, _ = f(bound)
		p.die()
	case s == midway:
		n := len(p.g.cloud.Effects())
		go func() {
			for !p.dead.Load() && len(p.g.cloud.Effects()) == n {
				time.Sleep(7 * time.Millisecond)
			}
			p.kill()
		}()
		_, _ = f(bound)
		p.die()
	default:
		_, _ = f(bound)
		p.die()
	}
	return none, errLost
}

func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// crashProvider is the cloud as one process sees it.
type crashProvider struct{ p *process }

func (c *crashProvider) Limits() provider.Limits { return c.p.face.Limits() }

func (c *crashProvider) Pace(_ provider.Update, n int) (now int, wait time.Duration) {
	if limit := c.p.g.pace; limit > 0 && limit < n {
		return limit, 7 * time.Second
	}
	return n, 0
}

func (c *crashProvider) Group(ctx context.Context, groupID string) (provider.Group, error) {
	return through(ctx, c.p, boundary{key: "Group", call: true}, func(ctx context.Context) (provider.Group, error) {
		return c.p.face.Group(ctx, groupID)
	})
}

func (c *crashProvider) Members(ctx context.Context, groupID string) ([]provider.Instance, error) {
	return through(ctx, c.p, boundary{key: "Members", call: true}, func(ctx context.Context) ([]provider.Instance, error) {
		return c.p.face.Members(ctx, groupID)
	})
}

func (c *crashProvider) Instances(ctx context.Context, groupID string, ids []string) ([]provider.Instance, error) {
	return through(ctx, c.p, boundary{key: "Instances " + strings.Join(ids, " "), call: true}, func(ctx context.Context) ([]provider.Instance, error) {
		return c.p.face.Instances(ctx, groupID, ids)
	})
}

func (c *crashProvider) Inspect(ctx context.Context, groupID string, u provider.Update, ids []string) (provider.Inspection, error) {
	return through(ctx, c.p, boundary{key: "Inspect", call: true}, func(ctx context.Context) (provider.Inspection, error) {
		return c.p.face.Inspect(ctx, groupID, u, ids)
	})
}

func (c *crashProvider) Configuration(ctx context.Context, groupID string) (provider.Configuration, error) {
	return through(ctx, c.p, boundary{key: "Configuration", call: true}, func(ctx context.Context) (provider.Configuration, error) {
		return c.p.face.Configuration(ctx, groupID)
	})
}

func (c *crashProvider) SetConfigurationImage(ctx context.Context, groupID string, want provider.Configuration) error {
	_, err := through(ctx, c.p, boundary{key: "SetConfigurationImage", call: true}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.p.face.SetConfigurationImage(ctx, groupID, want)
	})
	return err
}

func (c *crashProvider) SuspendProcesses(ctx context.Context, groupID string, processes []provider.Process, callID string) error {
	_, err := through(ctx, c.p, boundary{key: "SuspendProcesses " + callID, call: true}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.p.face.SuspendProcesses(ctx, groupID, processes, callID)
	})
	return err
}

func (c *crashProvider) ResumeProcesses(ctx context.Context, groupID string, processes []provider.Process, callID string) error {
	_, err := through(ctx, c.p, boundary{key: "ResumeProcesses " + callID, call: true}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.p.face.ResumeProcesses(ctx, groupID, processes, callID)
	})
	return err
}

func (c *crashProvider) targets(ctx context.Context, op string, targets []provider.Target, f func(context.Context) ([]provider.Progress, error)) ([]provider.Progress, error) {
	b := boundary{key: op, call: true}
	if len(targets) > 0 {
		b.key += " " + targets[0].CallID
		b.many = len(targets) > 1 && targets[0].CallID != "" && op == "Update"
	}
	for _, t := range targets {
		b.key += " " + t.InstanceID
	}
	return through(ctx, c.p, b, f)
}

func (c *crashProvider) EnterStandby(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return c.targets(ctx, "EnterStandby", targets, func(ctx context.Context) ([]provider.Progress, error) {
		return c.p.face.EnterStandby(ctx, groupID, targets)
	})
}

func (c *crashProvider) ExitStandby(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return c.targets(ctx, "ExitStandby", targets, func(ctx context.Context) ([]provider.Progress, error) {
		return c.p.face.ExitStandby(ctx, groupID, targets)
	})
}

func (c *crashProvider) SetProtection(ctx context.Context, groupID string, targets []provider.Target, protected bool) ([]provider.Progress, error) {
	return c.targets(ctx, "SetProtection", targets, func(ctx context.Context) ([]provider.Progress, error) {
		return c.p.face.SetProtection(ctx, groupID, targets, protected)
	})
}

func (c *crashProvider) Start(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return c.targets(ctx, "Start", targets, func(ctx context.Context) ([]provider.Progress, error) {
		return c.p.face.Start(ctx, groupID, targets)
	})
}

func (c *crashProvider) Update(ctx context.Context, groupID string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	return c.targets(ctx, "Update", targets, func(ctx context.Context) ([]provider.Progress, error) {
		return c.p.face.Update(ctx, groupID, u, targets)
	})
}

// report prints the history of a run that is replayed.
func (g *rig) report() {
	fmt.Fprintln(os.Stderr, "history of", g.strike)
	for _, id := range g.inv.order {
		for e, err := range g.store.Events(g.ctx(), id, 0) {
			fmt.Fprintln(os.Stderr, id[:9], e.Seq, e.Time.Format("15:04:05.000"), e.Kind, e.Cause, e.InstanceID, e.From, e.To, e.Text, err)
		}
	}
	for _, c := range g.cloud.Calls() {
		fmt.Fprintln(os.Stderr, c)
	}
	for _, e := range g.cloud.Effects() {
		fmt.Fprintln(os.Stderr, e)
	}
}
