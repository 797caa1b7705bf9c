package openapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// standby answers EnterStandby and ExitStandby.
func standby(exit bool) func(*call) (obj, error) {
	return func(c *call) (obj, error) {
		id, err := c.h.api.Standby(c.ctx, fake.StandbyRequest{
			Exit: exit, GroupID: c.str("ScalingGroupId"), InstanceIDs: c.list("InstanceId"), Token: c.str("ClientToken"), Async: c.flag("Async"),
		})
		if id == "" {
			return obj{}, err
		}
		return obj{"ScalingActivityId": id}, err
	}
}

// processes answers SuspendProcesses and ResumeProcesses.
func processes(resume bool) func(*call) (obj, error) {
	return func(c *call) (obj, error) {
		var list []provider.Process
		for _, p := range c.list("Process") {
			if !slices.Contains(list, provider.Process(p)) {
				list = append(list, provider.Process(p))
			}
		}
		if err := c.tooMany("Process", len(c.list("Process")), 100, "InvalidParameter", 400); err != nil {
			return nil, err
		}
		do := c.h.api.SuspendProcesses
		if resume {
			do = c.h.api.ResumeProcesses
		}
		return obj{}, do(c.ctx, c.str("ScalingGroupId"), list, c.str("ClientToken"))
	}
}

func setInstancesProtection(c *call) (obj, error) {
	return obj{}, c.h.api.SetInstancesProtection(c.ctx, c.str("ScalingGroupId"), c.list("InstanceId"), c.flag("ProtectedFromScaleIn"))
}

// modifyScalingConfiguration sets the image and, where DataDisk.N are given, the data disks.
func modifyScalingConfiguration(c *call) (obj, error) {
	id, imageID := c.str("ScalingConfigurationId"), c.str("ImageId")
	if imageID == "" {
		c.h.cloud.Look(func(v fake.View) {
			for _, x := range v.Configurations() {
				if x.ID == id {
					imageID = x.ImageID
				}
			}
		})
	}
	var disks json.RawMessage
	if given := c.lists["DataDisk"]; len(given) > 0 {
		disks, _ = json.Marshal(each(given, dataDisk))
	}
	return obj{}, c.h.api.ModifyScalingConfiguration(c.ctx, id, imageID, disks)
}

// dataDisk is DataDisk.N in the form in which DescribeScalingConfigurations shows it.
func dataDisk(e entry) obj {
	o := make(obj)
	var categories []string
	for _, k := range slices.Sorted(maps.Keys(e.fields)) {
		if strings.HasPrefix(k, "Categories.") {
			categories = append(categories, e.fields[k])
		} else {
			o[k] = e.fields[k]
		}
	}
	if categories != nil {
		o["Categories"] = wrap("Category", categories)
	}
	return o
}

func tagGroups(c *call) (obj, error) { return c.tag("scalinggroup") }

func tagInstances(c *call) (obj, error) { return c.tag("instance") }

// tag answers TagResources.
func (c *call) tag(kind string) (obj, error) {
	if !strings.EqualFold(c.str("ResourceType"), kind) {
		return nil, c.refuse("InvalidResourceType.NotFound", 404, "%s", c.str("ResourceType"))
	}
	ids := c.list("ResourceId")
	if err := c.tooMany("ResourceId", len(ids), 50, "NumberExceed.ResourceIds", 400); err != nil {
		return nil, err
	}
	if err := c.tooMany("Tag", len(c.lists["Tag"]), 20, "NumberExceed.Tags", 400); err != nil {
		return nil, err
	}
	var tags []fake.Tag
	keys := make(map[string]bool)
	for _, e := range c.lists["Tag"] {
		t := fake.Tag{Key: e.fields["Key"], Value: e.fields["Value"]}
		switch {
		case badTag(t.Key):
			return nil, c.refuse("InvalidTagKey.Malformed", 400, "%s", t.Key)
		case len(t.Value) > 128 || strings.Contains(t.Value, "http://") || strings.Contains(t.Value, "https://"):
			return nil, c.refuse("InvalidTagValue.Malformed", 400, "%s", t.Value)
		case keys[t.Key]:
			return nil, c.refuse("Duplicate.TagKey", 400, "%s", t.Key)
		}
		keys[t.Key] = true
		tags = append(tags, t)
	}
	var wrong string
	c.h.cloud.Look(func(v fake.View) {
		for _, g := range v.Groups() {
			if kind == "instance" && slices.Contains(ids, g.ID) {
				wrong = g.ID
			}
		}
		if found := v.Instances(ids...); kind != "instance" && len(found) > 0 {
			wrong = found[0].ID
		}
	})
	if wrong != "" {
		return nil, c.refuse("InvalidResourceId.NotFound", 404, "%s", wrong)
	}
	return obj{}, c.h.api.TagResources(c.ctx, ids, tags)
}

func badTag(key string) bool {
	return key == "" || len(key) > 128 || strings.HasPrefix(key, "aliyun") || strings.HasPrefix(key, "acs:") ||
		strings.Contains(key, "http://") || strings.Contains(key, "https://")
}
