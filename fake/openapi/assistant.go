package openapi

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// maxKept is how long the content of a command that is kept may be after base64.
const maxKept = 18 << 10

func describeCloudAssistantStatus(c *call) (obj, error) {
	ids := c.list("InstanceId")
	if err := c.tooMany("InstanceId", len(ids), 100, "InstanceIds.ExceedLimit", 403); err != nil {
		return nil, err
	}
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, "", ids, func(v fake.View) error {
		all := slices.DeleteFunc(v.Instances(ids...), func(i fake.InstanceView) bool {
			return c.str("OSType") != "" && !strings.EqualFold(c.str("OSType"), i.OS)
		})
		p := pages{size: 10, most: 50}
		page, head, err := all, obj{"TotalCount": len(all), "PageNumber": 1, "PageSize": len(all), "NextToken": ""}, error(nil)
		if len(ids) == 0 { // with IDs, paging is ignored
			page, head, err = byToken(c, all, p)
		}
		answer = head.with("InstanceCloudAssistantStatusSet", "InstanceCloudAssistantStatus", each(page, func(i fake.InstanceView) obj {
			return c.agent(v, i)
		}))
		return err
	})
	return answer, err
}

func (c *call) agent(v fake.View, i fake.InstanceView) obj {
	online := i.AgentOnline
	if stale := c.h.cfg.StaleAgent; !i.Ceased.IsZero() && v.Now().Sub(i.Ceased) < stale {
		online = true
	}
	o := obj{
		"InstanceId": i.ID, "CloudAssistantStatus": "false", "CloudAssistantVersion": "2.2.3.857", "OSType": strings.ToUpper(i.OS[:1]) + i.OS[1:],
		"ActiveTaskCount": 0, "InvocationCount": i.ScriptRuns, "SupportSessionManager": true, "LastHeartbeatTime": "", "LastInvokedTime": "",
	}
	if online {
		o["CloudAssistantStatus"], o["LastHeartbeatTime"] = "true", seconds(v.Now())
	}
	return o
}

// checkScript refuses what RunCommand and InvokeCommand refuse of the parameters that they have in common.
func (c *call) checkScript() error {
	if len(c.list("InstanceId")) == 0 {
		return c.refuse("MissingParam.InstanceId", 400, "InstanceId.1")
	}
	if m := c.str("RepeatMode"); m != "" && m != "Once" {
		if slices.Contains([]string{"Period", "NextRebootOnly", "EveryReboot", "DryRun"}, m) {
			return c.refuse("UnsupportedOperation", 400, "the stand-in runs scripts once, not in mode %s", m)
		}
		return c.refuse("InvalidRepeatMode.NotFound", 404, "%s", m)
	}
	if m := c.str("TerminationMode"); m != "" && m != "Process" && m != "ProcessTree" {
		return c.refuse("InvalidTerminationMode.NotFound", 404, "%s", m)
	}
	for _, t := range []struct {
		name, code string
		status     int
		most       int
	}{
		{"Name", "CmdName.ExceedLimit", 403, 128},
		{"Description", "CmdDesc.ExceedLimit", 403, 512},
		{"WorkingDir", "InvalidParameter.WorkingDir", 400, 200},
		{"Username", "Username.ExceedLimit", 403, 255},
	} {
		if n := len([]rune(c.str(t.name))); n > t.most {
			return c.refuse(t.code, t.status, "%d characters, at most %d are allowed", n, t.most)
		}
	}
	return nil
}

// parameters reads the JSON text of Parameters.
func (c *call) parameters() (map[string]string, error) {
	text := c.str("Parameters")
	if text == "" {
		return nil, nil
	}
	var m map[string]string
	if json.Unmarshal([]byte(text), &m) != nil {
		return nil, c.refuse("InvalidParameter.Parameters", 400, "Parameters is no JSON object of texts")
	}
	if len(m) > 10 {
		return nil, c.refuse("ParameterCount.ExceedLimit", 403, "%d parameters", len(m))
	}
	return m, nil
}

func runCommand(c *call) (obj, error) {
	if err := c.checkScript(); err != nil {
		return nil, err
	}
	content := c.str("CommandContent")
	if strings.EqualFold(c.str("ContentEncoding"), "Base64") { // an unknown value means PlainText
		raw, err := base64.StdEncoding.DecodeString(content)
		if err != nil {
			return nil, c.refuse("InvalidParameter.CommandContent", 400, "the content is not base64")
		}
		content = string(raw)
	}
	keep := c.flag("KeepCommand")
	if keep && base64.StdEncoding.EncodedLen(len(content)) > maxKept {
		return nil, c.refuse("CmdContent.ExceedLimit", 403, "a command that is kept")
	}
	s := provider.ScriptSpec{
		Type: provider.ScriptType(c.str("Type")), Content: content, Timeout: time.Duration(c.num("Timeout", 60)) * time.Second,
		WorkingDir: c.str("WorkingDir"), User: c.str("Username"),
	}
	if c.flag("EnableParameter") {
		m, err := c.parameters()
		if err != nil {
			return nil, err
		}
		s.Parameters = m
	}
	id, err := c.h.api.RunCommand(c.ctx, fake.RunCommandRequest{
		Name: c.str("Name"), InstanceIDs: c.list("InstanceId"), Script: s, Token: c.str("ClientToken"), Keep: keep, Rest: c.rest(),
	})
	return obj{"InvokeId": id, "CommandId": commandOf(id)}, err
}

// commandOf is the command that an invocation of RunCommand makes: t-0001 makes c-0001.
func commandOf(invokeID string) string { return "c" + strings.TrimPrefix(invokeID, "t") }

// invokeCommand runs a command that an earlier RunCommand kept.
func invokeCommand(c *call) (obj, error) {
	if err := c.checkScript(); err != nil {
		return nil, err
	}
	params, err := c.parameters()
	if err != nil {
		return nil, err
	}
	if t := c.num("Timeout", 60); t < 10 {
		return nil, c.refuse("InvalidParameter.Timeout", 400, "%d s", t)
	}
	var kept *fake.InvocationView
	c.h.cloud.Look(func(v fake.View) {
		for _, inv := range v.Invocations("t" + strings.TrimPrefix(c.str("CommandId"), "c")) {
			if inv.Keep {
				kept = &inv
			}
		}
	})
	if kept == nil {
		return nil, c.refuse("InvalidCmdId.NotFound", 404, "%s", c.str("CommandId"))
	}
	s := kept.Script
	if c.str("Timeout") != "" {
		s.Timeout = time.Duration(c.num("Timeout", 60)) * time.Second
	}
	if c.str("Username") != "" {
		s.User = c.str("Username")
	}
	if c.str("WorkingDir") != "" {
		s.WorkingDir = c.str("WorkingDir")
	}
	if len(params) > 0 && len(s.Parameters) == 0 {
		return nil, c.refuse("Parameter.Disabled", 404, "the command takes no parameters")
	}
	if len(params) > 0 {
		s.Parameters = params
	}
	id, err := c.h.api.RunCommand(c.ctx, fake.RunCommandRequest{
		Name: kept.Name, InstanceIDs: c.list("InstanceId"), Script: s, Token: c.str("ClientToken"), Keep: true, Rest: c.rest(),
	})
	return obj{"InvokeId": id}, err
}

func stopInvocation(c *call) (obj, error) {
	ids := c.list("InstanceId")
	if len(ids) == 0 { // all of them
		c.h.cloud.Look(func(v fake.View) {
			for _, inv := range v.Invocations(c.str("InvokeId")) {
				for _, r := range inv.Results {
					ids = append(ids, r.InstanceID)
				}
			}
		})
		if len(ids) > 50 {
			return nil, c.refuse("InstanceIds.ExceedLimit", 403, "the invocation has %d instances", len(ids))
		}
		if len(ids) == 0 {
			return nil, c.refuse("InvalidInvokeId.NotFound", 404, "%s", c.str("InvokeId"))
		}
	}
	return obj{}, c.h.api.StopInvocation(c.ctx, c.str("InvokeId"), ids)
}

// said is a parameter of the request that made an invocation.
func said(inv fake.InvocationView, name string) string {
	v, _ := url.ParseQuery(inv.Rest)
	return v.Get(name)
}

// commandID is the command that an invocation runs.
func commandID(inv fake.InvocationView) string {
	if id := said(inv, "CommandId"); id != "" {
		return id
	}
	return commandOf(inv.ID)
}
