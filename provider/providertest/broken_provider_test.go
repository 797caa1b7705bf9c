package providertest_test

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

type (
	progresses = []provider.Progress
	moveFunc   func(ctx context.Context, g string, ts []provider.Target) (progresses, error)
	updateFunc func(ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error)
)

// broken is a fake cloud of which single methods are replaced.
type broken struct {
	*fake.Cloud
	group     func(ctx context.Context, g string) (provider.Group, error)
	members   func(ctx context.Context, g string) ([]provider.Instance, error)
	instances func(ctx context.Context, g string, ids []string) ([]provider.Instance, error)
	enter     moveFunc
	exit      moveFunc
	start     moveFunc
	protect   func(ctx context.Context, g string, ts []provider.Target, on bool) (progresses, error)
	resume    func(ctx context.Context, g string, p []provider.Process, callID string) error
	update    updateFunc
	pace      func(n int) (int, time.Duration)
}

// Pace implements [provider.Pacer].
func (b *broken) Pace(_ provider.Update, n int) (int, time.Duration) {
	if b.pace != nil {
		return b.pace(n)
	}
	return n, 0
}

func (b *broken) Group(ctx context.Context, g string) (provider.Group, error) {
	if b.group != nil {
		return b.group(ctx, g)
	}
	return b.Cloud.Group(ctx, g)
}

func (b *broken) Members(ctx context.Context, g string) ([]provider.Instance, error) {
	if b.members != nil {
		return b.members(ctx, g)
	}
	return b.Cloud.Members(ctx, g)
}

func (b *broken) Instances(ctx context.Context, g string, ids []string) ([]provider.Instance, error) {
	if b.instances != nil {
		return b.instances(ctx, g, ids)
	}
	return b.Cloud.Instances(ctx, g, ids)
}

func (b *broken) EnterStandby(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
	if b.enter != nil {
		return b.enter(ctx, g, ts)
	}
	return b.Cloud.EnterStandby(ctx, g, ts)
}

func (b *broken) ExitStandby(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
	if b.exit != nil {
		return b.exit(ctx, g, ts)
	}
	return b.Cloud.ExitStandby(ctx, g, ts)
}

func (b *broken) Start(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
	if b.start != nil {
		return b.start(ctx, g, ts)
	}
	return b.Cloud.Start(ctx, g, ts)
}

func (b *broken) SetProtection(ctx context.Context, g string, ts []provider.Target, on bool) (progresses, error) {
	if b.protect != nil {
		return b.protect(ctx, g, ts, on)
	}
	return b.Cloud.SetProtection(ctx, g, ts, on)
}

func (b *broken) ResumeProcesses(ctx context.Context, g string, p []provider.Process, callID string) error {
	if b.resume != nil {
		return b.resume(ctx, g, p, callID)
	}
	return b.Cloud.ResumeProcesses(ctx, g, p, callID)
}

func (b *broken) Update(ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
	if b.update != nil {
		return b.update(ctx, g, u, ts)
	}
	return b.Cloud.Update(ctx, g, u, ts)
}

// onUpdate replaces Update; real is the one of the fake.
func onUpdate(f func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error)) func(b *broken) {
	return func(b *broken) {
		b.update = func(ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
			return f(b.Cloud.Update, ctx, g, u, ts)
		}
	}
}

// onAnswer changes each answer of Update.
func onAnswer(f func(u provider.Update, t provider.Target, p *provider.Progress)) func(b *broken) {
	return onUpdate(func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
		answers, err := real(ctx, g, u, ts)
		for n := range answers {
			for _, t := range ts {
				if t.InstanceID == answers[n].InstanceID {
					f(u, t, &answers[n])
				}
			}
		}
		return answers, err
	})
}

// changed returns targets with a change to each.
func changed(ts []provider.Target, f func(*provider.Target)) []provider.Target {
	ts = slices.Clone(ts)
	for n := range ts {
		f(&ts[n])
	}
	return ts
}

func acting(ts []provider.Target) bool { return len(ts) > 0 && ts[0].CallID != "" }

// phase is what a state of the fake names.
func phase(state json.RawMessage) string {
	var s struct{ Phase string }
	_ = json.Unmarshal(state, &s)
	return s.Phase
}
