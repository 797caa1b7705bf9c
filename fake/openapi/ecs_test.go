package openapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

func stopped(c *fake.Cloud) {
	c.Now(func(w *fake.World) {
		w.SetLifecycle(provider.Standby, "i-0001")
		w.SetPower(provider.Stopped, "i-0001")
	})
}

func TestECSReads(t *testing.T) {
	windows := func(c *fake.Cloud) {
		c.AddImages(provider.Image{ID: "img-win", OS: "windows"}, provider.Image{ID: "img-arm", Architecture: "arm64"},
			provider.Image{ID: "img-data", DataDisks: true}, provider.Image{ID: "img-new", Status: "Creating"}, provider.Image{ID: "img-market", Unsubscribed: true})
	}
	template := func(c *fake.Cloud) {
		c.AddGroup(fake.GroupSpec{ID: "asg-lt", LaunchTemplateID: "lt-1", KeyPair: "kp", UserData: "ZA=="})
	}
	runRows(t, []row{
		{name: "by ids", action: "DescribeInstances", params: p{"InstanceIds": `["i-0003","i-none","i-0001"]`, "MaxResults": "100"}, want: map[string]string{
			"TotalCount": "2", "NextToken": "", "Instances.Instance.0.InstanceId": "i-0003", "Instances.Instance.0.Status": "Running", "Instances.Instance.0.ImageId": "img-v1",
			"Instances.Instance.0.OSType": "linux", "Instances.Instance.0.OperationLocks.LockReason": "[]",
		}},
		{name: "no ids filter to nothing", action: "DescribeInstances", params: p{"InstanceIds": `[]`}, want: map[string]string{"TotalCount": "0"}},
		{name: "malformed", action: "DescribeInstances", params: p{"InstanceIds": `i-0001`}, status: 400, code: "InvalidInstanceIds.Malformed"},
		{name: "101", action: "DescribeInstances", params: p{"InstanceIds": `["` + strings.Repeat(`x","`, 100) + `x"]`}, status: 400, code: "InvalidParameter"},
		{name: "by status", before: stopped, action: "DescribeInstances", params: p{"Status": "Stopped"}, want: map[string]string{"TotalCount": "1", "Instances.Instance.0.StoppedMode": "KeepCharging"}},
		{name: "locked and expired", before: func(c *fake.Cloud) {
			c.AddInstances("", 1, fake.InstanceSpec{ID: "i-x", Locks: []string{"security"}, Expired: true})
		}, action: "DescribeInstances", params: p{"InstanceIds": `["i-x"]`}, want: map[string]string{
			"Instances.Instance.0.OperationLocks.LockReason.0.LockReason": "security", "Instances.Instance.0.InstanceChargeType": "PrePaid", "Instances.Instance.0.ExpiredTime": "1999-12-31T00:00Z",
		}},
		{name: "another region", own: openapi.Config{Region: "cn-beijing"}, action: "DescribeInstances", status: 404, code: "InvalidRegionId.NotFound"},

		{name: "two", before: stopped, action: "DescribeInstanceStatus", params: ids(nil, "i-0001", "i-none"), want: map[string]string{
			"TotalCount": "1", "InstanceStatuses.InstanceStatus.0.Status": "Stopped",
		}},
		{name: "page of 51", action: "DescribeInstanceStatus", params: p{"PageSize": "51"}, status: 400, code: "InvalidParameter"},
		{name: "101", action: "DescribeInstanceStatus", params: many("InstanceId", 101), status: 403, code: "InvalidParameter.TooManyInstanceIds"},

		{
			name: "of the instance", before: func(c *fake.Cloud) { c.AddInstances("", 1, fake.InstanceSpec{ID: "i-x", UserData: "ZA=="}) },
			action: "DescribeUserData", params: p{"InstanceId": "i-x"}, want: map[string]string{"UserData": "ZA==", "InstanceId": "i-x"},
		},
		{name: "none", action: "DescribeUserData", params: p{"InstanceId": "i-none"}, status: 404, code: "InvalidInstanceId.NotFound"},

		{name: "of an instance", action: "DescribeDisks", params: p{"InstanceId": "i-0002"}, want: map[string]string{
			"TotalCount": "1", "Disks.Disk.0.DiskId": "d-0002", "Disks.Disk.0.Status": "In_use", "Disks.Disk.0.Size": "40", "Disks.Disk.0.Type": "system",
		}},
		{name: "by ids", action: "DescribeDisks", params: p{"DiskIds": `["d-0003","d-none"]`}, want: map[string]string{"TotalCount": "1", "Disks.Disk.0.InstanceId": "i-0003"}},
		{name: "no ids filter to nothing", action: "DescribeDisks", params: p{"DiskIds": `[]`}, want: map[string]string{"TotalCount": "0"}},
		{name: "data disks", action: "DescribeDisks", params: p{"InstanceId": "i-0002", "DiskType": "data"}, want: map[string]string{"TotalCount": "0"}},
		{name: "all", action: "DescribeDisks", params: p{"MaxResults": "500"}, want: map[string]string{"TotalCount": "3"}},
		{name: "malformed", action: "DescribeDisks", params: p{"DiskIds": "d-0001"}, status: 400, code: "InvalidParameter.DiskIds"},

		{name: "two", action: "DescribeImages", params: p{"ImageId": "img-v2,img-none"}, want: map[string]string{
			"TotalCount": "1", "Images.Image.0.Size": "20", "Images.Image.0.Status": "Available", "Images.Image.0.DiskDeviceMappings.DiskDeviceMapping.len": "1",
		}},
		{name: "available only", before: windows, action: "DescribeImages", params: p{"ImageId": "img-new"}, want: map[string]string{"TotalCount": "0"}},
		{name: "creating", before: windows, action: "DescribeImages", params: p{"ImageId": "img-new", "Status": "Creating,Available"}, want: map[string]string{"TotalCount": "1"}},
		{name: "with data disk", before: windows, action: "DescribeImages", params: p{"ImageId": "img-data"}, want: map[string]string{
			"Images.Image.0.DiskDeviceMappings.DiskDeviceMapping.1.Type": "data",
		}},
		{name: "windows", before: windows, action: "DescribeImages", params: p{"OSType": "windows"}, want: map[string]string{"TotalCount": "1", "Images.Image.0.ImageId": "img-win"}},
		{name: "that fit a type", before: windows, action: "DescribeImages", params: p{"InstanceType": "ecs.g8y.large", "ActionType": "ChangeOS"}, want: map[string]string{"TotalCount": "1", "Images.Image.0.ImageId": "img-arm"}},
		{name: "marketplace", before: windows, action: "DescribeImages", params: p{"ImageId": "img-market"}, want: map[string]string{
			"Images.Image.0.ImageOwnerAlias": "marketplace", "Images.Image.0.IsSubscribed": "false",
		}},

		{name: "versions", before: template, action: "DescribeLaunchTemplates", params: p{"LaunchTemplateId.1": "lt-1"}, want: map[string]string{
			"LaunchTemplateSets.LaunchTemplateSet.0.DefaultVersionNumber": "1", "TotalCount": "1",
		}},
		{name: "one", before: template, action: "DescribeLaunchTemplateVersions", params: p{"LaunchTemplateId": "lt-1", "LaunchTemplateVersion.1": "1"}, want: map[string]string{
			"LaunchTemplateVersionSets.LaunchTemplateVersionSet.0.LaunchTemplateData.ImageId":              "img-v1",
			"LaunchTemplateVersionSets.LaunchTemplateVersionSet.0.LaunchTemplateData.KeyPairName":          "kp",
			"LaunchTemplateVersionSets.LaunchTemplateVersionSet.0.LaunchTemplateData.SystemDisk|Size":      "40",
			"LaunchTemplateVersionSets.LaunchTemplateVersionSet.0.LaunchTemplateData.UserData":             "ZA==",
			"LaunchTemplateVersionSets.LaunchTemplateVersionSet.0.LaunchTemplateData.SystemDisk|Encrypted": "false",
		}},
		{name: "without detail", before: template, action: "DescribeLaunchTemplateVersions", params: p{"LaunchTemplateId": "lt-1", "DetailFlag": "false"}, want: map[string]string{
			"LaunchTemplateVersionSets.LaunchTemplateVersionSet.0.LaunchTemplateData.ImageId": "<none>",
		}},
		{name: "another version", before: template, action: "DescribeLaunchTemplateVersions", params: p{"LaunchTemplateId": "lt-1", "LaunchTemplateVersion.1": "2"}, want: map[string]string{"TotalCount": "0"}},
		{name: "none", action: "DescribeLaunchTemplateVersions", params: p{"LaunchTemplateId": "lt-none"}, status: 404, code: "InvalidLaunchTemplate.NotFound"},
		{name: "group on a template", before: template, action: "DescribeScalingGroups", params: p{"ScalingGroupId.1": "asg-lt"}, want: map[string]string{
			"ScalingGroups.ScalingGroup.0.LaunchTemplateId": "lt-1", "ScalingGroups.ScalingGroup.0.LaunchTemplateVersion": "Default", "ScalingGroups.ScalingGroup.0.ActiveScalingConfigurationId": "<none>",
		}},
		{name: "no templates", before: template, action: "DescribeScalingConfigurations", params: p{"ScalingGroupId": "asg-lt"}, want: map[string]string{"TotalCount": "0"}},
	})
}

func TestECSPower(t *testing.T) {
	first := "InstanceResponses.InstanceResponse.0."
	second := "InstanceResponses.InstanceResponse.1."
	quiet := func(c *fake.Cloud) {
		c.Now(func(w *fake.World) { w.SetLifecycle(provider.Standby, "i-0001", "i-0002", "i-0003") })
	}
	one := p{"InstanceId": "i-0001"}
	runRows(t, []row{
		{name: "running", before: quiet, action: "StopInstance", params: join(one, p{"StoppedMode": "KeepCharging"})},
		{name: "stopped", before: stopped, action: "StopInstance", params: one, status: 403, code: "IncorrectInstanceStatus"},
		{name: "none", action: "StopInstance", params: p{"InstanceId": "i-none"}, status: 404, code: "InvalidInstanceId.NotFound"},
		{name: "dry run", action: "StopInstance", params: join(one, p{"DryRun": "true"}), status: 400, code: "DryRunOperation"},
		{name: "unknown mode", action: "StopInstance", params: join(one, p{"StoppedMode": "Sleep"}), status: 400, code: "InvalidParameter"},
		{
			name: "locked", before: func(c *fake.Cloud) { c.AddInstances("", 1, fake.InstanceSpec{ID: "i-x", Locks: []string{"security"}}) },
			action: "StopInstance", params: p{"InstanceId": "i-x"}, status: 403, code: "InstanceLockedForSecurity",
		},
		{name: "two", before: quiet, action: "StopInstances", params: ids(nil, "i-0001", "i-0002"), want: map[string]string{
			first + "Code": "200", first + "PreviousStatus": "Running", first + "CurrentStatus": "Stopping", second + "InstanceId": "i-0002",
		}},
		{name: "one unfit", before: stopped, action: "StopInstances", params: ids(nil, "i-0002", "i-0001"), status: 403, code: "IncorrectInstanceStatus"},
		{
			name: "success first", before: func(c *fake.Cloud) { quiet(c); c.Release("i-0002") }, action: "StopInstances",
			params: ids(p{"BatchOptimization": "SuccessFirst"}, "i-0001", "i-0002"), want: map[string]string{
				first + "Code": "200", second + "Code": "InvalidInstanceId.NotFound", second + "PreviousStatus": "",
			},
		},
		{name: "dry run", action: "StopInstances", params: ids(p{"DryRun": "true"}, "i-0001"), status: 400, code: "DRYRUN.SUCCESS"},
		{name: "101", action: "StopInstances", params: many("InstanceId", 101), status: 403, code: "InvalidParameter.TooManyInstanceIds"},
		{name: "stopped", before: stopped, action: "StartInstance", params: one},
		{name: "running", action: "StartInstance", params: one, status: 403, code: "IncorrectInstanceStatus"},
		{name: "stopped", before: stopped, action: "StartInstances", params: ids(nil, "i-0001"), want: map[string]string{first + "CurrentStatus": "Starting"}},
		{name: "running", before: quiet, action: "RebootInstance", params: one},
		{name: "stopped", before: stopped, action: "RebootInstance", params: one, status: 403, code: "IncorrectInstanceStatus"},
		{name: "running", before: quiet, action: "RebootInstances", params: ids(p{"ForceReboot": "true"}, "i-0001"), want: map[string]string{first + "CurrentStatus": "Starting"}},
	})
}

func TestStatesChangeOverTime(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		cloud.AddInstances("", 1, fake.InstanceSpec{ID: "i-x", KeyPair: "kp-1", Disk: provider.Disk{SizeGiB: 60, Encrypted: true, KMSKeyID: "k"}, Lifecycle: provider.Standby})
		is := func(power, image, disk string) {
			t.Helper()
			r := c.ok(t, "DescribeInstances", p{"InstanceIds": `["i-x"]`})
			r.want(t, map[string]string{"Instances.Instance.0.Status": power, "Instances.Instance.0.ImageId": image})
			c.ok(t, "DescribeDisks", p{"InstanceId": "i-x"}).want(t, map[string]string{"Disks.Disk.0.Status": disk})
		}
		replace := p{"InstanceId": "i-x", "ImageId": "img-v2", "SystemDisk.Size": "60", "ClientToken": "t-1", "Encrypted": "true", "KMSKeyId": "k"}
		c.refused(t, "ReplaceSystemDisk", replace, 403, "IncorrectInstanceStatus")
		c.ok(t, "StopInstances", ids(p{"StoppedMode": "KeepCharging"}, "i-x"))
		is("Stopping", "img-v1", "In_use")
		c.refused(t, "StopInstances", ids(nil, "i-x"), 403, "IncorrectInstanceStatus")
		time.Sleep(31 * time.Second)
		is("Stopped", "img-v1", "In_use")

		c.refused(t, "ReplaceSystemDisk", join(replace, p{"SystemDisk.Size": "40", "ClientToken": ""}), 404, "InvalidSystemDiskSize.LessThanMinSize")
		old := c.ok(t, "DescribeDisks", p{"InstanceId": "i-x"}).at("Disks.Disk.0.DiskId")
		id := c.ok(t, "ReplaceSystemDisk", replace).at("DiskId")
		if again := c.ok(t, "ReplaceSystemDisk", replace).at("DiskId"); again != id || id == old {
			t.Errorf("disks %s, %s and %s", old, id, again)
		}
		c.refused(t, "ReplaceSystemDisk", join(replace, p{"PasswordInherit": "true"}), 403, "IdempotentParameterMismatch")
		is("Stopped", "img-v1", "Creating")
		c.refused(t, "StartInstance", p{"InstanceId": "i-x"}, 403, "IncorrectInstanceStatus")
		c.ok(t, "DescribeDisks", p{"DiskIds": fmt.Sprintf("[%q]", old)}).want(t, map[string]string{"TotalCount": "0"})
		time.Sleep(5 * time.Minute)
		is("Stopped", "img-v2", "In_use")
		r := c.ok(t, "DescribeDisks", p{"DiskIds": fmt.Sprintf("[%q]", id)})
		r.want(t, map[string]string{"Disks.Disk.0.Size": "60", "Disks.Disk.0.Encrypted": "true", "Disks.Disk.0.KMSKeyId": "k"})
		c.ok(t, "DescribeInstances", p{"InstanceIds": `["i-x"]`}).want(t, map[string]string{"Instances.Instance.0.KeyPairName": ""})

		c.ok(t, "ModifyInstanceAttribute", p{"InstanceId": "i-x", "UserData": "bmV3"})
		c.ok(t, "DescribeUserData", p{"InstanceId": "i-x"}).want(t, map[string]string{"UserData": "bmV3"})
		c.ok(t, "StartInstances", ids(nil, "i-x"))
		is("Starting", "img-v2", "In_use")
		agent := "InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.0.CloudAssistantStatus"
		time.Sleep(41 * time.Second)
		is("Running", "img-v2", "In_use")
		c.ok(t, "DescribeCloudAssistantStatus", ids(nil, "i-x")).want(t, map[string]string{agent: "false"})
		time.Sleep(20 * time.Second)
		c.ok(t, "DescribeCloudAssistantStatus", ids(nil, "i-x")).want(t, map[string]string{agent: "true"})
	})
}

func TestECSReplaceAndModifyRefuse(t *testing.T) {
	replace := p{"InstanceId": "i-0001", "ImageId": "img-v2"}
	runRows(t, []row{
		{name: "no image named", before: stopped, action: "ReplaceSystemDisk", params: p{"InstanceId": "i-0001"}, status: 400, code: "MissingParameter"},
		{name: "no such image", before: stopped, action: "ReplaceSystemDisk", params: p{"InstanceId": "i-0001", "ImageId": "img-none"}, status: 404, code: "InvalidImageId.NotFound"},
		{
			name: "data disks", before: func(c *fake.Cloud) { stopped(c); c.AddImages(provider.Image{ID: "img-data", DataDisks: true}) },
			action: "ReplaceSystemDisk", params: p{"InstanceId": "i-0001", "ImageId": "img-data"}, status: 400, code: "OperationDenied",
		},
		{name: "none", action: "ReplaceSystemDisk", params: p{"InstanceId": "i-none", "ImageId": "img-v2"}, status: 404, code: "InvalidInstanceId.NotFound"},
		{name: "too large", before: stopped, action: "ReplaceSystemDisk", params: join(replace, p{"SystemDisk.Size": "4096"}), status: 404, code: "InvalidSystemDiskSize.MoreThanMaxSize"},
		{name: "weak password", before: stopped, action: "ReplaceSystemDisk", params: join(replace, p{"Password": "password"}), status: 400, code: "InvalidPassword.Malformed"},
		{name: "two passwords", before: stopped, action: "ReplaceSystemDisk", params: join(replace, p{"Password": "Passw0rd!", "PasswordInherit": "true"}), status: 400, code: "InvalidPasswordParam.Mismatch"},
		{name: "key without encryption", before: stopped, action: "ReplaceSystemDisk", params: join(replace, p{"KMSKeyId": "k"}), status: 400, code: "InvalidParameter.Conflict"},
		{name: "nothing", action: "ModifyInstanceAttribute", params: p{"InstanceId": "i-0001"}, status: 400, code: "MissingParameter"},
		{name: "too long", action: "ModifyInstanceAttribute", params: p{"InstanceId": "i-0001", "UserData": base64.StdEncoding.EncodeToString(make([]byte, 32<<10+1))}, status: 400, code: "InvalidUserData.SizeExceeded"},
		{name: "no base64", action: "ModifyInstanceAttribute", params: p{"InstanceId": "i-0001", "UserData": "?"}, status: 400, code: "InvalidUserData.Base64FormatInvalid"},
		{name: "an attribute that is not kept", action: "ModifyInstanceAttribute", params: p{"InstanceId": "i-0001", "InstanceName": "x"}, status: 400, code: "UnsupportedOperation"},
		{name: "instances", action: "TagResources", params: p{"ResourceType": "Instance", "ResourceId.1": "i-0001", "Tag.1.Key": "ess:rollingupdate", "Tag.1.Value": "x"}},
		{name: "51", action: "TagResources", params: join(many("ResourceId", 51), p{"ResourceType": "instance", "Tag.1.Key": "k", "Tag.1.Value": "v"}), status: 400, code: "NumberExceed.ResourceIds"},
		{name: "reserved key", action: "TagResources", params: p{"ResourceType": "instance", "ResourceId.1": "i-0001", "Tag.1.Key": "acs:x", "Tag.1.Value": "v"}, status: 400, code: "InvalidTagKey.Malformed"},
		{name: "key twice", action: "TagResources", params: p{"ResourceType": "instance", "ResourceId.1": "i-0001", "Tag.1.Key": "k", "Tag.1.Value": "v", "Tag.2.Key": "k", "Tag.2.Value": "w"}, status: 400, code: "Duplicate.TagKey"},
		{name: "other type", action: "TagResources", params: p{"ResourceType": "disk", "ResourceId.1": "i-0001", "Tag.1.Key": "k", "Tag.1.Value": "v"}, status: 404, code: "InvalidResourceType.NotFound"},
		{name: "none", action: "TagResources", params: p{"ResourceType": "instance", "ResourceId.1": "i-none", "Tag.1.Key": "k", "Tag.1.Value": "v"}, status: 404, code: "InvalidResourceId.NotFound"},
	})
}

func TestTagsAreShownAndFiltered(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 3, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		c.ok(t, "TagResources", p{"ResourceType": "instance", "ResourceId.1": "i-0002", "Tag.1.Key": "k", "Tag.1.Value": "v"})
		r := c.ok(t, "DescribeInstances", p{"Tag.1.Key": "k", "Tag.1.Value": "v"})
		r.want(t, map[string]string{"TotalCount": "1", "Instances.Instance.0.InstanceId": "i-0002", "Instances.Instance.0.Tags.Tag.0.TagKey": "k"})
		c.ok(t, "DescribeInstances", p{"Tag.1.Key": "k", "Tag.1.Value": "w"}).want(t, map[string]string{"TotalCount": "0"})
	})
}

func TestStopSwitches(t *testing.T) {
	stop := func(t *testing.T, c *client, more p) reply {
		t.Helper()
		c.ok(t, "EnterStandby", join(group, ids(nil, "i-0001")))
		c.ok(t, "StopInstance", join(p{"InstanceId": "i-0001"}, more))
		time.Sleep(time.Minute)
		return c.call(t.Context(), "ReplaceSystemDisk", p{"InstanceId": "i-0001", "ImageId": "img-v2", "SystemDisk.Size": "40"})
	}
	for name, tt := range map[string]struct {
		own  openapi.Config
		more p
		want int
	}{
		"plain":                                 {want: 200},
		"economical":                            {more: p{"StoppedMode": "StopCharging"}, want: 403},
		"economical by default":                 {own: openapi.Config{EconomicalDefault: true}, want: 403},
		"kept though economical is the default": {own: openapi.Config{EconomicalDefault: true}, more: p{"StoppedMode": "KeepCharging"}, want: 200},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, fake.Config{}, tt.own, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
				if r := stop(t, c, tt.more); r.status != tt.want {
					t.Errorf("%s", r)
				}
			})
		})
	}
	t.Run("a stop that hangs is forced", func(t *testing.T) {
		bubble(t, fake.Config{}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
			cloud.SetBehavior("i-0001", fake.Behavior{StopTakes: fake.Forever})
			if r := stop(t, c, nil); r.status != 403 {
				t.Errorf("%s", r)
			}
			c.ok(t, "StopInstance", p{"InstanceId": "i-0001", "ForceStop": "true"})
			time.Sleep(time.Minute)
			c.ok(t, "ReplaceSystemDisk", p{"InstanceId": "i-0001", "ImageId": "img-v2"})
		})
	})
}

func TestReplaceSwitches(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, auto := range []bool{false, true} {
			t.Run(fmt.Sprintf("encryption=%t/autostart=%t", keep, auto), func(t *testing.T) {
				bubble(t, fake.Config{AutoStartAfterReplace: auto}, openapi.Config{KeepEncryption: keep}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
					cloud.AddInstances("", 1, fake.InstanceSpec{ID: "i-x", Power: provider.Stopped, Disk: provider.Disk{Encrypted: true, KMSKeyID: "k"}})
					cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, "i-x") })
					c.ok(t, "ReplaceSystemDisk", p{"InstanceId": "i-x", "ImageId": "img-v2"})
					time.Sleep(10 * time.Minute)
					v, _ := cloud.InstanceView("i-x")
					if v.Disk.Encrypted != keep || (v.Power == provider.Running) != auto || v.ImageID != "img-v2" {
						t.Errorf("%+v", v)
					}
				})
			})
		}
	}
}

func TestHealthCheckReleasesWhatIsStoppedInService(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 2, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		c.ok(t, "StopInstance", p{"InstanceId": "i-0001"})
		time.Sleep(90 * time.Second)
		c.ok(t, "DescribeScalingInstances", join(group, p{"HealthStatus": "Unhealthy"})).want(t, map[string]string{
			"ScalingInstances.ScalingInstance.0.LifecycleState": "Removing",
		})
		time.Sleep(2 * time.Minute)
		c.ok(t, "DescribeInstances", p{"InstanceIds": `["i-0001"]`}).want(t, map[string]string{"TotalCount": "0"})
		if v := cloud.Violations(); len(v) != 1 {
			t.Errorf("violations: %v", v)
		}
	})
}

func TestNextTokenPaging(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 35, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		for action, tt := range map[string]struct {
			list, id string
			sizes    map[string]string // MaxResults and the length of the first page
		}{
			"DescribeInstances":            {"Instances.Instance", "InstanceId", map[string]string{"": "10", "1": "10", "20": "20", "1000": "35"}},
			"DescribeDisks":                {"Disks.Disk", "InstanceId", map[string]string{"": "10", "1": "10", "20": "20", "1000": "35"}},
			"DescribeCloudAssistantStatus": {"InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus", "InstanceId", map[string]string{"": "10", "1": "1", "20": "20", "50": "35"}},
		} {
			for size, want := range tt.sizes {
				c.ok(t, action, p{"MaxResults": size}).want(t, map[string]string{tt.list + ".len": want, "TotalCount": "35"})
			}
			seen := make(map[string]bool)
			params := p{"MaxResults": "12"}
			for range 4 {
				r := c.ok(t, action, params)
				var n int
				json.Unmarshal([]byte(r.at(tt.list+".len")), &n)
				for i := range n {
					seen[r.at(fmt.Sprintf("%s.%d.%s", tt.list, i, tt.id))] = true
				}
				if params["NextToken"] = r.at("NextToken"); params["NextToken"] == "" {
					break
				}
			}
			if len(seen) != 35 || params["NextToken"] != "" {
				t.Errorf("%s: %d seen, token %q", action, len(seen), params["NextToken"])
			}
			c.refused(t, action, p{"NextToken": "x"}, 400, "InvalidParameter.NextToken")
		}
		token := c.ok(t, "DescribeInstances", p{"MaxResults": "10"}).at("NextToken")
		c.refused(t, "DescribeInstances", p{"NextToken": token, "Status": "Running"}, 400, "InvalidParameter.NextToken")
		c.refused(t, "DescribeCloudAssistantStatus", p{"MaxResults": "51"}, 400, "InvalidParameter.MaxResults")
		c.refused(t, "DescribeInvocations", p{"MaxResults": "51"}, 400, "InvalidParameter.MaxResults")
		c.refused(t, "DescribeInvocationResults", p{"PageSize": "51"}, 400, "InvalidParam.PageSize")
	})
}
