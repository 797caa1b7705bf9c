package openapi

import (
	"encoding/json"
	"slices"
	"strconv"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func describeScalingGroups(c *call) (obj, error) {
	ids, names := c.list("ScalingGroupId"), c.groupNames()
	if err := c.tooMany("ScalingGroupId", len(ids), 20, "InvalidParameter", 400); err != nil {
		return nil, err
	}
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, firstOf(ids), nil, func(v fake.View) error {
		all := slices.DeleteFunc(v.Groups(), func(g fake.GroupView) bool {
			return len(ids) > 0 && !slices.Contains(ids, g.ID) || len(names) > 0 && !slices.Contains(names, g.Name) ||
				c.str("GroupType") != "" && c.str("GroupType") != g.Type || !c.tagged(v.Tags(g.ID))
		})
		page, head, err := byNumber(c, all, pages{size: 10, most: 50})
		answer = head.with("ScalingGroups", "ScalingGroup", each(page, func(g fake.GroupView) obj { return c.group(v, g) }))
		return err
	})
	return answer, err
}

// groupNames are ScalingGroupName and ScalingGroupName.1 to .20.
func (c *call) groupNames() (names []string) {
	if n := c.str("ScalingGroupName"); n != "" {
		names = append(names, n)
	}
	for n := range 20 {
		if name := c.str("ScalingGroupName." + strconv.Itoa(n+1)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func firstOf(ids []string) string {
	if len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// tagged reports whether tags have all of the call's Tag.N.
func (c *call) tagged(tags []fake.Tag) bool {
	for _, e := range c.lists["Tag"] {
		key, value := e.fields["Key"]+e.fields["key"], e.fields["Value"]+e.fields["value"]
		if !slices.ContainsFunc(tags, func(t fake.Tag) bool { return t.Key == key && (value == "" || t.Value == value) }) {
			return false
		}
	}
	return true
}

// tagList is how answers show tags: with the short and the long names of the members, as the two products have them.
func tagList(tags []fake.Tag) obj {
	return obj{"Tag": each(tags, func(t fake.Tag) obj {
		return obj{"Key": t.Key, "Value": t.Value, "TagKey": t.Key, "TagValue": t.Value, "Propagate": false}
	})}
}

func (c *call) group(v fake.View, g fake.GroupView) obj {
	var suspended []string
	for _, p := range g.Suspended {
		suspended = append(suspended, string(p))
	}
	health := "ECS"
	o := obj{
		"ScalingGroupId": g.ID, "ScalingGroupName": g.Name, "GroupType": g.Type, "RegionId": c.region(),
		"LifecycleState": g.State, "SystemSuspended": g.SystemSuspended,
		"MinSize": g.MinSize, "MaxSize": g.MaxSize, "EnableDesiredCapacity": g.DesiredCapacity >= 0,
		"TotalCapacity": g.Total, "TotalInstanceCount": g.Total,
		"ActiveCapacity": g.Count[provider.InService], "StandbyCapacity": g.Count[provider.Standby],
		"ProtectedCapacity": g.Count[provider.Protected], "PendingCapacity": g.Count[provider.Pending],
		"PendingWaitCapacity": g.Count[provider.PendingWait], "RemovingCapacity": g.Count[provider.Removing],
		"RemovingWaitCapacity": g.Count[provider.RemovingWait], "StoppedCapacity": g.Count[provider.OutOfUse],
		"HealthCheckType": health, "HealthCheckTypes": wrap("HealthCheckType", []string{health}),
		"ScalingPolicy": "recycle", "MultiAZPolicy": "PRIORITY", "DefaultCooldown": 300,
		"LoadBalancerIds": wrap("LoadBalancerId", g.LoadBalancers), "Tags": tagList(v.Tags(g.ID)),
	}
	if g.DesiredCapacity >= 0 {
		o["DesiredCapacity"] = g.DesiredCapacity
	}
	if len(suspended) > 0 {
		o["SuspendedProcesses"] = wrap("SuspendedProcess", suspended)
	}
	if g.LaunchTemplateID != "" {
		o["LaunchTemplateId"], o["LaunchTemplateVersion"] = g.LaunchTemplateID, "Default"
	} else {
		o["ActiveScalingConfigurationId"] = g.ConfigurationID
	}
	return o
}

func describeScalingInstances(c *call) (obj, error) {
	ids, groupID := c.list("InstanceId"), c.str("ScalingGroupId")
	if err := c.tooMany("InstanceId", len(ids), 20, "InvalidParameter", 400); err != nil {
		return nil, err
	}
	for _, one := range []string{"LifecycleState", "CreationType"} {
		if c.str(one) != "" && len(c.list(one+"s")) > 0 {
			return nil, c.refuse("InvalidParameter", 400, "%s and %ss", one, one)
		}
	}
	states := append(c.list("LifecycleStates"), nonEmpty(c.str("LifecycleState"))...)
	types := append(c.list("CreationTypes"), nonEmpty(c.str("CreationType"))...)
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, groupID, ids, func(v fake.View) error {
		groups := make(map[string]fake.GroupView)
		for _, g := range v.Groups() {
			groups[g.ID] = g
		}
		var page []fake.InstanceView
		var head obj
		var err error
		size := pages{size: 10, most: c.h.cfg.MembersPage}
		if whole := groupID != "" && len(ids)+len(states)+len(types) == 0 && c.str("HealthStatus")+c.str("ScalingConfigurationId") == ""; whole {
			var from, to int
			from, to, head, err = numbered(c, groups[groupID].Total, size)
			page = v.MembersPage(groupID, from, to)
		} else {
			all := v.Instances(ids...)
			if groupID != "" && len(ids) == 0 {
				all = v.Members(groupID)
			}
			page, head, err = byNumber(c, slices.DeleteFunc(all, func(i fake.InstanceView) bool {
				g := groups[i.GroupID]
				return i.GroupID == "" || groupID != "" && i.GroupID != groupID ||
					len(states) > 0 && !slices.Contains(states, string(i.Lifecycle)) ||
					len(types) > 0 && !slices.Contains(types, creationType(i)) ||
					c.str("HealthStatus") != "" && c.str("HealthStatus") != healthStatus(i) ||
					c.str("ScalingConfigurationId") != "" && c.str("ScalingConfigurationId") != g.ConfigurationID
			}), size)
		}
		answer = head.with("ScalingInstances", "ScalingInstance", each(page, func(i fake.InstanceView) obj {
			g := groups[i.GroupID]
			o := obj{
				"InstanceId": i.ID, "ScalingGroupId": i.GroupID, "ScalingInstanceId": "asi-" + i.ID,
				"LifecycleState": i.Lifecycle, "HealthStatus": healthStatus(i), "CreationType": creationType(i),
				"CreationTime": minutes(i.Created), "CreatedTime": seconds(i.Created), "ZoneId": c.region() + "-a",
				"InstanceType": instanceType(i.Arch), "LoadBalancerWeight": i.Weight, "WarmupState": "NoNeedWarmup",
				"Entrusted": !i.Attached, "WeightedCapacity": 1, "SpotStrategy": "NoSpot",
			}
			if g.LaunchTemplateID != "" {
				o["LaunchTemplateId"], o["LaunchTemplateVersion"] = g.LaunchTemplateID, "1"
			} else {
				o["ScalingConfigurationId"] = g.ConfigurationID
			}
			return o
		}))
		if err == nil {
			answer["TotalSpotCount"] = 0
		}
		return err
	})
	return answer, err
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func creationType(i fake.InstanceView) string {
	if i.Attached {
		return "Attached"
	}
	return "AutoCreated"
}

func healthStatus(i fake.InstanceView) string {
	if i.Unhealthy {
		return "Unhealthy"
	}
	return "Healthy"
}

func describeScalingActivities(c *call) (obj, error) {
	ids, groupID := c.list("ScalingActivityId"), c.str("ScalingGroupId")
	if len(ids) == 0 && groupID == "" {
		return nil, c.refuse("MissingParameter", 400, "ScalingGroupId or ScalingActivityId.1")
	}
	if err := c.tooMany("ScalingActivityId", len(ids), 20, "InvalidParameter", 400); err != nil {
		return nil, err
	}
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, groupID, nil, func(v fake.View) error {
		if groupID != "" && !slices.ContainsFunc(v.Groups(), func(g fake.GroupView) bool { return g.ID == groupID }) {
			return c.refuse("InvalidScalingGroupId.NotFound", 404, "%s", groupID)
		}
		all := slices.DeleteFunc(v.Activities(), func(a fake.ActivityView) bool {
			return groupID != "" && a.GroupID != groupID || len(ids) > 0 && !slices.Contains(ids, a.ID) ||
				c.str("StatusCode") != "" && c.str("StatusCode") != activityStatus(a)
		})
		page, head, err := byNumber(c, all, pages{size: 10, most: 50})
		answer = head.with("ScalingActivities", "ScalingActivity", each(page, func(a fake.ActivityView) obj {
			o := obj{
				"ScalingActivityId": a.ID, "ScalingGroupId": a.GroupID, "StatusCode": activityStatus(a), "Description": a.Text,
				"Cause": a.Text, "StatusMessage": "", "StartTime": minutes(a.Begin), "Progress": 100,
				"TotalCapacity": "", "AttachedCapacity": "", "AutoCreatedCapacity": "",
				"ErrorMessages": obj{"ErrorMessages": []obj{}},
			}
			if a.InProgress {
				o["Progress"] = 50
			} else {
				o["EndTime"] = minutes(a.End)
			}
			return o
		}))
		return err
	})
	return answer, err
}

func activityStatus(a fake.ActivityView) string {
	if a.InProgress {
		return "InProgress"
	}
	return "Successful"
}

func describeScalingConfigurations(c *call) (obj, error) {
	ids, names, groupID := c.list("ScalingConfigurationId"), c.list("ScalingConfigurationName"), c.str("ScalingGroupId")
	if err := c.tooMany("ScalingConfigurationId", max(len(ids), len(names)), 10, "InvalidParameter", 400); err != nil {
		return nil, err
	}
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, groupID, nil, func(v fake.View) error {
		all := slices.DeleteFunc(v.Configurations(), func(x fake.ConfigurationView) bool {
			return x.LaunchTemplate || groupID != "" && x.GroupID != groupID ||
				len(ids) > 0 && !slices.Contains(ids, x.ID) || len(names) > 0 && !slices.Contains(names, x.ID)
		})
		page, head, err := byNumber(c, all, pages{size: 10, most: 50})
		answer = head.with("ScalingConfigurations", "ScalingConfiguration", each(page, func(x fake.ConfigurationView) obj {
			return configuration(v, x)
		}))
		return err
	})
	return answer, err
}

func configuration(v fake.View, x fake.ConfigurationView) obj {
	o := obj{
		"ScalingConfigurationId": x.ID, "ScalingConfigurationName": x.ID, "ScalingGroupId": x.GroupID, "LifecycleState": "Inactive",
		"ImageId": x.ImageID, "ImageName": x.ImageID, "ImageOwnerAlias": "self", "KeyPairName": x.KeyPair, "UserData": x.UserData,
		"InstanceTypes": wrap("InstanceType", []string{instanceType("")}), "SystemDiskCategory": "cloud_essd", "SystemDiskSize": 40,
		"SystemDisk.Encrypted": false, "SystemDisk.KMSKeyId": "", "PrivatePoolOptions.Id": "",
		"SecurityEnhancementStrategy": "Active", "PasswordInherit": true, "PasswordSetted": false,
		"DataDisks": obj{"DataDisk": dataDisks(x)},
	}
	if x.Active {
		o["LifecycleState"] = "Active"
	}
	for _, g := range v.Groups() {
		if g.ID == x.GroupID {
			o["LoadBalancerWeight"] = g.Weight
		}
	}
	for _, i := range v.Members(x.GroupID) {
		if i.NoPassword {
			o["PasswordInherit"] = false
		}
	}
	return o
}

// dataDisks are the data disks of a configuration. Those that came with the image carry a snapshot.
func dataDisks(x fake.ConfigurationView) []obj {
	var list []obj
	if json.Unmarshal(x.DataDisks, &list) != nil {
		var one obj
		if json.Unmarshal(x.DataDisks, &one) != nil || one == nil {
			return []obj{}
		}
		list = []obj{one}
	}
	for n, d := range list {
		if x.DataDisksFromImage && d["SnapshotId"] == nil {
			list[n]["SnapshotId"] = "s-" + x.ImageID
		}
	}
	return list
}

func describeInstanceRefreshes(c *call) (obj, error) {
	groupID, ids := c.str("ScalingGroupId"), c.list("InstanceRefreshTaskId")
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, groupID, nil, func(v fake.View) error {
		groups := v.Groups()
		at := slices.IndexFunc(groups, func(g fake.GroupView) bool { return g.ID == groupID })
		if at < 0 {
			return c.refuse("InvalidScalingGroupId.NotFound", 404, "%s", groupID)
		}
		all := slices.DeleteFunc(nonEmpty(groups[at].InstanceRefreshID), func(id string) bool {
			return len(ids) > 0 && !slices.Contains(ids, id)
		})
		page, head, err := byToken(c, all, pages{size: 10, most: 50})
		answer = head.with("InstanceRefreshTasks", "InstanceRefreshTask", each(page, func(id string) obj {
			return obj{
				"InstanceRefreshTaskId": id, "ScalingGroupId": groupID, "Status": "InProgress", "StartTime": minutes(v.Now()),
				"MinHealthyPercentage": 80, "MaxHealthyPercentage": 120, "SkipMatching": true, "Checkpoints": obj{"Checkpoint": []obj{}},
				"TotalNeedUpdateCapacity": groups[at].Total, "FinishedUpdateCapacity": 0,
			}
		}))
		return err
	})
	return answer, err
}
