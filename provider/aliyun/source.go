package aliyun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ess"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A source is what feeds a group: a scaling configuration or a version of a launch template.
type source struct {
	provider.Configuration
	keyPair  string
	userData string // base64
	// passwordInherit says that instances get the password that is preset in the image.
	passwordInherit bool
	// weight is the load balancer weight of new instances.
	weight int
	// snapshots says that a data disk is made from a snapshot.
	snapshots bool
}

// familyPrefix marks, in [provider.Configuration.ImageID], an image family: the configuration follows the family's newest image.
const familyPrefix = "family:"

// source reads what feeds a group. A source that is gone is empty.
func (p *Provider) source(ctx context.Context, g *ess.ScalingGroup) (source, error) {
	switch {
	case g.LaunchTemplateId != "":
		return p.template(ctx, g.LaunchTemplateId, g.LaunchTemplateVersion)
	case g.ActiveScalingConfigurationId != "":
		s, err := p.scalingConfiguration(ctx, g.ScalingGroupId, g.ActiveScalingConfigurationId)
		if errors.Is(err, provider.ErrNotFound) {
			return source{}, nil
		}
		return s, err
	}
	return source{}, nil
}

// sourceOf reads what feeds a group.
func (p *Provider) sourceOf(ctx context.Context, groupID string) (source, error) {
	g, err := p.group(ctx, groupID)
	if err != nil {
		return source{}, err
	}
	s, err := p.source(ctx, g)
	if err == nil {
		p.recent.keepSource(groupID, &s)
	}
	return s, err
}

// scalingConfiguration reads one scaling configuration, active or not.
func (p *Provider) scalingConfiguration(ctx context.Context, groupID, id string) (source, error) {
	req := ess.CreateDescribeScalingConfigurationsRequest()
	req.ScalingGroupId, req.ScalingConfigurationId = groupID, list([]string{id})
	resp := ess.CreateDescribeScalingConfigurationsResponse()
	if err := p.call(ctx, req, resp); err != nil {
		return source{}, err
	}
	for _, c := range resp.ScalingConfigurations.ScalingConfiguration {
		if c.ScalingConfigurationId != id {
			continue
		}
		s := source{
			Configuration: provider.Configuration{ID: id, ImageID: c.ImageId}, keyPair: c.KeyPairName, userData: c.UserData,
			passwordInherit: c.PasswordInherit, weight: c.LoadBalancerWeight,
		}
		if c.ImageId == "" && c.ImageFamily != "" {
			s.ImageID = familyPrefix + c.ImageFamily
		}
		s.DataDisks = dataDisksOf(c.DataDisks.DataDisk)
		s.snapshots = slices.ContainsFunc(c.DataDisks.DataDisk, func(d ess.DataDisk) bool { return d.SnapshotId != "" })
		return s, nil
	}
	return source{}, fmt.Errorf("group %s has no scaling configuration %s: %w", groupID, id, provider.ErrNotFound)
}

// template reads the version of a launch template that a group uses: a number, Default or Latest.
func (p *Provider) template(ctx context.Context, id, version string) (source, error) {
	s := source{Configuration: provider.Configuration{ID: id, LaunchTemplate: true}}
	req := ecs.CreateDescribeLaunchTemplateVersionsRequest()
	req.LaunchTemplateId, req.DetailFlag = id, requests.NewBoolean(true)
	switch {
	case strings.EqualFold(version, "Latest"):
		n, err := p.latestVersion(ctx, id)
		if err != nil || n == 0 {
			return s, ignoreNotFound(err)
		}
		req.LaunchTemplateVersion = list([]string{strconv.FormatInt(n, 10)})
	case version == "" || strings.EqualFold(version, "Default"):
		req.DefaultVersion = requests.NewBoolean(true)
	default:
		req.LaunchTemplateVersion = list([]string{version})
	}
	resp := ecs.CreateDescribeLaunchTemplateVersionsResponse()
	if err := p.call(ctx, req, resp); err != nil {
		return s, ignoreNotFound(err)
	}
	for _, v := range resp.LaunchTemplateVersionSets.LaunchTemplateVersionSet {
		d := v.LaunchTemplateData
		s.ImageID, s.keyPair, s.userData, s.passwordInherit = d.ImageId, d.KeyPairName, d.UserData, d.PasswordInherit
		break
	}
	return s, nil
}

// latestVersion is the newest version of a launch template.
func (p *Provider) latestVersion(ctx context.Context, id string) (int64, error) {
	req := ecs.CreateDescribeLaunchTemplatesRequest()
	req.LaunchTemplateId = list([]string{id})
	resp := ecs.CreateDescribeLaunchTemplatesResponse()
	if err := p.call(ctx, req, resp); err != nil {
		return 0, err
	}
	for _, t := range resp.LaunchTemplateSets.LaunchTemplateSet {
		if t.LaunchTemplateId == id {
			return t.LatestVersionNumber, nil
		}
	}
	return 0, nil
}

func ignoreNotFound(err error) error {
	if errors.Is(err, provider.ErrNotFound) {
		return nil
	}
	return err
}

// Configuration implements [provider.ConfigurationSetter].
func (p *Provider) Configuration(ctx context.Context, groupID string) (provider.Configuration, error) {
	s, err := p.sourceOf(ctx, groupID)
	if err != nil {
		return provider.Configuration{}, err
	}
	err = p.fromImage(ctx, &s)
	return s.Configuration, err
}

// fromImage finds out whether data disks of a scaling configuration came with its image: setting
// another image then clears the configuration's data disks. In doubt they did, so that it needs consent: when a disk is made from a
// snapshot, or when the image cannot be read any more.
func (p *Provider) fromImage(ctx context.Context, s *source) error {
	if s.LaunchTemplate || len(s.DataDisks) == 0 {
		return nil
	}
	if s.DataDisksFromImage = s.snapshots; s.snapshots || s.ImageID == "" || strings.HasPrefix(s.ImageID, familyPrefix) {
		return nil
	}
	images, err := p.images(ctx, s.ImageID)
	if err != nil {
		return err
	}
	img, ok := images[s.ImageID]
	s.DataDisksFromImage = !ok || img.DataDisks
	return nil
}

// SetConfigurationImage implements [provider.ConfigurationSetter]. The configuration need not be the active one.
func (p *Provider) SetConfigurationImage(ctx context.Context, groupID string, want provider.Configuration) error {
	if want.LaunchTemplate {
		return fmt.Errorf("launch template %s is never changed: %w", want.ID, provider.ErrInvalid)
	}
	if want.ImageID == "" {
		return fmt.Errorf("scaling configuration %s without an image: %w", want.ID, provider.ErrInvalid)
	}
	now, err := p.scalingConfiguration(ctx, groupID, want.ID)
	if err != nil {
		return err
	}
	disks, err := readDataDisks(want.DataDisks)
	if err != nil {
		return fmt.Errorf("data disks of %s: %w: %w", want.ID, err, provider.ErrInvalid)
	}
	same := want.DataDisks == nil || string(dataDiskJSON(disks)) == string(now.DataDisks)
	if now.ImageID == want.ImageID && same {
		return nil
	}
	req := ess.CreateModifyScalingConfigurationRequest()
	req.ScalingConfigurationId = want.ID
	if family, ok := strings.CutPrefix(want.ImageID, familyPrefix); ok {
		req.ImageFamily = family
	} else {
		req.ImageId = want.ImageID
	}
	if len(disks) > 0 {
		req.DataDisk = forModify(disks)
	}
	return p.call(ctx, req, ess.CreateModifyScalingConfigurationResponse())
}

// A dataDisk is a data disk of a scaling configuration, as [provider.Configuration.DataDisks] keeps it.
type dataDisk struct {
	Size                 int      `json:"size,omitempty"`
	Category             string   `json:"category,omitempty"`
	Categories           []string `json:"categories,omitempty"`
	PerformanceLevel     string   `json:"performance_level,omitempty"`
	SnapshotID           string   `json:"snapshot_id,omitempty"`
	Device               string   `json:"device,omitempty"`
	Name                 string   `json:"name,omitempty"`
	Description          string   `json:"description,omitempty"`
	Encrypted            string   `json:"encrypted,omitempty"`
	KMSKeyID             string   `json:"kms_key_id,omitempty"`
	AutoSnapshotPolicyID string   `json:"auto_snapshot_policy_id,omitempty"`
	DeleteWithInstance   bool     `json:"delete_with_instance"`
	ProvisionedIops      int64    `json:"provisioned_iops,omitempty"`
	BurstingEnabled      bool     `json:"bursting_enabled,omitempty"`
}

// dataDisksOf is nil if there are none.
func dataDisksOf(all []ess.DataDisk) json.RawMessage {
	out := make([]dataDisk, len(all))
	for n, d := range all {
		out[n] = dataDisk{
			Size: d.Size, Category: d.Category, Categories: d.Categories.Category, PerformanceLevel: d.PerformanceLevel, SnapshotID: d.SnapshotId,
			Device: d.Device, Name: d.DiskName, Description: d.Description, Encrypted: d.Encrypted, KMSKeyID: d.KMSKeyId,
			AutoSnapshotPolicyID: d.AutoSnapshotPolicyId, DeleteWithInstance: d.DeleteWithInstance, ProvisionedIops: d.ProvisionedIops,
			BurstingEnabled: d.BurstingEnabled,
		}
	}
	return dataDiskJSON(out)
}

func dataDiskJSON(all []dataDisk) json.RawMessage {
	if len(all) == 0 {
		return nil
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // texts and numbers only
	}
	return b
}

func readDataDisks(raw json.RawMessage) (all []dataDisk, err error) {
	if len(raw) == 0 {
		return nil, nil
	}
	return all, json.Unmarshal(raw, &all)
}

// forModify is the form in which data disks are set. A disk that is not encrypted, say, is not mentioned as such: empty values
// are not sent.
func forModify(all []dataDisk) *[]ess.ModifyScalingConfigurationDataDisk {
	out := make([]ess.ModifyScalingConfigurationDataDisk, len(all))
	for n, d := range all {
		out[n] = ess.ModifyScalingConfigurationDataDisk{
			Category: d.Category, Categories: list(d.Categories), PerformanceLevel: d.PerformanceLevel, SnapshotId: d.SnapshotID, Device: d.Device,
			DiskName: d.Name, Description: d.Description, Encrypted: d.Encrypted, KMSKeyId: d.KMSKeyID, AutoSnapshotPolicyId: d.AutoSnapshotPolicyID,
			DeleteWithInstance: strconv.FormatBool(d.DeleteWithInstance),
		}
		if d.Size > 0 {
			out[n].Size = strconv.Itoa(d.Size)
		}
		if d.ProvisionedIops > 0 {
			out[n].ProvisionedIops = strconv.FormatInt(d.ProvisionedIops, 10)
		}
		if d.BurstingEnabled {
			out[n].BurstingEnabled = "true"
		}
	}
	return &out
}
