package aliyun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ess"
	"golang.org/x/sync/errgroup"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// endpoint is where a product answers.
type endpoint struct{ scheme, host string }

// endpointsOf returns the endpoints of the two products. The SDK fills its tables without a lock, so that they are read here,
// one Provider at a time.
func endpointsOf(cfg Config) (ofESS, ofECS endpoint, err error) {
	sdkTables <- struct{}{}
	defer func() { <-sdkTables }()
	if ofESS, err = endpointOf(cfg.Endpoints.ESS, "ess", ess.GetEndpointMap(), cfg.Region); err != nil {
		return
	}
	ofECS, err = endpointOf(cfg.Endpoints.ECS, "ecs", ecs.GetEndpointMap(), cfg.Region)
	return
}

// sdkTables guards variables of the SDK.
var sdkTables = make(chan struct{}, 1)

func endpointOf(own, product string, table map[string]string, region string) (endpoint, error) {
	scheme, host := requests.HTTPS, own
	if own == "" {
		if host = table[region]; host == "" {
			host = product + "." + region + ".aliyuncs.com"
		}
		return endpoint{scheme, host}, nil
	}
	if s, rest, ok := strings.Cut(own, "://"); ok {
		scheme, host = strings.ToUpper(s), rest
	}
	host = strings.TrimSuffix(host, "/")
	if host == "" || strings.ContainsAny(host, "/?#@ ") || scheme != requests.HTTPS && scheme != requests.HTTP {
		return endpoint{}, fmt.Errorf("endpoint %q is no host name", own)
	}
	return endpoint{scheme, host}, nil
}

// boundTransport binds the requests of one client to a context: the SDK knows none.
type boundTransport struct {
	ctx  context.Context
	base http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (t boundTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := over(t.ctx); err != nil {
		return nil, err
	}
	return t.base.RoundTrip(r.WithContext(t.ctx))
}

// over is ctx's error, also that of a deadline that has passed and whose timer has not fired yet. When a process wakes that was frozen, who was about to
// send may run before the timer does, and somebody else may own the task by then.
func over(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	return nil
}

// call makes one call. req and resp must be fresh: the SDK keeps the parameters of a request that was sent
// before. secrets are parts of the request that no error may show.
func (p *Provider) call(ctx context.Context, req requests.AcsRequest, resp responses.AcsResponse, secrets ...string) error {
	if err := p.ask(ctx, req.GetActionName(), 1); err != nil {
		return err
	}
	return p.send(ctx, req, resp, secrets...)
}

// ask asks the limiter for n calls of an action.
func (p *Provider) ask(ctx context.Context, action string, n int) error {
	if err := over(ctx); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if n <= 0 {
		return nil
	}
	if wait, ok := p.limit.take(action, n); !ok {
		return held(action, wait)
	}
	return nil
}

// askMore asks the limiter for n calls that go on with a list.
func (p *Provider) askMore(ctx context.Context, action string, n int) error {
	if err := over(ctx); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if n <= 0 {
		return nil
	}
	if wait, ok := p.limit.takeMore(action, n); !ok {
		return held(action, wait)
	}
	return nil
}

// askPage asks for the page of a list: the first one, or a further one.
func (p *Provider) askPage(ctx context.Context, action string, first bool) error {
	if first {
		return p.ask(ctx, action, 1)
	}
	return p.askMore(ctx, action, 1)
}

// send makes one call that the limiter has granted.
func (p *Provider) send(ctx context.Context, req requests.AcsRequest, resp responses.AcsResponse, secrets ...string) error {
	action := req.GetActionName()
	if err := over(ctx); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	cred, err := p.cred.get(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", action, ctx.Err())
		}
		return credentialError(action, err)
	}
	secrets = append(secrets, cred.AccessKeySecret, cred.SecurityToken, cred.BearerToken)
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	err = p.exchange(ctx, resolved{cred}, req, resp)
	if err != nil {
		e := failure(ctx, action, err, secrets)
		if errors.Is(e, provider.ErrThrottled) {
			e.RetryAfter = p.limit.throttled(action, e.RetryAfter)
		}
		return e
	}
	if requestID(resp) == "" || hollow(action, resp) || failedInside(resp) {
		return &Error{Action: action, Code: "Unreadable", Message: "the service answered nothing that can be read", HTTPStatus: resp.GetHttpStatus(), class: provider.ErrTransient}
	}
	p.limit.succeeded(action)
	return nil
}

// exchange has a client of its own make the request. A panic of the SDK is an error: it makes one of a
// numeric error code, for instance.
func (p *Provider) exchange(ctx context.Context, cred resolved, req requests.AcsRequest, resp responses.AcsResponse) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Error{Action: req.GetActionName(), Code: "Unreadable", Message: "the SDK panicked on the answer", class: provider.ErrTransient}
		}
	}()
	at := p.ecs
	if strings.EqualFold(req.GetProduct(), "ess") {
		at = p.ess
	}
	cfg := sdk.NewConfig().WithScheme(at.scheme).WithAutoRetry(false).WithUserAgent(strings.TrimSpace("rollingupgrade " + p.cfg.UserAgent))
	cfg.Transport = boundTransport{ctx, p.base}
	client, err := sdk.NewClientWithOptions(p.cfg.Region, cfg, cred)
	if err != nil {
		return err
	}
	client.SetCloseTrace(true) // spans would be named after the whole URL
	client.SetNoProxy("^$")    // proxies are the transport's affair; a bad pattern in the environment fails every call
	client.SetHttpProxy("http://proxy.invalid")
	client.SetHttpsProxy("http://proxy.invalid")
	req.SetDomain(at.host)
	req.SetScheme(at.scheme)
	left := p.cfg.Timeout
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	if r, ok := req.(interface{ SetReadTimeout(time.Duration) }); ok {
		r.SetReadTimeout(max(left, 0) + clientSlack) // the context ends it
	}
	return client.DoAction(req, resp)
}

// requestID is the answer's RequestId. Without one the answer was empty, or none of the service's.
func requestID(resp responses.AcsResponse) string {
	if _, common := resp.(*responses.CommonResponse); common {
		var head struct{ RequestId string }
		if json.Unmarshal(resp.GetHttpContentBytes(), &head) != nil {
			return ""
		}
		return head.RequestId
	}
	v := reflect.Indirect(reflect.ValueOf(resp)).FieldByName("RequestId")
	if !v.IsValid() || v.Kind() != reflect.String {
		return ""
	}
	return v.String()
}

// failedInside reports whether the answer to a change carries an error code although its HTTP status is a success: the SDK does not look.
func failedInside(resp responses.AcsResponse) bool {
	if !bytes.Contains(resp.GetHttpContentBytes(), []byte(`"Code"`)) {
		return false
	}
	var head struct{ Code any }
	if json.Unmarshal(resp.GetHttpContentBytes(), &head) != nil {
		return true
	}
	code := fmt.Sprint(head.Code)
	return head.Code != nil && code != "" && code != "200" && !strings.EqualFold(code, "OK") && !strings.EqualFold(code, "Success")
}

// lists are those whose emptiness means something: that an instance has gone, say. An answer without the list does not say that it is empty.
var lists = map[string]string{
	"DescribeScalingGroups": "ScalingGroups", "DescribeScalingInstances": "ScalingInstances", "DescribeInstances": "Instances", "DescribeDisks": "Disks",
	"DescribeInvocations": "Invocations", "DescribeInvocationResults": "InvocationResults", "DescribeScalingActivities": "ScalingActivities",
}

// hollow reports whether an answer lacks the list that was asked for.
func hollow(action string, resp responses.AcsResponse) bool {
	list, ok := lists[action]
	return ok && !bytes.Contains(resp.GetHttpContentBytes(), []byte(`"`+list+`"`))
}

// each calls f for 0 to n-1, several at a time, and returns the first error.
func each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range n {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

// together makes two readings at the same time. If both fail the first one's error counts.
func together(first, second func() error) error {
	done := make(chan error, 1)
	go func() { done <- second() }()
	err := first()
	if other := <-done; err == nil {
		err = other
	}
	return err
}

// chunks is how many parts of a size n things make.
func chunks(n, size int) int { return (n + size - 1) / size }

// part is the i-th part of list.
func part[T any](list []T, i, size int) []T { return list[i*size : min((i+1)*size, len(list))] }

// byToken reads all pages of a list that is paged by token. page makes one call. It stops early when page says that it
// has seen enough by an empty next token.
func byToken(action string, page func(token string) (next string, err error)) error {
	token, seen := "", make(map[string]bool)
	for {
		next, err := page(token)
		if err != nil || next == "" {
			return err
		}
		if seen[next] {
			return &Error{Action: action, Code: "Unreadable", Message: "the same page came twice", class: provider.ErrTransient}
		}
		seen[next], token = true, next
	}
}

// list makes the SDK's form of a repeated parameter; nil if there is nothing in it.
func list(ids []string) *[]string {
	if len(ids) == 0 {
		return nil
	}
	own := append([]string(nil), ids...)
	return &own
}

// text makes the SDK's form of a list that is sent as JSON text.
func text(ids []string) string {
	b, err := json.Marshal(ids)
	if err != nil {
		panic(err) // texts only
	}
	return string(b)
}
