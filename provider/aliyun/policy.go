package aliyun

import (
	"bytes"
	"encoding/json"
	"slices"
)

// An Action is an action of the service that a [Provider] calls.
type Action struct {
	// Name is as RAM knows it: "ecs:RunCommand".
	Name string
	// Changes says that the action changes something; the others only read.
	Changes bool
	// For is what it is needed for: "all", "image" (image updates), "script" (scripts), "template" (groups that a launch template
	// feeds), "protected" (tasks that include protected instances), "check" (the checks before a task).
	For string
	// Why says what it is called for.
	Why string
}

// actions are all actions that a Provider calls. A test holds it against what goes over the wire.
var actions = []Action{
	{"ess:DescribeScalingGroups", false, "all", "state, suspended processes and configuration source of the group"},
	{"ess:DescribeScalingInstances", false, "all", "members and their lifecycle states"},
	{"ess:DescribeScalingActivities", false, "all", "activities in progress"},
	{"ess:DescribeScalingConfigurations", false, "all", "image, key pair, user data and data disks of the configuration"},
	{"ess:DescribeInstanceRefreshes", false, "check", "an instance refresh in progress"},
	{"ess:SuspendProcesses", true, "all", "suspends processes for the time of the task"},
	{"ess:ResumeProcesses", true, "all", "resumes what the task has suspended"},
	{"ess:EnterStandby", true, "all", "takes instances out of service"},
	{"ess:ExitStandby", true, "all", "puts them back"},
	{"ess:SetInstancesProtection", true, "protected", "lifts and sets protection"},
	{"ess:ModifyScalingConfiguration", true, "image", "sets the image of the active configuration, or puts it back"},
	{"ecs:DescribeInstances", false, "all", "power state, image, key pair and locks"},
	{"ecs:DescribeDisks", false, "all", "system disks: ID, size, encryption, key"},
	{"ecs:DescribeImages", false, "image", "whether the image exists and fits"},
	{"ecs:DescribeUserData", false, "image", "user data of an instance"},
	{"ecs:DescribeLaunchTemplates", false, "template", "the number of version Latest"},
	{"ecs:DescribeLaunchTemplateVersions", false, "template", "image, key pair and user data of the template"},
	{"ecs:StartInstances", true, "all", "starts instances that the task has stopped"},
	{"ecs:StopInstances", true, "image", "stops instances before their disk is replaced"},
	{"ecs:ReplaceSystemDisk", true, "image", "replaces the system disk"},
	{"ecs:ModifyInstanceAttribute", true, "image", "sets the user data before the first boot"},
	{"ecs:DescribeCloudAssistantStatus", false, "script", "whose agent is offline"},
	{"ecs:RunCommand", true, "script", "runs the script"},
	{"ecs:DescribeInvocations", false, "script", "finds a script that was sent before a process died"},
	{"ecs:DescribeInvocationResults", false, "script", "status, exit code and output"},
	{"ecs:StopInvocation", true, "script", "stops a script"},
}

// Actions returns all actions that a Provider calls, sorted by name.
func Actions() []Action {
	all := slices.Clone(actions)
	slices.SortFunc(all, func(a, b Action) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return all
}

// A PolicyDocument is a RAM policy. Its JSON is what the console and CreatePolicy take.
type PolicyDocument struct {
	Version   string            `json:"Version"`
	Statement []PolicyStatement `json:"Statement"`
}

// A PolicyStatement allows or denies actions.
type PolicyStatement struct {
	Effect   string   `json:"Effect"`
	Action   []string `json:"Action"`
	Resource []string `json:"Resource"`
}

// Policy returns the smallest RAM policy with which a Provider can do everything. Its statements are what reads and what
// changes something; narrow the resources of the second one to your groups and instances. [Actions] says what can be left out.
func Policy() PolicyDocument {
	reads := PolicyStatement{Effect: "Allow", Resource: []string{"*"}}
	changes := PolicyStatement{Effect: "Allow", Resource: []string{"*"}}
	for _, a := range Actions() {
		if a.Changes {
			changes.Action = append(changes.Action, a.Name)
		} else {
			reads.Action = append(reads.Action, a.Name)
		}
	}
	return PolicyDocument{Version: "1", Statement: []PolicyStatement{reads, changes}}
}

// JSON returns the document as text, indented.
func (d PolicyDocument) JSON() []byte {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		panic(err) // texts only
	}
	return append(b, '\n')
}
