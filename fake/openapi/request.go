package openapi

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

// maxBody is how much of a form is read.
const maxBody = 1 << 20

// common are the parameters that every call may carry.
var common = []string{
	"Action", "Version", "Format", "RegionId", "Timestamp", "SignatureMethod", "SignatureVersion", "SignatureType",
	"SignatureNonce", "AccessKeyId", "Signature", "SecurityToken",
	"OwnerId", "OwnerAccount", "ResourceOwnerId", "ResourceOwnerAccount",
}

// call is one request.
type call struct {
	h      *Handler
	ctx    context.Context // carries the call's turn
	action *action         // nil if there is no such action

	name, version string
	host          string
	signed        map[string]string // all that is signed: query and form
	form          []byte
	common        map[string]string
	params        map[string]string // the action's own parameters
	lists         map[string][]entry
	requestID     string

	entry *Request
	fault *Fault // what a fault does to it, once its turn has come
}

// entry is one value of a repeated parameter: InstanceId.3 or the members of Tag.3.
type entry struct {
	n      int
	value  string
	fields map[string]string
}

// read takes a request apart. The call is usable for an answer even if there is an error.
func (h *Handler) read(r *http.Request) (*call, error) {
	c := &call{h: h, host: r.Host, common: make(map[string]string), params: make(map[string]string), lists: make(map[string][]entry)}
	c.entry = &Request{Time: time.Now(), Method: r.Method, Host: r.Host, TLS: r.TLS != nil}
	err := c.collect(r)
	c.name, c.version = c.signed["Action"], c.signed["Version"]
	if isV3(r) {
		c.name, c.version = r.Header.Get("x-acs-action"), r.Header.Get("x-acs-version")
	}
	for k, v := range c.signed {
		if slices.Contains(common, k) {
			c.common[k] = v
		} else {
			c.params[k] = v
		}
	}
	c.action = actions[c.version+" "+c.name]
	c.entry.Action, c.entry.Version, c.entry.Params = c.name, c.version, maps.Clone(c.params)
	c.requestID = h.newRequestID(c)
	c.entry.RequestID = c.requestID
	c.ctx = fake.WithTurn(r.Context(), c.turn)
	if err != nil {
		return c, err
	}
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return c, c.refuse("UnsupportedHTTPMethod", 400, "method %s", r.Method)
	}
	if r.URL.Path != "/" && r.URL.Path != "" {
		return c, c.refuse("InvalidApi.NotFound", 404, "path %s", r.URL.Path)
	}
	if f := c.common["Format"]; f != "" && !strings.EqualFold(f, "JSON") {
		return c, c.refuse("UnsupportedOperation", 400, "answers in format %s", f)
	}
	return c, nil
}

// collect gathers the parameters of query and form.
func (c *call) collect(r *http.Request) error {
	c.signed = make(map[string]string)
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return c.refuse("InvalidParameter", 400, "the query cannot be read")
	}
	sources := []url.Values{query}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" && r.Body != nil {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
		if err != nil {
			return c.refuse("InvalidParameter", 400, "the form cannot be read")
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return c.refuse("InvalidParameter", 400, "the form cannot be read")
		}
		c.form, sources = body, append(sources, form)
	}
	for _, values := range sources {
		for k, all := range values {
			if _, twice := c.signed[k]; twice || len(all) > 1 {
				return c.refuse("InvalidParameter", 400, "%s is given twice", k)
			}
			c.signed[k] = all[0]
		}
	}
	return nil
}

// newRequestID makes an ID from what the request asks for and how often that was asked, so that it is
// the same in every run of a program.
func (h *Handler) newRequestID(c *call) string {
	f := fnv.New64a()
	_, _ = io.WriteString(f, c.version+" "+c.name+" "+c.text(func(string) bool { return true }))
	key := f.Sum64()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[key]++
	return fmt.Sprintf("%08X-%04X-%04X-%04X-%012X", key>>32, key>>16&0xffff, key&0xffff, 0x8000, h.seen[key])
}

// text is the call's own parameters whose names are in, as one text.
func (c *call) text(in func(name string) bool) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c.params)) {
		if in(k) {
			b.WriteString(url.QueryEscape(k) + "=" + url.QueryEscape(c.params[k]) + "&")
		}
	}
	return b.String()
}

// rest is what a client token is compared by besides the instances.
func (c *call) rest() string {
	return c.text(func(k string) bool { return k != "ClientToken" && !strings.HasPrefix(k, "InstanceId.") })
}

// str is a parameter's text; empty if it is not given.
func (c *call) str(name string) string { return c.params[name] }

// flag is a boolean parameter; validate has seen to its form.
func (c *call) flag(name string) bool {
	v, _ := strconv.ParseBool(strings.ToLower(c.params[name]))
	return v
}

// num is an integer parameter, or otherwise if it is not given.
func (c *call) num(name string, otherwise int) int {
	if n, err := strconv.Atoi(c.params[name]); err == nil {
		return n
	}
	return otherwise
}

// list is a repeated parameter: InstanceId.1, InstanceId.2 and so on, in the order of the numbers.
func (c *call) list(name string) []string {
	var out []string
	for _, e := range c.lists[name] {
		out = append(out, e.value)
	}
	return out
}

// region is where the caller believes to be.
func (c *call) region() string {
	for _, r := range []string{c.common["RegionId"], c.h.cfg.Region} {
		if r != "" {
			return r
		}
	}
	return "cn-hangzhou"
}

// refuse is an error of the service.
func (c *call) refuse(code string, status int, detail string, args ...any) error {
	return &fake.APIError{Action: c.name, Code: code, HTTPStatus: status, Message: fmt.Sprintf(detail, args...)}
}
