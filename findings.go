package rollingupgrade

import (
	"fmt"
	"slices"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// findings runs the checks before a task. All findings are reported together.
type findings struct {
	spec     *Spec
	kind     TaskKind
	plan     *Plan
	view     view
	division *division
	found    []Finding
}

func (f *findings) add(s Severity, c FindingCode, ids []string, format string, args ...any) {
	f.found = append(f.found, Finding{Severity: s, Code: c, InstanceIDs: ids, Text: fmt.Sprintf(format, args...)})
}

// all runs every check and returns the findings, errors first.
func (f *findings) all(rows []Instance) []Finding {
	if f.view.group == nil {
		f.add(SeverityError, FindGroupMissing, nil, "scaling group %s does not exist", f.spec.GroupID)
		return f.found
	}
	f.group()
	f.members()
	f.capacity()
	f.leftovers(rows)
	switch {
	case f.view.inspect == nil:
		f.add(SeverityWarning, FindNotInspected, nil, "the provider cannot inspect images, disks and agents; those checks were left out")
	default:
		f.inspection()
	}
	if f.spec.Rollback.Kind == "" && f.kind == Upgrade {
		f.add(SeverityWarning, FindNoRollback, nil, "no rollback counterpart is given; a rollback will have to name one")
	}
	if asked := f.spec.Batches.Count; asked > len(f.plan.Batches) && len(f.plan.Batches) > 0 {
		f.add(SeverityWarning, FindClamped, nil, "%d batches were asked for, there are instances for %d", asked, len(f.plan.Batches))
	}
	slices.SortStableFunc(f.found, func(a, b Finding) int {
		return rank(a.Severity) - rank(b.Severity)
	})
	return f.found
}

func rank(s Severity) int {
	if s == SeverityError {
		return 0
	}
	return 1
}

func (f *findings) group() {
	g := f.view.group
	switch g.State {
	case "", provider.GroupActive:
	default:
		f.add(SeverityError, FindGroupInactive, nil, "scaling group is %s", g.State)
	}
	if g.Type != "" && g.Type != "ECS" {
		f.add(SeverityError, FindGroupType, nil, "scaling group is of type %s, not ECS", g.Type)
	}
	if g.SystemSuspended {
		f.add(SeverityError, FindGroupStopped, nil, "the service itself has stopped the group after failed scaling")
	}
	if n := len(g.Activities); n > 0 {
		f.add(SeverityWarning, FindActivity, nil, "scaling activity %s is in progress; the task will wait for it", g.Activities[0].ID)
	}
	if g.DesiredCapacity >= 0 && g.DesiredCapacity != g.Total {
		f.add(SeverityWarning, FindDesiredCapacity, nil, "desired capacity is %d and the group has %d instances: ESS will act on that right after the processes are resumed", g.DesiredCapacity, g.Total)
	}
}

func (f *findings) members() {
	if len(f.division.targets) == 0 {
		if len(f.division.upToDate) > 0 {
			f.add(SeverityWarning, FindAllUpToDate, nil, "all %d instances run the wished image already", len(f.division.upToDate))
		} else {
			f.add(SeverityError, FindNoInstances, nil, "no instance to work on: of %d members none is in service and selected", len(f.view.members))
		}
	}
	member := make(map[string]bool, len(f.view.members))
	for _, i := range f.view.members {
		member[i.ID] = true
	}
	var unknown, stopped, locked, expired []string
	for _, id := range f.spec.Targets.Include {
		if !member[id] {
			unknown = append(unknown, id)
		}
	}
	osType, script := "", f.spec.Update.Script
	var wrong []string
	for _, i := range f.division.targets {
		if i.Power != provider.Running && i.Power != "" && i.Lifecycle != provider.Standby { // one taken over in Standby may be Stopped
			stopped = append(stopped, i.ID)
		}
		if len(i.Locks) > 0 {
			locked = append(locked, i.ID)
		}
		if i.Expired {
			expired = append(expired, i.ID)
		}
		if script != nil && i.OS != "" && (i.OS == "windows") == (script.Type == provider.Shell) {
			wrong, osType = append(wrong, i.ID), i.OS
		}
	}
	f.each(SeverityError, FindUnknownInclude, unknown, "included, but no member of the group")
	severity := SeverityError
	if f.kind == Rollback { // one bad instance must not keep the others from being rolled back; it fails at its turn
		severity = SeverityWarning
	}
	f.each(severity, FindNotRunning, stopped, "in service, but not Running")
	f.each(severity, FindLocked, locked, "locked by the service")
	f.each(severity, FindExpired, expired, "expired")
	if len(wrong) > 0 {
		f.add(SeverityError, FindScriptKind, wrong, "a script of type %s does not run on %s", script.Type, osType)
	}
}

// each adds one finding about instances, if there are any.
func (f *findings) each(s Severity, c FindingCode, ids []string, text string) {
	if len(ids) > 0 {
		f.add(s, c, ids, "%s", text)
	}
}

func (f *findings) capacity() {
	least := f.spec.minInService()
	for _, b := range f.plan.Batches {
		if b.InService < least && b.InService < f.plan.InService {
			f.add(SeverityError, FindCapacity, nil, "while batch %d (%d instances) is at work, %d of the %d instances in service now stay in service; at least %d must", b.Number, len(b.InstanceIDs), b.InService, f.plan.InService, least)
			return
		}
	}
	if n := f.takesAll(); n > 0 && least > 0 {
		f.add(SeverityError, FindCapacity, nil, "batch %d takes out every instance that serves, protected ones included; at least %d must stay in service", n, least)
	}
}

// takesAll is the number of a batch that takes every instance out of service at once, those that are protected counted too; 0 if none does.
func (f *findings) takesAll() int {
	serves := func(i provider.Instance) bool {
		return i.Lifecycle == provider.InService || i.Lifecycle == provider.Protected
	}
	all := 0
	for _, i := range f.view.members {
		if serves(i) {
			all++
		}
	}
	taken := 0
	for n, size := range f.division.sizes {
		out := 0
		for _, i := range f.division.targets[taken : taken+size] {
			if serves(i) {
				out++
			}
		}
		taken += size
		if limit := f.spec.MaxInFlight; limit > 0 {
			out = min(out, limit)
		}
		if out > 0 && out == all {
			return n + 1
		}
	}
	return 0
}

func (f *findings) leftovers(rows []Instance) {
	var ids []string
	for _, i := range rows {
		if i.Status == InstanceLeftover {
			ids = append(ids, i.ID)
		}
	}
	f.each(SeverityWarning, FindLeftovers, ids, "left over from an earlier task and taken over by this one")
}

func (f *findings) inspection() {
	in := f.view.inspect
	if in.InstanceRefreshID != "" {
		f.add(SeverityError, FindInstanceRefresh, nil, "instance refresh %s is in progress", in.InstanceRefreshID)
	}
	if f.spec.Update.Kind == provider.ImageUpdate {
		f.images(in)
		f.configuration(in.Configuration)
	}
	var offline, login, weight, policy []string
	target := make(map[string]bool, len(f.division.targets))
	for _, i := range f.division.targets {
		target[i.ID] = true
	}
	for _, d := range in.Instances {
		if !target[d.ID] {
			continue
		}
		if d.AgentOffline {
			offline = append(offline, d.ID)
		}
		if d.LoginLost {
			login = append(login, d.ID)
		}
		if d.CustomWeight != 0 {
			weight = append(weight, d.ID)
		}
		if d.Disk.SnapshotPolicyID != "" {
			policy = append(policy, d.ID)
		}
	}
	f.each(SeverityWarning, FindCustomWeight, weight, "the individually set load balancer weight is lost with Standby")
	if f.spec.Update.Kind == provider.ScriptUpdate {
		f.each(SeverityWarning, FindAgentOffline, offline, "the Cloud Assistant agent is offline; the script fails there if it still is when its turn comes")
	}
	if f.spec.Update.Kind != provider.ImageUpdate {
		return
	}
	f.each(SeverityWarning, FindSnapshotPolicy, policy, "the automatic snapshot policy of the old system disk is lost")
	severity := SeverityError
	if f.spec.Consent.LoginLoss {
		severity = SeverityWarning
	}
	f.each(severity, FindLoginLost, login, "nobody could log in after the update: no key pair and no inherited password (Consent.LoginLoss allows it)")
}

// images checks the image of the update, or each one that a rollback returns some instance to.
func (f *findings) images(in *provider.Inspection) {
	targets := map[string][]provider.Instance{}
	main := f.spec.Update.Image.ImageID
	var order []string
	for _, i := range f.division.targets {
		id := or(f.view.wanted[i.ID], main)
		if targets[id] == nil {
			order = append(order, id)
		}
		targets[id] = append(targets[id], i)
	}
	if len(order) == 0 {
		order = []string{main}
	}
	for _, id := range order {
		image := in.Image
		if id != main {
			image = f.view.images[id]
		}
		f.image(in, id, image, targets[id])
	}
}

func (f *findings) image(in *provider.Inspection, id string, image *provider.Image, targets []provider.Instance) {
	if image == nil {
		f.add(SeverityError, FindImageMissing, nil, "image %s does not exist in this region", clip(id))
		return
	}
	if image.Status != "" && image.Status != "Available" {
		f.add(SeverityError, FindImageUnavailable, nil, "image %s is %s", clip(id), image.Status)
	}
	if image.DataDisks {
		f.add(SeverityError, FindImageDataDisks, nil, "image %s holds snapshots of data disks and cannot replace a system disk", clip(id))
	}
	if image.Unsubscribed {
		f.add(SeverityError, FindImageSubscription, nil, "image %s from the marketplace is not subscribed", clip(id))
	}
	var wrongOS, wrongArch, small []string
	for _, i := range targets {
		if i.OS != "" && image.OS != "" && i.OS != image.OS {
			wrongOS = append(wrongOS, i.ID)
		}
		if i.Architecture != "" && image.Architecture != "" && i.Architecture != image.Architecture {
			wrongArch = append(wrongArch, i.ID)
		}
	}
	aimed := make(map[string]bool, len(targets))
	for _, i := range targets {
		aimed[i.ID] = true
	}
	for _, d := range in.Instances {
		if d.Disk.SizeGiB > 0 && image.SizeGiB > d.Disk.SizeGiB && aimed[d.ID] {
			small = append(small, d.ID)
		}
	}
	f.each(SeverityError, FindImageOS, wrongOS, "the image is for another operating system ("+image.OS+")")
	f.each(SeverityError, FindImageArchitecture, wrongArch, "the image is for another architecture ("+image.Architecture+")")
	f.each(SeverityError, FindImageSize, small, fmt.Sprintf("the image (%d GiB) is larger than the system disk", image.SizeGiB))
}

// configuration says what happens to the source of later instances.
func (f *findings) configuration(c provider.Configuration) {
	policy := f.spec.configuration()
	switch {
	case f.kind == Rollback || c.ID == "":
	case c.LaunchTemplate:
		f.add(SeverityWarning, FindLaunchTemplate, nil, "the group is fed by launch template %s, which is not changed and still names image %s", c.ID, c.ImageID)
	case policy == ConfigurationNever:
		f.add(SeverityWarning, FindConfiguration, nil, "scaling configuration %s keeps image %s; later instances start with it", c.ID, c.ImageID)
	case !f.view.sets:
		f.add(SeverityWarning, FindConfiguration, nil, "the provider cannot change scaling configuration %s; it keeps image %s", c.ID, c.ImageID)
	case c.ImageID == f.spec.Update.Image.ImageID:
	default:
		when := "when the task has succeeded"
		if policy == ConfigurationAfterFirstBatch {
			when = "after the first batch"
		}
		f.add(SeverityWarning, FindConfiguration, nil, "scaling configuration %s gets the new image %s", c.ID, when)
		if c.DataDisksFromImage {
			severity := SeverityError
			if f.spec.Consent.DataDiskLoss {
				severity = SeverityWarning
			}
			f.add(severity, FindDataDiskLoss, nil, "that drops the configuration's data disks, which came with image %s (Consent.DataDiskLoss allows it)", c.ImageID)
		}
	}
}
