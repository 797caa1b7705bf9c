package fake

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// DescribeImages reports the images among ids that exist, all of them without ids.
func (a API) DescribeImages(ctx context.Context, ids []string) (out []provider.Image, err error) {
	err = a.c.wire(ctx, "DescribeImages", first(ids, ""), nil, "", func(time.Time, caller) error {
		for _, id := range a.c.imageOrder {
			if len(ids) == 0 || slices.Contains(ids, id) {
				out = append(out, *a.c.images[id])
			}
		}
		return nil
	})
	return clean(out, err)
}

// DescribeDisks reports the system disks among ids that exist, in the order of ids. Without ids it reports that of
// the instance.
func (a API) DescribeDisks(ctx context.Context, instanceID string, ids []string) (out []DiskView, err error) {
	c := a.c
	err = c.wire(ctx, "DescribeDisks", instanceID, ids, "", func(time.Time, caller) error {
		if i := c.instances[instanceID]; i != nil && len(ids) == 0 {
			ids = []string{i.disk.ID}
		}
		for _, id := range ids {
			if i := c.disks[id]; i != nil && (instanceID == "" || i.id == instanceID) {
				if c.settle(i); i.disk.ID == id {
					out = append(out, DiskView{Disk: i.disk, InstanceID: i.id, ImageID: c.imageOfDisk(i), InUse: !i.replacing})
				}
			}
		}
		return nil
	})
	return clean(out, err)
}

// imageOfDisk is the image that the instance's system disk is made from.
func (c *Cloud) imageOfDisk(i *instance) string {
	if i.replacing && i.replaceTo != "" {
		return i.replaceTo
	}
	return i.image
}

// StopInstances stops instances that are Running: all of them, or none if one is not.
func (a API) StopInstances(ctx context.Context, ids []string) error {
	_, err := a.Power(ctx, PowerRequest{Action: StopAction, InstanceIDs: ids})
	return err
}

// StartInstances starts instances that are Stopped: all of them, or none if one is not.
func (a API) StartInstances(ctx context.Context, ids []string) error {
	_, err := a.Power(ctx, PowerRequest{Action: StartAction, InstanceIDs: ids})
	return err
}

// usable refuses instances that are locked or expired.
func (c *Cloud) usable(who caller, action string, all []*instance) error {
	for _, i := range all {
		if len(i.locks) > 0 {
			return c.refuse(who, action, "InstanceLockedForSecurity", 403, provider.ErrInvalidState, fmt.Sprint("locked: ", i.locks), i.id)
		}
		if i.expired {
			return c.refuse(who, action, "InstanceExpiredOrInArrears", 403, provider.ErrInvalidState, "expired", i.id)
		}
	}
	return nil
}

// ReplaceSystemDiskRequest are the parameters of [API.ReplaceSystemDisk].
type ReplaceSystemDiskRequest struct {
	InstanceID, ImageID string
	SizeGiB             int // zero: the larger of 40 and the image's size
	Encrypted           bool
	KMSKeyID            string
	KeyPair             string // empty: the instance has none any more
	Token               string
	// KeepEncryption makes the new disk encrypted as the old one was.
	KeepEncryption bool
	// Rest is whatever else the caller passes; a token holds for the same Rest only.
	Rest string
}

// ReplaceSystemDisk gives a Stopped instance a new system disk made from an image, and returns the new disk's ID.
// The old disk and its snapshot policy are gone at once; the instance shows the
// new image when the replacement is done.
func (a API) ReplaceSystemDisk(ctx context.Context, r ReplaceSystemDiskRequest) (diskID string, err error) {
	const action = "ReplaceSystemDisk"
	c := a.c
	ids := []string{r.InstanceID}
	err = c.wire(ctx, action, "", ids, r.Token, func(now time.Time, who caller) error {
		all := params("", ids, r)
		if answer, again, err := c.recall(who, action, r.Token, all); again || err != nil {
			diskID, _ = answer.(string)
			return err
		}
		found, err := c.existing(who, action, ids)
		if err != nil {
			return err
		}
		i := found[0]
		if err := c.usable(who, action, found); err != nil {
			return err
		}
		if i.power != provider.Stopped || i.replacing || i.economical {
			state := "is " + string(i.power)
			if i.replacing {
				state += " and its disk is being replaced"
			}
			if i.economical {
				state += " in economical mode"
			}
			return c.refuse(who, action, "IncorrectInstanceStatus", 403, provider.ErrInvalidState, state, i.id)
		}
		img := c.images[r.ImageID]
		if err := unusable(img, r.ImageID, action); err != nil {
			return err
		}
		size := r.SizeGiB
		if size == 0 {
			size = max(40, img.SizeGiB)
		}
		if size < img.SizeGiB || size < i.disk.SizeGiB {
			return c.refuse(who, action, "InvalidSystemDiskSize.LessThanMinSize", 404, provider.ErrInvalid,
				fmt.Sprintf("%d GiB, the old disk has %d and the image %d", size, i.disk.SizeGiB, img.SizeGiB), i.id)
		}
		if !i.foreign && i.lifecycle != provider.Standby {
			c.violate(who, "%s: %s is not in Standby but %q", action, i.id, i.lifecycle)
		}
		c.recordEffect(Effect{Action: action, CallID: who.callID, Token: r.Token, Detail: r.ImageID}, i)
		i.oldDisk = i.disk
		delete(c.disks, i.disk.ID)
		i.disk = provider.Disk{ID: c.nextID("d"), SizeGiB: size, Encrypted: r.Encrypted, KMSKeyID: r.KMSKeyID}
		if r.KeepEncryption {
			i.disk.Encrypted, i.disk.KMSKeyID = i.oldDisk.Encrypted, i.oldDisk.KMSKeyID
		}
		c.disks[i.disk.ID] = i
		i.keyPair = r.KeyPair
		i.replacing, i.replaceTo = true, r.ImageID
		if i.behave.FailReplaces > 0 {
			i.behave.FailReplaces--
			i.replaceTo = ""
		}
		i.replaceBy = now.Add(c.took("replace", i.id, or(i.behave.ReplaceTakes, c.cfg.Steps.Replace)))
		diskID = i.disk.ID
		c.remember(action, r.Token, all, diskID)
		return nil
	})
	return clean(diskID, err)
}

// unusable says why an image cannot replace a system disk.
func unusable(img *provider.Image, id, action string) error {
	e := &APIError{Action: action, HTTPStatus: 400, Message: id, Err: provider.ErrInvalid}
	switch {
	case img == nil:
		e.Code, e.HTTPStatus = "InvalidImageId.NotFound", 404
	case img.Status != "Available":
		e.Code = "OperationDenied.ImageNotValid"
	case img.DataDisks:
		e.Code, e.Message = "OperationDenied", id+" contains snapshots of data disks"
	case img.Unsubscribed:
		e.Code = "ImageNotSubscribed"
	default:
		return nil
	}
	return e
}

// ModifyInstanceAttribute sets the user data (base64) of an instance that is Stopped or Running.
func (a API) ModifyInstanceAttribute(ctx context.Context, id, userData string) error {
	const action = "ModifyInstanceAttribute"
	c := a.c
	return c.wire(ctx, action, "", []string{id}, "", func(_ time.Time, who caller) error {
		found, err := c.existing(who, action, []string{id})
		if err != nil {
			return err
		}
		i := found[0]
		if i.power != provider.Stopped && i.power != provider.Running || i.replacing {
			return c.refuse(who, action, "IncorrectInstanceStatus", 403, provider.ErrInvalidState, "is "+string(i.power), id)
		}
		c.recordEffect(Effect{Action: action, CallID: who.callID, Detail: "UserData"}, i)
		i.userData = userData
		return nil
	})
}
