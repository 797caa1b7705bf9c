package fake

import (
	"fmt"
	"slices"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// A World is what others than the client do to the cloud: people, and the cloud itself.
// [Cloud.Now] and [Cloud.After] hand it out; it must not be kept. Its methods
// panic when they name what does not exist and did not exist before: that is a mistake in the test.
// An instance that has been released meanwhile is passed over.
type World struct{ c *Cloud }

// AddImages adds images; see [Cloud.AddImages].
func (w *World) AddImages(images ...provider.Image) {
	for _, img := range images {
		if img.Status == "" {
			img.Status = "Available"
		}
		if img.OS == "" {
			img.OS = "linux"
		}
		if img.Architecture == "" {
			img.Architecture = "x86_64"
		}
		if img.SizeGiB == 0 {
			img.SizeGiB = 20
		}
		if w.c.images[img.ID] == nil {
			w.c.imageOrder = append(w.c.imageOrder, img.ID)
		}
		w.c.images[img.ID] = &img
	}
}

// RemoveImage deletes an image; instances that run it are not affected.
func (w *World) RemoveImage(id string) {
	delete(w.c.images, id)
	w.c.imageOrder = slices.DeleteFunc(w.c.imageOrder, func(x string) bool { return x == id })
}

// AddGroup adds a scaling group; see [Cloud.AddGroup].
func (w *World) AddGroup(spec GroupSpec) []string {
	c := w.c
	if spec.ID == "" || c.groups[spec.ID] != nil {
		panic(fmt.Sprintf("fake: group ID %q is empty or taken", spec.ID))
	}
	setDefault(&spec.Name, spec.ID)
	setDefault(&spec.ImageID, DemoOldImage)
	setDefault(&spec.Type, "ECS")
	setDefault(&spec.State, provider.GroupActive)
	setDefault(&spec.Weight, 50)
	setDefault(&spec.MaxSize, 1000)
	setDefault(&spec.ConfigurationID, "asc-"+spec.ID)
	if c.images[spec.ImageID] == nil {
		w.AddImages(provider.Image{ID: spec.ImageID})
	}
	cfg := &configuration{
		id: spec.ConfigurationID, groupID: spec.ID, imageID: spec.ImageID, keyPair: spec.KeyPair, userData: spec.UserData,
		dataDisks: slices.Clone(spec.DataDisks), dataDisksFromImage: spec.DataDisksFromImage,
	}
	if spec.LaunchTemplateID != "" {
		cfg.id, cfg.launchTemplate = spec.LaunchTemplateID, true
	}
	c.addConfiguration(cfg)
	g := &group{
		id: spec.ID, name: spec.Name, kind: spec.Type, state: spec.State, systemSuspended: spec.SystemSuspended,
		min: spec.MinSize, max: spec.MaxSize, desired: spec.DesiredCapacity, loadBalancers: slices.Clone(spec.LoadBalancers),
		weight: spec.Weight, configID: cfg.id, refreshID: spec.RefreshID, count: make(map[provider.Lifecycle]int),
	}
	if g.desired == 0 {
		g.desired = -1
	}
	for _, p := range provider.Processes() { // keep the fixed order
		if slices.Contains(spec.Suspended, p) {
			g.suspended = append(g.suspended, p)
		}
	}
	c.groups[g.id] = g
	c.groupOrder = append(c.groupOrder, g)
	return c.addInstances(g, spec.Instances, InstanceSpec{})
}

// AddInstances adds instances; see [Cloud.AddInstances].
func (w *World) AddInstances(groupID string, n int, spec InstanceSpec) []string {
	var g *group
	if groupID != "" {
		g = w.group(groupID)
	}
	return w.c.addInstances(g, n, spec)
}

func (c *Cloud) addInstances(g *group, n int, spec InstanceSpec) []string {
	cfg := &configuration{imageID: DemoOldImage}
	if g != nil {
		cfg = c.configs[g.configID]
	}
	setDefault(&spec.ImageID, cfg.imageID)
	setDefault(&spec.KeyPair, cfg.keyPair)
	setDefault(&spec.UserData, cfg.userData)
	setDefault(&spec.Lifecycle, provider.InService)
	setDefault(&spec.Power, provider.Running)
	setDefault(&spec.Disk.SizeGiB, 40)
	if img := c.images[spec.ImageID]; img != nil {
		setDefault(&spec.OS, img.OS)
		setDefault(&spec.Arch, img.Architecture)
	}
	setDefault(&spec.OS, "linux")
	ids := make([]string, 0, n)
	for range n {
		i := &instance{
			id: spec.ID, power: spec.Power, created: c.now, os: spec.OS, arch: spec.Arch, image: spec.ImageID, keyPair: spec.KeyPair,
			userData: spec.UserData, noPassword: spec.NoPassword, locks: slices.Clone(spec.Locks), expired: spec.Expired,
			attached: spec.Attached, disk: spec.Disk, behave: spec.Behavior,
		}
		for i.id == "" || spec.ID == "" && c.instances[i.id] != nil {
			i.id = c.nextID("i")
		}
		if c.instances[i.id] != nil {
			panic(fmt.Sprintf("fake: instance ID %q is taken", i.id))
		}
		if i.disk.ID == "" {
			i.disk.ID = c.nextID("d")
		}
		i.behave.Scripts = slices.Clone(i.behave.Scripts)
		c.instances[i.id], c.disks[i.disk.ID] = i, i
		c.made = append(c.made, i)
		if g != nil {
			c.join(g, i, spec.Lifecycle)
			if i.custom = spec.CustomWeight; i.custom != 0 && i.weight != 0 {
				i.weight = i.custom
			}
			if i.power != provider.Running {
				c.watch(i)
			}
		}
		ids = append(ids, i.id)
	}
	if g != nil {
		c.reconcile(g)
	}
	return ids
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Release makes instances vanish: they leave their group and exist no more.
func (w *World) Release(ids ...string) {
	w.each(ids, func(i *instance) { w.c.release(i) })
}

// Detach makes instances leave their group; they go on existing.
func (w *World) Detach(ids ...string) {
	w.each(ids, func(i *instance) { w.c.leave(i) })
}

// SetLifecycle moves members to another lifecycle state, as a person does who puts one in Standby.
func (w *World) SetLifecycle(to provider.Lifecycle, ids ...string) {
	w.each(ids, func(i *instance) {
		w.c.setLifecycle(i, to)
		if to == provider.InService && i.power != provider.Running {
			w.c.watch(i)
		}
	})
}

// SetPower makes instances Running or Stopped (or whatever) at once.
func (w *World) SetPower(to provider.Power, ids ...string) {
	w.each(ids, func(i *instance) {
		i.power, i.next = to, ""
		if to == provider.Running {
			i.started, i.agentUp = w.c.now, w.c.now
		} else {
			w.c.watch(i)
		}
	})
}

// SetImage makes instances run an image at once, on a new disk.
func (w *World) SetImage(imageID string, ids ...string) {
	w.each(ids, func(i *instance) {
		i.image = imageID
		delete(w.c.disks, i.disk.ID)
		i.disk.ID = w.c.nextID("d")
		w.c.disks[i.disk.ID] = i
	})
}

// SetAgentOffline makes the Cloud Assistant agents of instances silent for d.
func (w *World) SetAgentOffline(d time.Duration, ids ...string) {
	w.each(ids, func(i *instance) { i.agentOff = w.c.now.Add(d) })
}

// SetBehavior makes an instance behave differently from now on.
func (w *World) SetBehavior(id string, b Behavior) {
	w.each([]string{id}, func(i *instance) {
		b.Scripts = slices.Clone(b.Scripts)
		i.behave, i.runs = b, 0
	})
}

// Suspend suspends processes, as a person does.
func (w *World) Suspend(groupID string, processes ...provider.Process) {
	w.c.suspend(w.group(groupID), processes)
}

// Resume resumes processes, as a person does.
func (w *World) Resume(groupID string, processes ...provider.Process) {
	w.c.resume(w.group(groupID), processes)
}

// StartActivity begins an activity that adds add and removes remove instances by its end after d, and returns its ID.
// Where the process for it is suspended (ScaleOut, ScaleIn), it does not begin and the ID is empty.
// With neither, it is just in progress for d.
func (w *World) StartActivity(groupID string, d time.Duration, add, remove int) string {
	c, g := w.c, w.group(groupID)
	began := add == 0 && remove == 0
	if began {
		c.begin(g, "activity", c.scaled(d), nil)
	}
	if add > 0 {
		began = c.scale(g, add, d, fmt.Sprintf("add %d instances", add)) || began
	}
	if remove > 0 {
		began = c.scale(g, -remove, d, fmt.Sprintf("remove %d instances", remove)) || began
	}
	if !began {
		return ""
	}
	return g.running[len(g.running)-1].id
}

// SetGroupState sets a group's state and whether the service itself has stopped it.
func (w *World) SetGroupState(groupID string, state provider.GroupState, systemSuspended bool) {
	g := w.group(groupID)
	g.state, g.systemSuspended = state, systemSuspended
}

// SetDesiredCapacity sets or (-1) removes a group's desired capacity.
func (w *World) SetDesiredCapacity(groupID string, n int) {
	g := w.group(groupID)
	g.desired = n
	w.c.reconcile(g)
}

// AddConfiguration adds a scaling configuration or launch template to a group, without making it the active one.
func (w *World) AddConfiguration(groupID string, cfg provider.Configuration) {
	w.c.addConfiguration(&configuration{
		id: cfg.ID, groupID: w.group(groupID).id, launchTemplate: cfg.LaunchTemplate, imageID: cfg.ImageID,
		dataDisks: slices.Clone(cfg.DataDisks), dataDisksFromImage: cfg.DataDisksFromImage,
	})
}

func (c *Cloud) addConfiguration(cfg *configuration) {
	if cfg.id == "" || c.configs[cfg.id] != nil {
		panic(fmt.Sprintf("fake: configuration ID %q is empty or taken", cfg.id))
	}
	c.configs[cfg.id] = cfg
	c.configIDs = append(c.configIDs, cfg.id)
}

// Activate makes another scaling configuration or launch template feed a group.
func (w *World) Activate(groupID, configurationID string) {
	if cfg := w.c.configs[configurationID]; cfg == nil || cfg.groupID != groupID {
		panic(fmt.Sprintf("fake: group %q has no configuration %q", groupID, configurationID))
	}
	w.group(groupID).configID = configurationID
}

// SetRefresh sets or (empty) ends the instance refresh in progress.
func (w *World) SetRefresh(groupID, refreshID string) { w.group(groupID).refreshID = refreshID }

// SetConfigurationImage sets the image of the group's configuration source, as a person does.
func (w *World) SetConfigurationImage(groupID, imageID string) {
	w.c.configs[w.group(groupID).configID].imageID = imageID
}

// DeleteGroup deletes a group and releases its instances.
func (w *World) DeleteGroup(groupID string) {
	g := w.group(groupID)
	g.desired = -1
	for _, i := range slices.Clone(g.members) {
		i.foreign = true
		w.c.release(i)
	}
	delete(w.c.groups, g.id)
	w.c.groupOrder = slices.DeleteFunc(w.c.groupOrder, func(x *group) bool { return x == g })
}

func (w *World) group(id string) *group {
	g := w.c.groups[id]
	if g == nil {
		panic(fmt.Sprintf("fake: no group %q", id))
	}
	return g
}

// each calls f for instances that somebody else than the client changes.
func (w *World) each(ids []string, f func(i *instance)) {
	for _, id := range ids {
		i := w.c.instances[id]
		if i == nil {
			if w.c.gone[id] {
				continue
			}
			panic(fmt.Sprintf("fake: no instance %q", id))
		}
		w.c.settle(i)
		i.foreign = true
		f(i)
	}
}

func (c *Cloud) suspend(g *group, processes []provider.Process) (changed []provider.Process) {
	var all []provider.Process
	for _, p := range provider.Processes() {
		switch {
		case g.isSuspended(p):
			all = append(all, p)
		case slices.Contains(processes, p):
			all, changed = append(all, p), append(changed, p)
		}
	}
	g.suspended = all
	return changed
}

func (c *Cloud) resume(g *group, processes []provider.Process) (changed []provider.Process) {
	var rest []provider.Process
	for _, p := range g.suspended {
		if slices.Contains(processes, p) {
			changed = append(changed, p)
		} else {
			rest = append(rest, p)
		}
	}
	g.suspended = rest
	if slices.Contains(changed, provider.HealthCheck) {
		for _, i := range g.members {
			if c.settle(i); i.lifecycle == provider.InService && i.power != provider.Running {
				c.watch(i)
			}
		}
	}
	if len(changed) > 0 {
		c.reconcile(g)
	}
	return changed
}
