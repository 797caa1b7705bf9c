package providertest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/providertest"
)

// TestBrokenProvidersFail breaks the fake in one way each: the suite must notice, in the case named.
func TestBrokenProvidersFail(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  fake.Config
		n    int // instances; default 4
		with func(b *broken)
		want string // the case that must fail
	}{
		{name: "group of a missing ID is an empty struct", want: "read/missing group", with: func(b *broken) {
			b.group = func(ctx context.Context, g string) (provider.Group, error) {
				out, err := b.Cloud.Group(ctx, g)
				if errors.Is(err, provider.ErrNotFound) {
					err = nil
				}
				return out, err
			}
		}},
		{name: "group says not found without the sentinel", want: "read/missing group", with: func(b *broken) {
			b.group = func(ctx context.Context, g string) (provider.Group, error) {
				out, err := b.Cloud.Group(ctx, g)
				if err != nil && ctx.Err() == nil {
					err = errors.New(err.Error())
				}
				return out, err
			}
		}},
		{name: "group shares its load balancers", want: "read/answers are copies", with: func(b *broken) {
			lbs := []string{"lb-1"}
			b.group = func(ctx context.Context, g string) (provider.Group, error) {
				out, err := b.Cloud.Group(ctx, g)
				out.LoadBalancers = lbs
				return out, err
			}
		}},
		{name: "members reads one page only", want: "read/members", with: func(b *broken) {
			b.members = func(ctx context.Context, g string) ([]provider.Instance, error) {
				out, err := b.Cloud.Members(ctx, g)
				return out[:min(3, len(out))], err
			}
		}},
		{name: "members lists one twice", want: "read/members", with: func(b *broken) {
			b.members = func(ctx context.Context, g string) ([]provider.Instance, error) {
				out, err := b.Cloud.Members(ctx, g)
				if len(out) > 0 {
					out = append(out, out[0])
				}
				return out, err
			}
		}},
		{name: "members shares its slice", want: "read/answers are copies", with: func(b *broken) {
			var mu sync.Mutex
			var kept []provider.Instance
			b.members = func(ctx context.Context, g string) ([]provider.Instance, error) {
				out, err := b.Cloud.Members(ctx, g)
				mu.Lock()
				defer mu.Unlock()
				if err == nil && kept == nil {
					kept = out
				}
				if err != nil {
					return nil, err
				}
				return kept, nil
			}
		}},
		{name: "instances reports a released one", want: "read/a released instance is absent", with: func(b *broken) {
			var mu sync.Mutex
			seen := make(map[string]provider.Instance)
			b.instances = func(ctx context.Context, g string, ids []string) ([]provider.Instance, error) {
				got, err := b.Cloud.Instances(ctx, g, ids)
				mu.Lock()
				defer mu.Unlock()
				for _, i := range got {
					seen[i.ID] = i
				}
				var out []provider.Instance
				for _, id := range ids {
					if i, ok := seen[id]; ok {
						out = append(out, i)
					}
				}
				return out, err
			}
		}},
		{name: "instances fails for a missing one", want: "read/instances in the order asked", with: func(b *broken) {
			b.instances = func(ctx context.Context, g string, ids []string) ([]provider.Instance, error) {
				got, err := b.Cloud.Instances(ctx, g, ids)
				if err == nil && len(got) < len(ids) {
					err = provider.ErrNotFound
				}
				return got, err
			}
		}},
		{name: "instances are in the cloud's order", want: "read/instances in the order asked", with: func(b *broken) {
			b.instances = func(ctx context.Context, g string, ids []string) ([]provider.Instance, error) {
				got, err := b.Cloud.Instances(ctx, g, ids)
				slices.SortFunc(got, func(a, b provider.Instance) int { return strings.Compare(a.ID, b.ID) })
				return got, err
			}
		}},
		{name: "instances blocks", want: "context/ends during the call", with: func(b *broken) {
			b.instances = func(ctx context.Context, g string, ids []string) ([]provider.Instance, error) {
				time.Sleep(10 * time.Second)
				return b.Cloud.Instances(context.WithoutCancel(ctx), g, ids)
			}
		}},
		{name: "enter is called although the context is over", want: "context/over before the call", with: func(b *broken) {
			b.enter = func(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
				return b.Cloud.EnterStandby(context.WithoutCancel(ctx), g, ts)
			}
		}},
		{name: "enter of what is there fails", want: "standby/already there is done", with: func(b *broken) {
			b.enter = func(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
				got, err := b.Cloud.Instances(ctx, g, []string{ts[0].InstanceID})
				if err == nil && len(got) == 1 && got[0].Lifecycle == provider.Standby {
					return progresses{{InstanceID: ts[0].InstanceID, Err: provider.ErrInvalidState}}, nil
				}
				return b.Cloud.EnterStandby(ctx, g, ts)
			}
		}},
		{name: "enter answers for the first only", want: "standby/enter and exit", with: func(b *broken) {
			b.enter = func(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
				out, err := b.Cloud.EnterStandby(ctx, g, ts)
				return out[:min(1, len(out))], err
			}
		}},
		{name: "enter does nothing", want: "standby/enter and exit", with: func(b *broken) {
			b.enter = func(_ context.Context, _ string, ts []provider.Target) (out progresses, _ error) {
				for _, t := range ts {
					out = append(out, provider.Progress{InstanceID: t.InstanceID, Done: true})
				}
				return out, nil
			}
		}},
		{name: "enter fails as a whole for one bad instance", want: "standby/one bad instance", with: func(b *broken) {
			b.enter = func(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
				out, err := b.Cloud.EnterStandby(ctx, g, ts)
				for _, p := range out {
					if p.Err != nil {
						return nil, p.Err
					}
				}
				return out, err
			}
		}},
		{name: "enter blames the innocent", want: "standby/one bad instance", with: func(b *broken) {
			b.enter = func(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
				out, err := b.Cloud.EnterStandby(ctx, g, ts)
				for n := range out {
					if out[n].Err != nil {
						out[n].Err = provider.ErrNotFound
					}
				}
				return out, err
			}
		}},
		{name: "enter sends again what is stale", want: "standby/stale and never sent", with: func(b *broken) {
			b.enter = func(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
				return b.Cloud.EnterStandby(ctx, g, changed(ts, func(t *provider.Target) { t.Stale = false }))
			}
		}},
		{name: "enter takes one more than the limit", n: 25, want: "standby/more targets than the limit", with: func(b *broken) {
			b.enter = func(ctx context.Context, g string, ts []provider.Target) (all progresses, err error) {
				for len(ts) > 0 && err == nil {
					var out progresses
					some := ts[:min(20, len(ts))]
					ts = ts[len(some):]
					out, err = b.Cloud.EnterStandby(ctx, g, some)
					all = append(all, out...)
				}
				return all, err
			}
		}},
		{name: "exit moves all there are", want: "standby/enter and exit", with: func(b *broken) {
			b.exit = func(ctx context.Context, g string, ts []provider.Target) (progresses, error) {
				var all []provider.Target
				members, err := b.Cloud.Members(ctx, g)
				for _, m := range members {
					if m.Lifecycle == provider.Standby {
						all = append(all, provider.Target{InstanceID: m.ID, CallID: ts[0].CallID})
					}
				}
				if len(all) == 0 || err != nil {
					all = ts
				}
				out, err := b.Cloud.ExitStandby(ctx, g, all)
				return slices.DeleteFunc(out, func(p provider.Progress) bool {
					return !slices.ContainsFunc(ts, func(t provider.Target) bool { return t.InstanceID == p.InstanceID })
				}), err
			}
		}},
		{name: "protection cannot be lifted", want: "protection/set and lifted", with: func(b *broken) {
			b.protect = func(ctx context.Context, g string, ts []provider.Target, _ bool) (progresses, error) {
				return b.Cloud.SetProtection(ctx, g, ts, true)
			}
		}},
		{name: "resume resumes all", want: "processes/suspended and resumed", with: func(b *broken) {
			b.resume = func(ctx context.Context, g string, _ []provider.Process, callID string) error {
				return b.Cloud.ResumeProcesses(ctx, g, provider.Processes(), callID)
			}
		}},
		{name: "start of what runs fails", want: "start/running is done", with: func(b *broken) {
			b.start = func(ctx context.Context, g string, ts []provider.Target) (out progresses, err error) {
				for _, t := range ts {
					out = append(out, provider.Progress{InstanceID: t.InstanceID, Err: b.API().StartInstances(ctx, []string{t.InstanceID})})
					out[len(out)-1].Done = out[len(out)-1].Err == nil
				}
				return out, nil
			}
		}},
		{name: "update acts when it should look", want: "image/looking changes nothing", with: onUpdate(
			func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
				out, err := real(ctx, g, u, ts)
				if acting(ts) || err != nil {
					return out, err
				}
				return real(ctx, g, u, changed(ts, func(t *provider.Target) {
					t.CallID = "eager"
					for _, p := range out {
						if p.InstanceID == t.InstanceID {
							t.State = p.State
						}
					}
				}))
			})},
		{name: "update acts without a state", want: "image/acts only as the saved state says", with: onUpdate(
			func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
				out, err := real(ctx, g, u, ts)
				if !acting(ts) || err != nil || ts[0].State != nil {
					return out, err
				}
				return real(ctx, g, u, changed(ts, func(t *provider.Target) {
					for _, p := range out {
						if p.InstanceID == t.InstanceID {
							t.State = p.State
						}
					}
				}))
			})},
		{name: "update loses answers", want: "image/update", with: onUpdate(
			func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
				out, err := real(ctx, g, u, ts)
				if acting(ts) && len(out) > 1 {
					out = out[:1]
				}
				return out, err
			})},
		{name: "update writes into the state", want: "image/update", with: onUpdate(
			func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
				for _, t := range ts {
					if len(t.State) > 0 {
						defer func() { t.State[0] = ' ' }()
					}
				}
				return real(ctx, g, u, ts)
			})},
		{name: "update returns the state that it was given", want: "image/update", with: onAnswer(
			func(_ provider.Update, t provider.Target, p *provider.Progress) {
				if string(p.State) == string(t.State) {
					p.State = t.State
				}
				if p.Act && t.State != nil {
					copy(t.State, p.State)
				}
			})},
		{name: "update replaces once more what is sent again", want: "image/every answer lost once, tokens forgotten", with: func(b *broken) {
			b.update = func(ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
				for _, t := range ts {
					if t.Resent && phase(t.State) == "replace" {
						// the error does not matter: the second effect is what must be noticed
						_, _ = b.API().ReplaceSystemDisk(ctx, fake.ReplaceSystemDiskRequest{
							InstanceID: t.InstanceID, ImageID: u.Image.ImageID, Token: t.CallID + t.InstanceID,
						})
					}
				}
				return b.Cloud.Update(ctx, g, u, ts)
			}
		}},
		{name: "update is done too early", want: "image/update", with: onAnswer(
			func(_ provider.Update, _ provider.Target, p *provider.Progress) {
				if p.Phase == "starting" {
					*p = provider.Progress{InstanceID: p.InstanceID, Done: true, Outcome: provider.Updated}
				}
			})},
		{name: "update calls everything updated", want: "image/stop at every step", with: onAnswer(
			func(_ provider.Update, _ provider.Target, p *provider.Progress) {
				if p.Done {
					p.Outcome = provider.Updated
				}
			})},
		{name: "update leaves a stopped instance", want: "image/stop at every step", with: onAnswer(
			func(_ provider.Update, t provider.Target, p *provider.Progress) {
				if t.Stop && p.Act && phase(p.State) == "start" {
					*p = provider.Progress{InstanceID: p.InstanceID, Done: true, Outcome: provider.NotUpdated}
				}
			})},
		{name: "update has no before-image", want: "image/looking changes nothing", with: onAnswer(
			func(_ provider.Update, _ provider.Target, p *provider.Progress) { p.Before = nil })},
		{name: "update takes any kind", want: "image/unknown kind", with: onUpdate(
			func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
				if u.Image == nil && u.Script == nil {
					return progresses{{InstanceID: ts[0].InstanceID, Done: true, Outcome: provider.Updated}}, nil
				}
				return real(ctx, g, u, ts)
			})},
		{name: "update says that nothing began when it did", want: "image/every answer lost once, tokens forgotten", with: onAnswer(
			func(_ provider.Update, t provider.Target, p *provider.Progress) {
				if t.Stale {
					*p = provider.Progress{InstanceID: p.InstanceID, Err: provider.ErrNotBegun}
				}
			})},
		{name: "update does not class a released instance", want: "image/vanishing instance", with: onAnswer(
			func(_ provider.Update, _ provider.Target, p *provider.Progress) {
				if p.Err != nil {
					p.Err = fmt.Errorf("failed: %w", provider.ErrFailed)
				}
			})},
		{name: "update sends again what is stale", want: "script/stale and never sent", with: onUpdate(
			func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
				return real(ctx, g, u, changed(ts, func(t *provider.Target) { t.Stale = false }))
			})},
		{name: "script runs again when stale", want: "script/every answer lost once, tokens forgotten", with: onUpdate(
			func(real updateFunc, ctx context.Context, g string, u provider.Update, ts []provider.Target) (progresses, error) {
				return real(ctx, g, u, changed(ts, func(t *provider.Target) { t.Stale, t.Resent = false, false }))
			})},
		{name: "script without a client token", cfg: fake.Config{TokenMemory: -1}, want: "script/sent twice at once", with: func(*broken) {}},
		{name: "script's failure is a success", want: "script/exit code", with: onAnswer(
			func(_ provider.Update, _ provider.Target, p *provider.Progress) {
				if errors.Is(p.Err, provider.ErrFailed) {
					p.Err, p.Done, p.Outcome = nil, true, provider.Updated
				}
			})},
		{name: "script's output is lost", want: "script/run", with: onAnswer(
			func(_ provider.Update, _ provider.Target, p *provider.Progress) { p.Output = nil })},
		{name: "script that never ran is updated", want: "script/stop", with: onAnswer(
			func(u provider.Update, t provider.Target, p *provider.Progress) {
				if u.Script != nil && t.Stop && p.Done {
					p.Outcome = provider.Updated
				}
			})},
		{name: "pace lets in more than there are", want: "pace", with: func(b *broken) {
			b.pace = func(n int) (int, time.Duration) { return n + 1, 0 }
		}},
		{name: "pace does not say when", want: "pace", with: func(b *broken) {
			b.pace = func(n int) (int, time.Duration) { return n / 2, 0 }
		}},
		{name: "pace never lets the last one in", want: "pace", with: func(b *broken) {
			b.pace = func(n int) (int, time.Duration) { return n - 1, time.Minute }
		}},
		{name: "pace makes calls", want: "pace", with: func(b *broken) {
			b.pace = func(n int) (int, time.Duration) {
				_, _ = b.Cloud.EnterStandby(context.Background(), fake.DemoGroup, []provider.Target{{InstanceID: b.Cloud.InstanceIDs(fake.DemoGroup)[0], CallID: "pace"}})
				return n, 0
			}
		}},
		{name: "script never ends", want: "script/run", with: onAnswer(
			func(u provider.Update, t provider.Target, p *provider.Progress) {
				if u.Script != nil && p.Done {
					*p = provider.Progress{InstanceID: p.InstanceID, State: slices.Clone(t.State), Wait: time.Minute}
				}
			})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := max(tt.n, 4)
				failed := providertest.Check(t.Context(), providertest.Harness{New: bedOn(tt.cfg, n, func(c *fake.Cloud) provider.Provider {
					b := &broken{Cloud: c}
					tt.with(b)
					return b
				})})
				if failed[tt.want] == nil {
					t.Errorf("case %q passes; failed are %q", tt.want, slices.Sorted(maps.Keys(failed)))
				} else if testing.Verbose() {
					t.Log(failed[tt.want])
				}
				time.Sleep(time.Hour) // let calls that ignored their context end
			})
		})
	}
}
