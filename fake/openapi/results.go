package openapi

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

// found are the invocations that a call asks for and that can be seen yet.
func (c *call) found(v fake.View) []fake.InvocationView {
	id, name, command := c.str("InvokeId"), c.str("CommandName"), c.str("CommandId")
	return slices.DeleteFunc(v.Invocations(nonEmpty(id)...), func(inv fake.InvocationView) bool {
		return v.Now().Sub(inv.Time) < c.h.cfg.ResultDelay ||
			name != "" && (inv.Name != name || inv.Nameless) ||
			command != "" && (commandID(inv) != command || inv.Nameless) ||
			c.str("CommandType") != "" && c.str("CommandType") != string(inv.Script.Type) ||
			c.str("InstanceId") != "" && !slices.ContainsFunc(inv.Results, func(r fake.ResultView) bool { return r.InstanceID == c.str("InstanceId") })
	})
}

func describeInvocations(c *call) (obj, error) {
	output := c.flag("IncludeOutput")
	if output && c.str("InvokeId") == "" && c.str("InstanceId") == "" {
		return nil, c.refuse("MissingParameter", 400, "IncludeOutput needs InvokeId or InstanceId")
	}
	key := c.str("InvokeId") + c.str("CommandName")
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, key, nonEmpty(c.str("InstanceId")), func(v fake.View) error {
		all := slices.DeleteFunc(c.found(v), func(inv fake.InvocationView) bool {
			return c.str("InvokeStatus") != "" && c.str("InvokeStatus") != recordStatus(c.statuses(v, inv))
		})
		page, head, err := byToken(c, all, pages{size: 10, most: 50, badSize: "InvalidParam.PageSize"})
		answer = head.with("Invocations", "Invocation", each(page, func(inv fake.InvocationView) obj { return c.invocation(v, inv, output) }))
		return err
	})
	return answer, err
}

func (c *call) invocation(v fake.View, inv fake.InvocationView, output bool) obj {
	name := inv.Name
	if inv.Nameless {
		name = ""
	}
	params := []byte("{}")
	if len(inv.Script.Parameters) > 0 {
		params, _ = json.Marshal(inv.Script.Parameters)
	}
	statuses := c.statuses(v, inv)
	o := obj{
		"InvokeId": inv.ID, "CommandId": commandID(inv), "CommandName": name, "CommandType": inv.Script.Type, "CreationTime": seconds(inv.Time),
		"CommandDescription": said(inv, "Description"), "CommandContent": base64.StdEncoding.EncodeToString([]byte(inv.Script.Content)),
		"InvocationStatus": wholeStatus(statuses), "InvokeStatus": recordStatus(statuses), "Parameters": string(params), "RepeatMode": "Once",
		"Timed": false, "Timeout": int(inv.Script.Timeout.Seconds()), "Username": inv.Script.User, "WorkingDir": inv.Script.WorkingDir,
		"TerminationMode": said(inv, "TerminationMode"), "Tags": obj{"Tag": []obj{}}, "VmCount": len(inv.Results),
	}
	return o.with("InvokeInstances", "InvokeInstance", each(inv.Results, func(r fake.ResultView) obj {
		i := c.result(v, r)
		i["InstanceInvokeStatus"], i["FinishTime"], i["CreationTime"] = recordStatus([]string{i["InvocationStatus"].(string)}), i["FinishedTime"], seconds(inv.Time)
		delete(i, "FinishedTime")
		if !output {
			delete(i, "Output")
		}
		return i
	}))
}

func describeInvocationResults(c *call) (obj, error) {
	var answer obj
	err := c.h.api.Read(c.ctx, c.name, c.str("InvokeId"), nonEmpty(c.str("InstanceId")), func(v fake.View) error {
		type row struct {
			inv fake.InvocationView
			r   fake.ResultView
		}
		var all []row
		for _, inv := range c.found(v) {
			for _, r := range inv.Results {
				status := recordStatus([]string{c.status(v, r)})
				if (c.str("InstanceId") == "" || c.str("InstanceId") == r.InstanceID) &&
					(c.str("InvokeRecordStatus") == "" || c.str("InvokeRecordStatus") == status) {
					all = append(all, row{inv, r})
				}
			}
		}
		page, head, err := byToken(c, all, pages{size: 10, most: 50, badSize: "InvalidParam.PageSize"})
		if err != nil {
			return err
		}
		answer = obj{"Invocation": head.with("InvocationResults", "InvocationResult", each(page, func(x row) obj {
			o := c.result(v, x.r)
			o["InvokeId"], o["CommandId"] = x.inv.ID, commandID(x.inv)
			o["InvokeRecordStatus"] = recordStatus([]string{o["InvocationStatus"].(string)})
			o["Username"], o["TerminationMode"], o["Tags"] = x.inv.Script.User, said(x.inv, "TerminationMode"), obj{"Tag": []obj{}}
			return o
		}))}
		return nil
	})
	return answer, err
}

// result is what both actions tell of a script on one instance. While it runs there is no exit code.
func (c *call) result(v fake.View, r fake.ResultView) obj {
	status := c.status(v, r)
	o := obj{
		"InstanceId": r.InstanceID, "InvocationStatus": status, "StartTime": seconds(r.Start), "FinishedTime": seconds(r.End), "StopTime": "",
		"Repeats": 1, "Dropped": r.Dropped, "ErrorCode": r.ErrorCode, "ErrorInfo": "",
	}
	if r.End.IsZero() {
		o["Repeats"] = 0
		return o
	}
	switch status {
	case fake.StatusTerminated:
		o["StopTime"] = seconds(r.End)
	case fake.StatusSuccess, fake.StatusFailed:
		o["ExitCode"] = r.ExitCode
	}
	if r.ErrorCode != "" {
		o["ErrorInfo"] = "the script did not succeed: " + r.ErrorCode
	}
	if o["Output"] = base64.StdEncoding.EncodeToString([]byte(r.Output)); strings.EqualFold(c.str("ContentEncoding"), "PlainText") {
		o["Output"] = r.Output
	}
	return o
}

// The statuses that the cloud's own do not have.
const (
	statusPending  = "Pending"
	statusStopping = "Stopping"
	statusError    = "Error"
	statusFinished = "Finished"
	statusStopped  = "Stopped"
)

// status is a script's InvocationStatus on one instance.
func (c *call) status(v fake.View, r fake.ResultView) string {
	switch {
	case r.Status == fake.StatusRunning && r.Stopping:
		return statusStopping
	case r.Status == fake.StatusRunning && v.Now().Sub(r.Start) < c.h.cfg.PendingFor:
		return statusPending
	case r.Status == fake.StatusFailed && r.ErrorCode != "" && r.ErrorCode != "ExitCodeNonzero":
		return statusError
	}
	return r.Status
}

func (c *call) statuses(v fake.View, inv fake.InvocationView) []string {
	out := make([]string, len(inv.Results))
	for n, r := range inv.Results {
		out[n] = c.status(v, r)
	}
	return out
}

// wholeStatus is the InvocationStatus of an invocation on several instances.
func wholeStatus(all []string) string {
	for _, s := range []string{statusPending, fake.StatusRunning, statusStopping} {
		if slices.Contains(all, s) {
			return s
		}
	}
	count := make(map[string]int)
	for _, s := range all {
		switch s {
		case fake.StatusSuccess:
		case fake.StatusTerminated:
			s = statusStopped
		default:
			s = fake.StatusFailed
		}
		count[s]++
	}
	switch {
	case count[fake.StatusFailed] == len(all):
		return fake.StatusFailed
	case count[fake.StatusFailed] > 0:
		return "PartialFailed"
	case count[fake.StatusSuccess] > 0:
		return fake.StatusSuccess
	}
	return statusStopped
}

// recordStatus is the older status: a script that ran to its end has Finished, whatever its exit code.
func recordStatus(all []string) string {
	count := make(map[string]int)
	for _, s := range all {
		switch s {
		case fake.StatusSuccess, fake.StatusFailed:
			s = statusFinished
		case fake.StatusTerminated:
			s = statusStopped
		case statusPending:
			s = fake.StatusRunning
		case fake.StatusRunning, statusStopping:
		default:
			s = fake.StatusFailed
		}
		count[s]++
	}
	switch {
	case count[fake.StatusRunning] > 0:
		return fake.StatusRunning
	case count[statusStopping] > 0:
		return statusStopping
	case count[fake.StatusFailed] == len(all):
		return fake.StatusFailed
	case count[fake.StatusFailed] > 0:
		return "PartialFailed"
	case count[statusFinished] > 0:
		return statusFinished
	}
	return statusStopped
}
