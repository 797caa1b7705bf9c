package fake

import (
	"container/heap"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// group is a scaling group.
type group struct {
	id, name, kind  string
	state           provider.GroupState
	systemSuspended bool
	suspended       []provider.Process
	min, max        int
	desired         int // -1: none
	loadBalancers   []string
	weight          int
	configID        string // active scaling configuration or launch template
	refreshID       string
	members         []*instance
	count           map[provider.Lifecycle]int
	running         []*activity // activities that are not over
	scaling         bool        // a look at the desired capacity is scheduled
}

// activity is a scaling activity.
type activity struct {
	id, text string
	groupID  string
	begin    time.Time
	end      time.Time
}

// instance is an ECS instance. Its power state and disk move on by themselves as
// time passes; settle brings them up to date.
type instance struct {
	id        string
	group     *group // nil: no member
	lifecycle provider.Lifecycle
	unhealthy bool
	attached  bool
	weight    int // at the load balancer, now
	custom    int // set individually
	created   time.Time

	power provider.Power
	next  provider.Power // what power becomes
	at    time.Time      // when
	// economical says that it was stopped in a way that gives its capacity back.
	economical bool

	os, arch, image string
	keyPair         string
	userData        string
	noPassword      bool // no password to be inherited
	locks           []string
	expired         bool

	disk      provider.Disk
	oldDisk   provider.Disk // during a replacement
	replacing bool
	replaceBy time.Time
	replaceTo string // image; empty: the replacement comes to nothing

	started  time.Time // last became Running
	ceased   time.Time // last ceased to be Running
	agentUp  time.Time // the agent answers from then on
	agentOff time.Time // the agent is silent until then

	behave Behavior
	runs   int // scripts run so far

	// foreign says that somebody else than the client changed the instance, so that a
	// refused call is not the client's fault.
	foreign  bool
	released bool
}

// event is something that happens at a time, whether anybody calls or not.
type event struct {
	at  time.Time
	seq int
	run func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	if !h[i].at.Equal(h[j].at) {
		return h[i].at.Before(h[j].at)
	}
	return h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return e
}

// schedule makes f run when the model reaches at.
func (c *Cloud) schedule(at time.Time, f func()) {
	c.eventSeq++
	heap.Push(&c.events, event{at: at, seq: c.eventSeq, run: f})
}

// advance lets everything happen that is due by now, in order of time.
func (c *Cloud) advance(now time.Time) {
	if c.now.Sub(now) > 24*time.Hour { // filled outside the bubble that it is used in
		c.now = now
	}
	for len(c.events) > 0 && !c.events[0].at.After(now) {
		e := heap.Pop(&c.events).(event)
		if e.at.After(c.now) {
			c.now = e.at
		}
		e.run()
	}
	if now.After(c.now) {
		c.now = now
	}
}

// settle brings the instance's power state and disk up to c.now.
func (c *Cloud) settle(i *instance) {
	for {
		powerDue := i.next != "" && !i.at.After(c.now)
		diskDue := i.replacing && !i.replaceBy.After(c.now)
		switch {
		case diskDue && (!powerDue || !i.replaceBy.After(i.at)):
			i.replacing = false
			if i.replaceTo == "" {
				delete(c.disks, i.disk.ID)
				i.disk = i.oldDisk
				c.disks[i.disk.ID] = i
			} else {
				i.image = i.replaceTo
			}
			i.oldDisk = provider.Disk{}
			if c.cfg.AutoStartAfterReplace && i.power == provider.Stopped && i.next == "" {
				c.beginStart(i, i.replaceBy)
			}
		case powerDue:
			i.power, i.next = i.next, ""
			if i.power == provider.Running {
				i.started = i.at
				i.agentUp = i.at.Add(c.took("agent", i.id, or(i.behave.AgentTakes, c.cfg.Steps.Agent)))
			}
		default:
			return
		}
	}
}

func (c *Cloud) beginStart(i *instance, now time.Time) {
	i.power, i.next = provider.Starting, provider.Running
	i.at = now.Add(c.took("start", i.id, or(i.behave.StartTakes, c.cfg.Steps.Start)))
	if i.behave.FailStarts > 0 {
		i.behave.FailStarts--
		i.next = provider.Stopped
	}
}

func (c *Cloud) beginStop(i *instance, now time.Time) {
	i.power, i.next = provider.Stopping, provider.Stopped
	i.at = now.Add(c.took("stop", i.id, or(i.behave.StopTakes, c.cfg.Steps.Stop)))
	c.watch(i)
}

// or returns d, or the default if d is zero; negative means none.
func or(d, otherwise time.Duration) time.Duration {
	switch {
	case d == 0:
		return otherwise
	case d < 0:
		return 0
	}
	return d
}

func (c *Cloud) agentOnline(i *instance) bool {
	return i.power == provider.Running && !i.agentUp.After(c.now) && !i.agentOff.After(c.now)
}

// setLifecycle moves a member to another lifecycle state.
func (c *Cloud) setLifecycle(i *instance, to provider.Lifecycle) {
	if i.group == nil {
		return
	}
	i.group.count[i.lifecycle]--
	i.lifecycle = to
	i.group.count[to]++
	switch to {
	case provider.InService, provider.Protected:
		if i.weight == 0 && len(i.group.loadBalancers) > 0 {
			i.weight = i.group.weight
		}
	default:
		i.weight = 0
		i.custom = 0
	}
}

// join makes an instance a member.
func (c *Cloud) join(g *group, i *instance, as provider.Lifecycle) {
	i.group = g
	g.members = append(g.members, i)
	i.lifecycle = as
	g.count[as]++
	c.setLifecycle(i, as)
}

// leave ends an instance's membership.
func (c *Cloud) leave(i *instance) {
	g := i.group
	if g == nil {
		return
	}
	g.count[i.lifecycle]--
	if at := slices.Index(g.members, i); at >= 0 {
		g.members = slices.Delete(g.members, at, at+1)
	}
	i.group, i.lifecycle, i.weight = nil, "", 0
	c.reconcile(g)
}

// release ends an instance's existence.
func (c *Cloud) release(i *instance) {
	c.leave(i)
	c.abortScripts(i)
	i.released = true
	delete(c.instances, i.id)
	c.made = slices.DeleteFunc(c.made, func(other *instance) bool { return other == i })
	delete(c.disks, i.disk.ID)
	c.gone[i.id] = true
}

func (g *group) isSuspended(p provider.Process) bool { return slices.Contains(g.suspended, p) }

// open returns the activities in progress.
func (c *Cloud) open(g *group) []*activity {
	g.running = slices.DeleteFunc(g.running, func(a *activity) bool { return !a.end.After(c.now) })
	return g.running
}

// begin starts an activity; at its end f runs.
func (c *Cloud) begin(g *group, text string, d time.Duration, f func()) *activity {
	a := &activity{id: c.nextID("asa"), text: text, groupID: g.id, begin: c.now, end: c.now.Add(d)}
	c.activities[a.id] = a
	g.running = append(g.running, a)
	if f != nil {
		c.schedule(a.end, f)
	}
	return a
}

// watch lets the health check look at an instance that may not be Running.
func (c *Cloud) watch(i *instance) {
	if i.group == nil {
		return
	}
	c.schedule(c.now.Add(c.scaled(c.cfg.HealthCheck)), func() { c.checkHealth(i) })
}

// checkHealth takes an instance out that is in service and not Running, unless the process is suspended.
func (c *Cloud) checkHealth(i *instance) {
	c.settle(i)
	if i.released || i.group == nil || i.lifecycle != provider.InService || i.power == provider.Running || i.group.isSuspended(provider.HealthCheck) {
		return
	}
	i.unhealthy, i.foreign = true, true
	g := i.group
	c.recordEffect(Effect{Action: "HealthCheck", GroupID: g.id, InstanceID: i.id, Detail: "taken out because it is " + string(i.power)}, i)
	c.setLifecycle(i, provider.Removing)
	c.begin(g, "remove unhealthy instance "+i.id, c.scaled(c.cfg.Release), func() {
		if !i.released {
			c.release(i)
		}
	})
}

// reconcile schedules a look at the group's desired capacity.
func (c *Cloud) reconcile(g *group) {
	if g.desired < 0 || g.scaling {
		return
	}
	g.scaling = true
	c.schedule(c.now.Add(c.scaled(c.cfg.Scale)), func() {
		g.scaling = false
		if g.state != provider.GroupActive || g.desired < 0 {
			return
		}
		c.scale(g, g.desired-len(g.members), c.cfg.Steps.Start, "reach the desired capacity")
	})
}

// scale adds n instances (or takes -n out) in an activity, unless the process for it is suspended.
// It reports whether an activity began.
func (c *Cloud) scale(g *group, n int, takes time.Duration, text string) bool {
	switch {
	case n > 0 && !g.isSuspended(provider.ScaleOut):
		ids := c.addInstances(g, n, InstanceSpec{Lifecycle: provider.Pending})
		c.begin(g, text, c.scaled(takes), func() {
			for _, id := range ids {
				if i := c.instances[id]; i != nil && i.lifecycle == provider.Pending {
					c.setLifecycle(i, provider.InService)
				}
			}
		})
		return true
	case n < 0 && !g.isSuspended(provider.ScaleIn):
		var out []*instance
		for _, i := range slices.Backward(g.members) {
			if i.lifecycle == provider.InService && len(out) < -n {
				out = append(out, i)
			}
		}
		for _, i := range out {
			i.foreign = true
			c.setLifecycle(i, provider.Removing)
		}
		c.begin(g, text, c.scaled(takes), func() {
			for _, i := range out {
				if !i.released {
					c.release(i)
				}
			}
		})
		return true
	}
	return false
}
