package provider

import (
	"encoding/json"
	"time"
)

// Lifecycle is the lifecycle state of an instance in its scaling group.
type Lifecycle string

// The lifecycle states, as ESS DescribeScalingInstances names them.
const (
	Pending      Lifecycle = "Pending"
	PendingWait  Lifecycle = "Pending:Wait"
	InService    Lifecycle = "InService"
	Protected    Lifecycle = "Protected"
	Standby      Lifecycle = "Standby"
	OutOfUse     Lifecycle = "Stopped" // kept in the group's pool of stopped instances
	Removing     Lifecycle = "Removing"
	RemovingWait Lifecycle = "Removing:Wait"
)

// Power is the power state of an instance.
type Power string

// The power states, as ECS DescribeInstances names them (its state Pending, an instance being
// created, is PowerPending here).
const (
	PowerPending Power = "Pending"
	Starting     Power = "Starting"
	Running      Power = "Running"
	Stopping     Power = "Stopping"
	Stopped      Power = "Stopped"
)

// Process is a scaling process of a group.
type Process string

// The processes of a scaling group, as ESS SuspendProcesses names them.
const (
	ScaleOut          Process = "ScaleOut"
	ScaleIn           Process = "ScaleIn"
	HealthCheck       Process = "HealthCheck"
	AlarmNotification Process = "AlarmNotification"
	ScheduledAction   Process = "ScheduledAction"
)

// Processes returns all processes, in a fixed order.
func Processes() []Process {
	return []Process{ScaleOut, ScaleIn, HealthCheck, AlarmNotification, ScheduledAction}
}

// GroupState is the state of a scaling group.
type GroupState string

// The states of a group, as ESS DescribeScalingGroups names them.
const (
	GroupActive   GroupState = "Active"
	GroupInactive GroupState = "Inactive"
	GroupDeleting GroupState = "Deleting"
)

// Group is a scaling group as the cloud shows it.
type Group struct {
	ID    string
	Name  string
	State GroupState
	// Type is what the group consists of: "ECS" or "ECI". Empty counts as ECS.
	Type string
	// SystemSuspended says that the service itself stopped the group after days of failed scaling.
	SystemSuspended bool
	// Suspended are the suspended processes.
	Suspended []Process
	// Activities are the scaling activities in progress.
	Activities []Activity
	// InService, Standby and Total count instances.
	InService, Standby, Total int
	// MinSize, MaxSize and DesiredCapacity bound the group. DesiredCapacity is -1 where the group has none.
	MinSize, MaxSize, DesiredCapacity int
	// LoadBalancers are the IDs of attached load balancers and server groups.
	LoadBalancers []string
	// ConfigurationID is the active scaling configuration; empty where a launch template feeds the group.
	ConfigurationID string
	// LaunchTemplateID is the launch template that feeds the group, if one does.
	LaunchTemplateID string
}

// Activity is a scaling activity in progress.
type Activity struct {
	ID   string
	Text string
}

// Instance is an instance as the cloud shows it.
type Instance struct {
	ID string
	// Lifecycle is the state in the group; empty for an instance that is no member.
	Lifecycle Lifecycle
	Power     Power
	ImageID   string
	// OS is "linux" or "windows".
	OS string
	// Architecture is such as "x86_64" or "arm64"; empty if the cloud does not say.
	Architecture string
	KeyPair      string
	// DiskReplacing says that a replacement of the system disk is open.
	DiskReplacing bool
	// Locks are the reasons for which the instance is locked ("security", "financial", ...).
	Locks []string
	// Expired says that the instance's subscription has ended.
	Expired bool
}

// Before is an instance as it was before a task first changed it.
type Before struct {
	ImageID   string    `json:"image_id,omitempty"`
	Lifecycle Lifecycle `json:"lifecycle,omitempty"`
	Power     Power     `json:"power,omitempty"`
	KeyPair   string    `json:"key_pair,omitempty"`
	// UserData is base64, as the cloud returns it; empty if there was none or the group's configuration holds it.
	UserData string `json:"user_data,omitempty"`
	Disk     *Disk  `json:"disk,omitempty"`
}

// Disk is a system disk.
type Disk struct {
	ID        string `json:"id,omitempty"`
	SizeGiB   int    `json:"size_gib,omitempty"`
	Encrypted bool   `json:"encrypted,omitempty"`
	KMSKeyID  string `json:"kms_key_id,omitempty"`
	// SnapshotPolicyID is the automatic snapshot policy; it does not survive a replacement.
	SnapshotPolicyID string `json:"snapshot_policy_id,omitempty"`
}

// Image is an image as the cloud shows it.
type Image struct {
	ID     string
	Status string // "Available" if it can be used
	OS     string // "linux" or "windows"
	// Architecture is such as "x86_64"; empty if the cloud does not say.
	Architecture string
	SizeGiB      int
	// DataDisks says that the image holds snapshots of data disks; such an image cannot replace a system disk.
	DataDisks bool
	// Unsubscribed says that the image is from the marketplace and not subscribed.
	Unsubscribed bool
}

// Inspection is what an [Inspector] reports.
type Inspection struct {
	// Image is the wished image of an image update; nil if it does not exist.
	Image *Image
	// InstanceRefreshID is an instance refresh in progress, if there is one.
	InstanceRefreshID string
	// Configuration is the group's active configuration source.
	Configuration Configuration
	// Instances has an entry for each ID asked for that exists.
	Instances []InstanceDetail
}

// InstanceDetail is what an [Inspector] reports of one instance.
type InstanceDetail struct {
	ID   string
	Disk Disk
	// AgentOffline says that the Cloud Assistant agent does not answer.
	AgentOffline bool
	// LoginLost says that after a replacement of the system disk nobody could log in: no key pair
	// in the configuration or on the instance, and no password that is inherited.
	LoginLost bool
	// CustomWeight is the load balancer weight that was set for this instance individually; zero if none.
	// Standby and back replaces it by the group's weight.
	CustomWeight int
}

// Configuration is the source from which a group makes instances.
type Configuration struct {
	// ID is the scaling configuration or launch template.
	ID string `json:"id"`
	// LaunchTemplate says that ID is a launch template. It is never changed.
	LaunchTemplate bool   `json:"launch_template,omitempty"`
	ImageID        string `json:"image_id,omitempty"`
	// DataDisks are the configuration's data disks in the provider's own form; nil if there are none.
	DataDisks json.RawMessage `json:"data_disks,omitempty"`
	// DataDisksFromImage says that the data disks came with the image, so that setting another image drops them.
	DataDisksFromImage bool `json:"data_disks_from_image,omitempty"`
}

// Kind is a kind of update.
type Kind string

// The kinds that the library knows. Embedding programs may add others.
const (
	ImageUpdate  Kind = "image"
	ScriptUpdate Kind = "script"
)

// Update says what is done to each instance. It is data: it is kept with the task.
type Update struct {
	Kind Kind `json:"kind"`
	// Image is set when Kind is ImageUpdate.
	Image *ImageSpec `json:"image,omitempty"`
	// Script is set when Kind is ScriptUpdate.
	Script *ScriptSpec `json:"script,omitempty"`
	// Params are the parameters of an own kind, in that kind's own form.
	Params json.RawMessage `json:"params,omitempty"`
}

// ImageSpec replaces the system disk by an image: public, custom, shared or from the marketplace.
type ImageSpec struct {
	ImageID string `json:"image_id"`
}

// ScriptType is the interpreter of a script.
type ScriptType string

// The script types of Cloud Assistant (ECS RunCommand, parameter Type).
const (
	Shell      ScriptType = "RunShellScript"
	Bat        ScriptType = "RunBatScript"
	PowerShell ScriptType = "RunPowerShellScript"
)

// ScriptSpec runs a script through Cloud Assistant without stopping the instance.
type ScriptSpec struct {
	Type    ScriptType `json:"type"`
	Content string     `json:"content"`
	// Timeout after which the script is killed. Zero means 60 s, the service's own default
	// (ECS RunCommand). It is a whole number of seconds in the cloud and is rounded up.
	Timeout time.Duration `json:"timeout,omitempty"`
	// WorkingDir is where the script runs; empty means the agent's default (/root on Linux).
	WorkingDir string `json:"working_dir,omitempty"`
	// User runs the script; empty means root or System.
	User string `json:"user,omitempty"`
	// Parameters replace {{name}} in Content.
	Parameters map[string]string `json:"parameters,omitempty"`
}

// Output is what a script printed and how it ended.
type Output struct {
	// ExitCode is meaningful if Exited is set.
	ExitCode int  `json:"exit_code"`
	Exited   bool `json:"exited"`
	// Text is at most 24 KiB (ECS DescribeInvocationResults).
	Text string `json:"text,omitempty"`
	// Dropped is how many bytes were cut away; zero means that Text is whole.
	Dropped int `json:"dropped,omitempty"`
	// Code and Message are the cloud's own words about a failure.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}
