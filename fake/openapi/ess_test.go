package openapi_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// row is one call to a cloud of three instances. An empty code means success.
type row struct {
	name   string
	cfg    fake.Config
	own    openapi.Config
	before func(c *fake.Cloud)
	action string
	params p
	status int
	code   string
	want   map[string]string
}

func runRows(t *testing.T, rows []row) {
	t.Helper()
	for _, tt := range rows {
		t.Run(tt.action+"/"+tt.name, func(t *testing.T) {
			bubble(t, tt.cfg, tt.own, 3, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
				if tt.before != nil {
					tt.before(cloud)
				}
				if tt.code != "" {
					c.refused(t, tt.action, tt.params, tt.status, tt.code).want(t, tt.want)
					return
				}
				c.ok(t, tt.action, tt.params).want(t, tt.want)
			})
		})
	}
}

func many(prefix string, n int) p {
	out := p{}
	for i := range n {
		out[fmt.Sprintf("%s.%d", prefix, i+1)] = fmt.Sprintf("x-%04d", i+1)
	}
	return out
}

func join(all ...p) p {
	out := p{}
	for _, m := range all {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

var group = p{"ScalingGroupId": fake.DemoGroup}

func TestESSReads(t *testing.T) {
	standby := func(c *fake.Cloud) {
		c.Now(func(w *fake.World) {
			w.SetLifecycle(provider.Standby, "i-0002")
			w.Suspend(fake.DemoGroup, provider.ScaleIn, provider.HealthCheck)
		})
	}
	runRows(t, []row{
		{name: "by id", before: standby, action: "DescribeScalingGroups", params: p{"ScalingGroupId.1": "asg-demo", "ScalingGroupId.2": "asg-none"}, want: map[string]string{
			"TotalCount": "1", "PageSize": "10", "ScalingGroups.ScalingGroup.0.LifecycleState": "Active", "ScalingGroups.ScalingGroup.0.ActiveCapacity": "2",
			"ScalingGroups.ScalingGroup.0.StandbyCapacity": "1", "ScalingGroups.ScalingGroup.0.SuspendedProcesses.SuspendedProcess": `["ScaleIn","HealthCheck"]`,
			"ScalingGroups.ScalingGroup.0.LoadBalancerIds.LoadBalancerId": `["lb-demo"]`, "ScalingGroups.ScalingGroup.0.ActiveScalingConfigurationId": "asc-asg-demo",
			"ScalingGroups.ScalingGroup.0.EnableDesiredCapacity": "false", "ScalingGroups.ScalingGroup.0.LaunchTemplateId": "<none>",
		}},
		{name: "nothing suspended", action: "DescribeScalingGroups", params: p{"ScalingGroupName.1": "asg-demo"}, want: map[string]string{
			"TotalCount": "1", "ScalingGroups.ScalingGroup.0.SuspendedProcesses": "<none>",
		}},
		{name: "other type", action: "DescribeScalingGroups", params: p{"GroupType": "ECI"}, want: map[string]string{"TotalCount": "0", "ScalingGroups.ScalingGroup": "[]"}},
		{name: "too many", action: "DescribeScalingGroups", params: many("ScalingGroupId", 21), status: 400, code: "InvalidParameter"},
		{name: "page too large", action: "DescribeScalingGroups", params: p{"PageSize": "51"}, status: 400, code: "InvalidParameter"},

		{name: "members", before: standby, action: "DescribeScalingInstances", params: join(group, p{"PageSize": "50"}), want: map[string]string{
			"TotalCount": "3", "ScalingInstances.ScalingInstance.len": "3", "ScalingInstances.ScalingInstance.1.LifecycleState": "Standby",
			"ScalingInstances.ScalingInstance.1.LoadBalancerWeight": "0", "ScalingInstances.ScalingInstance.0.LoadBalancerWeight": "50",
			"ScalingInstances.ScalingInstance.0.HealthStatus": "Healthy", "ScalingInstances.ScalingInstance.0.CreationType": "AutoCreated",
		}},
		{name: "by state", before: standby, action: "DescribeScalingInstances", params: join(group, p{"LifecycleStates.1": "Standby"}), want: map[string]string{
			"TotalCount": "1", "ScalingInstances.ScalingInstance.0.InstanceId": "i-0002",
		}},
		{name: "second page", action: "DescribeScalingInstances", params: join(group, p{"PageSize": "2", "PageNumber": "2"}), want: map[string]string{
			"TotalCount": "3", "PageNumber": "2", "ScalingInstances.ScalingInstance.len": "1", "ScalingInstances.ScalingInstance.0.InstanceId": "i-0003",
		}},
		{name: "after the end", action: "DescribeScalingInstances", params: join(group, p{"PageNumber": "9"}), want: map[string]string{"ScalingInstances.ScalingInstance": "[]"}},
		{name: "by id without group", action: "DescribeScalingInstances", params: ids(nil, "i-0003", "i-none"), want: map[string]string{
			"TotalCount": "1", "ScalingInstances.ScalingInstance.0.ScalingGroupId": "asg-demo",
		}},
		{name: "page of 51", action: "DescribeScalingInstances", params: join(group, p{"PageSize": "51"}), status: 400, code: "InvalidParameter"},
		{name: "page of 100 by switch", own: openapi.Config{MembersPage: 100}, action: "DescribeScalingInstances", params: join(group, p{"PageSize": "100"})},
		{name: "too many", action: "DescribeScalingInstances", params: many("InstanceId", 21), status: 400, code: "InvalidParameter"},
		{name: "both forms", action: "DescribeScalingInstances", params: join(group, p{"LifecycleState": "Standby", "LifecycleStates.1": "Standby"}), status: 400, code: "InvalidParameter"},

		{name: "none", action: "DescribeScalingActivities", params: join(group, p{"StatusCode": "InProgress"}), want: map[string]string{"TotalCount": "0"}},
		{
			name: "in progress", before: func(c *fake.Cloud) { c.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, time.Hour, 1, 0) }) },
			action: "DescribeScalingActivities", params: join(group, p{"StatusCode": "InProgress"}), want: map[string]string{
				"TotalCount": "1", "ScalingActivities.ScalingActivity.0.StatusCode": "InProgress", "ScalingActivities.ScalingActivity.0.TotalCapacity": "",
				"ScalingActivities.ScalingActivity.0.ErrorMessages.ErrorMessages": "[]",
			},
		},
		{name: "neither", action: "DescribeScalingActivities", status: 400, code: "MissingParameter"},
		{name: "no group", action: "DescribeScalingActivities", params: p{"ScalingGroupId": "asg-none"}, status: 404, code: "InvalidScalingGroupId.NotFound"},

		{name: "active", action: "DescribeScalingConfigurations", params: p{"ScalingConfigurationId.1": "asc-asg-demo"}, want: map[string]string{
			"TotalCount": "1", "ScalingConfigurations.ScalingConfiguration.0.LifecycleState": "Active", "ScalingConfigurations.ScalingConfiguration.0.ImageId": "img-v1",
			"ScalingConfigurations.ScalingConfiguration.0.SystemDisk|Encrypted": "false", "ScalingConfigurations.ScalingConfiguration.0.DataDisks.DataDisk": "[]",
			"ScalingConfigurations.ScalingConfiguration.0.LoadBalancerWeight": "50",
		}},
		{name: "data disks of the image", before: func(c *fake.Cloud) {
			c.AddGroup(fake.GroupSpec{ID: "asg-2", DataDisks: json.RawMessage(`[{"Size":100,"Category":"cloud_essd"}]`), DataDisksFromImage: true})
		}, action: "DescribeScalingConfigurations", params: p{"ScalingGroupId": "asg-2"}, want: map[string]string{
			"ScalingConfigurations.ScalingConfiguration.0.DataDisks.DataDisk.0.SnapshotId": "s-img-v1", "ScalingConfigurations.ScalingConfiguration.0.DataDisks.DataDisk.0.Size": "100",
		}},
		{name: "too many", action: "DescribeScalingConfigurations", params: many("ScalingConfigurationId", 11), status: 400, code: "InvalidParameter"},

		{name: "none", action: "DescribeInstanceRefreshes", params: group, want: map[string]string{"TotalCount": "0", "InstanceRefreshTasks.InstanceRefreshTask": "[]"}},
		{
			name: "running", before: func(c *fake.Cloud) { c.Now(func(w *fake.World) { w.SetRefresh(fake.DemoGroup, "ir-1") }) }, action: "DescribeInstanceRefreshes", params: group,
			want: map[string]string{"InstanceRefreshTasks.InstanceRefreshTask.0.InstanceRefreshTaskId": "ir-1", "InstanceRefreshTasks.InstanceRefreshTask.0.Status": "InProgress"},
		},
		{name: "no group", action: "DescribeInstanceRefreshes", params: p{"ScalingGroupId": "asg-none"}, status: 404, code: "InvalidScalingGroupId.NotFound"},
		{name: "over plain HTTP", own: openapi.Config{RequireTLS: true}, action: "DescribeInstanceRefreshes", params: group, status: 404, code: "InvalidProtocol.NeedSsl"},
	})
}

func TestESSWrites(t *testing.T) {
	two := join(group, ids(nil, "i-0001", "i-0002"))
	oneIn := func(l provider.Lifecycle) func(c *fake.Cloud) {
		return func(c *fake.Cloud) { c.Now(func(w *fake.World) { w.SetLifecycle(l, "i-0001") }) }
	}
	runRows(t, []row{
		{name: "two", action: "EnterStandby", params: two, want: map[string]string{"ScalingActivityId": "<none>"}},
		{name: "with an activity", cfg: fake.Config{StandbyActivities: true}, action: "EnterStandby", params: two, want: map[string]string{"ScalingActivityId": "asa-0001"}},
		{name: "no member", action: "EnterStandby", params: join(group, ids(nil, "i-none")), status: 404, code: "InvalidInstanceId.NotFound"},
		{name: "no group", action: "EnterStandby", params: ids(p{"ScalingGroupId": "asg-none"}, "i-0001"), status: 404, code: "InvalidScalingGroupId.NotFound"},
		{name: "21", action: "EnterStandby", params: join(group, many("InstanceId", 21)), status: 400, code: "InvalidParameter"},
		{name: "twice", before: oneIn(provider.Standby), action: "EnterStandby", params: two, status: 403, code: "IncorrectInstanceStatus"},
		{name: "twice by switch", cfg: fake.Config{StandbyTwice: true}, before: oneIn(provider.Standby), action: "EnterStandby", params: two},
		{name: "protected", before: oneIn(provider.Protected), action: "EnterStandby", params: two, status: 403, code: "IncorrectInstanceStatus"},
		{name: "protected by switch", cfg: fake.Config{ProtectedToStandby: true}, before: oneIn(provider.Protected), action: "EnterStandby", params: two},
		{name: "blocked", cfg: fake.Config{ActivitiesBlock: true}, before: func(c *fake.Cloud) {
			c.Now(func(w *fake.World) { w.StartActivity(fake.DemoGroup, time.Hour, 0, 0) })
		}, action: "EnterStandby", params: two, status: 400, code: "IncorrectScalingGroupStatus"},
		{name: "in service", action: "ExitStandby", params: two, status: 403, code: "IncorrectInstanceStatus"},
		{name: "in service by switch", cfg: fake.Config{StandbyTwice: true}, action: "ExitStandby", params: two},

		{name: "two", action: "SuspendProcesses", params: join(group, p{"Process.1": "ScaleIn", "Process.2": "ScaleOut"})},
		{name: "unknown", action: "SuspendProcesses", params: join(group, p{"Process.1": "Sleep"}), status: 400, code: "InvalidParameter"},
		{name: "no group", action: "SuspendProcesses", params: p{"ScalingGroupId": "asg-none", "Process.1": "ScaleIn"}, status: 404, code: "InvalidScalingGroupId.NotFound"},
		{name: "not suspended", action: "ResumeProcesses", params: join(group, p{"Process.1": "ScaleIn"})},

		{name: "on", action: "SetInstancesProtection", params: join(two, p{"ProtectedFromScaleIn": "true"})},
		{name: "no member", action: "SetInstancesProtection", params: join(group, ids(p{"ProtectedFromScaleIn": "true"}, "i-none")), status: 404, code: "InvalidInstanceId.NotFound"},
		{name: "21", action: "SetInstancesProtection", params: join(group, many("InstanceId", 21), p{"ProtectedFromScaleIn": "true"}), status: 400, code: "InvalidParameter"},

		{name: "image", action: "ModifyScalingConfiguration", params: p{"ScalingConfigurationId": "asc-asg-demo", "ImageId": "img-v2"}},
		{name: "no image", action: "ModifyScalingConfiguration", params: p{"ScalingConfigurationId": "asc-asg-demo", "ImageId": "img-none"}, status: 404, code: "InvalidImageId.NotFound"},
		{name: "none", action: "ModifyScalingConfiguration", params: p{"ScalingConfigurationId": "asc-none", "ImageId": "img-v2"}, status: 404, code: "InvalidScalingConfigurationId.NotFound"},

		{name: "group", action: "TagResources", params: p{"Version": openapi.VersionESS, "ResourceType": "scalinggroup", "ResourceId.1": "asg-demo", "Tag.1.Key": "k", "Tag.1.Value": "v"}},
		{name: "instance as a group", action: "TagResources", params: p{"Version": openapi.VersionESS, "ResourceType": "scalinggroup", "ResourceId.1": "i-0001", "Tag.1.Key": "k"}, status: 404, code: "InvalidResourceId.NotFound"},
	})
}

func TestStandbyMovesInstancesAndRemembersTokens(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 2, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		enter := join(group, ids(p{"ClientToken": "token-1"}, "i-0001"))
		start := time.Now()
		c.ok(t, "EnterStandby", enter)
		if took := time.Since(start); took < 3*time.Second {
			t.Errorf("a synchronous call took %v", took)
		}
		c.ok(t, "EnterStandby", enter)
		c.refused(t, "EnterStandby", join(group, ids(p{"ClientToken": "token-1"}, "i-0002")), 403, "IdempotentParameterMismatch")
		if v, _ := cloud.InstanceView("i-0001"); v.Lifecycle != provider.Standby || v.Weight != 0 {
			t.Errorf("%+v", v)
		}
		if n := cloud.CountEffects("EnterStandby", ""); n != 1 {
			t.Errorf("%d effects", n)
		}
		time.Sleep(10 * time.Minute) // the token is forgotten
		c.refused(t, "EnterStandby", enter, 403, "IncorrectInstanceStatus")

		start = time.Now()
		r := c.ok(t, "ExitStandby", join(group, ids(p{"Async": "true"}, "i-0001")))
		if took := time.Since(start); took > time.Second {
			t.Errorf("an asynchronous call took %v", took)
		}
		if v, _ := cloud.InstanceView("i-0001"); v.Lifecycle != provider.Standby {
			t.Errorf("moved at once: %+v", v)
		}
		activity := p{"ScalingActivityId.1": r.at("ScalingActivityId")}
		c.ok(t, "DescribeScalingActivities", activity).want(t, map[string]string{"ScalingActivities.ScalingActivity.0.StatusCode": "InProgress"})
		time.Sleep(5 * time.Second)
		c.ok(t, "DescribeScalingActivities", activity).want(t, map[string]string{"ScalingActivities.ScalingActivity.0.StatusCode": "Successful"})
		if v, _ := cloud.InstanceView("i-0001"); v.Lifecycle != provider.InService || v.Weight != 50 {
			t.Errorf("%+v", v)
		}
	})
}

func TestTokenMemorySwitch(t *testing.T) {
	for name, tt := range map[string]struct {
		memory, wait time.Duration
		again        bool
	}{
		"not at all": {memory: -1, wait: 0},
		"10 minutes": {wait: 9 * time.Minute, again: true},
		"for ever":   {memory: fake.Forever, wait: 1000 * time.Hour, again: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, fake.Config{TokenMemory: tt.memory}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
				enter := join(group, ids(p{"ClientToken": "token-1"}, "i-0001"))
				c.ok(t, "EnterStandby", enter)
				time.Sleep(tt.wait)
				if tt.again {
					c.ok(t, "EnterStandby", enter)
				} else {
					c.refused(t, "EnterStandby", enter, 403, "IncorrectInstanceStatus")
				}
			})
		})
	}
}

func TestPartialStandbySwitch(t *testing.T) {
	for partial, want := range map[bool]provider.Lifecycle{false: provider.InService, true: provider.Standby} {
		t.Run(fmt.Sprint(partial), func(t *testing.T) {
			bubble(t, fake.Config{PartialStandby: partial}, openapi.Config{}, 2, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
				cloud.Release("i-0002")
				c.refused(t, "EnterStandby", join(group, ids(nil, "i-0001", "i-0002")), 404, "InvalidInstanceId.NotFound")
				if v, _ := cloud.InstanceView("i-0001"); v.Lifecycle != want {
					t.Errorf("%s, want %s", v.Lifecycle, want)
				}
			})
		})
	}
}

func TestModifyScalingConfigurationKeepsOrDropsDataDisks(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		cloud.AddGroup(fake.GroupSpec{ID: "asg-2", DataDisks: json.RawMessage(`[{"Size":"100"}]`), DataDisksFromImage: true})
		disks := "ScalingConfigurations.ScalingConfiguration.0.DataDisks.DataDisk"
		c.ok(t, "ModifyScalingConfiguration", p{"ScalingConfigurationId": "asc-asg-2", "ImageId": "img-v2"})
		r := c.ok(t, "DescribeScalingConfigurations", p{"ScalingGroupId": "asg-2"})
		r.want(t, map[string]string{disks: "[]", "ScalingConfigurations.ScalingConfiguration.0.ImageId": "img-v2"})
		c.ok(t, "ModifyScalingConfiguration", p{
			"ScalingConfigurationId": "asc-asg-2", "DataDisk.1.Size": "200", "DataDisk.1.Category": "cloud_essd",
			"DataDisk.1.Categories.1": "cloud_essd", "DataDisk.1.Categories.2": "cloud_auto",
		})
		r = c.ok(t, "DescribeScalingConfigurations", p{"ScalingGroupId": "asg-2"})
		r.want(t, map[string]string{disks + ".0.Size": "200", disks + ".0.Categories.Category": `["cloud_essd","cloud_auto"]`, "ScalingConfigurations.ScalingConfiguration.0.ImageId": "img-v2"})
	})
}
