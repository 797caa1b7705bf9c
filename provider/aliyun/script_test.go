package aliyun_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// one calls Update for one instance and returns its answer.
func one(t *testing.T, r *rig, u provider.Update, target provider.Target) provider.Progress {
	t.Helper()
	target.Attempt = 1
	got, err := r.Update(t.Context(), fake.DemoGroup, u, []provider.Target{target})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].InstanceID != target.InstanceID {
		t.Fatalf("answers are %+v, want one for %s", got, target.InstanceID)
	}
	return got[0]
}

// stopScript runs a script and stops it while it runs.
func stopScript(t *testing.T, r *rig, id string) provider.Progress {
	t.Helper()
	u := scriptUpdate("sleep 1000")
	target := provider.Target{InstanceID: id}
	p := one(t, r, u, target)
	target.State, target.CallID = p.State, "run"
	p = one(t, r, u, target)
	target.State, target.CallID, target.Stop = p.State, "", true
	p = one(t, r, u, target)
	if !p.Act || p.MaxTargets != 50 {
		t.Fatalf("the answer to Stop is %+v, want Act for 50 instances at most", p)
	}
	target.State, target.CallID = p.State, "halt"
	p = one(t, r, u, target)
	target.CallID = ""
	for range 100 {
		if p.Done || p.Err != nil {
			return p
		}
		target.State = p.State
		time.Sleep(p.Wait)
		p = one(t, r, u, target)
	}
	t.Fatal("the script has not ended")
	return p
}

func TestS23_StopScript(t *testing.T) {
	for _, tt := range []struct {
		name    string
		lets    bool
		outcome provider.Outcome
	}{
		{"killed", false, provider.NotUpdated},
		{"runs on", true, provider.Updated},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := mustRig(t, fake.Config{StopLetsScriptsRun: tt.lets}, openapi.Config{PendingFor: 5 * time.Second}, 1)
				p := stopScript(t, r, r.cloud.InstanceIDs(fake.DemoGroup)[0])
				if p.Err != nil || p.Outcome != tt.outcome || p.Output == nil || p.Output.Exited != tt.lets {
					t.Errorf("the script ended as %+v, output %+v", p, p.Output)
				}
				if n := r.wire.Count("StopInvocation"); n != 1 {
					t.Errorf("%d calls of StopInvocation, want 1", n)
				}
			})
		})
	}
}

// TestScriptsOfManyCalls holds that a look at the scripts of many calls takes the time of one, and that the instances are looked at in one call.
func TestScriptsOfManyCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{Latency: fake.Latency{Read: 50 * time.Millisecond}, Steps: fake.Steps{Script: time.Second}}, openapi.Config{}, 8)
		u := scriptUpdate("true")
		var targets []provider.Target
		for _, id := range r.cloud.InstanceIDs(fake.DemoGroup) {
			p := one(t, r, u, provider.Target{InstanceID: id})
			p = one(t, r, u, provider.Target{InstanceID: id, State: p.State, CallID: "run-" + id})
			targets = append(targets, provider.Target{InstanceID: id, State: p.State, Attempt: 1})
		}
		time.Sleep(2 * time.Second)
		r.wire.ClearLog()
		began := time.Now()
		got, err := r.Update(t.Context(), fake.DemoGroup, u, targets)
		if err != nil || len(got) != len(targets) {
			t.Fatalf("%d answers, %v", len(got), err)
		}
		for _, p := range got {
			if p.Outcome != provider.Updated || !p.Fit {
				t.Errorf("%s: %+v", p.InstanceID, p)
			}
		}
		if took := time.Since(began); took > 110*time.Millisecond {
			t.Errorf("the look took %s, want the time of two calls, 100ms", took)
		}
		if results, instances := r.wire.Count("DescribeInvocationResults"), r.wire.Count("DescribeInstances"); results != 8 || instances != 1 {
			t.Errorf("%d calls of DescribeInvocationResults and %d of DescribeInstances, want 8 and 1", results, instances)
		}
	})
}

// TestScriptsOfManyCallsUnderALimit holds that a look for which the rate leaves too few calls makes none: the answer of some without the others is lost.
func TestScriptsOfManyCallsUnderALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := newRig(fake.Config{}, openapi.Config{}, 8, func(c *aliyun.Config) {
			c.Rates = map[string]aliyun.Rate{"*": {PerSecond: -1}, "DescribeInvocationResults": {PerSecond: 1, Burst: 10}}
		})
		if err != nil {
			t.Fatal(err)
		}
		u := scriptUpdate("true")
		var targets []provider.Target
		for _, id := range r.cloud.InstanceIDs(fake.DemoGroup) {
			p := one(t, r, u, provider.Target{InstanceID: id})
			p = one(t, r, u, provider.Target{InstanceID: id, State: p.State, CallID: "run-" + id})
			targets = append(targets, provider.Target{InstanceID: id, State: p.State, Attempt: 1})
		}
		for n, want := range []int{8, 8, 16} { // 10 calls are free; 6 more after 6 s
			_, err := r.Update(t.Context(), fake.DemoGroup, u, targets)
			var e *aliyun.Error
			if (err != nil) != (n == 1) || err != nil && (!errors.Is(err, provider.ErrThrottled) || !errors.As(err, &e) || e.RetryAfter < 5*time.Second || e.RetryAfter > 6*time.Second) {
				t.Errorf("look %d: %v", n, err)
			}
			if sent := r.wire.Count("DescribeInvocationResults"); sent != want {
				t.Errorf("look %d: %d calls of DescribeInvocationResults, want %d", n, sent, want)
			}
			if n == 1 {
				time.Sleep(6 * time.Second)
			}
		}
	})
}

// TestS17_ScriptRequest holds what RunCommand carries.
func TestS17_ScriptRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{}, openapi.Config{}, 1)
		id := r.cloud.InstanceIDs(fake.DemoGroup)[0]
		u := provider.Update{Kind: provider.ScriptUpdate, Script: &provider.ScriptSpec{
			Type: provider.Shell, Content: "echo {{what}}\n", Timeout: 90*time.Second + time.Millisecond, WorkingDir: "/srv", User: "app",
			Parameters: map[string]string{"what": "it", "also": "that"},
		}}
		ended := drive(t, r, fake.DemoGroup, u, id)
		if p := ended[id]; p.Err != nil || p.Outcome != provider.Updated {
			t.Fatalf("the script ended as %+v", p)
		}
		var got map[string]string
		for _, q := range r.wire.Requests() {
			if q.Action == "RunCommand" {
				got = q.Params
			}
		}
		want := map[string]string{
			"Type": "RunShellScript", "ContentEncoding": "Base64", "CommandContent": "ZWNobyB7e3doYXR9fQo=", "Timeout": "91", "WorkingDir": "/srv",
			"Username": "app", "EnableParameter": "true", "Parameters": `{"also":"that","what":"it"}`, "InstanceId.1": id,
			"Name": "act-" + id, "ClientToken": "act-" + id,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("RunCommand (-want +got):\n%s", diff)
		}
	})
}

// TestS17_ScriptResults holds what each status of a result means.
func TestS17_ScriptResults(t *testing.T) {
	const none = provider.Outcome("")
	for _, tt := range []struct {
		name, result string
		outcome      provider.Outcome
		class        error
		output       *provider.Output
	}{
		{name: "pending", result: `"InvocationStatus":"Pending"`},
		{name: "running, exit code 0 by default", result: `"InvocationStatus":"Running","InvokeRecordStatus":"Running","ExitCode":0`},
		{name: "a later day's status", result: `"InvocationStatus":"Pondering"`},
		{
			name: "success", result: `"InvocationStatus":"Success","ExitCode":0,"Output":"b2sK","Dropped":7`, outcome: provider.Updated,
			output: &provider.Output{Exited: true, Text: "ok\n", Dropped: 7},
		},
		{
			name: "finished is not success", result: `"InvokeRecordStatus":"Finished","InvocationStatus":"Failed","ExitCode":2,"ErrorCode":"ExitCodeNonzero"`,
			class: provider.ErrFailed, output: &provider.Output{Exited: true, ExitCode: 2, Code: "ExitCodeNonzero", Message: "script on i-1: exit code 2"},
		},
		{
			name: "success with an exit code", result: `"InvocationStatus":"Success","ExitCode":1`, class: provider.ErrFailed,
			output: &provider.Output{Exited: true, ExitCode: 1, Message: "script on i-1: exit code 1"},
		},
		{
			name: "old form, finished", result: `"InvokeRecordStatus":"Finished","ExitCode":9`, class: provider.ErrFailed,
			output: &provider.Output{Exited: true, ExitCode: 9, Message: "script on i-1: exit code 9"},
		},
		{
			name: "timeout", result: `"InvocationStatus":"Timeout","ErrorCode":"ExecutionTimeout"`, class: provider.ErrFailed,
			output: &provider.Output{Code: "ExecutionTimeout", Message: "script on i-1: it took longer than its timeout and was killed (ExecutionTimeout)"},
		},
		{
			name: "not delivered", result: `"InvocationStatus":"Aborted","ErrorCode":"ClientNotResponse","ErrorInfo":"the agent is silent"`, class: provider.ErrFailed,
			output: &provider.Output{Code: "ClientNotResponse", Message: "the agent is silent"},
		},
		{
			name: "released", result: `"InvocationStatus":"Aborted","ErrorCode":"InstanceReleased"`, class: provider.ErrNotFound,
			output: &provider.Output{Code: "InstanceReleased", Message: "script on i-1: it was not delivered (InstanceReleased)"},
		},
		{
			name: "output that is no base64", result: `"InvocationStatus":"Error","Output":"%%","ErrorCode":"ExecutionException"`, class: provider.ErrFailed,
			output: &provider.Output{Text: "%%", Code: "ExecutionException", Message: "script on i-1: it could not be run (ExecutionException)"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := answering(t, func(q *request) {
				if q.action == "DescribeInstances" && tt.outcome == provider.Updated { // is it Running?
					q.answer(200, `{"RequestId":"r","Instances":{"Instance":[{"InstanceId":"i-1","Status":"Running"}]}}`)
					return
				}
				if q.action != "DescribeInvocationResults" || q.params.Get("InvokeId") != "t-1" || q.params.Get("MaxResults") != "50" {
					t.Errorf("unexpected %s %v", q.action, q.params)
				}
				q.answer(200, fmt.Sprintf(`{"RequestId":"r","Invocation":{"NextToken":"","InvocationResults":{"InvocationResult":[{"InstanceId":"i-1","InvokeId":"t-1",%s}]}}}`, tt.result))
			})
			got, err := p.Update(t.Context(), "asg", scriptUpdate("x"), []provider.Target{{InstanceID: "i-1", State: []byte(`{"phase":"script","invocation_id":"t-1"}`)}})
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %v", got, err)
			}
			if got[0].Outcome != tt.outcome || got[0].Done != (tt.outcome != none) || !errors.Is(got[0].Err, tt.class) {
				t.Errorf("answer is %+v, want outcome %q, error %v", got[0], tt.outcome, tt.class)
			}
			if got[0].Fit != (tt.outcome == provider.Updated) {
				t.Errorf("fit to go back in service: %t", got[0].Fit)
			}
			if diff := cmp.Diff(tt.output, got[0].Output); diff != "" {
				t.Errorf("output (-want +got):\n%s", diff)
			}
			if tt.output == nil && (got[0].Phase == "" || len(got[0].State) == 0) {
				t.Errorf("answer about a running script is %+v", got[0])
			}
		})
	}
}

// TestScriptPages holds that all pages of results are read.
func TestScriptPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{}, openapi.Config{}, 100)
		ids := r.cloud.InstanceIDs(fake.DemoGroup)
		var targets []provider.Target
		for _, id := range ids {
			targets = append(targets, provider.Target{InstanceID: id, CallID: "run", State: []byte(`{"phase":"run"}`)})
		}
		got, err := r.Update(t.Context(), fake.DemoGroup, scriptUpdate("true"), targets)
		if err != nil || len(got) != 100 {
			t.Fatalf("%d answers, %v", len(got), err)
		}
		time.Sleep(time.Minute)
		for n := range targets {
			targets[n].CallID, targets[n].State = "", got[n].State
		}
		if got, err = r.Update(t.Context(), fake.DemoGroup, scriptUpdate("true"), targets); err != nil {
			t.Fatal(err)
		}
		for _, p := range got {
			if p.Outcome != provider.Updated {
				t.Errorf("%s ended as %+v", p.InstanceID, p)
			}
		}
		if n := r.wire.Count("RunCommand"); n != 1 {
			t.Errorf("%d calls of RunCommand, want 1", n)
		}
		if n := r.wire.Count("DescribeInvocationResults"); n != 2 {
			t.Errorf("%d calls of DescribeInvocationResults, want 2 pages", n)
		}
	})
}

// TestScriptResultNeverShows holds that the wait for a result is bounded.
func TestScriptResultNeverShows(t *testing.T) {
	p := answering(t, func(q *request) {
		q.answer(200, `{"RequestId":"r","Invocation":{"InvocationResults":{"InvocationResult":[]}}}`)
	})
	state := []byte(`{"phase":"script","invocation_id":"t-1"}`)
	for n := range 100 {
		got, err := p.Update(t.Context(), "asg", scriptUpdate("x"), []provider.Target{{InstanceID: "i-1", State: state}})
		if err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		if err := got[0].Err; err != nil {
			if !errors.Is(err, provider.ErrOutcomeUnknown) || n < 10 {
				t.Errorf("after %d looks: %v", n, err)
			}
			return
		}
		state = got[0].State
	}
	t.Error("it is waited for without end")
}

// TestN2_ScriptSentOnce holds that a script that may have been sent is looked for by name, and never sent for other instances under an old token.
func TestN2_ScriptSentOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		lookup bool // the cloud finds it by name
		trust  bool
		sent   bool // it had been sent before
		stale  bool
		stop   bool
		age    time.Duration // of the name
		class  error         // of the answer; nil: it goes on
		runs   int
	}{
		{name: "found", lookup: true, sent: true, runs: 1},
		{name: "found, stale", lookup: true, sent: true, stale: true, runs: 1},
		{name: "not found, token remembered", sent: true, runs: 1},
		{name: "never sent", lookup: true, runs: 1},
		{name: "not found, stale", sent: true, stale: true, class: provider.ErrOutcomeUnknown, runs: 1},
		{name: "never sent, stale", stale: true, class: provider.ErrOutcomeUnknown},
		{name: "never sent, stale, lookup trusted", lookup: true, trust: true, stale: true, class: provider.ErrNotBegun},
		{name: "sent, stale, lookup trusted", lookup: true, trust: true, sent: true, stale: true, runs: 1},
		{name: "never sent, stale, too old for the lookup", lookup: true, trust: true, stale: true, age: 2 * time.Hour, class: provider.ErrOutcomeUnknown},
		{name: "never sent, stale, of a time to come", lookup: true, trust: true, stale: true, age: -time.Hour, class: provider.ErrOutcomeUnknown},
		{name: "never sent, stop", lookup: true, stop: true, class: provider.ErrOutcomeUnknown},
		{name: "sent, stop", lookup: true, sent: true, stop: true, runs: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, err := newRig(fake.Config{NoCommandLookup: !tt.lookup}, openapi.Config{}, 2, nil)
				if err != nil {
					t.Fatal(err)
				}
				if tt.trust {
					r, _ = newRig(fake.Config{}, openapi.Config{}, 2, trusting)
				}
				ids := r.cloud.InstanceIDs(fake.DemoGroup)
				var targets []provider.Target
				for _, id := range ids {
					targets = append(targets, provider.Target{InstanceID: id, CallID: "run-1", State: []byte(`{"phase":"run"}`)})
				}
				if tt.sent {
					if _, err := r.Update(t.Context(), fake.DemoGroup, scriptUpdate("true"), targets); err != nil {
						t.Fatal(err)
					}
				}
				for n := range targets {
					targets[n].Named = time.Now().Add(-tt.age)
					targets[n].Resent, targets[n].Stale, targets[n].Stop = true, tt.stale, tt.stop
				}
				got, err := r.Update(t.Context(), fake.DemoGroup, scriptUpdate("true"), targets)
				if err != nil || len(got) != 2 {
					t.Fatalf("%v, %v", got, err)
				}
				for _, p := range got {
					if !errors.Is(p.Err, tt.class) || tt.class == nil && !strings.Contains(string(p.State), "invocation_id") {
						t.Errorf("answer is %+v (%s), want error %v", p, p.State, tt.class)
					}
				}
				for _, id := range ids {
					if n := r.cloud.CountEffects("RunCommand", id); n != tt.runs {
						t.Errorf("the script ran %d times on %s, want %d", n, id, tt.runs)
					}
				}
				if v := r.cloud.Violations(); len(v) > 0 {
					t.Error(v)
				}
			})
		})
	}
}

// TestRefusedTogether holds that one bad instance does not fail the others, and gets its own reason.
func TestRefusedTogether(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(w *fake.World, id string)
		class error
		after time.Duration
	}{
		{name: "agent offline", spoil: func(w *fake.World, id string) { w.SetAgentOffline(fake.Forever, id) }, after: 10 * time.Minute, class: provider.ErrInvalidState},
		{name: "agent coming up", spoil: func(w *fake.World, id string) { w.SetAgentOffline(fake.Forever, id) }, class: provider.ErrBusy},
		{name: "stopped", spoil: func(w *fake.World, id string) { w.SetPower(provider.Stopped, id) }, class: provider.ErrInvalidState},
		{name: "released", spoil: func(w *fake.World, id string) { w.Release(id) }, class: provider.ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := mustRig(t, fake.Config{}, openapi.Config{}, 3)
				ids := r.cloud.InstanceIDs(fake.DemoGroup)
				time.Sleep(tt.after)
				r.cloud.Now(func(w *fake.World) { tt.spoil(w, ids[1]) })
				var targets []provider.Target
				for _, id := range ids {
					targets = append(targets, provider.Target{InstanceID: id, CallID: "run-1", State: []byte(`{"phase":"run"}`)})
				}
				got, err := r.Update(t.Context(), fake.DemoGroup, scriptUpdate("true"), targets)
				if err != nil || len(got) != 3 {
					t.Fatalf("%v, %v", got, err)
				}
				for _, p := range got {
					want := provider.ErrRefused
					if p.InstanceID == ids[1] {
						want = tt.class
					}
					if !errors.Is(p.Err, want) {
						t.Errorf("%s: error is %v, want %v", p.InstanceID, p.Err, want)
					}
				}
			})
		})
	}
}
