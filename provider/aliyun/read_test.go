package aliyun_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

func TestGroupAsShown(t *testing.T) {
	p := answering(t, func(q *request) {
		if q.action == "DescribeScalingActivities" {
			q.answer(200, `{"RequestId":"r","TotalCount":1,"ScalingActivities":{"ScalingActivity":[{"ScalingActivityId":"asa-1","StatusCode":"InProgress","Cause":"a rule"}]}}`)
			return
		}
		q.answer(200, `{"RequestId":"r","TotalCount":1,"ScalingGroups":{"ScalingGroup":[{"ScalingGroupId":"asg-1","ScalingGroupName":"web","GroupType":"ECS",
			"LifecycleState":"Active","SystemSuspended":true,"SuspendedProcesses":{"SuspendedProcess":["scalein","HealthCheck","scalein"]},
			"ActiveCapacity":7,"StandbyCapacity":2,"TotalCapacity":90,"TotalInstanceCount":9,"MinSize":1,"MaxSize":20,"DesiredCapacity":9,"EnableDesiredCapacity":true,
			"LoadBalancerIds":{"LoadBalancerId":["lb-1"]},"VServerGroups":{"VServerGroup":[{"LoadBalancerId":"lb-1"},{"LoadBalancerId":"lb-2"}]},
			"AlbServerGroups":{"AlbServerGroup":[{"AlbServerGroupId":"sgp-1"}]},"ServerGroups":{"ServerGroup":[{"ServerGroupId":"sgp-2"}]},
			"ActiveScalingConfigurationId":"asc-1"}]}}`)
	})
	got, err := p.Group(t.Context(), "asg-1")
	if err != nil {
		t.Fatal(err)
	}
	want := provider.Group{
		ID: "asg-1", Name: "web", State: provider.GroupActive, Type: "ECS", SystemSuspended: true,
		Suspended:  []provider.Process{provider.ScaleIn, provider.HealthCheck},
		Activities: []provider.Activity{{ID: "asa-1", Text: "a rule"}}, InService: 7, Standby: 2, Total: 9, MinSize: 1, MaxSize: 20, DesiredCapacity: 9,
		LoadBalancers: []string{"lb-1", "lb-2", "sgp-1", "sgp-2"}, ConfigurationID: "asc-1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("group (-want +got):\n%s", diff)
	}
}

// TestS19_MembersWhilePagesShift holds that a list whose pages do not fit together is read again, and not for ever.
func TestS19_MembersWhilePagesShift(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stays int // lists with a gap before the members settle
		err   error
	}{
		{"settles", 2, nil},
		{"never settles", 99, provider.ErrTransient},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lists := 0
				shift := transport(func(q *request) bool {
					if q.action == "DescribeScalingInstances" && q.params.Get("PageNumber") == "1" {
						lists++
					}
					if q.action == "DescribeScalingInstances" && q.params.Get("PageNumber") == "2" && lists <= tt.stays {
						q.replace(`"i-0051"`, `"i-0050"`) // a member moved to the page before
					}
					return false
				})
				r, err := newRig(fake.Config{}, openapi.Config{}, 75, func(c *aliyun.Config) { c.Transport = shift(c.Transport) })
				if err != nil {
					t.Fatal(err)
				}
				members, err := r.Members(t.Context(), fake.DemoGroup)
				if !errors.Is(err, tt.err) || tt.err == nil && len(members) != 75 {
					t.Errorf("%d members, error %v; want %v", len(members), err, tt.err)
				}
			})
		})
	}
}

// TestFreshRequests holds that no request carries parameters of another one.
func TestFreshRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{}, openapi.Config{}, 45)
		ids := r.cloud.InstanceIDs(fake.DemoGroup)
		drive(t, r, fake.DemoGroup, imageUpdate(fake.DemoNewImage), ids[:7]...)
		for _, some := range [][]string{ids[10:30], ids[30:33], ids[33:34], ids[34:45]} {
			var targets []provider.Target
			for _, id := range some {
				targets = append(targets, provider.Target{InstanceID: id, CallID: "enter"})
			}
			for _, f := range []func() ([]provider.Progress, error){
				func() ([]provider.Progress, error) { return r.EnterStandby(t.Context(), fake.DemoGroup, targets) },
				func() ([]provider.Progress, error) { return r.ExitStandby(t.Context(), fake.DemoGroup, targets) },
			} {
				if got, err := f(); err != nil || len(got) != len(some) || !got[0].Done {
					t.Fatalf("%+v, %v", got, err)
				}
			}
		}
		if bad := append(r.wire.Mismatches(), r.wire.Suspicions()...); len(bad) > 0 {
			t.Error(bad)
		}
		if bad := r.cloud.Violations(); len(bad) > 0 {
			t.Error(bad)
		}
	})
}

// TestN2_TokensFollowTheSet holds that another set of instances goes out under another token, and the same one under the same.
func TestN2_TokensFollowTheSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{}, openapi.Config{}, 3)
		ids := r.cloud.InstanceIDs(fake.DemoGroup)
		send := func(resent bool, ids ...string) []provider.Progress {
			t.Helper()
			var targets []provider.Target
			for _, id := range ids {
				targets = append(targets, provider.Target{InstanceID: id, CallID: "enter", Resent: resent})
			}
			got, err := r.EnterStandby(t.Context(), fake.DemoGroup, targets)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		r.wire.Inject(openapi.Internal("EnterStandby", 1, false), openapi.Internal("EnterStandby", 2, false))
		for _, p := range append(send(false, ids...), send(true, ids[2], ids[1], ids[0])...) {
			if !provider.Unknown(p.Err) {
				t.Errorf("answer is %+v, want an unknown outcome", p)
			}
		}
		if _, err := r.cloud.EnterStandby(t.Context(), fake.DemoGroup, []provider.Target{{InstanceID: ids[1], CallID: "by-hand"}}); err != nil {
			t.Fatal(err)
		}
		for _, p := range send(true, ids...) {
			if !p.Done {
				t.Errorf("answer is %+v", p)
			}
		}
		var tokens []string
		for _, q := range r.wire.Requests() {
			if q.Action == "EnterStandby" {
				tokens = append(tokens, q.Params["ClientToken"])
			}
		}
		if len(tokens) != 3 || tokens[0] != tokens[1] || tokens[2] == tokens[0] || !strings.HasPrefix(tokens[0], "enter-") {
			t.Errorf("tokens are %q, want the same twice, then another one", tokens)
		}
	})
}

func TestS7_Inspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{}, openapi.Config{}, 2)
		r.cloud.AddGroup(fake.GroupSpec{ID: "asg-x", RefreshID: "ir-1", LoadBalancers: []string{"lb-1"}})
		r.cloud.AddInstances("asg-x", 1, fake.InstanceSpec{ID: "i-a", CustomWeight: 70, Disk: provider.Disk{SizeGiB: 60, SnapshotPolicyID: "sp-1"}})
		r.cloud.AddInstances("asg-x", 1, fake.InstanceSpec{ID: "i-b", NoPassword: true})
		r.cloud.AddInstances("asg-x", 1, fake.InstanceSpec{ID: "i-c", KeyPair: "k"})
		r.cloud.Now(func(w *fake.World) { w.SetAgentOffline(fake.Forever, "i-b") })
		disk := func(id string) provider.Disk { v, _ := r.cloud.InstanceView(id); return v.Disk }
		ids := []string{"i-c", "i-none", "i-a", "i-b"}
		got, err := r.Inspect(t.Context(), "asg-x", imageUpdate(fake.DemoNewImage), ids)
		if err != nil {
			t.Fatal(err)
		}
		if got.Image == nil || got.Image.ID != fake.DemoNewImage || got.Image.Status != "Available" || got.Image.SizeGiB == 0 || got.InstanceRefreshID != "ir-1" || got.Configuration.ID != "asc-asg-x" {
			t.Errorf("inspection is %+v, image %+v", got, got.Image)
		}
		want := []provider.InstanceDetail{
			{ID: "i-c", Disk: disk("i-c")},
			{ID: "i-a", Disk: disk("i-a"), LoginLost: true, CustomWeight: 70},
			{ID: "i-b", Disk: disk("i-b"), LoginLost: true},
		}
		if diff := cmp.Diff(want, got.Instances); diff != "" {
			t.Errorf("instances (-want +got):\n%s", diff)
		}
		got, err = r.Inspect(t.Context(), "asg-x", scriptUpdate("true"), ids)
		if err != nil {
			t.Fatal(err)
		}
		offline := ""
		for _, i := range got.Instances {
			if i.AgentOffline {
				offline += i.ID
			}
		}
		if offline != "i-b" || len(got.Instances) != 3 {
			t.Errorf("agents offline on %q of %+v, want i-b", offline, got.Instances)
		}
		if got, err = r.Inspect(t.Context(), "asg-x", imageUpdate("img-none"), nil); err != nil || got.Image != nil {
			t.Errorf("image that does not exist: %+v, %v", got.Image, err)
		}
	})
}

// TestS18_ConfigurationImage holds what is set, that setting it again makes no call, and that data disks come back.
func TestS18_ConfigurationImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{}, openapi.Config{}, 1)
		r.cloud.AddGroup(fake.GroupSpec{
			ID: "asg-x", Instances: 1, DataDisks: json.RawMessage(`[{"Size":100,"Category":"cloud_essd","Device":"/dev/xvdb","SnapshotId":"s-1"}]`), DataDisksFromImage: true,
		})
		old, err := r.Configuration(t.Context(), "asg-x")
		if err != nil {
			t.Fatal(err)
		}
		if !old.DataDisksFromImage || len(old.DataDisks) == 0 || old.ImageID != fake.DemoOldImage {
			t.Errorf("configuration is %+v (%s)", old, old.DataDisks)
		}
		set := func(want provider.Configuration) {
			t.Helper()
			for range 2 {
				if err := r.SetConfigurationImage(t.Context(), "asg-x", want); err != nil {
					t.Fatal(err)
				}
			}
		}
		set(provider.Configuration{ID: old.ID, ImageID: fake.DemoNewImage})
		if now, err := r.Configuration(t.Context(), "asg-x"); err != nil || now.ImageID != fake.DemoNewImage || now.DataDisks != nil {
			t.Errorf("configuration is %+v, %v", now, err)
		}
		set(old)
		now, err := r.Configuration(t.Context(), "asg-x")
		if err != nil || now.ImageID != old.ImageID || string(now.DataDisks) != string(old.DataDisks) {
			t.Errorf("configuration is %+v (%s), %v; want %s", now, now.DataDisks, err, old.DataDisks)
		}
		if n := r.wire.Count("ModifyScalingConfiguration"); n != 2 {
			t.Errorf("%d calls of ModifyScalingConfiguration, want 2", n)
		}
		for _, bad := range []struct {
			want provider.Configuration
			err  error
		}{
			{provider.Configuration{ID: "lt-1", LaunchTemplate: true, ImageID: "x"}, provider.ErrInvalid},
			{provider.Configuration{ID: old.ID}, provider.ErrInvalid},
			{provider.Configuration{ID: "asc-none", ImageID: fake.DemoNewImage}, provider.ErrNotFound},
		} {
			if err := r.SetConfigurationImage(t.Context(), "asg-x", bad.want); !errors.Is(err, bad.err) {
				t.Errorf("%+v: error is %v, want %v", bad.want, err, bad.err)
			}
		}
	})
}

// TestImageFamily holds that a configuration that follows an image family can get it back.
func TestImageFamily(t *testing.T) {
	image, family := "", "acs:family"
	p := answering(t, func(q *request) {
		switch q.action {
		case "DescribeScalingGroups":
			q.answer(200, `{"RequestId":"r","ScalingGroups":{"ScalingGroup":[{"ScalingGroupId":"asg-1","ActiveScalingConfigurationId":"asc-1"}]}}`)
		case "DescribeScalingConfigurations":
			q.answer(200, fmt.Sprintf(`{"RequestId":"r","ScalingConfigurations":{"ScalingConfiguration":[{"ScalingConfigurationId":"asc-1","ImageId":%q,"ImageFamily":%q}]}}`, image, family))
		default:
			image, family = q.params.Get("ImageId"), q.params.Get("ImageFamily")
			q.answer(200, `{"RequestId":"r"}`)
		}
	})
	old, err := p.Configuration(t.Context(), "asg-1")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []provider.Configuration{{ID: "asc-1", ImageID: "m-new"}, old} {
		if err := p.SetConfigurationImage(t.Context(), "asg-1", want); err != nil {
			t.Fatal(err)
		}
		if now, err := p.Configuration(t.Context(), "asg-1"); err != nil || now.ImageID != want.ImageID {
			t.Errorf("configuration is %+v, %v; want %s", now, err, want.ImageID)
		}
	}
	if image != "" || family != "acs:family" {
		t.Errorf("image %q, family %q", image, family)
	}
}
