package openapi_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

var script = p{"Type": "RunShellScript", "CommandContent": base64.StdEncoding.EncodeToString([]byte("true")), "ContentEncoding": "Base64", "Name": "task-1"}

func TestRunCommandRefuses(t *testing.T) {
	run := func(more p, list ...string) p { return join(script, ids(more, list...)) }
	off := func(c *fake.Cloud) { c.Now(func(w *fake.World) { w.SetAgentOffline(time.Hour, "i-0002") }) }
	runRows(t, []row{
		{name: "two", action: "RunCommand", params: run(nil, "i-0001", "i-0002"), want: map[string]string{"InvokeId": "t-0001", "CommandId": "c-0001"}},
		{name: "no instance", action: "RunCommand", params: script, status: 400, code: "MissingParam.InstanceId"},
		{name: "101", action: "RunCommand", params: join(script, many("InstanceId", 101)), status: 403, code: "InstanceIds.ExceedLimit"},
		{name: "one unknown", action: "RunCommand", params: run(nil, "i-0001", "i-none"), status: 404, code: "InvalidInstance.NotFound"},
		{name: "one stopped", before: stopped, action: "RunCommand", params: run(nil, "i-0001", "i-0002"), status: 403, code: "InstanceNotRunning"},
		{name: "one silent", before: off, action: "RunCommand", params: run(nil, "i-0001", "i-0002"), status: 403, code: "ClientNotRunning"},
		{name: "wrong kind", action: "RunCommand", params: run(p{"Type": "RunBatScript"}, "i-0001"), status: 403, code: "InvalidInstance.NotMatch"},
		{name: "unknown kind", action: "RunCommand", params: run(p{"Type": "RunPerl"}, "i-0001"), status: 403, code: "InvalidCmdType.NotFound"},
		{name: "too long", action: "RunCommand", params: run(p{"CommandContent": strings.Repeat("x", 18<<10+1), "ContentEncoding": "PlainText"}, "i-0001"), status: 403, code: "CmdContent.ExceedLimit"},
		{name: "long enough", action: "RunCommand", params: run(p{"CommandContent": strings.Repeat("x", 18<<10), "ContentEncoding": "PlainText"}, "i-0001")},
		{name: "too long to keep", action: "RunCommand", params: run(p{"CommandContent": strings.Repeat("x", 18<<10), "ContentEncoding": "PlainText", "KeepCommand": "true"}, "i-0001"), status: 403, code: "CmdContent.ExceedLimit"},
		{name: "no base64", action: "RunCommand", params: run(p{"CommandContent": "?"}, "i-0001"), status: 400, code: "InvalidParameter.CommandContent"},
		{name: "long name", action: "RunCommand", params: run(p{"Name": strings.Repeat("x", 129)}, "i-0001"), status: 403, code: "CmdName.ExceedLimit"},
		{name: "long description", action: "RunCommand", params: run(p{"Description": strings.Repeat("x", 513)}, "i-0001"), status: 403, code: "CmdDesc.ExceedLimit"},
		{name: "long directory", action: "RunCommand", params: run(p{"WorkingDir": strings.Repeat("x", 201)}, "i-0001"), status: 400, code: "InvalidParameter.WorkingDir"},
		{name: "long user", action: "RunCommand", params: run(p{"Username": strings.Repeat("x", 256)}, "i-0001"), status: 403, code: "Username.ExceedLimit"},
		{name: "unknown repeat mode", action: "RunCommand", params: run(p{"RepeatMode": "Often"}, "i-0001"), status: 404, code: "InvalidRepeatMode.NotFound"},
		{name: "repeat mode that is not modelled", action: "RunCommand", params: run(p{"RepeatMode": "Period"}, "i-0001"), status: 400, code: "UnsupportedOperation"},
		{name: "unknown termination mode", action: "RunCommand", params: run(p{"TerminationMode": "Nuke"}, "i-0001"), status: 404, code: "InvalidTerminationMode.NotFound"},
		{name: "eleven parameters", action: "RunCommand", params: run(p{"EnableParameter": "true", "Parameters": elevenParameters()}, "i-0001"), status: 403, code: "ParameterCount.ExceedLimit"},
		{name: "no such command", action: "InvokeCommand", params: ids(p{"CommandId": "c-0001"}, "i-0001"), status: 404, code: "InvalidCmdId.NotFound"},
		{name: "no such invocation", action: "StopInvocation", params: p{"InvokeId": "t-0001"}, status: 404, code: "InvalidInvokeId.NotFound"},
		{name: "51", action: "StopInvocation", params: join(p{"InvokeId": "t-0001"}, many("InstanceId", 51)), status: 403, code: "InstanceIds.ExceedLimit"},
		{name: "output of what", action: "DescribeInvocations", params: p{"IncludeOutput": "true"}, status: 400, code: "MissingParameter"},
		{name: "unknown is empty", action: "DescribeInvocationResults", params: p{"InvokeId": "t-0009"}, want: map[string]string{"Invocation.TotalCount": "0", "Invocation.InvocationResults.InvocationResult": "[]"}},
		{name: "two", before: off, action: "DescribeCloudAssistantStatus", params: ids(nil, "i-0001", "i-0002", "i-none"), want: map[string]string{
			"TotalCount": "2", "InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.0.CloudAssistantStatus": "true",
			"InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.1.CloudAssistantStatus": "false",
		}},
		{name: "101", action: "DescribeCloudAssistantStatus", params: many("InstanceId", 101), status: 403, code: "InstanceIds.ExceedLimit"},
	})
}

func elevenParameters() string {
	m := make(map[string]string)
	for n := range 11 {
		m[string(rune('a'+n))] = "x"
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// rowsOf are the statuses in DescribeInvocationResults, by instance.
func rowsOf(t *testing.T, c *client, params p) map[string][]string {
	t.Helper()
	var answer struct {
		Invocation struct {
			InvocationResults struct {
				InvocationResult []struct {
					InstanceId, InvocationStatus, InvokeRecordStatus, ErrorCode, Output string
					ExitCode                                                            *int
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(c.ok(t, "DescribeInvocationResults", params).raw), &answer); err != nil {
		t.Fatal(err)
	}
	out := make(map[string][]string)
	for _, r := range answer.Invocation.InvocationResults.InvocationResult {
		text, err := base64.StdEncoding.DecodeString(r.Output)
		if err != nil {
			t.Errorf("output of %s: %v", r.InstanceId, err)
		}
		exit := "none"
		if r.ExitCode != nil {
			exit = string(rune('0' + *r.ExitCode))
		}
		out[r.InstanceId] = []string{r.InvocationStatus, r.InvokeRecordStatus, r.ErrorCode, exit, string(text)}
	}
	return out
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestScriptsRunAndEnd(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 5, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		cloud.SetBehavior("i-0001", fake.Behavior{Scripts: []fake.ScriptResult{{Output: "done"}}})
		cloud.SetBehavior("i-0002", fake.Behavior{Scripts: []fake.ScriptResult{{ExitCode: 3, Output: "no"}}})
		cloud.SetBehavior("i-0003", fake.Behavior{Scripts: []fake.ScriptResult{{Takes: time.Hour}}})
		cloud.SetBehavior("i-0004", fake.Behavior{Scripts: []fake.ScriptResult{{Code: "ExecutionException"}}})
		cloud.SetBehavior("i-0005", fake.Behavior{Scripts: []fake.ScriptResult{{Code: "Aborted"}}})
		params := join(script, ids(p{"ClientToken": "token-1"}, "i-0001", "i-0002", "i-0003", "i-0004", "i-0005"))
		id := c.ok(t, "RunCommand", params).at("InvokeId")
		if again := c.ok(t, "RunCommand", params).at("InvokeId"); again != id {
			t.Errorf("run again: %s and %s", id, again)
		}
		c.refused(t, "RunCommand", join(params, p{"Description": "x"}), 403, "IdempotentParameterMismatch")
		same(t, "while it runs", rowsOf(t, c, p{"InvokeId": id})["i-0002"], "Running", "Running", "", "none", "")
		one := "Invocations.Invocation.0."
		c.ok(t, "DescribeInvocations", p{"CommandName": "task-1"}).want(t, map[string]string{
			"TotalCount": "1", one + "InvokeId": id, one + "InvocationStatus": "Running", one + "InvokeStatus": "Running", one + "Parameters": "{}",
			one + "InvokeInstances.InvokeInstance.len": "5", one + "InvokeInstances.InvokeInstance.0.Output": "<none>",
		})
		time.Sleep(2 * time.Minute)
		rows := rowsOf(t, c, p{"InvokeId": id})
		same(t, "exit 0", rows["i-0001"], "Success", "Finished", "", "0", "done")
		same(t, "exit 3", rows["i-0002"], "Failed", "Finished", "ExitCodeNonzero", "3", "no")
		same(t, "timeout", rows["i-0003"], "Timeout", "Failed", "ExecutionTimeout", "none", "")
		same(t, "exception", rows["i-0004"], "Error", "Failed", "ExecutionException", "none", "")
		same(t, "aborted", rows["i-0005"], "Aborted", "Failed", "Aborted", "none", "")
		if only := rowsOf(t, c, p{"InvokeId": id, "InstanceId": "i-0002"}); len(only) != 1 {
			t.Errorf("rows of one instance: %v", only)
		}
		c.ok(t, "DescribeInvocations", p{"InvokeId": id, "IncludeOutput": "true", "ContentEncoding": "PlainText"}).want(t, map[string]string{
			one + "InvocationStatus": "PartialFailed", one + "InvokeStatus": "PartialFailed", one + "InvokeInstances.InvokeInstance.0.Output": "done",
			one + "InvokeInstances.InvokeInstance.1.ExitCode": "3", one + "InvokeInstances.InvokeInstance.1.InstanceInvokeStatus": "Finished",
		})
		if n := cloud.CountEffects("RunCommand", ""); n != 5 {
			t.Errorf("%d effects", n)
		}
	})
}

func TestOutputIsCut(t *testing.T) {
	bubble(t, fake.Config{Script: func(fake.ScriptRun) fake.ScriptResult {
		return fake.ScriptResult{Output: strings.Repeat("x", 30<<10)}
	}}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		id := c.ok(t, "RunCommand", join(script, ids(nil, "i-0001"))).at("InvokeId")
		time.Sleep(time.Minute)
		c.ok(t, "DescribeInvocationResults", p{"InvokeId": id}).want(t, map[string]string{"Invocation.InvocationResults.InvocationResult.0.Dropped": "6144"})
		if n := len(rowsOf(t, c, p{"InvokeId": id})["i-0001"][4]); n != 24<<10 {
			t.Errorf("%d bytes of output", n)
		}
	})
}

func TestStopInvocationSwitch(t *testing.T) {
	for name, tt := range map[string]struct {
		letRun bool
		want   []string
	}{
		"is killed": {want: []string{"Terminated", "Stopped", "", "none", ""}},
		"goes on":   {letRun: true, want: []string{"Success", "Finished", "", "0", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, fake.Config{StopLetsScriptsRun: tt.letRun}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
				id := c.ok(t, "RunCommand", join(script, ids(nil, "i-0001"))).at("InvokeId")
				c.ok(t, "StopInvocation", p{"InvokeId": id})
				same(t, "at once", rowsOf(t, c, p{"InvokeId": id})["i-0001"], "Stopping", "Stopping", "", "none", "")
				time.Sleep(time.Minute)
				same(t, "later", rowsOf(t, c, p{"InvokeId": id})["i-0001"], tt.want...)
			})
		})
	}
}

func TestCommandLookupSwitch(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		for _, keep := range []bool{false, true} {
			bubble(t, fake.Config{NoCommandLookup: hidden}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
				params := join(script, ids(nil, "i-0001"))
				if keep {
					params["KeepCommand"] = "true"
				}
				r := c.ok(t, "RunCommand", params)
				want, name := "1", "task-1"
				if hidden && !keep {
					want, name = "0", ""
				}
				c.ok(t, "DescribeInvocations", p{"CommandName": "task-1"}).want(t, map[string]string{"TotalCount": want})
				c.ok(t, "DescribeInvocations", p{"CommandId": r.at("CommandId")}).want(t, map[string]string{"TotalCount": want})
				c.ok(t, "DescribeInvocations", p{"InvokeId": r.at("InvokeId")}).want(t, map[string]string{"TotalCount": "1", "Invocations.Invocation.0.CommandName": name})
			})
		}
	}
}

func TestInvokeCommandRunsWhatWasKept(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 2, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		command := c.ok(t, "RunCommand", join(script, ids(p{"KeepCommand": "true"}, "i-0001"))).at("CommandId")
		c.refused(t, "InvokeCommand", ids(p{"CommandId": command, "Timeout": "9"}, "i-0001"), 400, "InvalidParameter.Timeout")
		c.refused(t, "InvokeCommand", ids(p{"CommandId": command, "Parameters": `{"x":"y"}`}, "i-0001"), 404, "Parameter.Disabled")
		c.refused(t, "InvokeCommand", ids(p{"CommandId": command}, "i-none"), 404, "InvalidInstance.NotFound")
		id := c.ok(t, "InvokeCommand", ids(p{"CommandId": command, "Timeout": "90"}, "i-0001", "i-0002")).at("InvokeId")
		c.ok(t, "DescribeInvocations", p{"InvokeId": id}).want(t, map[string]string{
			"Invocations.Invocation.0.CommandId": command, "Invocations.Invocation.0.Timeout": "90", "Invocations.Invocation.0.CommandName": "task-1",
		})
		plain := c.ok(t, "RunCommand", join(script, ids(p{"Name": "task-2"}, "i-0001"))).at("CommandId")
		c.refused(t, "InvokeCommand", ids(p{"CommandId": plain}, "i-0001"), 404, "InvalidCmdId.NotFound")
		if v := cloud.Violations(); len(v) != 1 || !strings.Contains(v[0], "i-none") {
			t.Errorf("violations: %v", v)
		}
	})
}

func TestResultSwitches(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{ResultDelay: 5 * time.Second, PendingFor: 10 * time.Second, StaleAgent: 2 * time.Minute}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		id := c.ok(t, "RunCommand", join(script, ids(nil, "i-0001"))).at("InvokeId")
		if rows := rowsOf(t, c, p{"InvokeId": id}); len(rows) != 0 {
			t.Errorf("at once: %v", rows)
		}
		time.Sleep(5 * time.Second)
		same(t, "after 5 s", rowsOf(t, c, p{"InvokeId": id})["i-0001"], "Pending", "Running", "", "none", "")
		time.Sleep(5 * time.Second)
		same(t, "after 10 s", rowsOf(t, c, p{"InvokeId": id})["i-0001"], "Running", "Running", "", "none", "")
		time.Sleep(time.Minute)
		agent := map[string]string{"InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.0.CloudAssistantStatus": "true"}
		c.ok(t, "EnterStandby", join(group, ids(nil, "i-0001")))
		c.ok(t, "StopInstance", p{"InstanceId": "i-0001"})
		time.Sleep(time.Minute)
		c.ok(t, "DescribeCloudAssistantStatus", ids(nil, "i-0001")).want(t, agent)
		time.Sleep(time.Minute)
		agent["InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.0.CloudAssistantStatus"] = "false"
		c.ok(t, "DescribeCloudAssistantStatus", ids(nil, "i-0001")).want(t, agent)
	})
}

func TestSilentAgentSwitch(t *testing.T) {
	bubble(t, fake.Config{SilentAgentAccepted: true}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		cloud.Now(func(w *fake.World) { w.SetAgentOffline(time.Hour, "i-0001") })
		id := c.ok(t, "RunCommand", join(script, ids(nil, "i-0001"))).at("InvokeId")
		same(t, "at once", rowsOf(t, c, p{"InvokeId": id})["i-0001"], "Running", "Running", "", "none", "")
		time.Sleep(time.Minute)
		same(t, "later", rowsOf(t, c, p{"InvokeId": id})["i-0001"], "Aborted", "Failed", "ClientNotRunning", "none", "")
	})
}

func TestCommandMemory(t *testing.T) {
	bubble(t, fake.Config{CommandMemory: time.Hour}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		id := c.ok(t, "RunCommand", join(script, ids(nil, "i-0001"))).at("InvokeId")
		time.Sleep(time.Hour)
		if rows := rowsOf(t, c, p{"InvokeId": id}); len(rows) != 0 {
			t.Errorf("%v", rows)
		}
		if v, _ := cloud.InstanceView("i-0001"); v.Lifecycle != provider.InService {
			t.Errorf("%+v", v)
		}
	})
}
