package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A thin cloud has the times of the measured world and nothing else, so that CPU and memory are those of the library.
type thin struct {
	mu        sync.Mutex
	kind      string
	machines  []machine
	suspended []provider.Process
}

// machine is one instance.
type machine struct {
	durations
	standby bool
	doing   string // what it is doing, until
	until   time.Time
	state   json.RawMessage
	updated bool
}

func newThin(s scenario, seed uint64) *thin {
	c := &thin{kind: s.Kind}
	for _, d := range draw(s, seed) {
		c.machines = append(c.machines, machine{durations: d})
	}
	return c
}

func idOf(n int) string { return fmt.Sprintf("i-%06d", n) }

func (c *thin) of(id string) *machine {
	n, err := strconv.Atoi(id[2:])
	if err != nil {
		panic(err)
	}
	return &c.machines[n]
}

func (c *thin) show(n int) provider.Instance {
	m := &c.machines[n]
	i := provider.Instance{ID: idOf(n), Lifecycle: provider.InService, Power: provider.Running, ImageID: oldImage, OS: "linux"}
	if m.standby {
		i.Lifecycle = provider.Standby
	}
	if m.updated {
		i.ImageID = newImage
	}
	return i
}

func (c *thin) Group(_ context.Context, id string) (provider.Group, error) {
	take(latencies.Read)
	c.mu.Lock()
	defer c.mu.Unlock()
	return provider.Group{ID: id, State: provider.GroupActive, Suspended: c.suspended, InService: len(c.machines), Total: len(c.machines), DesiredCapacity: -1}, nil
}

func (c *thin) Members(context.Context, string) ([]provider.Instance, error) {
	take(latencies.Read)
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]provider.Instance, len(c.machines))
	for n := range all {
		all[n] = c.show(n)
	}
	return all, nil
}

func (c *thin) Instances(_ context.Context, _ string, ids []string) ([]provider.Instance, error) {
	take(latencies.Read)
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]provider.Instance, 0, len(ids))
	for _, id := range ids {
		n, err := strconv.Atoi(id[2:])
		if err != nil {
			return nil, err
		}
		all = append(all, c.show(n))
	}
	return all, nil
}

func (c *thin) Limits() provider.Limits {
	return provider.Limits{Instances: 100, Standby: 20, Protection: 20, Start: 100, Update: 100}
}

func (c *thin) move(targets []provider.Target, standby bool) []provider.Progress {
	take(latencies.Standby)
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]provider.Progress, len(targets))
	for n, t := range targets {
		c.of(t.InstanceID).standby = standby
		out[n] = provider.Progress{InstanceID: t.InstanceID, Done: true}
	}
	return out
}

func (c *thin) EnterStandby(_ context.Context, _ string, targets []provider.Target) ([]provider.Progress, error) {
	return c.move(targets, true), nil
}

func (c *thin) ExitStandby(_ context.Context, _ string, targets []provider.Target) ([]provider.Progress, error) {
	return c.move(targets, false), nil
}

func (c *thin) SetProtection(context.Context, string, []provider.Target, bool) ([]provider.Progress, error) {
	return nil, provider.ErrInvalid // nothing is protected
}

func (c *thin) Start(context.Context, string, []provider.Target) ([]provider.Progress, error) {
	return nil, provider.ErrInvalid // nothing is left Stopped
}

func (c *thin) SuspendProcesses(_ context.Context, _ string, all []provider.Process, _ string) error {
	take(latencies.Write)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspended = all
	return nil
}

func (c *thin) ResumeProcesses(context.Context, string, []provider.Process, string) error {
	take(latencies.Write)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.suspended = nil
	return nil
}

// take lets simulated time pass.
func take(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // calls of a thin cloud are never given up
}

// order is what an instance is told to do next, and how long that takes.
func (m *machine) order(kind string) (next string, takes time.Duration) {
	switch {
	case kind == "script":
		return "running", m.script
	case m.doing == "":
		return "stopping", m.stop
	case m.doing == "stopping":
		return "replacing", m.replace
	}
	return "starting", m.start
}

// Update implements [provider.Updater].
func (c *thin) Update(_ context.Context, _ string, _ provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	latency := latencies.Read
	if targets[0].CallID != "" {
		latency = latencies.Write
	}
	take(latency)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	out := make([]provider.Progress, len(targets))
	for n, t := range targets {
		m, p := c.of(t.InstanceID), &out[n]
		p.InstanceID = t.InstanceID
		last := m.doing == "starting" || m.doing == "running"
		switch {
		case t.CallID != "":
			next, takes := m.order(c.kind)
			m.doing, m.until = next, now.Add(takes)
			m.state = json.RawMessage(`{"phase":"` + next + `","old_disk":"d-` + t.InstanceID + `","size_gib":40}`)
			p.Phase, p.Wait = next, time.Second
		case now.Before(m.until):
			p.Phase, p.Wait = m.doing, time.Second
		case last:
			m.doing, m.updated = "", true
			p.Done, p.Outcome, p.Fit = true, provider.Updated, true
		default:
			p.Act = true
		}
		p.Stopped = !p.Done && c.kind == "image"
		if !p.Done {
			p.State = m.state
		}
	}
	return out, nil
}
