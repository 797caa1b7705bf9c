package openapi_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ess"
	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
)

// sdkRequests are the SDK's requests for all actions but DescribeInstanceRefreshes, which it lacks.
var sdkRequests = map[string]any{
	"ess:DescribeScalingGroups": ess.DescribeScalingGroupsRequest{}, "ess:DescribeScalingInstances": ess.DescribeScalingInstancesRequest{},
	"ess:DescribeScalingActivities": ess.DescribeScalingActivitiesRequest{}, "ess:DescribeScalingConfigurations": ess.DescribeScalingConfigurationsRequest{},
	"ess:EnterStandby": ess.EnterStandbyRequest{}, "ess:ExitStandby": ess.ExitStandbyRequest{},
	"ess:SuspendProcesses": ess.SuspendProcessesRequest{}, "ess:ResumeProcesses": ess.ResumeProcessesRequest{},
	"ess:SetInstancesProtection": ess.SetInstancesProtectionRequest{}, "ess:ModifyScalingConfiguration": ess.ModifyScalingConfigurationRequest{},
	"ess:TagResources":      ess.TagResourcesRequest{},
	"ecs:DescribeInstances": ecs.DescribeInstancesRequest{}, "ecs:DescribeInstanceStatus": ecs.DescribeInstanceStatusRequest{},
	"ecs:DescribeUserData": ecs.DescribeUserDataRequest{}, "ecs:DescribeDisks": ecs.DescribeDisksRequest{}, "ecs:DescribeImages": ecs.DescribeImagesRequest{},
	"ecs:DescribeLaunchTemplates": ecs.DescribeLaunchTemplatesRequest{}, "ecs:DescribeLaunchTemplateVersions": ecs.DescribeLaunchTemplateVersionsRequest{},
	"ecs:StopInstance": ecs.StopInstanceRequest{}, "ecs:StartInstance": ecs.StartInstanceRequest{}, "ecs:RebootInstance": ecs.RebootInstanceRequest{},
	"ecs:StopInstances": ecs.StopInstancesRequest{}, "ecs:StartInstances": ecs.StartInstancesRequest{}, "ecs:RebootInstances": ecs.RebootInstancesRequest{},
	"ecs:ReplaceSystemDisk": ecs.ReplaceSystemDiskRequest{}, "ecs:ModifyInstanceAttribute": ecs.ModifyInstanceAttributeRequest{}, "ecs:TagResources": ecs.TagResourcesRequest{},
	"ecs:DescribeCloudAssistantStatus": ecs.DescribeCloudAssistantStatusRequest{}, "ecs:RunCommand": ecs.RunCommandRequest{}, "ecs:InvokeCommand": ecs.InvokeCommandRequest{},
	"ecs:DescribeInvocations": ecs.DescribeInvocationsRequest{}, "ecs:DescribeInvocationResults": ecs.DescribeInvocationResultsRequest{}, "ecs:StopInvocation": ecs.StopInvocationRequest{},
}

// unpublished are parameters of the SDK that the published lists do not have.
var unpublished = map[string][]string{
	"ecs:InvokeCommand":              {"SystemTag"},
	"ecs:ModifyInstanceAttribute":    {"AdditionalInfo", "ImageOptions", "OSNameEn"},
	"ecs:ReplaceSystemDisk":          {"LoginAsNonRoot"},
	"ess:ModifyScalingConfiguration": {"CpuOptions"},
}

func TestParametersAgreeWithTheSDK(t *testing.T) {
	for _, a := range openapi.Actions() {
		request, ok := sdkRequests[a]
		if !ok {
			if a != "ess:DescribeInstanceRefreshes" {
				t.Errorf("%s: no request", a)
			}
			continue
		}
		product, name, _ := strings.Cut(a, ":")
		known := make(map[string]bool)
		for _, q := range openapi.Params(map[string]string{"ess": openapi.VersionESS, "ecs": openapi.VersionECS}[product], name) {
			base, _, _ := strings.Cut(q.Name+".", ".N.")
			known[strings.TrimSuffix(strings.TrimSuffix(base, "."), ".*")] = true
		}
		var missing []string
		for _, field := range reflect.VisibleFields(reflect.TypeOf(request)) {
			if p := field.Tag.Get("name"); p != "" && !strings.Contains(p, "Owner") && !known[p] {
				missing = append(missing, p)
			}
		}
		slices.Sort(missing)
		if diff := cmp.Diff(unpublished[a], missing); diff != "" {
			t.Errorf("%s: parameters that are not in the list (-want +got):\n%s", a, diff)
		}
	}
}

// sdkFor returns clients of the SDK that reach the handler in process.
func sdkFor(t *testing.T, transport http.RoundTripper) (*ess.Client, *ecs.Client) {
	t.Helper()
	cfg := sdk.NewConfig().WithScheme("HTTPS")
	cfg.Transport = transport
	cred := credentials.NewAccessKeyCredential("any", "secret")
	s, err := ess.NewClientWithOptions("cn-hangzhou", cfg, cred)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ecs.NewClientWithOptions("cn-hangzhou", cfg, cred)
	if err != nil {
		t.Fatal(err)
	}
	s.Domain, c.Domain = "ess.cloud.test", "ecs.cloud.test"
	return s, c
}

// must returns an answer of the SDK.
func must[T any](t *testing.T) func(T, error) T {
	return func(answer T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

func equal[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestTheSDKUpgradesAnImage(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{RequireTLS: true, Region: "cn-hangzhou"}, 2, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, _ *client) {
		s, c := sdkFor(t, h.Transport())
		list := &[]string{"i-0001", "i-0002"}

		suspend := ess.CreateSuspendProcessesRequest()
		suspend.ScalingGroupId, suspend.Process = fake.DemoGroup, &[]string{"ScaleIn", "HealthCheck"}
		must[*ess.SuspendProcessesResponse](t)(s.SuspendProcesses(suspend))
		groups := ess.CreateDescribeScalingGroupsRequest()
		groups.ScalingGroupId = &[]string{fake.DemoGroup}
		g := must[*ess.DescribeScalingGroupsResponse](t)(s.DescribeScalingGroups(groups)).ScalingGroups.ScalingGroup[0]
		equal(t, "suspended", []string{"ScaleIn", "HealthCheck"}, g.SuspendedProcesses.SuspendedProcess)
		equal(t, "load balancers", []string{"lb-demo"}, g.LoadBalancerIds.LoadBalancerId)
		equal(t, "capacities", [3]int{2, 2, 0}, [3]int{g.ActiveCapacity, g.TotalCapacity, g.StandbyCapacity})
		configs := ess.CreateDescribeScalingConfigurationsRequest()
		configs.ScalingConfigurationId = &[]string{g.ActiveScalingConfigurationId}
		cfg := must[*ess.DescribeScalingConfigurationsResponse](t)(s.DescribeScalingConfigurations(configs)).ScalingConfigurations.ScalingConfiguration[0]
		equal(t, "configuration", [3]string{"img-v1", "Active", "asg-demo"}, [3]string{cfg.ImageId, cfg.LifecycleState, cfg.ScalingGroupId})
		activities := ess.CreateDescribeScalingActivitiesRequest()
		activities.ScalingGroupId, activities.StatusCode = fake.DemoGroup, "InProgress"
		equal(t, "activities", 0, must[*ess.DescribeScalingActivitiesResponse](t)(s.DescribeScalingActivities(activities)).TotalCount)

		enter := ess.CreateEnterStandbyRequest()
		enter.ScalingGroupId, enter.InstanceId, enter.ClientToken = fake.DemoGroup, list, "enter-1"
		must[*ess.EnterStandbyResponse](t)(s.EnterStandby(enter))
		members := ess.CreateDescribeScalingInstancesRequest()
		members.ScalingGroupId, members.LifecycleState, members.PageSize = fake.DemoGroup, "Standby", requests.NewInteger(50)
		m := must[*ess.DescribeScalingInstancesResponse](t)(s.DescribeScalingInstances(members))
		equal(t, "in Standby", 2, len(m.ScalingInstances.ScalingInstance))
		equal(t, "weight", 0, m.ScalingInstances.ScalingInstance[0].LoadBalancerWeight)

		stop := ecs.CreateStopInstancesRequest()
		stop.InstanceId, stop.StoppedMode = list, "KeepCharging"
		answers := must[*ecs.StopInstancesResponse](t)(c.StopInstances(stop)).InstanceResponses.InstanceResponse
		equal(t, "stop", ecs.InstanceResponse{InstanceId: "i-0002", Code: "200", Message: "success", PreviousStatus: "Running", CurrentStatus: "Stopping"}, answers[1])
		time.Sleep(time.Minute)
		status := ecs.CreateDescribeInstanceStatusRequest()
		status.InstanceId = list
		equal(t, "status", "Stopped", must[*ecs.DescribeInstanceStatusResponse](t)(c.DescribeInstanceStatus(status)).InstanceStatuses.InstanceStatus[0].Status)

		image := ecs.CreateDescribeImagesRequest()
		image.ImageId = "img-v2"
		img := must[*ecs.DescribeImagesResponse](t)(c.DescribeImages(image)).Images.Image[0]
		equal(t, "image", [2]string{"Available", "linux"}, [2]string{img.Status, img.OSType})
		disks := ecs.CreateDescribeDisksRequest()
		disks.InstanceId, disks.DiskType, disks.MaxResults = "i-0001", "system", requests.NewInteger(500)
		old := must[*ecs.DescribeDisksResponse](t)(c.DescribeDisks(disks)).Disks.Disk[0]
		replace := ecs.CreateReplaceSystemDiskRequest()
		replace.InstanceId, replace.ImageId, replace.ClientToken, replace.SystemDiskSize = "i-0001", "img-v2", "replace-1", requests.NewInteger(old.Size)
		diskID := must[*ecs.ReplaceSystemDiskResponse](t)(c.ReplaceSystemDisk(replace)).DiskId
		time.Sleep(5 * time.Minute)
		now := must[*ecs.DescribeDisksResponse](t)(c.DescribeDisks(disks)).Disks.Disk[0]
		equal(t, "disk", [2]string{diskID, "In_use"}, [2]string{now.DiskId, now.Status})
		data := ecs.CreateModifyInstanceAttributeRequest()
		data.InstanceId, data.UserData = "i-0001", "bmV3"
		must[*ecs.ModifyInstanceAttributeResponse](t)(c.ModifyInstanceAttribute(data))
		read := ecs.CreateDescribeUserDataRequest()
		read.InstanceId = "i-0001"
		equal(t, "user data", "bmV3", must[*ecs.DescribeUserDataResponse](t)(c.DescribeUserData(read)).UserData)

		start := ecs.CreateStartInstancesRequest()
		start.InstanceId = list
		must[*ecs.StartInstancesResponse](t)(c.StartInstances(start))
		time.Sleep(2 * time.Minute)
		instances := ecs.CreateDescribeInstancesRequest()
		instances.InstanceIds, instances.MaxResults = `["i-0001"]`, requests.NewInteger(100)
		i := must[*ecs.DescribeInstancesResponse](t)(c.DescribeInstances(instances)).Instances.Instance[0]
		equal(t, "instance", [3]string{"Running", "img-v2", "linux"}, [3]string{i.Status, i.ImageId, i.OSType})
		exit := ess.CreateExitStandbyRequest()
		exit.ScalingGroupId, exit.InstanceId = fake.DemoGroup, list
		must[*ess.ExitStandbyResponse](t)(s.ExitStandby(exit))
		modify := ess.CreateModifyScalingConfigurationRequest()
		modify.ScalingConfigurationId, modify.ImageId = cfg.ScalingConfigurationId, "img-v2"
		must[*ess.ModifyScalingConfigurationResponse](t)(s.ModifyScalingConfiguration(modify))
		protect := ess.CreateSetInstancesProtectionRequest()
		protect.ScalingGroupId, protect.InstanceId, protect.ProtectedFromScaleIn = fake.DemoGroup, list, requests.NewBoolean(true)
		must[*ess.SetInstancesProtectionResponse](t)(s.SetInstancesProtection(protect))
		resume := ess.CreateResumeProcessesRequest()
		resume.ScalingGroupId, resume.Process = fake.DemoGroup, &[]string{"ScaleIn", "HealthCheck"}
		must[*ess.ResumeProcessesResponse](t)(s.ResumeProcesses(resume))
		tag := ecs.CreateTagResourcesRequest()
		tag.ResourceType, tag.ResourceId, tag.Tag = "instance", list, &[]ecs.TagResourcesTag{{Key: "ess:rollingupdate", Value: "x"}}
		must[*ecs.TagResourcesResponse](t)(c.TagResources(tag))
		if v := cloud.Violations(); len(v) != 0 {
			t.Errorf("violations: %v", v)
		}
	})
}

func TestTheSDKRunsAScript(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 2, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, _ *client) {
		_, c := sdkFor(t, h.Transport())
		cloud.SetBehavior("i-0002", fake.Behavior{Scripts: []fake.ScriptResult{{ExitCode: 7, Output: "no"}}})
		agents := ecs.CreateDescribeCloudAssistantStatusRequest()
		agents.InstanceId = &[]string{"i-0001", "i-0002"}
		a := must[*ecs.DescribeCloudAssistantStatusResponse](t)(c.DescribeCloudAssistantStatus(agents))
		equal(t, "agent", "true", a.InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus[1].CloudAssistantStatus)
		run := ecs.CreateRunCommandRequest()
		run.Type, run.CommandContent, run.ContentEncoding, run.Name = "RunShellScript", "dHJ1ZQ==", "Base64", "task-1"
		run.InstanceId, run.ClientToken, run.Timeout = agents.InstanceId, "run-1", requests.NewInteger(600)
		id := must[*ecs.RunCommandResponse](t)(c.RunCommand(run)).InvokeId
		time.Sleep(time.Minute)
		results := ecs.CreateDescribeInvocationResultsRequest()
		results.InvokeId, results.MaxResults = id, requests.NewInteger(50)
		inv := must[*ecs.DescribeInvocationResultsResponse](t)(c.DescribeInvocationResults(results)).Invocation
		equal(t, "results", int64(2), inv.TotalCount)
		r := inv.InvocationResults.InvocationResult[1]
		equal(t, "statuses", [4]string{"Failed", "Finished", "ExitCodeNonzero", "bm8="}, [4]string{r.InvocationStatus, r.InvokeRecordStatus, r.ErrorCode, r.Output})
		equal(t, "exit code", int64(7), r.ExitCode)
		find := ecs.CreateDescribeInvocationsRequest()
		find.CommandName = "task-1"
		found := must[*ecs.DescribeInvocationsResponse](t)(c.DescribeInvocations(find)).Invocations.Invocation
		equal(t, "found", [3]string{id, "PartialFailed", "{}"}, [3]string{found[0].InvokeId, found[0].InvocationStatus, found[0].Parameters})
		halt := ecs.CreateStopInvocationRequest()
		halt.InvokeId = id
		must[*ecs.StopInvocationResponse](t)(c.StopInvocation(halt))
	})
}

func TestTheSDKReadsTemplatesAndRefreshes(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, _ *client) {
		s, c := sdkFor(t, h.Transport())
		cloud.AddGroup(fake.GroupSpec{ID: "asg-lt", LaunchTemplateID: "lt-1", KeyPair: "kp", RefreshID: "ir-1"})
		sets := ecs.CreateDescribeLaunchTemplatesRequest()
		sets.LaunchTemplateId = &[]string{"lt-1"}
		set := must[*ecs.DescribeLaunchTemplatesResponse](t)(c.DescribeLaunchTemplates(sets)).LaunchTemplateSets.LaunchTemplateSet[0]
		versions := ecs.CreateDescribeLaunchTemplateVersionsRequest()
		versions.LaunchTemplateId, versions.LaunchTemplateVersion = "lt-1", &[]string{strconv.FormatInt(set.DefaultVersionNumber, 10)}
		data := must[*ecs.DescribeLaunchTemplateVersionsResponse](t)(c.DescribeLaunchTemplateVersions(versions)).LaunchTemplateVersionSets.LaunchTemplateVersionSet[0].LaunchTemplateData
		equal(t, "template", [2]string{"img-v1", "kp"}, [2]string{data.ImageId, data.KeyPairName})
		equal(t, "size", 40, data.SystemDiskSize)

		refreshes := requests.NewCommonRequest() // the SDK has no request of its own for it
		refreshes.Product, refreshes.Version, refreshes.ApiName, refreshes.Scheme = "Ess", openapi.VersionESS, "DescribeInstanceRefreshes", "HTTPS"
		refreshes.Domain = "ess.cloud.test"
		refreshes.QueryParams["ScalingGroupId"] = "asg-lt"
		answer, err := s.ProcessCommonRequest(refreshes)
		if err != nil || !strings.Contains(answer.GetHttpContentString(), `"InstanceRefreshTaskId":"ir-1"`) {
			t.Errorf("%v, %v", answer, err)
		}
	})
}

func TestTheSDKWorksOverSockets(t *testing.T) {
	h := openapi.New(fake.Demo(fake.Instant(), 60), openapi.Config{})
	server := httptest.NewServer(h)
	defer server.Close()
	s, _ := sdkFor(t, server.Client().Transport)
	var seen []string
	for page := 1; len(seen) < 60 && page < 9; page++ {
		r := ess.CreateDescribeScalingInstancesRequest()
		r.ScalingGroupId, r.PageSize, r.PageNumber = fake.DemoGroup, requests.NewInteger(50), requests.NewInteger(page)
		r.Domain, r.Scheme = strings.TrimPrefix(server.URL, "http://"), "HTTP"
		for _, i := range must[*ess.DescribeScalingInstancesResponse](t)(s.DescribeScalingInstances(r)).ScalingInstances.ScalingInstance {
			seen = append(seen, i.InstanceId)
		}
	}
	if len(seen) != 60 || seen[0] != "i-0001" || seen[59] != "i-0060" || h.Count("DescribeScalingInstances") != 2 {
		t.Errorf("%v", seen)
	}
}

func TestTheSDKReadsErrors(t *testing.T) {
	h := openapi.New(fake.Demo(fake.Instant(), 3), openapi.Config{})
	s, c := sdkFor(t, h.Transport())
	exit := ess.CreateExitStandbyRequest()
	exit.ScalingGroupId, exit.InstanceId = fake.DemoGroup, &[]string{"i-0001"}
	_, err := s.ExitStandby(exit)
	var refused *sdkerrors.ServerError
	if !errors.As(err, &refused) || refused.ErrorCode() != "IncorrectInstanceStatus" || refused.HttpStatus() != 403 || refused.RequestId() == "" || refused.HostId() != "ess.cloud.test" {
		t.Errorf("%v", err)
	}
	h.Inject(openapi.Throttle("ExitStandby", 1, 2*time.Second), openapi.Lose("ExitStandby", 2, openapi.ReplyBroken), openapi.Lose("ExitStandby", 3, openapi.ReplyEmpty))
	if _, err = s.ExitStandby(exit); !errors.As(err, &refused) || refused.ErrorCode() != "Throttling.User" || refused.RespHeaders["X-Acs-Retry-After"][0] != "2000" {
		t.Errorf("%v", err)
	}
	var local *sdkerrors.ClientError
	if _, err = s.ExitStandby(exit); !errors.As(err, &local) || local.ErrorCode() != "SDK.JsonUnmarshalError" {
		t.Errorf("%v", err)
	}
	if answer, err := s.ExitStandby(exit); err != nil || answer.RequestId != "" {
		t.Errorf("%v, %v", answer, err)
	}

	// A request that is used again keeps the end of a list that was shortened.
	reused := ecs.CreateDescribeInstanceStatusRequest()
	for _, ids := range [][]string{{"i-0001", "i-0002"}, {"i-0003"}} {
		reused.InstanceId = &ids
		must[*ecs.DescribeInstanceStatusResponse](t)(c.DescribeInstanceStatus(reused))
	}
	equal(t, "suspicions", []string{"DescribeInstanceStatus InstanceId [i-0003 i-0002]: the last 1 are those of the call before, [i-0001 i-0002]"}, h.Suspicions())
}
