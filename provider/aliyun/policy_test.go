package aliyun_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
	"github.com/rollingupgrade/rollingupgrade/provider/providertest"
)

var update = flag.Bool("update", false, "write golden files")

// TestPolicyDocument holds the document in this folder against the Go value.
func TestPolicyDocument(t *testing.T) {
	const file = "policy.json"
	if *update {
		if err := os.WriteFile(file, aliyun.Policy().JSON(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(aliyun.Policy().JSON()), string(got)); diff != "" {
		t.Errorf("%s is not what Policy returns (run with -update):\n%s", file, diff)
	}
}

// TestPolicyAllowsWhatIsCalled records what goes over the wire while everything that a Provider can do is done, and holds it
// against the list of actions: nothing more, nothing less.
func TestPolicyAllowsWhatIsCalled(t *testing.T) {
	called := make(map[string]bool)
	note := func(r *rig) {
		for _, q := range r.wire.Requests() {
			product := "ecs"
			if q.Version == openapi.VersionESS {
				product = "ess"
			}
			called[product+":"+q.Action] = true
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var rigs []*rig
		harness := providertest.Harness{New: func() (*providertest.Bed, error) {
			r, err := newRig(fake.Config{Script: scripts}, openapi.Config{}, 4, nil)
			if err != nil {
				return nil, err
			}
			rigs = append(rigs, r)
			return r.bed(), nil
		}}
		if failed := providertest.Check(t.Context(), harness); len(failed) > 0 {
			t.Fatal(failed)
		}
		for _, r := range rigs {
			note(r)
		}
		note(everything(t))
		note(templates(t))
	})
	var names, all []string
	for name := range called {
		names = append(names, name)
	}
	for _, a := range aliyun.Actions() {
		all = append(all, a.Name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(all, names); diff != "" {
		t.Errorf("actions of the policy (-) and on the wire (+):\n%s", diff)
	}
}

// everything calls what the suite does not: the optional interfaces, and an update that changes user data.
func everything(t *testing.T) *rig {
	r := mustRig(t, fake.Config{}, openapi.Config{}, 3)
	ctx := t.Context()
	ids := r.cloud.InstanceIDs(fake.DemoGroup)
	for _, u := range []provider.Update{imageUpdate(fake.DemoNewImage), scriptUpdate("true")} {
		if _, err := r.Inspect(ctx, fake.DemoGroup, u, ids); err != nil {
			t.Fatal(err)
		}
	}
	c, err := r.Configuration(ctx, fake.DemoGroup)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetConfigurationImage(ctx, fake.DemoGroup, provider.Configuration{ID: c.ID, ImageID: fake.DemoNewImage}); err != nil {
		t.Fatal(err)
	}
	stopScript(t, r, ids[0])
	r.cloud.AddGroup(fake.GroupSpec{ID: "asg-data", Instances: 1, UserData: "bmV3"})
	id := r.cloud.InstanceIDs("asg-data")[0]
	if err := r.API(ctx, id, "b2xk"); err != nil {
		t.Fatal(err)
	}
	drive(t, r, "asg-data", imageUpdate(fake.DemoNewImage), id)
	if v, _ := r.cloud.InstanceView(id); v.UserData != "bmV3" {
		t.Errorf("user data of %s is %q, want that of the configuration", id, v.UserData)
	}
	return r
}

// API sets the user data of an instance behind the provider's back.
func (r *rig) API(ctx context.Context, id, data string) error {
	return r.cloud.API().ModifyInstanceAttribute(ctx, id, data)
}

// templates reads a group that a launch template feeds.
func templates(t *testing.T) *rig {
	r := mustRig(t, fake.Config{}, openapi.Config{}, 1)
	r.cloud.AddGroup(fake.GroupSpec{ID: "asg-template", Instances: 1, LaunchTemplateID: "lt-1", KeyPair: "key"})
	c, err := r.Configuration(t.Context(), "asg-template")
	if err != nil {
		t.Fatal(err)
	}
	if !c.LaunchTemplate || c.ID != "lt-1" || c.ImageID == "" {
		t.Errorf("configuration is %+v, want the template and its image", c)
	}
	latest := transport(func(q *request) bool {
		if q.action == "DescribeScalingGroups" {
			q.replace(`"LaunchTemplateVersion":"Default"`, `"LaunchTemplateVersion":"Latest"`)
		}
		return false
	})
	r2, err := newRig(fake.Config{}, openapi.Config{}, 1, func(cfg *aliyun.Config) { cfg.Transport = latest(cfg.Transport) })
	if err != nil {
		t.Fatal(err)
	}
	r2.cloud.AddGroup(fake.GroupSpec{ID: "asg-template", Instances: 1, LaunchTemplateID: "lt-1", KeyPair: "key"})
	if c, err := r2.Configuration(t.Context(), "asg-template"); err != nil || c.ImageID == "" {
		t.Errorf("configuration of version Latest is %+v, %v", c, err)
	}
	if n := r2.wire.Count("DescribeLaunchTemplates"); n != 1 {
		t.Errorf("%d calls of DescribeLaunchTemplates, want 1", n)
	}
	return r2
}

// TestPolicyNarrow holds that actions are named as RAM does and that each says what it is for.
func TestPolicyNarrow(t *testing.T) {
	for _, a := range aliyun.Actions() {
		product, name, ok := strings.Cut(a.Name, ":")
		if !ok || product != "ess" && product != "ecs" || strings.Contains(name, "*") || a.For == "" || a.Why == "" {
			t.Errorf("action %+v", a)
		}
		if a.Changes == strings.HasPrefix(name, "Describe") {
			t.Errorf("%s: Changes is %t", a.Name, a.Changes)
		}
	}
	if bytes.Contains(aliyun.Policy().JSON(), []byte(`"ecs:*"`)) {
		t.Error("the policy allows everything")
	}
}
