package aliyun_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// sentAs returns the parameters of the calls of an action, without the token.
func sentAs(r *rig, action string) (all []map[string]string) {
	for _, q := range r.wire.Requests() {
		if q.Action == action {
			delete(q.Params, "ClientToken")
			all = append(all, q.Params)
		}
	}
	return all
}

// TestS17_WhatTheNewDiskTakes holds that size, encryption and key come from the old disk, key pair and user data from the configuration source or
// else from the instance.
func TestS17_WhatTheNewDiskTakes(t *testing.T) {
	own := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho own\n"))
	common := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\necho common\n"))
	for _, tt := range []struct {
		name     string
		group    fake.GroupSpec
		instance fake.InstanceSpec
		replace  map[string]string
		userData string // afterwards
		modified int
		before   string // user data in the record
	}{
		{
			name: "all from the instance", instance: fake.InstanceSpec{KeyPair: "own-key", UserData: own, Disk: provider.Disk{SizeGiB: 120, Encrypted: true, KMSKeyID: "kms-1"}},
			replace:  map[string]string{"SystemDisk.Size": "120", "Encrypted": "true", "KMSKeyId": "kms-1", "KeyPairName": "own-key"},
			userData: own, before: own,
		},
		{
			name: "from the configuration", group: fake.GroupSpec{KeyPair: "common-key", UserData: common},
			instance: fake.InstanceSpec{KeyPair: "own-key", UserData: own},
			replace:  map[string]string{"SystemDisk.Size": "40", "KeyPairName": "common-key"}, userData: common, modified: 1,
		},
		{
			name: "from the launch template", group: fake.GroupSpec{LaunchTemplateID: "lt-1", KeyPair: "common-key", UserData: common},
			instance: fake.InstanceSpec{UserData: common},
			replace:  map[string]string{"SystemDisk.Size": "40", "KeyPairName": "common-key"}, userData: common,
		},
		{
			name: "no key pair, password of the image", instance: fake.InstanceSpec{},
			replace: map[string]string{"SystemDisk.Size": "40", "PasswordInherit": "true"},
		},
		{name: "no way to log in", instance: fake.InstanceSpec{NoPassword: true}, replace: map[string]string{"SystemDisk.Size": "40"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := mustRig(t, fake.Config{}, openapi.Config{}, 1)
				tt.group.ID = "asg-x"
				tt.instance.ID = "i-x"
				r.cloud.AddGroup(tt.group)
				r.cloud.AddInstances("asg-x", 1, tt.instance)
				old, _ := r.cloud.InstanceView("i-x")
				ended := drive(t, r, "asg-x", imageUpdate(fake.DemoNewImage), "i-x")["i-x"]
				if ended.Err != nil || ended.Outcome != provider.Updated {
					t.Fatalf("the update ended as %+v", ended)
				}
				tt.replace["InstanceId"], tt.replace["ImageId"] = "i-x", fake.DemoNewImage
				if diff := cmp.Diff([]map[string]string{tt.replace}, sentAs(r, "ReplaceSystemDisk")); diff != "" {
					t.Errorf("ReplaceSystemDisk (-want +got):\n%s", diff)
				}
				want := []map[string]string{{"InstanceId.1": "i-x", "BatchOptimization": "SuccessFirst", "StoppedMode": "KeepCharging"}}
				if diff := cmp.Diff(want, sentAs(r, "StopInstances")); diff != "" {
					t.Errorf("StopInstances (-want +got):\n%s", diff)
				}
				now, _ := r.cloud.InstanceView("i-x")
				if now.UserData != tt.userData || r.wire.Count("ModifyInstanceAttribute") != tt.modified {
					t.Errorf("user data is %q after %d calls of ModifyInstanceAttribute, want %q after %d", now.UserData, r.wire.Count("ModifyInstanceAttribute"), tt.userData, tt.modified)
				}
				wantBefore := &provider.Before{ImageID: old.ImageID, Power: provider.Running, KeyPair: old.KeyPair, UserData: tt.before, Disk: &old.Disk}
				if diff := cmp.Diff(wantBefore, ended.Before); diff != "" {
					t.Errorf("record of what was before (-want +got):\n%s", diff)
				}
				if now.Disk.SizeGiB != old.Disk.SizeGiB || now.Disk.Encrypted != old.Disk.Encrypted || now.Disk.KMSKeyID != old.Disk.KMSKeyID {
					t.Errorf("the new disk is %+v, the old one was %+v", now.Disk, old.Disk)
				}
			})
		})
	}
}

// TestS17_HalfDone holds that an update goes on from whatever state an earlier life of the process has left behind.
func TestS17_HalfDone(t *testing.T) {
	for _, tt := range []struct {
		name    string
		spoil   func(r *rig, id string)
		outcome provider.Outcome
		class   error
	}{
		{name: "stopped by hand", spoil: func(r *rig, id string) { r.cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, id) }) }, outcome: provider.Updated},
		{name: "stopping", spoil: func(r *rig, id string) { _ = r.cloud.API().StopInstances(context.Background(), []string{id}) }, outcome: provider.Updated},
		{
			name: "stopped in economical mode", class: provider.ErrInvalidState,
			spoil: func(r *rig, id string) {
				_, _ = r.cloud.API().Power(context.Background(), fake.PowerRequest{Action: fake.StopAction, InstanceIDs: []string{id}, Economical: true})
				time.Sleep(time.Minute)
			},
		},
		{name: "replacement comes to nothing", spoil: func(r *rig, id string) { r.cloud.SetBehavior(id, fake.Behavior{FailReplaces: 1}) }, class: provider.ErrFailed},
		{name: "does not come up", spoil: func(r *rig, id string) { r.cloud.SetBehavior(id, fake.Behavior{FailStarts: 1}) }, class: provider.ErrFailed},
		{name: "image gone", spoil: func(r *rig, _ string) { r.cloud.Now(func(w *fake.World) { w.RemoveImage(fake.DemoNewImage) }) }, class: provider.ErrInvalid},
		{
			name: "image with data disks", class: provider.ErrInvalid, spoil: func(r *rig, _ string) {
				r.cloud.AddImages(provider.Image{ID: fake.DemoNewImage, Status: "Available", OS: "linux", SizeGiB: 20, DataDisks: true})
			},
		},
		{
			name: "image too large", class: provider.ErrInvalid, spoil: func(r *rig, _ string) {
				r.cloud.AddImages(provider.Image{ID: fake.DemoNewImage, Status: "Available", OS: "linux", SizeGiB: 500})
			},
		},
		{
			name: "image being made", class: provider.ErrInvalid, spoil: func(r *rig, _ string) {
				r.cloud.AddImages(provider.Image{ID: fake.DemoNewImage, Status: "Creating", OS: "linux", SizeGiB: 20})
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := mustRig(t, fake.Config{}, openapi.Config{}, 2)
				id := r.cloud.InstanceIDs(fake.DemoGroup)[0]
				if _, err := r.EnterStandby(t.Context(), fake.DemoGroup, []provider.Target{{InstanceID: id, CallID: "enter-0"}}); err != nil {
					t.Fatal(err)
				}
				tt.spoil(r, id)
				ended := drive(t, r, fake.DemoGroup, imageUpdate(fake.DemoNewImage), id)[id]
				if ended.Outcome != tt.outcome || !errors.Is(ended.Err, tt.class) {
					t.Errorf("the update ended as %+v, want %q, %v", ended, tt.outcome, tt.class)
				}
			})
		})
	}
}

// TestDisksInFewCalls holds that disks are read over the region where that is fewer calls, and by ID once the IDs are known.
func TestDisksInFewCalls(t *testing.T) {
	for _, tt := range []struct {
		name        string
		region, ask int
		calls       int
	}{
		{name: "two of few", region: 10, ask: 2, calls: 2},
		{name: "many of few", region: 120, ask: 100, calls: 1},
		{name: "three of very many", region: 2600, ask: 3, calls: 6},
		{name: "many of very many", region: 2600, ask: 60, calls: 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := newRig(fake.Config{}, openapi.Config{}, 1, unlimited)
				if err != nil {
					t.Fatal(err)
				}
				r.cloud.AddGroup(fake.GroupSpec{ID: "asg-big", Instances: tt.region - 1})
				ids := r.cloud.InstanceIDs("asg-big")
				ids = ids[len(ids)-tt.ask:]
				var targets []provider.Target
				for _, id := range ids {
					targets = append(targets, provider.Target{InstanceID: id})
				}
				got, err := r.Update(t.Context(), "asg-big", imageUpdate(fake.DemoNewImage), targets)
				if err != nil || len(got) != tt.ask {
					t.Fatalf("%d answers, %v", len(got), err)
				}
				for _, p := range got {
					v, _ := r.cloud.InstanceView(p.InstanceID)
					if p.Before == nil || p.Before.Disk == nil || p.Before.Disk.ID != v.Disk.ID {
						t.Errorf("%s: the record of the disk is %+v, want %s", p.InstanceID, p.Before, v.Disk.ID)
					}
				}
				if n := r.wire.Count("DescribeDisks"); n > tt.calls {
					t.Errorf("%d calls of DescribeDisks, want %d at most", n, tt.calls)
				}
				r.wire.ClearLog()
				for n := range targets {
					targets[n].State = got[n].State
				}
				if _, err := r.Update(t.Context(), "asg-big", imageUpdate(fake.DemoNewImage), targets); err != nil {
					t.Fatal(err)
				}
				if n := r.wire.Count("DescribeDisks"); n != 1 {
					t.Errorf("%d calls of DescribeDisks with known IDs, want 1", n)
				}
			})
		})
	}
}

// A lateTimer is a context whose time may be over without its being done, as in a process that was frozen.
type lateTimer struct {
	context.Context
	end time.Time
}

func (l lateTimer) Deadline() (time.Time, bool) { return l.end, true }

// TestDisksAreReadOnceForAll holds that calls that come together share one reading of the region's disks, which begins after each of them, and that
// one whose reader is interrupted is begun again by the others.
func TestDisksAreReadOnceForAll(t *testing.T) {
	for _, tt := range []struct {
		name     string
		apart    time.Duration // between the calls
		canceled bool          // the first call is given up while it reads
		frozen   bool          // its time is over while it reads, and its timer is late
		pages    int           // of DescribeDisks
	}{
		{name: "together", pages: 2},
		{name: "a little apart", apart: 5 * time.Millisecond, pages: 2},
		{name: "while another one reads", apart: 60 * time.Millisecond, pages: 4},
		{name: "the reader goes away", canceled: true, pages: 4},
		{name: "the reader was frozen", frozen: true, pages: 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := newRig(fake.Config{Latency: fake.Latency{Read: 50 * time.Millisecond}}, openapi.Config{}, 1, unlimited)
				if err != nil {
					t.Fatal(err)
				}
				r.cloud.AddGroup(fake.GroupSpec{ID: "asg-big", Instances: 1200})
				ids := r.cloud.InstanceIDs("asg-big")
				var wait sync.WaitGroup
				for n := range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					var targets []provider.Target
					for _, id := range ids[400*n : 400*n+90] {
						targets = append(targets, provider.Target{InstanceID: id})
					}
					gone, want := n == 0 && (tt.canceled || tt.frozen), context.Canceled
					switch {
					case gone && tt.frozen:
						ctx, want = lateTimer{ctx, time.Now().Add(60 * time.Millisecond)}, context.DeadlineExceeded
					case gone:
						time.AfterFunc(100*time.Millisecond, cancel)
					}
					wait.Go(func() {
						got, err := r.Update(ctx, "asg-big", imageUpdate(fake.DemoNewImage), targets)
						if gone {
							if !errors.Is(err, want) {
								t.Errorf("the call that was given up answers %v", err)
							}
							return
						}
						if err != nil || len(got) != len(targets) {
							t.Errorf("%d answers, %v", len(got), err)
						}
						for _, p := range got {
							if v, _ := r.cloud.InstanceView(p.InstanceID); p.Before == nil || p.Before.Disk == nil || p.Before.Disk.ID != v.Disk.ID {
								t.Errorf("%s: the record of the disk is %+v, want %s", p.InstanceID, p.Before, v.Disk.ID)
							}
						}
					})
					if tt.apart > 0 || gone {
						time.Sleep(max(tt.apart, time.Millisecond))
					}
				}
				wait.Wait()
				if n := r.wire.Count("DescribeDisks"); n != tt.pages {
					t.Errorf("%d pages of DescribeDisks, want %d", n, tt.pages)
				}
			})
		})
	}
}

// TestReplaceLimit holds that what exceeds a call is left out, and that nothing is left out that may have been sent.
func TestReplaceLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := newRig(fake.Config{}, openapi.Config{}, 4, func(c *aliyun.Config) { c.ReplaceTargets = 2 })
		if err != nil {
			t.Fatal(err)
		}
		ids := r.cloud.InstanceIDs(fake.DemoGroup)
		var targets []provider.Target
		for _, id := range ids {
			targets = append(targets, provider.Target{InstanceID: id, CallID: "enter"})
		}
		if _, err := r.EnterStandby(t.Context(), fake.DemoGroup, targets); err != nil {
			t.Fatal(err)
		}
		r.cloud.Now(func(w *fake.World) { w.SetPower(provider.Stopped, ids...) })
		for n := range targets {
			targets[n].CallID = ""
		}
		got, err := r.Update(t.Context(), fake.DemoGroup, imageUpdate(fake.DemoNewImage), targets)
		if err != nil {
			t.Fatal(err)
		}
		for n := range targets {
			if !got[n].Act || got[n].MaxTargets != 2 {
				t.Fatalf("answer is %+v, want Act for 2 at most", got[n])
			}
			targets[n].CallID, targets[n].State = "replace", got[n].State
		}
		targets[3].Resent = true
		if got, err = r.Update(t.Context(), fake.DemoGroup, imageUpdate(fake.DemoNewImage), targets); err != nil {
			t.Fatal(err)
		}
		if len(got) != 3 || got[0].Err != nil || got[1].Err != nil || got[2].InstanceID != ids[3] || !errors.Is(got[2].Err, provider.ErrBusy) {
			t.Errorf("answers are %+v", got)
		}
		if n := r.wire.Count("ReplaceSystemDisk"); n != 2 {
			t.Errorf("%d calls of ReplaceSystemDisk, want 2", n)
		}
	})
}

// TestS17_OrdersThatDoNotShow holds that an order to stop or start that was accepted and does not show is looked for at growing
// distances, and given again after half a minute.
func TestS17_OrdersThatDoNotShow(t *testing.T) {
	for order, shown := range map[string]string{"StopInstances": "Running", "StartInstances": "Stopped"} {
		synctest.Test(t, func(t *testing.T) {
			swallowed := 0
			r, err := newRig(fake.Config{}, openapi.Config{}, 1, func(c *aliyun.Config) {
				c.Transport = transport(func(q *request) bool {
					if q.action != order || swallowed > 0 {
						return false
					}
					swallowed++
					return q.answer(200, `{"RequestId":"1","InstanceResponses":{"InstanceResponse":[{"InstanceId":"`+q.params.Get("InstanceId.1")+`","Code":"200","PreviousStatus":"`+shown+`","CurrentStatus":"`+shown+`"}]}}`)
				})(c.Transport)
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, id := context.Background(), r.cloud.InstanceIDs(fake.DemoGroup)[0]
			if _, err := r.EnterStandby(ctx, fake.DemoGroup, []provider.Target{{InstanceID: id, CallID: "enter", Attempt: 1}}); err != nil {
				t.Fatal(err)
			}
			var waits []time.Duration // between the order and its end
			target := provider.Target{InstanceID: id, Attempt: 1}
			for n := range 1000 {
				got, err := r.Update(ctx, fake.DemoGroup, imageUpdate(fake.DemoNewImage), []provider.Target{target})
				if err != nil {
					t.Fatal(err)
				}
				p := got[0]
				over := len(waits) > 0 && (p.Act || p.Err != nil)
				if swallowed > 0 && !over {
					waits = append(waits, p.Wait/time.Second)
				}
				if over {
					if again := order == "StopInstances"; p.Act != again || errors.Is(p.Err, provider.ErrFailed) == again {
						t.Errorf("%s that came to nothing is followed by %+v", order, p)
					}
					break
				}
				if p.Err != nil || p.Done {
					t.Fatalf("call %d: %+v", n, p)
				}
				target = provider.Target{InstanceID: id, Attempt: 1, State: p.State, Before: target.Before}
				if p.Act {
					target.CallID = "act"
				}
				if p.Before != nil {
					target.Before = p.Before
				}
				time.Sleep(max(time.Millisecond, p.Wait))
			}
			if diff := cmp.Diff([]time.Duration{1, 2, 4, 5, 5, 5, 5, 5, 5}, waits); diff != "" {
				t.Errorf("%s: seconds between looks (-want +got):\n%s", order, diff)
			}
		})
	}
}

// TestLooksReadWhatCanHaveChanged holds that a look reads no disks while all that it is about are Stopping, and no instances while all wait for disks
// that are not in use yet, and that it meets what has come to an end or has gone meanwhile.
func TestLooksReadWhatCanHaveChanged(t *testing.T) {
	for _, tt := range []struct {
		name  string
		phase string // of the first look that comes after
		spoil func(r *rig)
		class error
	}{
		{name: "undisturbed"},
		{name: "released while it stops", phase: "stopping", spoil: func(r *rig) { r.cloud.Release("i-0002") }, class: provider.ErrNotFound},
		{name: "released while its disk is replaced", phase: "replacing", spoil: func(r *rig) { r.cloud.Release("i-0002") }, class: provider.ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps := fake.Steps{Stop: 30 * time.Second, Replace: time.Minute, Start: 30 * time.Second}
				r := mustRig(t, fake.Config{Steps: steps}, openapi.Config{}, 2)
				r.cloud.SetBehavior("i-0001", fake.Behavior{StopTakes: 20 * time.Second})
				in := []provider.Target{{InstanceID: "i-0001", CallID: "enter"}, {InstanceID: "i-0002", CallID: "enter"}}
				if _, err := r.EnterStandby(t.Context(), fake.DemoGroup, in); err != nil {
					t.Fatal(err)
				}
				reads, left := map[string]string{}, map[string]provider.Target{} // reads by the phases before and after
				for _, id := range []string{"i-0001", "i-0002"} {
					left[id] = provider.Target{InstanceID: id}
				}
				var ended error
				send := func(targets ...provider.Target) (phases string) {
					got, err := r.Update(t.Context(), fake.DemoGroup, imageUpdate(fake.DemoNewImage), targets)
					if err != nil {
						t.Fatal(err)
					}
					for n, p := range got {
						target := targets[n]
						if p.Err != nil || p.Done {
							delete(left, target.InstanceID)
							ended = errors.Join(ended, p.Err)
							phases += " ended"
							continue
						}
						if target.State, target.CallID = p.State, ""; p.Act {
							target.CallID = "call-" + phaseOf(t, p.State)
						}
						left[target.InstanceID] = target
						phases += " " + phaseOf(t, p.State)
					}
					return phases
				}
				for range 200 {
					var looks []provider.Target
					before := ""
					for _, id := range []string{"i-0001", "i-0002"} {
						if target, there := left[id]; there && target.CallID != "" {
							send(target)
						}
						if target, there := left[id]; there {
							looks = append(looks, target)
							before += phaseOf(t, target.State) + " "
						}
					}
					if len(looks) == 0 {
						break
					}
					if tt.spoil != nil && before == tt.phase+" "+tt.phase+" " {
						tt.spoil(r)
						tt.spoil = nil
					}
					instances, disks := r.wire.Count("DescribeInstances"), r.wire.Count("DescribeDisks")
					after := send(looks...)
					reads[before+">"+after] = fmt.Sprintf("%d instances %d disks", r.wire.Count("DescribeInstances")-instances, r.wire.Count("DescribeDisks")-disks)
					time.Sleep(time.Second)
				}
				if len(left) > 0 || !errors.Is(ended, tt.class) {
					t.Fatalf("%d are left, ended with %v, want %v", len(left), ended, tt.class)
				}
				if tt.class != nil {
					return
				}
				want := map[string]string{
					"  > stop stop":                             "1 instances 2 disks",
					"stopping stopping > stopping stopping":     "1 instances 0 disks",
					"stopping stopping > replace stopping":      "1 instances 1 disks",
					"replacing stopping > replacing stopping":   "1 instances 1 disks",
					"replacing stopping > replacing replace":    "1 instances 1 disks",
					"replacing replacing > replacing replacing": "0 instances 1 disks",
					"replacing replacing > start replacing":     "1 instances 1 disks",
					"starting replacing > starting replacing":   "1 instances 1 disks",
					"starting replacing > starting start":       "1 instances 1 disks",
					"starting starting > starting starting":     "1 instances 0 disks",
					"starting starting > ended starting":        "1 instances 0 disks",
					"starting > starting":                       "1 instances 0 disks",
					"starting > ended":                          "1 instances 0 disks",
				}
				if diff := cmp.Diff(want, reads); diff != "" {
					t.Errorf("readings (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// phaseOf is the phase that a state names.
func phaseOf(t *testing.T, state json.RawMessage) string {
	t.Helper()
	var s struct{ Phase string }
	if len(state) > 0 {
		if err := json.Unmarshal(state, &s); err != nil {
			t.Fatal(err)
		}
	}
	return s.Phase
}

// A disk that nobody has does not show that an instance is there whose replacement was under way.
func TestS19_ReleasedWhileItsDiskIsReplaced(t *testing.T) {
	for name, others := range map[string][]provider.Target{"alone": nil, "with others": {{InstanceID: "i-0001"}}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := `{"RequestId":"x","Disks":{"Disk":[{"DiskId":"d-left","InstanceId":"","Status":"Available","Type":"system","ImageId":"img"}]}}`
				r, err := newRig(fake.Config{}, openapi.Config{}, 2, func(cfg *aliyun.Config) {
					next := cfg.Transport
					cfg.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
						if q := r.URL.Query(); q.Get("Action") == "DescribeDisks" && q.Get("DiskIds") == `["d-left"]` {
							return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Request: r, Body: io.NopCloser(strings.NewReader(left))}, nil
						}
						return next.RoundTrip(r)
					})
				})
				if err != nil {
					t.Fatal(err)
				}
				r.cloud.Release("i-0002")
				gone := provider.Target{InstanceID: "i-0002", State: json.RawMessage(`{"phase":"replacing","old_disk":"d-old","new_disk":"d-left"}`)}
				got, err := r.Update(t.Context(), fake.DemoGroup, imageUpdate(fake.DemoNewImage), append([]provider.Target{gone}, others...))
				if err != nil || !errors.Is(got[0].Err, provider.ErrNotFound) {
					t.Errorf("%+v, %v, want ErrNotFound", got, err)
				}
			})
		})
	}
}
