package openapi_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
)

// faults goes through all replies; after each the group's processes show whether the call had its effect.
func faults(t *testing.T, c *client, h *openapi.Handler) {
	t.Helper()
	suspend, resume := join(group, p{"Process.1": "ScaleIn"}), "ResumeProcesses"
	for _, tt := range []struct {
		name   string
		fault  openapi.Fault
		status int
		code   string // of the error, or part of the transport error
		effect bool
	}{
		{name: "throttled", fault: openapi.Throttle("SuspendProcesses", 1, 2*time.Second), status: 400, code: "Throttling.User"},
		{name: "busy", fault: openapi.Refuse("SuspendProcesses", 1, 400, "BackendServer.configuring"), status: 400, code: "BackendServer.configuring"},
		{name: "503 before", fault: openapi.Unavailable("SuspendProcesses", 1, false), status: 503, code: "ServiceUnavailable"},
		{name: "503 after", fault: openapi.Unavailable("SuspendProcesses", 1, true), status: 503, code: "ServiceUnavailable", effect: true},
		{name: "500 before", fault: openapi.Internal("SuspendProcesses", 1, false), status: 500, code: "InternalError"},
		{name: "500 after", fault: openapi.Internal("SuspendProcesses", 1, true), status: 500, code: "InternalError", effect: true},
		{name: "cut before", fault: openapi.Fault{Nth: 1, Reply: openapi.ReplyCut}, code: "EOF"},
		{name: "cut after", fault: openapi.Lose("SuspendProcesses", 1, openapi.ReplyCut), code: "EOF", effect: true},
		{name: "cut in the body", fault: openapi.Lose("SuspendProcesses", 1, openapi.ReplyCutBody), status: 200, code: "unexpected EOF", effect: true},
		{name: "empty", fault: openapi.Lose("SuspendProcesses", 1, openapi.ReplyEmpty), status: 200, code: "unexpected end of JSON input", effect: true},
		{name: "broken JSON", fault: openapi.Lose("SuspendProcesses", 1, openapi.ReplyBroken), status: 200, code: "unexpected end of JSON input", effect: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.ClearFaults()
			h.Inject(tt.fault)
			r := c.call(context.Background(), "SuspendProcesses", suspend)
			switch {
			case r.status != tt.status:
				t.Errorf("%s", r)
			case r.err == nil && r.at("Code") != tt.code, r.err != nil && !strings.Contains(r.err.Error(), tt.code):
				t.Errorf("%s, want %s", r, tt.code)
			}
			if tt.name == "throttled" && r.header.Get("x-acs-retry-after") != "2000" {
				t.Errorf("headers %v", r.header)
			}
			if left := h.PendingFaults(); len(left) != 0 {
				t.Errorf("pending: %v", left)
			}
			suspended := c.ok(t, "DescribeScalingGroups", nil).at("ScalingGroups.ScalingGroup.0.SuspendedProcesses") != "<none>"
			if suspended != tt.effect {
				t.Errorf("effect: %t, want %t", suspended, tt.effect)
			}
			c.ok(t, resume, suspend)
		})
	}
	h.ClearFaults()
}

func TestFaultsInProcess(t *testing.T) {
	h := openapi.New(fake.Demo(fake.Instant(), 1), openapi.Config{})
	faults(t, in(h), h)
}

func TestSlowAnswerIsCutOffByTheClient(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		h.Inject(openapi.Slow("EnterStandby", 1, time.Minute))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		r := c.call(ctx, "EnterStandby", join(group, ids(nil, "i-0001")))
		if !errors.Is(r.err, context.DeadlineExceeded) || time.Since(start) != 10*time.Second {
			t.Errorf("%s after %v", r, time.Since(start))
		}
		if v, _ := cloud.InstanceView("i-0001"); v.Lifecycle != provider.Standby {
			t.Errorf("no effect: %+v", v)
		}
	})
}

func TestFaultsMatchByTargetTimeAndCount(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 3, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		status := func(action string, params p) int { return c.call(t.Context(), action, params).status }
		h.Inject(openapi.Fault{Target: "i-0002", Reply: openapi.ReplyError})
		if a, b := status("DescribeInstanceStatus", ids(nil, "i-0001")), status("DescribeInstanceStatus", ids(nil, "i-0001", "i-0002")); a != 200 || b != 503 {
			t.Errorf("list: %d %d", a, b)
		}
		if a, b := status("DescribeInstances", p{"InstanceIds": `["i-0001"]`}), status("DescribeInstances", p{"InstanceIds": `["i-0002"]`}); a != 200 || b != 503 {
			t.Errorf("JSON list: %d %d", a, b)
		}
		h.ClearFaults()
		h.Inject(openapi.Fault{Action: "DescribeInstances", After: time.Minute, Until: 2 * time.Minute, Reply: openapi.ReplyError, Status: 400, Code: "Throttling"})
		var got []int
		for range 3 {
			got = append(got, status("DescribeInstances", nil))
			time.Sleep(time.Minute)
		}
		if got[0] != 200 || got[1] != 400 || got[2] != 200 {
			t.Errorf("by time: %v", got)
		}
		h.ClearFaults()
		h.Inject(openapi.Fault{Action: "DescribeInstances", Nth: 2, Count: 2, Reply: openapi.ReplyError})
		got = nil
		for range 4 {
			got = append(got, status("DescribeInstances", nil))
		}
		if got[0] != 200 || got[1] != 503 || got[2] != 503 || got[3] != 200 {
			t.Errorf("by count: %v", got)
		}
	})
}

func TestChanceIsAShare(t *testing.T) {
	h := openapi.New(fake.Demo(fake.Instant(), 1), openapi.Config{Seed: 1})
	h.Inject(openapi.Fault{Chance: 0.25, Reply: openapi.ReplyError})
	c, failed := in(h), 0
	for range 400 {
		if c.call(t.Context(), "DescribeInstances", nil).status == 503 {
			failed++
		}
	}
	if failed < 60 || failed > 140 {
		t.Errorf("%d of 400", failed)
	}
}

func TestRatesThrottle(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{Rates: map[string]int{"DescribeInstances": 3}}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		for range 3 {
			c.ok(t, "DescribeInstances", nil)
		}
		r := c.refused(t, "DescribeInstances", nil, 400, "Throttling.User")
		wait, err := time.ParseDuration(r.header.Get("x-acs-retry-after") + "ms")
		if err != nil || wait <= 0 || wait > time.Minute {
			t.Errorf("retry after %v, %v", wait, err)
		}
		c.ok(t, "DescribeDisks", nil)
		time.Sleep(wait)
		c.ok(t, "DescribeInstances", nil)
		if n := h.Count("DescribeInstances"); n != 5 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestFaultsOfTheCloudReachTheWire(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 2, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		cloud.Inject(
			fake.Throttle("EnterStandby", 1),
			fake.Fault{Op: "EnterStandby", Nth: 2, Err: provider.ErrTransient},
			fake.Fault{Op: "EnterStandby", Nth: 3, Err: provider.ErrBusy},
			fake.LoseAnswer("EnterStandby", 4),
		)
		enter := join(group, ids(nil, "i-0001"))
		c.refused(t, "EnterStandby", enter, 400, "Throttling")
		c.refused(t, "EnterStandby", enter, 500, "InternalError")
		c.refused(t, "EnterStandby", enter, 400, "IncorrectScalingGroupStatus")
		if r := c.call(t.Context(), "EnterStandby", enter); !errors.Is(r.err, io.EOF) {
			t.Errorf("%s", r)
		}
		if v, _ := cloud.InstanceView("i-0001"); v.Lifecycle != provider.Standby {
			t.Errorf("no effect: %+v", v)
		}
	})
}
