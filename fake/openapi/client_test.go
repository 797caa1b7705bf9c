package openapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
)

// client is a client of the wire protocol that shares no code with the stand-in but the HMAC.
type client struct {
	http   *http.Client
	base   string
	secret string
	method string // default POST
	form   bool   // parameters in the form, not in the query
}

var nonces atomic.Int64

// in returns a client that calls the handler in process.
func in(h *openapi.Handler) *client {
	return &client{http: &http.Client{Transport: h.Transport()}, base: "http://cloud.test/", secret: "secret"}
}

// p are parameters.
type p map[string]string

// reply is an answer.
type reply struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
	err    error
}

// at follows a path such as "Instances.Instance.0.Status"; "|" stands for a dot in a key.
func (r reply) at(path string) string {
	var v any = r.body
	for _, key := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[strings.ReplaceAll(key, "|", ".")]
		case []any:
			if key == "len" {
				return strconv.Itoa(len(x))
			}
			n, err := strconv.Atoi(key)
			if err != nil || n >= len(x) {
				return "<none>"
			}
			v = x[n]
		default:
			return "<none>"
		}
	}
	switch x := v.(type) {
	case nil:
		return "<none>"
	case string:
		return x
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func (r reply) String() string { return fmt.Sprintf("%d %s %v", r.status, r.raw, r.err) }

func version(action string) string {
	if all := openapi.Actions(); slices.Contains(all, "ess:"+action) && !slices.Contains(all, "ecs:"+action) {
		return openapi.VersionESS
	}
	return openapi.VersionECS // and TagResources, which both products have
}

// call signs and sends a call; "Version" among the parameters overrides.
func (c *client) call(ctx context.Context, action string, params p) reply {
	all := p{
		"Action": action, "Version": version(action), "Format": "JSON", "RegionId": "cn-hangzhou",
		"Timestamp": time.Now().UTC().Format("2006-01-02T15:04:05Z"), "SignatureMethod": "HMAC-SHA1", "SignatureVersion": "1.0",
		"SignatureType": "", "SignatureNonce": strconv.FormatInt(nonces.Add(1), 10), "AccessKeyId": "any",
	}
	for k, v := range params {
		if all[k] = v; v == "<none>" {
			delete(all, k)
		}
	}
	method := c.method
	if method == "" {
		method = "POST"
	}
	var keys []string
	for k := range all {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	var canonical []string
	for _, k := range keys {
		canonical = append(canonical, rfc3986(k)+"="+rfc3986(all[k]))
	}
	if _, set := all["Signature"]; !set {
		all["Signature"] = openapi.Sign(c.secret, method+"&"+rfc3986("/")+"&"+rfc3986(strings.Join(canonical, "&")))
	}
	values := make(url.Values)
	for k, v := range all {
		values.Set(k, v)
	}
	target, body := c.base+"?"+values.Encode(), ""
	if c.form {
		target, body = c.base, values.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.send(r)
}

func (c *client) send(r *http.Request) reply {
	resp, err := c.http.Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	out := reply{status: resp.StatusCode, header: resp.Header, raw: string(raw), err: err}
	if e := json.Unmarshal(raw, &out.body); e != nil && out.err == nil {
		out.err = e
	}
	return out
}

// rfc3986 escapes all but unreserved characters.
func rfc3986(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// ok makes a call that must succeed.
func (c *client) ok(t *testing.T, action string, params p) reply {
	t.Helper()
	r := c.call(context.Background(), action, params)
	if r.err != nil || r.status != 200 {
		t.Fatalf("%s %v: %s", action, params, r)
	}
	return r
}

// refused makes a call that must be refused with a status and a code.
func (c *client) refused(t *testing.T, action string, params p, status int, code string) reply {
	t.Helper()
	r := c.call(context.Background(), action, params)
	if r.err != nil || r.status != status || r.at("Code") != code {
		t.Errorf("%s %v: %s, want %d %s", action, params, r, status, code)
	}
	return r
}

// want holds paths of an answer against values.
func (r reply) want(t *testing.T, want map[string]string) {
	t.Helper()
	for path, value := range want {
		if got := r.at(path); got != value {
			t.Errorf("%s is %s, want %s, in %s", path, got, value, r.raw)
		}
	}
}

// ids are the parameters InstanceId.1, .2 and so on, with more.
func ids(more p, list ...string) p {
	out := p{}
	for n, id := range list {
		out["InstanceId."+strconv.Itoa(n+1)] = id
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// bubble runs f in simulated time with a cloud of n instances.
func bubble(t *testing.T, cfg fake.Config, own openapi.Config, n int, f func(t *testing.T, cloud *fake.Cloud, h *openapi.Handler, c *client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cloud := fake.Demo(cfg, n)
		h := openapi.New(cloud, own)
		f(t, cloud, h, in(h))
		for _, m := range h.Mismatches() {
			t.Errorf("mismatch: %s", m)
		}
	})
}
