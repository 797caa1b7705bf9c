package providertest_test

import (
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/providertest"
)

// bedOn returns a test bed on a fake cloud; wrap may put something in front of it.
func bedOn(cfg fake.Config, n int, wrap func(*fake.Cloud) provider.Provider) func() (*providertest.Bed, error) {
	return func() (*providertest.Bed, error) {
		cfg.Script = func(r fake.ScriptRun) fake.ScriptResult {
			if r.Script.Content == "exit 3" {
				return fake.ScriptResult{ExitCode: 3, Output: "sorry", Takes: 3 * time.Second}
			}
			return fake.ScriptResult{Output: "hello\n", Takes: 3 * time.Second}
		}
		c := fake.Demo(cfg, n)
		b := &providertest.Bed{
			Provider: c, GroupID: fake.DemoGroup, InstanceIDs: c.InstanceIDs(fake.DemoGroup), ImageID: fake.DemoNewImage,
			Script:        provider.ScriptSpec{Type: provider.Shell, Content: "echo hello"},
			ScriptOutput:  "hello",
			FailingScript: provider.ScriptSpec{Type: provider.Shell, Content: "exit 3"}, FailingExitCode: 3,
			Effects:      func(e providertest.Effect, id string) int { return c.CountEffects(string(e), id) },
			ForgetTokens: c.ForgetTokens,
			Vanish:       func(id string) { c.Release(id) },
			PowerOff:     func(id string) { c.Now(func(w *fake.World) { w.SetPower(provider.Stopped, id) }) },
		}
		if wrap != nil {
			b.Provider = wrap(c)
		}
		return b, nil
	}
}

// TestFakePasses runs the suite on the fake with each of its switches.
func TestFakePasses(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  fake.Config
		n    int
	}{
		{name: "default", n: 25},
		{name: "partial standby", cfg: fake.Config{PartialStandby: true}, n: 4},
		{name: "auto start", cfg: fake.Config{AutoStartAfterReplace: true}, n: 12},
		{name: "stop lets scripts run", cfg: fake.Config{StopLetsScriptsRun: true}, n: 4},
		{name: "no command lookup", cfg: fake.Config{NoCommandLookup: true}, n: 4},
		{name: "no token memory", cfg: fake.Config{TokenMemory: -1}, n: 4},
		{name: "one replacement per call, jitter", cfg: fake.Config{ReplaceTargets: 1, Seed: 3, Jitter: 0.3, Tail: 0.2}, n: 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := providertest.Harness{Bubble: true, New: bedOn(tt.cfg, tt.n, nil)}
			if tt.name == "no token memory" {
				h.Skip = map[string]string{"script/sent twice at once": "the cloud cannot tell the two apart"}
			}
			providertest.Run(t, h)
		})
	}
}

// TestFakePassesInRealTime needs no bubble.
func TestFakePassesInRealTime(t *testing.T) {
	bed := bedOn(fake.Instant(), 4, nil)
	providertest.Run(t, providertest.Harness{New: func() (*providertest.Bed, error) {
		b, err := bed()
		b.Interval, b.Long = time.Millisecond, 10*time.Millisecond
		return b, err
	}})
}
