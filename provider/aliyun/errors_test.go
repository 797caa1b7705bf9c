package aliyun_test

import (
	"context"
	stderrors "errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// TestErrorClasses holds what the service's codes mean, and that nothing of the answer is lost.
func TestErrorClasses(t *testing.T) {
	for _, tt := range []struct {
		status int
		code   string
		want   error
	}{
		{400, "Throttling", provider.ErrThrottled},
		{400, "Throttling.User", provider.ErrThrottled},
		{400, "Throttling.Api", provider.ErrThrottled},
		{503, "Throttling", provider.ErrThrottled},
		{400, "Rejected.Throttling", provider.ErrThrottled},
		{429, "Whatever", provider.ErrThrottled},
		{503, "ServiceUnavailable", provider.ErrTransient},
		{503, "LimitedOperation.ServiceUnavailable", provider.ErrTransient},
		{500, "InternalError", provider.ErrTransient},
		{500, "InternalError.Dispatch", provider.ErrTransient},
		{500, "OperationDenied", provider.ErrTransient},
		{500, "IncorrectScalingGroupStatus", provider.ErrTransient},
		{502, "", provider.ErrTransient},
		{404, "", provider.ErrTransient},
		{400, "SignatureNonceUsed", provider.ErrTransient},
		{403, "IdempotentProcessing", provider.ErrTransient},
		{403, "IdempotentParameterMismatch", provider.ErrTransient},
		{404, "InvalidScalingGroupId.NotFound", provider.ErrNotFound},
		{404, "InvalidInstanceId.NotFound", provider.ErrNotFound},
		{403, "Forbidden.InstanceNotFound", provider.ErrNotFound},
		{400, "IncorrectScalingGroupStatus", provider.ErrBusy},
		{400, "ScalingActivityInProgress", provider.ErrBusy},
		{400, "BackendServer.configuring", provider.ErrBusy},
		{409, "InvalidOperation.Conflict", provider.ErrBusy},
		{403, "InstanceLockedForSecurity", provider.ErrInvalidState},
		{403, "Forbidden", provider.ErrPermission},
		{403, "Forbidden.RAM", provider.ErrPermission},
		{403, "Forbidden.Unauthorized", provider.ErrPermission},
		{403, "Operation.Forbidden", provider.ErrPermission},
		{404, "InvalidAccessKeyId.NotFound", provider.ErrPermission},
		{403, "SignatureDoesNotMatch", provider.ErrPermission},
		{400, "MissingParameter", provider.ErrInvalid},
		{404, "InvalidImageId.NotFound", provider.ErrInvalid},
		{400, "InvalidTimeStamp.Expired", provider.ErrInvalid},
	} {
		t.Run(fmt.Sprint(tt.status, " ", tt.code), func(t *testing.T) {
			p := answering(t, func(q *request) {
				q.header.Set("x-acs-retry-after", "2500")
				q.answer(tt.status, fmt.Sprintf(`{"RequestId":"req-1","HostId":"ess.aliyuncs.com","Code":%q,"Message":"the message","Recommend":"https://error-center.aliyun.com/x?Keyword=1"}`, tt.code))
			})
			_, err := p.Group(t.Context(), "asg-1")
			if !stderrors.Is(err, tt.want) {
				t.Fatalf("error is %v, want one that wraps %v", err, tt.want)
			}
			for _, class := range []error{
				provider.ErrThrottled, provider.ErrTransient, provider.ErrNotFound, provider.ErrBusy, provider.ErrInvalidState, provider.ErrPermission,
				provider.ErrInvalid, provider.ErrRefused, provider.ErrNotBegun,
			} {
				if class != tt.want && stderrors.Is(err, class) {
					t.Errorf("error wraps %v too", class)
				}
			}
			var own *aliyun.Error
			if !stderrors.As(err, &own) || own.Action != "DescribeScalingGroups" || own.Code != tt.code || own.HTTPStatus != tt.status ||
				own.RequestID != "req-1" || own.Message != "the message" || own.Recommend != "https://error-center.aliyun.com/x?Keyword=1" {
				t.Errorf("error is %+v", own)
			}
			var server *errors.ServerError
			if !stderrors.As(err, &server) || server.ErrorCode() != tt.code || server.HttpStatus() != tt.status || server.RequestId() != "req-1" {
				t.Errorf("the SDK's error is %v", server)
			}
			if tt.want == provider.ErrThrottled && own.RetryAfter < 2400*time.Millisecond {
				t.Errorf("to be tried again in %v", own.RetryAfter)
			}
			if text := err.Error(); !strings.Contains(text, "req-1") || !strings.Contains(text, "error-center") {
				t.Errorf("error reads %q", text)
			}
		})
	}
}

// TestUnreadableIsUnknown holds that an answer that cannot be read is never a success, nor a refusal.
func TestUnreadableIsUnknown(t *testing.T) {
	member := `{"RequestId":"r","TotalCount":1,"ScalingInstances":{"ScalingInstance":[{"InstanceId":"i-1","ScalingGroupId":"asg-1","LifecycleState":"InService"}]}}`
	for _, tt := range []struct {
		name   string
		answer func(q *request)
	}{
		{"empty", func(q *request) { q.answer(200, "") }},
		{"no request ID", func(q *request) { q.answer(200, "{}") }},
		{"a code in a success", func(q *request) { q.answer(200, `{"RequestId":"r","Code":"Oops"}`) }},
		{"half of the JSON", func(q *request) { q.answer(200, `{"RequestId":"r`) }},
		{"a page of a proxy", func(q *request) { q.answer(200, `<html>Password=hunter2</html>`) }},
		{"an error page of a proxy", func(q *request) { q.answer(407, `<html>Password=hunter2</html>`) }},
		{"a numeric code", func(q *request) { q.answer(400, `{"RequestId":"r","Code":17}`) }},
		{"cut", func(q *request) { q.err, q.status = io.ErrUnexpectedEOF, 1; q.answer(1, "") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := answering(t, func(q *request) {
				if q.action == "EnterStandby" {
					tt.answer(q)
				} else {
					q.answer(200, member)
				}
			})
			got, err := p.EnterStandby(t.Context(), "asg-1", []provider.Target{{InstanceID: "i-1", CallID: "c", Attempt: 1}})
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %v", got, err)
			}
			if got[0].Done || !stderrors.Is(got[0].Err, provider.ErrTransient) || !provider.Unknown(got[0].Err) {
				t.Errorf("answer is %+v, want one that leaves it open", got[0])
			}
			if strings.Contains(got[0].Err.Error(), "hunter2") {
				t.Errorf("error reads %q", got[0].Err)
			}
		})
	}
}

// TestN7_NoSecretsInErrors holds that no error shows credentials, signatures, scripts or user data, whatever the transport and the service say.
func TestN7_NoSecretsInErrors(t *testing.T) {
	const script, param = "curl -H token:hush-hush https://internal/x", "parameter-hush"
	u := provider.Update{Kind: provider.ScriptUpdate, Script: &provider.ScriptSpec{Type: provider.Shell, Content: script, Parameters: map[string]string{"k": param}}}
	echo := func(q *request) string { return q.params.Encode() }
	for _, tt := range []struct {
		name   string
		answer func(q *request)
	}{
		{"transport error with the URL", func(q *request) {
			q.err = &url.Error{Op: "Post", URL: q.URL.String(), Err: fmt.Errorf("proxy at %s: %w", q.URL, io.EOF)}
		}},
		{"string to sign", func(q *request) {
			q.answer(400, fmt.Sprintf(`{"RequestId":"r","Code":"SignatureDoesNotMatch","Message":"Specified signature does not match. server string to sign is:POST&%%2F&%s"}`, url.QueryEscape(echo(q))))
		}},
		{"request in the message", func(q *request) {
			q.answer(400, fmt.Sprintf(`{"RequestId":"r","Code":"InvalidParameter","Message":%q}`, "bad request: "+echo(q)+" "+script+" "+param))
		}},
		{"request in a page", func(q *request) { q.answer(502, "<html>"+echo(q)+" "+param+"</html>") }},
		{"request in the link", func(q *request) {
			q.answer(403, fmt.Sprintf(`{"RequestId":"r","Code":"Forbidden.RAM","Message":"no","Recommend":"https://x/?%s"}`, url.QueryEscape(param)))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sent string
			p := answering(t, func(q *request) {
				if strings.Contains(q.URL.String(), "CommandContent") || strings.Contains(q.URL.String(), "Parameters") {
					t.Error("the script is in the URL")
				}
				sent = q.params.Get("Signature")
				tt.answer(q)
			})
			got, err := p.Update(t.Context(), "asg-1", u, []provider.Target{{InstanceID: "i-1", CallID: "c", State: []byte(`{"phase":"run"}`)}})
			if err == nil && len(got) == 1 {
				err = got[0].Err
			}
			if err == nil {
				t.Fatal("no error")
			}
			texts := []string{err.Error(), fmt.Sprintf("%+v", err)}
			var server *errors.ServerError
			if stderrors.As(err, &server) {
				texts = append(texts, server.Error(), server.Message(), fmt.Sprint(server.RespHeaders))
			}
			for e := err; e != nil; e = stderrors.Unwrap(e) {
				texts = append(texts, fmt.Sprintf("%+v", e))
			}
			for _, text := range texts {
				for _, secret := range []string{"hush", "very-secret-key", "test-key-id", url.QueryEscape(sent), sent, "Y3VybCA"} {
					if strings.Contains(text, secret) {
						t.Errorf("error shows %q: %s", secret, text)
					}
				}
			}
		})
	}
}

// TestContext holds that calls end with their context, and say so.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := mustRig(t, fake.Config{}, openapi.Config{}, 1)
		r.wire.Inject(openapi.Fault{Delay: time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		_, err := r.Group(ctx, fake.DemoGroup)
		if d := time.Since(began); d > 3*time.Second+time.Millisecond || !stderrors.Is(err, context.DeadlineExceeded) || !provider.Unknown(err) {
			t.Errorf("after %v: %v", d, err)
		}
		began = time.Now()
		_, err = r.Group(t.Context(), fake.DemoGroup)
		if d := time.Since(began); d != time.Minute || !stderrors.Is(err, provider.ErrTransient) {
			t.Errorf("without a deadline, after %v: %v; want the limit of one request", d, err)
		}
	})
}
