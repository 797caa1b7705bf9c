package fake

import (
	"encoding/json"
	"time"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// GroupSpec describes a scaling group to be made. Only ID is required.
type GroupSpec struct {
	ID   string
	Name string // default: ID
	// Instances is how many instances in service the group begins with.
	Instances int
	// ImageID is the image of the configuration and, by default, of the instances. Default "img-v1".
	// An image that the cloud does not have yet is made.
	ImageID string

	Type            string              // default "ECS"
	State           provider.GroupState // default Active
	SystemSuspended bool
	Suspended       []provider.Process
	LoadBalancers   []string
	Weight          int // load balancer weight of an instance; default 50
	MinSize         int
	MaxSize         int // default 1000
	// DesiredCapacity makes the group add or remove instances to reach it (unless the process
	// for that is suspended). Zero means that the group has none.
	DesiredCapacity int
	// RefreshID is an instance refresh in progress.
	RefreshID string

	// ConfigurationID is the active scaling configuration. Default "asc-" and the group's ID.
	ConfigurationID string
	// LaunchTemplateID makes a launch template feed the group in place of a scaling configuration.
	LaunchTemplateID string
	// KeyPair and UserData (base64) are in the configuration source.
	KeyPair, UserData string
	// DataDisks are the configuration's data disks; DataDisksFromImage says that setting another image drops them.
	DataDisks          json.RawMessage
	DataDisksFromImage bool
}

// InstanceSpec describes instances to be made. The zero InstanceSpec is an instance in service that runs
// its group's image.
type InstanceSpec struct {
	// ID is for a single instance. Default: counted, i-0001.
	ID        string
	Lifecycle provider.Lifecycle // default InService
	Power     provider.Power     // default Running
	ImageID   string             // default: the image of the group's configuration
	OS        string             // default: the image's
	Arch      string             // default: the image's
	KeyPair   string             // default: the configuration's
	UserData  string             // base64; default: the configuration's
	// NoPassword says that no password would be inherited by a new system disk.
	NoPassword bool
	// Disk is the system disk. Its ID is counted by default (d-0001), its size 40 GiB.
	Disk         provider.Disk
	CustomWeight int // load balancer weight that was set individually
	Locks        []string
	Expired      bool
	// Attached says that the group did not create the instance.
	Attached bool
	Behavior Behavior
}

// Behavior is how an instance differs from the others. Durations: zero means the Config's,
// negative none, [Forever] hangs.
type Behavior struct {
	StopTakes, ReplaceTakes, StartTakes, AgentTakes time.Duration
	// FailStarts is how many of the next starts end up Stopped again.
	FailStarts int
	// FailReplaces is how many of the next replacements come to nothing, with the old disk in place again.
	FailReplaces int
	// Scripts says how the scripts end that run on the instance: the first one, the second one, ...; the last
	// entry holds for all further ones. Empty: [Config.Script] decides.
	Scripts []ScriptResult
}

// ScriptRun is what [Config.Script] is asked about.
type ScriptRun struct {
	InstanceID string
	// N counts the scripts that the instance has run, from 1.
	N       int
	Name    string // of the command
	Script  provider.ScriptSpec
	GroupID string // empty if the instance is no member
}

// ScriptResult is how a script ends.
type ScriptResult struct {
	ExitCode int
	Output   string
	// Takes is how long it runs; zero means [Steps.Script].
	Takes time.Duration
	// Code makes it fail in another way than by an exit code, such as "ExecutionException" or "Aborted".
	Code string
}

// AddImages adds images. Defaults: Available, linux, x86_64, 20 GiB.
func (c *Cloud) AddImages(images ...provider.Image) { c.Now(func(w *World) { w.AddImages(images...) }) }

// AddGroup adds a scaling group and returns the IDs of its instances.
func (c *Cloud) AddGroup(spec GroupSpec) (ids []string) {
	c.Now(func(w *World) { ids = w.AddGroup(spec) })
	return ids
}

// AddInstances adds n instances to a group (or n that are no members, with an empty groupID) and returns their IDs.
// Only for n == 1 may spec name an ID.
func (c *Cloud) AddInstances(groupID string, n int, spec InstanceSpec) (ids []string) {
	c.Now(func(w *World) { ids = w.AddInstances(groupID, n, spec) })
	return ids
}

// SetBehavior makes an instance behave differently from now on.
func (c *Cloud) SetBehavior(id string, b Behavior) {
	c.Now(func(w *World) { w.SetBehavior(id, b) })
}

// Release makes instances vanish now: they leave their group and exist no more.
func (c *Cloud) Release(ids ...string) { c.Now(func(w *World) { w.Release(ids...) }) }

// Detach makes instances leave their group now; they go on existing.
func (c *Cloud) Detach(ids ...string) { c.Now(func(w *World) { w.Detach(ids...) }) }

// After changes the world once d has passed: f runs at exactly that moment of the model's time,
// in order with everything else that happens. With d <= 0 it runs at once.
//
//	cloud.After(10*time.Minute, func(w *fake.World) { w.Release("i-0003") })
func (c *Cloud) After(d time.Duration, f func(w *World)) {
	if d <= 0 {
		c.Now(f)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.schedule(time.Now().Add(d), func() { f(&World{c}) })
}

// Now changes the world at once. f must not call the Cloud, only the World.
func (c *Cloud) Now(f func(w *World)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(time.Now())
	f(&World{c})
}
