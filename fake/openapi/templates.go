package openapi

import (
	"slices"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

// templates are the launch templates of the model.
func templates(v fake.View) (out []fake.ConfigurationView) {
	for _, x := range v.Configurations() {
		if x.LaunchTemplate {
			out = append(out, x)
		}
	}
	return out
}

func describeLaunchTemplates(c *call) (obj, error) {
	ids, names := c.list("LaunchTemplateId"), c.list("LaunchTemplateName")
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, firstOf(ids), nil, func(v fake.View) error {
		var all []obj
		for _, x := range templates(v) {
			if (len(ids) == 0 || slices.Contains(ids, x.ID)) && (len(names) == 0 || slices.Contains(names, x.ID)) {
				all = append(all, obj{"LaunchTemplateId": x.ID, "LaunchTemplateName": x.ID, "DefaultVersionNumber": 1, "LatestVersionNumber": 1})
			}
		}
		page, head, err := byNumber(c, all, pages{size: 10, most: 50})
		answer = head.with("LaunchTemplateSets", "LaunchTemplateSet", page)
		return err
	})
	return answer, err
}

// describeLaunchTemplateVersions knows one version of each template, number 1.
func describeLaunchTemplateVersions(c *call) (obj, error) {
	id := c.str("LaunchTemplateId")
	if id == "" {
		id = c.str("LaunchTemplateName")
	}
	if id == "" {
		return nil, c.refuse("MissingParameter", 400, "LaunchTemplateId or LaunchTemplateName")
	}
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, id, nil, func(v fake.View) error {
		var all []obj
		found := false
		for _, x := range templates(v) {
			if x.ID != id {
				continue
			}
			found = true
			if asked := c.list("LaunchTemplateVersion"); len(asked) > 0 && !slices.Contains(asked, "1") || c.num("MinVersion", 1) > 1 || c.num("MaxVersion", 1) < 1 {
				continue
			}
			all = append(all, c.templateVersion(x))
		}
		if !found {
			return c.refuse("InvalidLaunchTemplate.NotFound", 404, "%s", id)
		}
		page, head, err := byNumber(c, all, pages{size: 10, most: 50})
		answer = head.with("LaunchTemplateVersionSets", "LaunchTemplateVersionSet", page)
		return err
	})
	return answer, err
}

func (c *call) templateVersion(x fake.ConfigurationView) obj {
	data := obj{"KeyPairName": x.KeyPair, "UserData": x.UserData, "PasswordInherit": true}
	if c.str("DetailFlag") == "" || c.flag("DetailFlag") {
		data["ImageId"], data["InstanceType"] = x.ImageID, instanceType("")
		data["SystemDisk.Size"], data["SystemDisk.Category"], data["SystemDisk.Encrypted"] = 40, "cloud_essd", "false"
	}
	return obj{"LaunchTemplateId": x.ID, "LaunchTemplateName": x.ID, "VersionNumber": 1, "DefaultVersion": true, "LaunchTemplateData": data}
}
