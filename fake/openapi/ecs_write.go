package openapi

import (
	"encoding/base64"
	"unicode"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

// power is what all actions on the power state have in common.
func (c *call) power(kind string, ids []string) (fake.PowerRequest, error) {
	r := fake.PowerRequest{Action: fake.PowerAction(kind), InstanceIDs: ids, DryRun: c.flag("DryRun"), Force: c.flag("ForceStop") || c.flag("ForceReboot")}
	switch c.str("StoppedMode") {
	case "":
		r.Economical = c.h.cfg.EconomicalDefault && r.Action == fake.StopAction
	case "KeepCharging":
	case "StopCharging":
		r.Economical = true
	default:
		return r, c.refuse("InvalidParameter", 400, "StoppedMode %s", c.str("StoppedMode"))
	}
	return r, nil
}

// powerOne answers the actions for one instance.
func powerOne(kind string) func(*call) (obj, error) {
	return func(c *call) (obj, error) {
		r, err := c.power(kind, []string{c.str("InstanceId")})
		if err != nil {
			return nil, err
		}
		_, err = c.h.api.Power(c.ctx, r)
		if err == nil && r.DryRun {
			err = c.refuse("DryRunOperation", 400, "the call would have been carried out")
		}
		return obj{}, err
	}
}

// powerMany answers the actions for many instances.
func powerMany(kind string) func(*call) (obj, error) {
	return func(c *call) (obj, error) {
		r, err := c.power(kind, c.list("InstanceId"))
		if err != nil {
			return nil, err
		}
		switch c.str("BatchOptimization") {
		case "", "AllTogether":
		case "SuccessFirst":
			r.SuccessFirst = true
		default:
			return nil, c.refuse("InvalidParameter", 400, "BatchOptimization %s", c.str("BatchOptimization"))
		}
		results, err := c.h.api.Power(c.ctx, r)
		if err == nil && r.DryRun && !r.SuccessFirst {
			err = c.refuse("DRYRUN.SUCCESS", 400, "the call would have been carried out")
		}
		return obj{}.with("InstanceResponses", "InstanceResponse", each(results, func(p fake.PowerResult) obj {
			o := obj{"InstanceId": p.InstanceID, "Code": "200", "Message": "success", "PreviousStatus": p.Previous, "CurrentStatus": p.Current}
			if p.Err != nil {
				o["Code"], o["Message"] = p.Err.Code, messages[p.Err.Code]
			}
			return o
		})), err
	}
}

func replaceSystemDisk(c *call) (obj, error) {
	id := c.str("InstanceId")
	if c.str("ImageId") == "" { // flagged as optional, but required by the text
		return nil, c.refuse("MissingParameter", 400, "ImageId")
	}
	if err := c.checkPassword(); err != nil {
		return nil, err
	}
	size := c.num("SystemDisk.Size", 0)
	if size > 2048 {
		return nil, c.refuse("InvalidSystemDiskSize.MoreThanMaxSize", 404, "%d GiB", size)
	}
	r := fake.ReplaceSystemDiskRequest{
		InstanceID: id, ImageID: c.str("ImageId"), SizeGiB: size, Encrypted: c.flag("Encrypted"), KMSKeyID: c.str("KMSKeyId"),
		KeyPair: c.str("KeyPairName"), Token: c.str("ClientToken"), Rest: c.rest(),
	}
	if !r.Encrypted && r.KMSKeyID != "" {
		return nil, c.refuse("InvalidParameter.Conflict", 400, "KMSKeyId without Encrypted")
	}
	r.KeepEncryption = c.h.cfg.KeepEncryption && c.str("Encrypted") == ""
	diskID, err := c.h.api.ReplaceSystemDisk(c.ctx, r)
	return obj{"DiskId": diskID}, err
}

// checkPassword holds a password against the rules.
func (c *call) checkPassword() error {
	p := c.str("Password")
	if p == "" {
		return nil
	}
	if c.flag("PasswordInherit") {
		return c.refuse("InvalidPasswordParam.Mismatch", 400, "Password and PasswordInherit")
	}
	var upper, lower, digit, special int
	for _, r := range p {
		switch {
		case unicode.IsUpper(r):
			upper = 1
		case unicode.IsLower(r):
			lower = 1
		case unicode.IsDigit(r):
			digit = 1
		default:
			special = 1
		}
	}
	if len(p) < 8 || len(p) > 30 || upper+lower+digit+special < 3 {
		return c.refuse("InvalidPassword.Malformed", 400, "the password does not follow the rules")
	}
	return nil
}

// maxUserData is how long user data may be before base64.
const maxUserData = 32 << 10

func modifyInstanceAttribute(c *call) (obj, error) {
	data := c.str("UserData")
	if data == "" {
		return nil, c.refuse("MissingParameter", 400, "an attribute to modify")
	}
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, c.refuse("InvalidUserData.Base64FormatInvalid", 400, "the user data is not base64")
	}
	if len(raw) > maxUserData {
		return nil, c.refuse("InvalidUserData.SizeExceeded", 400, "the user data has %d bytes", len(raw))
	}
	return obj{}, c.h.api.ModifyInstanceAttribute(c.ctx, c.str("InstanceId"), data)
}
