package fake

import (
	"context"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A Face is a Provider with both optional abilities, such as a [Cloud].
type Face interface {
	provider.Provider
	provider.Inspector
	provider.ConfigurationSetter
}

// Front returns a Face whose methods are those of p in place of the cloud's own: they are listed in [Cloud.Calls], meet the faults that
// [Cloud.Inject] has for them, and [Cloud.Effects] and [Cloud.Violations] name them. So a test that was written for the cloud's own methods can be
// run again over a provider that speaks the wire protocol, with the same faults and the same judgment.
//
// p must act on this cloud by calls that carry the context of the method, as they do through the Transport of package fake/openapi.
func (c *Cloud) Front(p Face) Face { return front{c, p} }

type front struct {
	c *Cloud
	p Face
}

// Limits implements [provider.Provider].
func (f front) Limits() provider.Limits { return f.p.Limits() }

// Group implements [provider.Reader].
func (f front) Group(ctx context.Context, groupID string) (out provider.Group, err error) {
	err = f.c.call(ctx, "Group", groupID, nil, "", func(ctx context.Context, _ verdict) (err error) {
		out, err = f.p.Group(ctx, groupID)
		return err
	})
	return clean(out, err)
}

// Members implements [provider.Reader].
func (f front) Members(ctx context.Context, groupID string) (out []provider.Instance, err error) {
	err = f.c.call(ctx, "Members", groupID, nil, "", func(ctx context.Context, _ verdict) (err error) {
		out, err = f.p.Members(ctx, groupID)
		return err
	})
	return clean(out, err)
}

// Instances implements [provider.Reader].
func (f front) Instances(ctx context.Context, groupID string, ids []string) (out []provider.Instance, err error) {
	if len(ids) == 0 {
		return nil, ctx.Err()
	}
	err = f.c.call(ctx, "Instances", groupID, ids, "", func(ctx context.Context, _ verdict) (err error) {
		out, err = f.p.Instances(ctx, groupID, ids)
		return err
	})
	return clean(out, err)
}

// EnterStandby implements [provider.StandbyMover].
func (f front) EnterStandby(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return f.c.perTarget(ctx, "EnterStandby", groupID, targets, limitOf(f.p.Limits().Standby, targets), func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		return f.p.EnterStandby(ctx, groupID, targets)
	})
}

// ExitStandby implements [provider.StandbyMover].
func (f front) ExitStandby(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return f.c.perTarget(ctx, "ExitStandby", groupID, targets, limitOf(f.p.Limits().Standby, targets), func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		return f.p.ExitStandby(ctx, groupID, targets)
	})
}

// SetProtection implements [provider.Protector].
func (f front) SetProtection(ctx context.Context, groupID string, targets []provider.Target, protected bool) ([]provider.Progress, error) {
	return f.c.perTarget(ctx, "SetProtection", groupID, targets, limitOf(f.p.Limits().Protection, targets), func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		return f.p.SetProtection(ctx, groupID, targets, protected)
	})
}

// Start implements [provider.Starter].
func (f front) Start(ctx context.Context, groupID string, targets []provider.Target) ([]provider.Progress, error) {
	return f.c.perTarget(ctx, "Start", groupID, targets, limitOf(f.p.Limits().Start, targets), func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		return f.p.Start(ctx, groupID, targets)
	})
}

// Update implements [provider.Updater].
func (f front) Update(ctx context.Context, groupID string, u provider.Update, targets []provider.Target) ([]provider.Progress, error) {
	return f.c.perTarget(ctx, "Update", groupID, targets, limitOf(f.p.Limits().Update, targets), func(ctx context.Context, targets []provider.Target) ([]provider.Progress, error) {
		return f.p.Update(ctx, groupID, u, targets)
	})
}

// limitOf is a limit of [provider.Limits], in which zero means any number.
func limitOf(limit int, targets []provider.Target) int {
	if limit == 0 {
		return len(targets)
	}
	return limit
}

// SuspendProcesses implements [provider.ProcessSuspender].
func (f front) SuspendProcesses(ctx context.Context, groupID string, processes []provider.Process, callID string) error {
	return f.c.call(ctx, "SuspendProcesses", groupID, nil, callID, func(ctx context.Context, _ verdict) error {
		return f.p.SuspendProcesses(ctx, groupID, processes, callID)
	})
}

// ResumeProcesses implements [provider.ProcessSuspender].
func (f front) ResumeProcesses(ctx context.Context, groupID string, processes []provider.Process, callID string) error {
	return f.c.call(ctx, "ResumeProcesses", groupID, nil, callID, func(ctx context.Context, _ verdict) error {
		return f.p.ResumeProcesses(ctx, groupID, processes, callID)
	})
}

// Inspect implements [provider.Inspector].
func (f front) Inspect(ctx context.Context, groupID string, u provider.Update, ids []string) (out provider.Inspection, err error) {
	err = f.c.call(ctx, "Inspect", groupID, ids, "", func(ctx context.Context, _ verdict) (err error) {
		out, err = f.p.Inspect(ctx, groupID, u, ids)
		return err
	})
	return clean(out, err)
}

// Configuration implements [provider.ConfigurationSetter].
func (f front) Configuration(ctx context.Context, groupID string) (out provider.Configuration, err error) {
	err = f.c.call(ctx, "Configuration", groupID, nil, "", func(ctx context.Context, _ verdict) (err error) {
		out, err = f.p.Configuration(ctx, groupID)
		return err
	})
	return clean(out, err)
}

// SetConfigurationImage implements [provider.ConfigurationSetter].
func (f front) SetConfigurationImage(ctx context.Context, groupID string, want provider.Configuration) error {
	return f.c.call(ctx, "SetConfigurationImage", groupID, nil, "", func(ctx context.Context, _ verdict) error {
		return f.p.SetConfigurationImage(ctx, groupID, want)
	})
}
