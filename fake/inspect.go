package fake

import (
	"context"
	"fmt"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// Inspect implements [provider.Inspector]. It takes any number of ids.
func (c *Cloud) Inspect(ctx context.Context, groupID string, u provider.Update, ids []string) (out provider.Inspection, err error) {
	err = c.call(ctx, "Inspect", groupID, ids, "", func(ctx context.Context, _ verdict) error {
		api := c.API()
		groups, err := api.DescribeScalingGroups(ctx, []string{groupID})
		if err != nil {
			return err
		}
		if len(groups) == 0 {
			return &APIError{Action: "Inspect", Code: "InvalidScalingGroupId.NotFound", HTTPStatus: 404, Message: groupID, Err: provider.ErrNotFound}
		}
		cfg, err := c.source(ctx, groups[0])
		if err != nil {
			return err
		}
		out = provider.Inspection{InstanceRefreshID: groups[0].InstanceRefreshID, Configuration: cfg.Configuration}
		if u.Image != nil {
			images, err := api.DescribeImages(ctx, []string{u.Image.ImageID})
			if err != nil {
				return err
			}
			if len(images) > 0 {
				out.Image = &images[0]
			}
		}
		if len(ids) == 0 {
			return nil
		}
		all, err := api.DescribeInstances(ctx, groupID, ids)
		for _, v := range all {
			out.Instances = append(out.Instances, provider.InstanceDetail{
				ID: v.ID, Disk: v.Disk, AgentOffline: !v.AgentOnline,
				LoginLost: cfg.KeyPair == "" && v.KeyPair == "" && v.NoPassword, CustomWeight: v.CustomWeight,
			})
		}
		return err
	})
	return clean(out, err)
}

// Configuration implements [provider.ConfigurationSetter].
func (c *Cloud) Configuration(ctx context.Context, groupID string) (out provider.Configuration, err error) {
	err = c.call(ctx, "Configuration", groupID, nil, "", func(ctx context.Context, _ verdict) error {
		cfg, err := c.sourceOf(ctx, "Configuration", groupID)
		out = cfg.Configuration
		return err
	})
	return clean(out, err)
}

// SetConfigurationImage implements [provider.ConfigurationSetter]. The configuration need not be the active one.
func (c *Cloud) SetConfigurationImage(ctx context.Context, groupID string, want provider.Configuration) error {
	return c.call(ctx, "SetConfigurationImage", groupID, nil, "", func(ctx context.Context, _ verdict) error {
		all, err := c.API().DescribeScalingConfigurations(ctx, groupID, []string{want.ID})
		if err != nil {
			return err
		}
		switch {
		case len(all) == 0:
			return fmt.Errorf("group %s has no configuration %s: %w", groupID, want.ID, provider.ErrNotFound)
		case all[0].LaunchTemplate || want.LaunchTemplate:
			return fmt.Errorf("launch template %s is never changed: %w", want.ID, provider.ErrInvalid)
		case all[0].ImageID == want.ImageID && (want.DataDisks == nil || string(all[0].DataDisks) == string(want.DataDisks)):
			return nil
		}
		return c.API().ModifyScalingConfiguration(ctx, want.ID, want.ImageID, want.DataDisks)
	})
}

// sourceOf reads what feeds a group.
func (c *Cloud) sourceOf(ctx context.Context, op, groupID string) (ConfigurationView, error) {
	groups, err := c.API().DescribeScalingGroups(ctx, []string{groupID})
	if err != nil {
		return ConfigurationView{}, err
	}
	if len(groups) == 0 {
		return ConfigurationView{}, &APIError{Action: op, Code: "InvalidScalingGroupId.NotFound", HTTPStatus: 404, Message: groupID, Err: provider.ErrNotFound}
	}
	return c.source(ctx, groups[0])
}

// source reads what feeds a group that was read already.
func (c *Cloud) source(ctx context.Context, g GroupView) (ConfigurationView, error) {
	all, err := c.API().DescribeScalingConfigurations(ctx, g.ID, []string{or2(g.ConfigurationID, g.LaunchTemplateID)})
	if err != nil || len(all) == 0 {
		return ConfigurationView{}, err
	}
	return all[0], nil
}
