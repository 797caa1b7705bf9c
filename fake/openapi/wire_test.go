package openapi_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
)

func TestSignature(t *testing.T) {
	stamp := func(d time.Duration) p {
		return p{"Timestamp": time.Now().Add(d).UTC().Format("2006-01-02T15:04:05Z")}
	}
	for _, tt := range []struct {
		name   string
		own    openapi.Config
		client client
		params func() p
		status int
		code   string
	}{
		{name: "POST with query", status: 200},
		{name: "POST with form", client: client{form: true}, status: 200},
		{name: "GET", client: client{method: "GET"}, status: 200},
		{name: "another method", client: client{method: "PUT"}, status: 400, code: "UnsupportedHTTPMethod"},
		{name: "characters", params: func() p { return p{"Tag.1.Key": "a b+c*d~e/ü&=%", "Tag.1.Value": ""} }, status: 200},
		{name: "another secret", own: openapi.Config{Secret: "other"}, status: 403, code: "SignatureDoesNotMatch"},
		{name: "wrong signature", params: func() p { return p{"Signature": "d3Jvbmc="} }, status: 403, code: "SignatureDoesNotMatch"},
		{name: "no signature", params: func() p { return p{"Signature": ""} }, status: 400, code: "MissingParameter"},
		{name: "no nonce", params: func() p { return p{"SignatureNonce": "<none>"} }, status: 400, code: "MissingParameter"},
		{name: "no key", params: func() p { return p{"AccessKeyId": "<none>"} }, status: 400, code: "MissingParameter"},
		{name: "unknown key", own: openapi.Config{AccessKeys: []string{"known"}}, status: 404, code: "InvalidAccessKeyId.NotFound"},
		{name: "known key", own: openapi.Config{AccessKeys: []string{"any"}}, status: 200},
		{name: "another algorithm", params: func() p { return p{"SignatureMethod": "HMAC-SHA256"} }, status: 400, code: "IncompleteSignature"},
		{name: "another version", params: func() p { return p{"SignatureVersion": "2.0"} }, status: 400, code: "IncompleteSignature"},
		{name: "bearer token", params: func() p { return p{"SignatureType": "BEARERTOKEN"} }, status: 400, code: "IncompleteSignature"},
		{name: "STS token", params: func() p { return p{"SecurityToken": "x"} }, status: 200},
		{name: "14 min ago", params: func() p { return stamp(-14 * time.Minute) }, status: 200},
		{name: "16 min ago", params: func() p { return stamp(-16 * time.Minute) }, status: 400, code: "InvalidTimeStamp.Expired"},
		{name: "in 16 min", params: func() p { return stamp(16 * time.Minute) }, status: 400, code: "InvalidTimeStamp.Expired"},
		{name: "16 min ago, not checked", own: openapi.Config{Skew: -1}, params: func() p { return stamp(-16 * time.Minute) }, status: 200},
		{name: "no time", params: func() p { return p{"Timestamp": "now"} }, status: 400, code: "InvalidTimeStamp.Format"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, fake.Config{}, tt.own, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
				c.method, c.form = tt.client.method, tt.client.form
				params := p{}
				if tt.params != nil {
					params = tt.params()
				}
				if tt.code == "" {
					c.ok(t, "DescribeInstances", params)
					return
				}
				r := c.refused(t, "DescribeInstances", params, tt.status, tt.code)
				if r.at("RequestId") == "<none>" || r.at("HostId") != "cloud.test" || r.at("Recommend") == "<none>" {
					t.Errorf("%s", r)
				}
			})
		})
	}
}

func TestNonceIsAcceptedOnce(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		params := p{"SignatureNonce": "n-1"}
		c.ok(t, "DescribeInstances", params)
		c.refused(t, "DescribeInstances", params, 400, "SignatureNonceUsed")
		c.ok(t, "DescribeInstances", p{"SignatureNonce": "n-1", "AccessKeyId": "another"})
	})
}

// v3 sends a call that is signed in the headers.
func (c *client) v3(t *testing.T, action, nonce string, query, form url.Values) reply {
	t.Helper()
	sum := func(s string) string { b := sha256.Sum256([]byte(s)); return hex.EncodeToString(b[:]) }
	encode := func(v url.Values) string { return strings.ReplaceAll(v.Encode(), "+", "%20") }
	r, err := http.NewRequest("POST", c.base+"?"+query.Encode(), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	headers := [][2]string{
		{"host", r.URL.Host},
		{"x-acs-action", action},
		{"x-acs-content-sha256", sum(form.Encode())},
		{"x-acs-date", time.Now().UTC().Format("2006-01-02T15:04:05Z")},
		{"x-acs-signature-nonce", nonce},
		{"x-acs-version", version(action)},
	}
	var text, names []string
	for _, kv := range headers {
		r.Header.Set(kv[0], kv[1])
		text, names = append(text, kv[0]+":"+kv[1]+"\n"), append(names, kv[0])
	}
	signed := strings.Join(names, ";")
	canonical := strings.Join([]string{"POST", "/", encode(query), strings.Join(text, ""), signed, sum(form.Encode())}, "\n")
	mac := hmac.New(sha256.New, []byte(c.secret))
	fmt.Fprintf(mac, "ACS3-HMAC-SHA256\n%s", sum(canonical))
	r.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential=any,SignedHeaders="+signed+",Signature="+hex.EncodeToString(mac.Sum(nil)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.send(r)
}

func TestSignatureInHeaders(t *testing.T) {
	bubble(t, fake.Config{}, openapi.Config{}, 1, func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client) {
		query, form := url.Values{"RegionId": {"cn-hangzhou"}, "InstanceIds": {`["i-0001"]`}}, url.Values{"Status": {"Running"}}
		if r := c.v3(t, "DescribeInstances", "n-1", query, form); r.status != 200 || r.at("TotalCount") != "1" {
			t.Errorf("%s", r)
		}
		if r := c.v3(t, "DescribeInstances", "n-1", query, form); r.at("Code") != "SignatureNonceUsed" {
			t.Errorf("%s", r)
		}
		c.secret = "other"
		if r := c.v3(t, "DescribeInstances", "n-2", query, form); r.at("Code") != "SignatureDoesNotMatch" {
			t.Errorf("%s", r)
		}
	})
}

func TestErrorsDoNotExplainUnlessAsked(t *testing.T) {
	for _, explain := range []bool{false, true} {
		h := openapi.New(fake.Demo(fake.Instant(), 2), openapi.Config{Explain: explain})
		r := in(h).refused(t, "EnterStandby", join(group, ids(nil, "i-0001", "i-none")), 404, "InvalidInstanceId.NotFound")
		if got := strings.Contains(r.at("Message"), "i-none"); got != explain {
			t.Errorf("explain %t: %s", explain, r)
		}
		if all := h.Requests(); len(all) != 1 || !strings.Contains(all[0].Err, "i-none") || all[0].Status != 404 || all[0].Params["InstanceId.2"] != "i-none" {
			t.Errorf("log: %v", all)
		}
	}
}

func TestMismatchesAreRecorded(t *testing.T) {
	h := openapi.New(fake.Demo(fake.Instant(), 5), openapi.Config{})
	c := in(h)
	ctx := context.Background()
	c.ok(t, "DescribeInstanceStatus", ids(nil, "i-0001", "i-0002", "i-0003"))
	c.call(openapi.Intend(ctx, "i-0001", "i-0002"), "DescribeInstanceStatus", ids(nil, "i-0001", "i-0002"))
	if got := append(h.Mismatches(), h.Suspicions()...); len(got) != 0 {
		t.Errorf("%v", got)
	}
	c.ok(t, "DescribeInstanceStatus", p{"InstanceId.1": "i-0001", "InstanceId.3": "i-0002"})                          // a gap is accepted
	c.ok(t, "DescribeInstanceStatus", ids(nil, "i-0001", "i-0001"))                                                   // twice
	c.call(openapi.Intend(ctx, "i-0004"), "DescribeInstanceStatus", ids(nil, "i-0004", "i-0001"))                     // left over
	c.call(openapi.IntendList(ctx, "Process", "ScaleIn"), "ResumeProcesses", join(group, p{"Process.1": "ScaleOut"})) // another one
	want := []string{
		"DescribeInstanceStatus InstanceId [i-0001 i-0002]: the numbers are [1 3]",
		"DescribeInstanceStatus InstanceId [i-0001 i-0001]: a value is there twice",
		"DescribeInstanceStatus InstanceId [i-0004 i-0001]: [i-0004] was intended",
		"ResumeProcesses Process [ScaleOut]: [ScaleIn] was intended",
	}
	if diff := cmp.Diff(want, h.Mismatches()); diff != "" {
		t.Errorf("mismatches (-want +got):\n%s", diff)
	}
	want = []string{"DescribeInstanceStatus InstanceId [i-0004 i-0001]: the last 1 are those of the call before, [i-0001 i-0001]"}
	if diff := cmp.Diff(want, h.Suspicions()); diff != "" {
		t.Errorf("suspicions (-want +got):\n%s", diff)
	}
}

func TestConcurrentCallsAreDeterministic(t *testing.T) {
	run := func() (log []string) {
		synctest.Test(t, func(t *testing.T) {
			cloud := fake.Demo(fake.Config{}, 20)
			h := openapi.New(cloud, openapi.Config{Seed: 7})
			h.Inject(openapi.Unavailable("EnterStandby", 5, true), openapi.Fault{Reply: openapi.ReplyCut, Effect: true, Chance: 0.3})
			c := in(h)
			var wg sync.WaitGroup
			for _, id := range cloud.InstanceIDs(fake.DemoGroup) {
				wg.Go(func() {
					for attempt := range 3 {
						c.call(t.Context(), "EnterStandby", join(group, ids(p{"ClientToken": id + strconv.Itoa(attempt)}, id)))
					}
				})
			}
			wg.Wait()
			for _, r := range h.Requests() {
				log = append(log, r.RequestID+" "+r.String())
			}
		})
		return log
	}
	first := run()
	if len(first) != 60 {
		t.Errorf("%d requests", len(first))
	}
	if diff := cmp.Diff(first, run()); diff != "" {
		t.Errorf("second run (-first +second):\n%s", diff)
	}
}

func TestItWorksOverSockets(t *testing.T) {
	h := openapi.New(fake.Demo(fake.Instant(), 3), openapi.Config{})
	server := httptest.NewServer(h)
	defer server.Close()
	c := &client{http: server.Client(), base: server.URL + "/", secret: "secret"}
	for _, more := range []client{{}, {form: true}, {method: "GET"}} {
		c.method, c.form = more.method, more.form
		c.ok(t, "DescribeInstances", nil).want(t, map[string]string{"TotalCount": "3"})
	}
	c.method, c.form = "", false
	c.ok(t, "RunCommand", join(script, ids(p{"CommandContent": strings.Repeat("x", 18<<10), "ContentEncoding": "PlainText"}, "i-0001"))) // a long URL
	c.refused(t, "ExitStandby", join(group, ids(nil, "i-0001")), 403, "IncorrectInstanceStatus")
	faults(t, c, h)
}
