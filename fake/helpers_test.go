package fake_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// bubble runs f in simulated time.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func targets(callID string, ids ...string) []provider.Target {
	out := make([]provider.Target, len(ids))
	for n, id := range ids {
		out[n] = provider.Target{InstanceID: id, CallID: callID, Attempt: 1}
	}
	return out
}

var toV2 = provider.Update{Kind: provider.ImageUpdate, Image: &provider.ImageSpec{ImageID: fake.DemoNewImage}}

func shell(content string) provider.Update {
	return provider.Update{Kind: provider.ScriptUpdate, Script: &provider.ScriptSpec{Type: provider.Shell, Content: content}}
}

// drive updates instances as a Runner does, until each is done or has failed: look, act, look again.
func drive(t *testing.T, p provider.Provider, u provider.Update, ids ...string) map[string]provider.Progress {
	t.Helper()
	ctx := context.Background()
	ended := make(map[string]provider.Progress)
	states := make(map[string][]byte)
	before := make(map[string]*provider.Before)
	for turn := 0; len(ended) < len(ids); turn++ {
		if turn > 1000 {
			t.Fatalf("no end after 1000 turns")
		}
		var look []provider.Target
		for _, id := range ids {
			if _, over := ended[id]; !over {
				look = append(look, provider.Target{InstanceID: id, Attempt: 1, State: states[id], Before: before[id]})
			}
		}
		answers, err := p.Update(ctx, fake.DemoGroup, u, look)
		if err != nil {
			t.Fatalf("Update: %v", err)
		}
		acts := make(map[string][]provider.Target)
		for _, a := range answers {
			states[a.InstanceID] = a.State
			if a.Before != nil {
				before[a.InstanceID] = a.Before
			}
			switch {
			case a.Done || a.Err != nil:
				ended[a.InstanceID] = a
			case a.Act:
				key := string(a.State[:min(20, len(a.State))])
				acts[key] = append(acts[key], provider.Target{InstanceID: a.InstanceID, Attempt: 1, State: a.State, Before: before[a.InstanceID]})
			}
		}
		for len(acts) > 0 {
			for key, todo := range acts {
				for n := range todo {
					todo[n].CallID = "call-" + todo[0].InstanceID + "-" + strings.Trim(key, `{":}`)[:5]
					todo[n].CallID = strings.Map(func(r rune) rune {
						if r == '"' || r == ':' {
							return 'x'
						}
						return r
					}, todo[n].CallID)
				}
				answers, err := p.Update(ctx, fake.DemoGroup, u, todo)
				if err != nil {
					t.Fatalf("Update: %v", err)
				}
				delete(acts, key)
				answered := make(map[string]bool)
				for _, a := range answers {
					answered[a.InstanceID] = true
					states[a.InstanceID] = a.State
					if a.Err != nil {
						ended[a.InstanceID] = a
					}
				}
				for _, rest := range todo {
					if !answered[rest.InstanceID] {
						rest.CallID = ""
						acts[key] = append(acts[key], rest)
					}
				}
			}
		}
		time.Sleep(5 * time.Second)
	}
	return ended
}

func enter(t *testing.T, p provider.Provider, ids ...string) {
	t.Helper()
	answers, err := p.EnterStandby(context.Background(), fake.DemoGroup, targets("enter-"+ids[0], ids...))
	if err != nil {
		t.Fatalf("EnterStandby: %v", err)
	}
	for _, a := range answers {
		if a.Err != nil {
			t.Fatalf("EnterStandby: %v", a.Err)
		}
	}
}

func noViolations(t *testing.T, c *fake.Cloud) {
	t.Helper()
	for _, v := range c.Violations() {
		t.Errorf("violation: %s", v)
	}
}
