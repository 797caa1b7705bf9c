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
		cfg, err := api.DescribeScalingConfigurations(ctx, groupID)
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
		cfg, err := c.API().DescribeScalingConfigurations(ctx, groupID)
		out = cfg.Configuration
		return err
	})
	return clean(out, err)
}

// SetConfigurationImage implements [provider.ConfigurationSetter].
func (c *Cloud) SetConfigurationImage(ctx context.Context, groupID string, want provider.Configuration) error {
	return c.call(ctx, "SetConfigurationImage", groupID, nil, "", func(ctx context.Context, _ verdict) error {
		cfg, err := c.API().DescribeScalingConfigurations(ctx, groupID)
		if err != nil {
			return err
		}
		switch {
		case cfg.ID != want.ID:
			return fmt.Errorf("configuration %s is not the active one of %s: %w", want.ID, groupID, provider.ErrNotFound)
		case cfg.LaunchTemplate || want.LaunchTemplate:
			return fmt.Errorf("launch template %s is never changed: %w", want.ID, provider.ErrInvalid)
		case cfg.ImageID == want.ImageID && (want.DataDisks == nil || string(cfg.DataDisks) == string(want.DataDisks)):
			return nil
		}
		return c.API().ModifyScalingConfiguration(ctx, want.ID, want.ImageID, want.DataDisks)
	})
}
