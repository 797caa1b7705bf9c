package openapi

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// idText reads a parameter that is a JSON array as text. ok is false if the parameter is not given.
func (c *call) idText(name, code string, status int) (ids []string, ok bool, err error) {
	text := c.str(name)
	if text == "" {
		return nil, false, nil
	}
	if json.Unmarshal([]byte(text), &ids) != nil {
		return nil, true, c.refuse(code, status, "%s is no JSON array of texts", name)
	}
	return ids, true, c.tooMany(name, len(ids), 100, "InvalidParameter", 400)
}

// instanceType is a type of instance that fits an architecture.
func instanceType(arch string) string {
	if arch == "arm64" {
		return "ecs.g8y.large"
	}
	return "ecs.g7.large"
}

func describeInstances(c *call) (obj, error) {
	ids, given, err := c.idText("InstanceIds", "InvalidInstanceIds.Malformed", 400)
	if err != nil {
		return nil, err
	}
	var answer obj
	err = c.h.api.Read(c.ctx, c.name, "", ids, func(v fake.View) error {
		var all []fake.InstanceView
		if len(ids) > 0 || !given {
			all = slices.DeleteFunc(v.Instances(ids...), func(i fake.InstanceView) bool {
				return c.str("Status") != "" && c.str("Status") != string(i.Power) ||
					c.str("ImageId") != "" && c.str("ImageId") != i.ImageID || !c.tagged(v.Tags(i.ID))
			})
		}
		page, head, err := byToken(c, all, pages{size: 10, most: 100, floor: 10})
		answer = head.with("Instances", "Instance", each(page, func(i fake.InstanceView) obj { return c.instance(v, i) }))
		return err
	})
	return answer, err
}

func (c *call) instance(v fake.View, i fake.InstanceView) obj {
	locks := i.Locks
	if c.h.cfg.LocksWhileReplacing && i.DiskReplacing {
		locks = append(slices.Clone(locks), "replacing")
	}
	os := "Alibaba Cloud Linux 3 64-bit"
	if i.OS == "windows" {
		os = "Windows Server 2022 64-bit"
	}
	o := obj{
		"InstanceId": i.ID, "InstanceName": i.ID, "HostName": i.ID, "Status": i.Power, "ImageId": i.ImageID,
		"OSType": i.OS, "OSName": os, "OSNameEn": os, "KeyPairName": i.KeyPair, "RegionId": c.region(), "ZoneId": c.region() + "-a",
		"InstanceType": instanceType(i.Arch), "InstanceChargeType": "PostPaid", "SpotStrategy": "NoSpot", "InstanceNetworkType": "vpc",
		"StoppedMode": "Not-applicable", "CreationTime": minutes(i.Created), "StartTime": minutes(i.Started), "ExpiredTime": "2099-12-31T15:59Z",
		"OperationLocks": obj{"LockReason": each(locks, func(reason string) obj { return obj{"LockReason": reason, "LockMsg": ""} })},
		"Tags":           tagList(v.Tags(i.ID)),
	}
	if i.Started.IsZero() {
		o["StartTime"] = minutes(i.Created)
	}
	if i.Power == provider.Stopped {
		if o["StoppedMode"] = "KeepCharging"; i.Economical {
			o["StoppedMode"] = "StopCharging"
		}
	}
	if i.Expired {
		o["InstanceChargeType"], o["ExpiredTime"] = "PrePaid", minutes(v.Now().Add(-24*time.Hour))
	}
	return o
}

func describeInstanceStatus(c *call) (obj, error) {
	ids := c.list("InstanceId")
	if err := c.tooMany("InstanceId", len(ids), 100, "InvalidParameter.TooManyInstanceIds", 403); err != nil {
		return nil, err
	}
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, "", ids, func(v fake.View) error {
		page, head, err := byNumber(c, v.Instances(ids...), pages{size: 10, most: 50})
		answer = head.with("InstanceStatuses", "InstanceStatus", each(page, func(i fake.InstanceView) obj {
			return obj{"InstanceId": i.ID, "Status": i.Power}
		}))
		return err
	})
	return answer, err
}

func describeUserData(c *call) (obj, error) {
	id := c.str("InstanceId")
	data, err := c.h.api.DescribeUserData(c.ctx, id)
	return obj{"InstanceId": id, "UserData": data, "RegionId": c.region()}, err
}

func describeDisks(c *call) (obj, error) {
	ids, given, err := c.idText("DiskIds", "InvalidParameter.DiskIds", 400)
	if err != nil {
		return nil, err
	}
	instanceID := c.str("InstanceId")
	var answer obj
	err = c.h.api.Read(c.ctx, c.name, instanceID, ids, func(v fake.View) error {
		var all []fake.DiskView
		data, status := c.str("DiskType") == "data", c.str("Status")
		add := func(i fake.InstanceView) {
			d := v.Disk(i)
			if (instanceID == "" || i.ID == instanceID) && !data && (status == "" || status == diskStatus(d)) {
				all = append(all, d)
			}
		}
		switch {
		case given:
			for _, id := range ids {
				if i, ok := v.DiskOwner(id); ok {
					add(i)
				}
			}
		default:
			for _, i := range v.Instances(nonEmpty(instanceID)...) {
				add(i)
			}
		}
		page, head, err := byToken(c, all, pages{size: 10, most: 500, floor: 10})
		answer = head.with("Disks", "Disk", each(page, func(d fake.DiskView) obj { return c.disk(v, d) }))
		return err
	})
	return answer, err
}

func diskStatus(d fake.DiskView) string {
	if d.InUse {
		return "In_use"
	}
	return "Creating"
}

func (c *call) disk(v fake.View, d fake.DiskView) obj {
	attached := obj{"InstanceId": d.InstanceID, "Device": "/dev/xvda", "AttachedTime": minutes(v.Now())}
	return obj{
		"DiskId": d.ID, "Status": diskStatus(d), "Type": "system", "Category": "cloud_essd", "PerformanceLevel": "PL1",
		"Size": d.SizeGiB, "ImageId": d.ImageID, "InstanceId": d.InstanceID, "Device": "/dev/xvda", "DeleteWithInstance": true,
		"Encrypted": d.Encrypted, "KMSKeyId": d.KMSKeyID, "RegionId": c.region(), "ZoneId": c.region() + "-a", "Portable": false,
		"AutoSnapshotPolicyId": d.SnapshotPolicyID, "EnableAutomatedSnapshotPolicy": d.SnapshotPolicyID != "",
		"OperationLocks": obj{"OperationLock": []obj{}}, "Tags": obj{"Tag": []obj{}},
		"MountInstances": obj{"MountInstance": []obj{}}, "Attachments": obj{"Attachment": []obj{attached}},
	}
}

func describeImages(c *call) (obj, error) {
	split := func(name string) []string {
		return strings.FieldsFunc(c.str(name), func(r rune) bool { return r == ',' || r == ' ' })
	}
	ids, states := split("ImageId"), split("Status")
	if len(states) == 0 {
		states = []string{"Available"}
	}
	if t := c.str("InstanceType"); t != "" && t != instanceType("") && t != instanceType("arm64") {
		return nil, c.refuse("UnsupportedOperation", 400, "the stand-in has no instance type %s", t)
	}
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, firstOf(ids), nil, func(v fake.View) error {
		all := slices.DeleteFunc(v.Images(), func(i provider.Image) bool {
			return len(ids) > 0 && !slices.Contains(ids, i.ID) || !slices.Contains(states, i.Status) ||
				c.str("ImageOwnerAlias") != "" && c.str("ImageOwnerAlias") != imageOwner(i) ||
				c.str("OSType") != "" && c.str("OSType") != i.OS ||
				c.str("Architecture") != "" && c.str("Architecture") != i.Architecture ||
				c.str("InstanceType") != "" && c.str("InstanceType") != instanceType(i.Architecture)
		})
		page, head, err := byNumber(c, all, pages{size: 10, most: 100})
		if answer = head.with("Images", "Image", each(page, image)); err == nil {
			answer["RegionId"] = c.region()
		}
		return err
	})
	return answer, err
}

func imageOwner(i provider.Image) string {
	if i.Unsubscribed {
		return "marketplace"
	}
	return "self"
}

func image(i provider.Image) obj {
	disks := []obj{{"Type": "system", "Device": "/dev/xvda", "Size": strconv.Itoa(i.SizeGiB), "SnapshotId": "s-system-" + i.ID, "Encrypted": false}}
	if i.DataDisks {
		disks = append(disks, obj{"Type": "data", "Device": "/dev/xvdb", "Size": "100", "SnapshotId": "s-" + i.ID, "Encrypted": false})
	}
	platform := "Aliyun"
	if i.OS == "windows" {
		platform = "Windows Server 2022"
	}
	return obj{
		"ImageId": i.ID, "ImageName": i.ID, "Status": i.Status, "Size": i.SizeGiB, "OSType": i.OS, "Platform": platform,
		"Architecture": i.Architecture, "ImageOwnerAlias": imageOwner(i), "IsSubscribed": false, "IsSupportCloudinit": true,
		"IsSupportIoOptimized": true, "Progress": "100%", "DiskDeviceMappings": obj{"DiskDeviceMapping": disks},
	}
}
