package aliyun_test

import (
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
	"github.com/rollingupgrade/rollingupgrade/provider/providertest"
)

// A rig is a Provider over a stand-in that is called in process.
type rig struct {
	*aliyun.Provider
	cloud *fake.Cloud
	wire  *openapi.Handler
}

// config is a Config that fits the stand-in.
func config(h *openapi.Handler) aliyun.Config {
	return aliyun.Config{
		Region: "cn-hangzhou", Credential: credentials.NewStaticAKCredentialsProvider("test-key-id", "secret"), Transport: h.Transport(),
	}
}

func newRig(cloud fake.Config, wire openapi.Config, n int, change func(*aliyun.Config)) (*rig, error) {
	r := &rig{cloud: fake.Demo(cloud, n)}
	r.wire = openapi.New(r.cloud, wire)
	cfg := config(r.wire)
	if change != nil {
		change(&cfg)
	}
	var err error
	r.Provider, err = aliyun.New(cfg)
	return r, err
}

func mustRig(t *testing.T, cloud fake.Config, wire openapi.Config, n int) *rig {
	t.Helper()
	r, err := newRig(cloud, wire, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// scripts makes "exit 3" fail.
func scripts(r fake.ScriptRun) fake.ScriptResult {
	if r.Script.Content == "exit 3" {
		return fake.ScriptResult{ExitCode: 3, Output: "sorry", Takes: 3 * time.Second}
	}
	return fake.ScriptResult{Output: "hello\n", Takes: 3 * time.Second}
}

func bedOn(cloud fake.Config, wire openapi.Config, n int, change func(*aliyun.Config)) func() (*providertest.Bed, error) {
	return func() (*providertest.Bed, error) {
		cloud := cloud
		cloud.Script = scripts
		r, err := newRig(cloud, wire, n, change)
		if err != nil {
			return nil, err
		}
		return r.bed(), nil
	}
}

func (r *rig) bed() *providertest.Bed {
	c := r.cloud
	return &providertest.Bed{
		Provider: r.Provider, GroupID: fake.DemoGroup, InstanceIDs: c.InstanceIDs(fake.DemoGroup), ImageID: fake.DemoNewImage,
		Script: provider.ScriptSpec{Type: provider.Shell, Content: "echo hello"}, ScriptOutput: "hello",
		FailingScript: provider.ScriptSpec{Type: provider.Shell, Content: "exit 3"}, FailingExitCode: 3,
		Effects:      func(e providertest.Effect, id string) int { return c.CountEffects(string(e), id) },
		ForgetTokens: c.ForgetTokens,
		Vanish:       func(id string) { c.Release(id) },
		PowerOff:     func(id string) { c.Now(func(w *fake.World) { w.SetPower(provider.Stopped, id) }) },
	}
}
