package openapi

import (
	"slices"
	"strconv"
	"strings"
)

// obj is a JSON object of an answer.
type obj map[string]any

// action is an action that the stand-in answers.
type action struct {
	product, version, name string
	handle                 func(*call) (obj, error)
	acts                   []string // the parameters that it acts on, besides RegionId
}

// actions are all actions, by version and name.
var actions = func() map[string]*action {
	all := make(map[string]*action)
	add := func(product, version, name, acts string, handle func(*call) (obj, error)) {
		all[version+" "+name] = &action{product: product, version: version, name: name, acts: strings.Fields(acts), handle: handle}
	}
	ess := func(name, acts string, handle func(*call) (obj, error)) { add("ess", VersionESS, name, acts, handle) }
	ecs := func(name, acts string, handle func(*call) (obj, error)) { add("ecs", VersionECS, name, acts, handle) }

	const page = " PageNumber PageSize"
	const next = page + " MaxResults NextToken"
	ess("DescribeScalingGroups", "ScalingGroupId ScalingGroupName GroupType Tag"+page, describeScalingGroups)
	ess("DescribeScalingInstances", "ScalingGroupId InstanceId LifecycleState LifecycleStates HealthStatus CreationType CreationTypes ScalingConfigurationId"+page, describeScalingInstances)
	ess("DescribeScalingActivities", "ScalingGroupId ScalingActivityId StatusCode"+page, describeScalingActivities)
	ess("DescribeScalingConfigurations", "ScalingGroupId ScalingConfigurationId ScalingConfigurationName"+page, describeScalingConfigurations)
	ess("DescribeInstanceRefreshes", "ScalingGroupId InstanceRefreshTaskId MaxResults NextToken", describeInstanceRefreshes)
	ess("EnterStandby", "ScalingGroupId InstanceId Async ClientToken", standby(false))
	ess("ExitStandby", "ScalingGroupId InstanceId Async ClientToken", standby(true))
	ess("SuspendProcesses", "ScalingGroupId Process ClientToken", processes(false))
	ess("ResumeProcesses", "ScalingGroupId Process ClientToken", processes(true))
	ess("SetInstancesProtection", "ScalingGroupId InstanceId ProtectedFromScaleIn", setInstancesProtection)
	ess("ModifyScalingConfiguration", "ScalingConfigurationId ImageId Override DataDisk", modifyScalingConfiguration)
	ess("TagResources", "ResourceType ResourceId Tag", tagGroups)

	ecs("DescribeInstances", "InstanceIds Status Tag ImageId AdditionalAttributes NeedSaleCycle"+next, describeInstances)
	ecs("DescribeInstanceStatus", "InstanceId"+page, describeInstanceStatus)
	ecs("DescribeUserData", "InstanceId", describeUserData)
	ecs("DescribeDisks", "InstanceId DiskIds DiskType Status AdditionalAttributes"+next, describeDisks)
	ecs("DescribeImages", "ImageId Status ImageOwnerAlias ActionType InstanceType OSType Architecture ShowExpired IsSupportCloudinit"+page, describeImages)
	ecs("DescribeLaunchTemplates", "LaunchTemplateId LaunchTemplateName"+page, describeLaunchTemplates)
	ecs("DescribeLaunchTemplateVersions", "LaunchTemplateId LaunchTemplateName LaunchTemplateVersion MinVersion MaxVersion DefaultVersion DetailFlag"+page, describeLaunchTemplateVersions)
	ecs("StopInstance", "InstanceId ForceStop StoppedMode DryRun ConfirmStop", powerOne("StopInstances"))
	ecs("StartInstance", "InstanceId InitLocalDisk DryRun", powerOne("StartInstances"))
	ecs("RebootInstance", "InstanceId ForceStop DryRun", powerOne("RebootInstances"))
	ecs("StopInstances", "InstanceId BatchOptimization ForceStop StoppedMode DryRun", powerMany("StopInstances"))
	ecs("StartInstances", "InstanceId BatchOptimization DryRun", powerMany("StartInstances"))
	ecs("RebootInstances", "InstanceId BatchOptimization ForceReboot DryRun", powerMany("RebootInstances"))
	ecs("ReplaceSystemDisk", "InstanceId ImageId SystemDisk.Size ClientToken Password PasswordInherit KeyPairName Encrypted KMSKeyId "+
		"SecurityEnhancementStrategy UseAdditionalService Platform Architecture DiskId", replaceSystemDisk)
	ecs("ModifyInstanceAttribute", "InstanceId UserData", modifyInstanceAttribute)
	ecs("TagResources", "ResourceType ResourceId Tag", tagInstances)

	ecs("DescribeCloudAssistantStatus", "InstanceId OSType"+next, describeCloudAssistantStatus)
	ecs("RunCommand", "Type CommandContent ContentEncoding InstanceId Timeout Name Description WorkingDir Username EnableParameter Parameters "+
		"KeepCommand RepeatMode TerminationMode ClientToken", runCommand)
	ecs("InvokeCommand", "CommandId InstanceId Timeout Username Parameters RepeatMode TerminationMode WorkingDir ClientToken", invokeCommand)
	ecs("DescribeInvocations", "InvokeId InstanceId CommandId CommandName CommandType InvokeStatus IncludeOutput ContentEncoding"+next, describeInvocations)
	ecs("DescribeInvocationResults", "InvokeId InstanceId CommandId InvokeRecordStatus IncludeHistory ContentEncoding"+next, describeInvocationResults)
	ecs("StopInvocation", "InvokeId InstanceId", stopInvocation)
	return all
}()

// Actions returns the actions that the stand-in answers, as product and name ("ess:EnterStandby"), sorted.
func Actions() []string {
	var out []string
	for _, a := range actions {
		out = append(out, a.product+":"+a.name)
	}
	slices.Sort(out)
	return out
}

// models reports whether the action acts on a parameter of its list.
func (a *action) models(name string) bool {
	base := listOf(name)
	if at := strings.LastIndexByte(base, '.'); at > 0 { // ScalingGroupName.7
		if _, err := strconv.Atoi(base[at+1:]); err == nil {
			base = base[:at]
		}
	}
	return base == "RegionId" || slices.Contains(a.acts, base)
}

// unknownAction says why there is no such action.
func (c *call) unknownAction() error {
	switch {
	case c.name == "":
		return c.refuse("MissingParameter", 400, "Action")
	case c.version == "":
		return c.refuse("MissingParameter", 400, "Version")
	case c.version != VersionESS && c.version != VersionECS:
		return c.refuse("NoSuchVersion", 400, "%s", c.version)
	}
	return c.refuse("InvalidApi.NotFound", 404, "%s %s", c.version, c.name)
}
