package aliyun

import (
	"context"
	"encoding/json"
	stderrors "errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"

	"github.com/rollingupgrade/rollingupgrade/provider"
)

// An Error is what came of a call to the service. It wraps a sentinel of package provider, and the SDK's *errors.ServerError where
// the service answered. It holds nothing secret.
type Error struct {
	// Action is such as "ReplaceSystemDisk".
	Action string
	// Code is the service's, such as "IncorrectInstanceStatus", or one of this package's own: "Throttling.Client" for a call that the
	// limiter held back, "Credentials", "Transport", "Unreadable".
	Code string
	// Message is the service's.
	Message string
	// HTTPStatus is zero if the service did not answer.
	HTTPStatus int
	// RequestID names the call to the vendor's support.
	RequestID string
	// Recommend is a link to the vendor's page about the error.
	Recommend string
	// RetryAfter is how long it is not worth trying again; zero if nobody knows.
	RetryAfter time.Duration

	class, cause error
}

// Error implements error.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Action)
	for _, s := range []string{e.Code, e.Message} {
		if s != "" {
			b.WriteString(": " + s)
		}
	}
	var more []string
	if e.HTTPStatus != 0 && e.Code == "" {
		more = append(more, "HTTP status "+strconv.Itoa(e.HTTPStatus))
	}
	if e.RequestID != "" {
		more = append(more, "request "+e.RequestID)
	}
	if e.RetryAfter > 0 {
		more = append(more, "again in "+e.RetryAfter.Round(time.Millisecond).String())
	}
	if e.Recommend != "" {
		more = append(more, e.Recommend)
	}
	if len(more) > 0 {
		b.WriteString(" (" + strings.Join(more, ", ") + ")")
	}
	return b.String() + ": " + e.class.Error()
}

// Unwrap returns the sentinel that classifies the error, and its cause.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.class}
	}
	return []error{e.class, e.cause}
}

// codes are the classes of the service's codes. Sources: the error lists of the API reference, what Terraform's provider and the vendor's own
// templates try again. The grouping is an inference where these are silent.
var codes = func() map[string]error {
	m := make(map[string]error)
	add := func(class error, names string) {
		for _, n := range strings.Fields(names) {
			m[n] = class
		}
	}
	add(provider.ErrNotFound, `InvalidScalingGroupId.NotFound InvalidScalingConfigurationId.NotFound InvalidInstanceId.NotFound InvalidInstanceIds.NotFound
		InvalidInstance.NotFound Forbidden.InstanceNotFound InvalidInvokeId.NotFound InvalidLaunchTemplate.NotFound InvalidLaunchTemplateId.NotFound`)
	// Not executed, because something is not ready yet.
	add(provider.ErrBusy, `IncorrectScalingGroupStatus ScalingActivityInProgress BackendServer.configuring SystemBusy OperationBusy ServiceIsStopping
		ServiceIsConfiguring InvalidOperation.Conflict OperationConflict IncorrectDiskStatus IncorrectDiskStatus.Initializing InvalidSystemDiskStatus.IsTransfering
		DiskCreatingSnapshot OperationDenied.InstanceCreating InstanceNotReady IncorrectInstanceStatus InvalidInstanceStatus ClientIsUpgrading TaskConcurrencyLimit`)
	add(provider.ErrInvalidState, `InstanceLockedForSecurity InstanceExpiredOrInArrears InstanceExpired INST_HAS_UNPAID_ORDER OperationDenied.UnpaidOrder
		InsufficientBalance ChargeTypeViolation DiskError InstanceNotRunning ClientNotRunning ClientNotResponse ClientNeedUpgrade OperationDenied.NoStock
		OperationDenied.SpotPriceLowerThanPublicPrice OperationDenied.HostRepairing QuotaExceed.ElasticQuota LackResource Invalid.PrivatePoolOptions.NoStock
		InvalidOperation.InvalidEcsState OperationDenied.SystemInstanceNotSupport`)
	add(provider.ErrPermission, `SignatureDoesNotMatch IncompleteSignature InvalidAccessKeyId Operation.Forbidden InvalidSecurityToken MissingSecurityToken
		NoPermission Forbidden UnauthorizedOperation`)
	// Whether an earlier call with the same token or nonce had its effect is not known from these.
	add(provider.ErrTransient, `SignatureNonceUsed IdempotentProcessing IdempotentParameterMismatch LastTokenProcessing ServiceUnavailable InternalError
		LimitedOperation.ServiceUnavailable UnknownError`)
	return m
}()

// classify returns the class of an error code that an action answered.
func classify(action string, status int, code string) error {
	switch {
	case strings.Contains(code, "Throttling"), status == http.StatusTooManyRequests:
		return provider.ErrThrottled
	case action == "EnterStandby" || action == "ExitStandby" || action == "SetInstancesProtection":
		if code == "IncorrectInstanceStatus" || code == "InvalidInstanceStatus" { // the lifecycle state; it does not pass by itself
			return provider.ErrInvalidState
		}
	}
	class, known := codes[code]
	switch {
	case status >= http.StatusInternalServerError, code == "", strings.HasPrefix(code, "InternalError"):
		return provider.ErrTransient
	case known:
		return class
	}
	for _, prefix := range []string{"Forbidden.", "InvalidAccessKeyId.", "InvalidSecurityToken.", "NoPermission.", "MissingSecurityToken."} {
		if strings.HasPrefix(code, prefix) {
			return provider.ErrPermission
		}
	}
	return provider.ErrInvalid // a definite refusal: bad input, or a bug
}

// serverError makes an Error of an answer of the service.
func serverError(action string, e *errors.ServerError, secrets []string) *Error {
	msg := clean(e.Message(), secrets)
	recommend := e.Recommend()
	if !strings.HasPrefix(recommend, "https://") || strings.ContainsAny(recommend, " \n\"<>") || len(recommend) > maxText || redactSecrets(recommend, secrets) != recommend {
		recommend = ""
	}
	out := &Error{
		Action: action, Code: clip(e.ErrorCode(), 100), Message: msg, HTTPStatus: e.HttpStatus(), RequestID: clip(e.RequestId(), 100), Recommend: recommend,
		class: classify(action, e.HttpStatus(), e.ErrorCode()), RetryAfter: retryAfter(e.RespHeaders),
	}
	if denied, ok := e.AccessDeniedDetail()["AuthAction"].(string); ok && denied != "" {
		out.Message = strings.TrimSpace(out.Message + " [" + clip(redactSecrets(denied, secrets), 100) + "]")
	}
	out.cause = rebuilt(e, out)
	return out
}

// rebuilt is the SDK's error without what may be secret: the service repeats the whole request in some
// messages, and the SDK prints all headers.
func rebuilt(e *errors.ServerError, from *Error) error {
	body := map[string]any{"Code": e.ErrorCode(), "Message": from.Message}
	for k, v := range map[string]string{"RequestId": e.RequestId(), "HostId": e.HostId(), "Recommend": from.Recommend} {
		if v != "" {
			body[k] = v
		}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil // texts only
	}
	s, ok := errors.NewServerError(e.HttpStatus(), string(text), "").(*errors.ServerError)
	if !ok {
		return nil
	}
	if from.RetryAfter > 0 {
		s.RespHeaders = map[string][]string{retryHeader: {strconv.FormatInt(from.RetryAfter.Milliseconds(), 10)}}
	}
	return s
}

const retryHeader = "X-Acs-Retry-After"

// retryAfter reads the header that says, in milliseconds, when to come back.
func retryAfter(h map[string][]string) time.Duration {
	ms, err := strconv.ParseInt(strings.TrimSpace(http.Header(h).Get(retryHeader)), 10, 64)
	if err != nil || ms <= 0 {
		return 0
	}
	return min(time.Duration(min(ms, int64(mostWait/time.Millisecond)))*time.Millisecond, mostWait)
}

// failure makes an Error of whatever the SDK returned.
func failure(ctx context.Context, action string, err error, secrets []string) *Error {
	var server *errors.ServerError
	if stderrors.As(err, &server) {
		return serverError(action, server, secrets)
	}
	var own *Error
	if stderrors.As(err, &own) {
		return own
	}
	out := &Error{Action: action, class: provider.ErrTransient}
	var client *errors.ClientError
	switch {
	case ctx.Err() != nil: // whatever the transport made of it
		out.Code, out.Message, out.cause = "Transport", ctx.Err().Error(), ctx.Err()
	case stderrors.As(err, &client):
		out.Code, out.Message = client.ErrorCode(), clean(client.Message(), secrets)
	default:
		var u *url.Error
		if stderrors.As(err, &u) {
			err = u.Err // its own text holds the whole URL
		}
		out.Code, out.Message, out.cause = "Transport", clean(err.Error(), secrets), plain(err)
	}
	return out
}

// A plainError is the text of an error that may not be kept as it is.
type plainError struct {
	text string
	is   []error
}

func (e *plainError) Error() string   { return e.text }
func (e *plainError) Unwrap() []error { return e.is }

// plain returns err, or what can be said of it if its text may hold a secret.
func plain(err error) error {
	text := err.Error()
	if clean(text, nil) == text {
		return err
	}
	e := &plainError{text: clean(text, nil)}
	for _, known := range []error{context.Canceled, context.DeadlineExceeded} {
		if stderrors.Is(err, known) {
			e.is = append(e.is, known)
		}
	}
	return e
}

// held is the answer to a call that the limiter holds back.
func held(action string, wait time.Duration) *Error {
	return &Error{Action: action, Code: "Throttling.Client", Message: "held back by this process", RetryAfter: wait, class: provider.ErrThrottled}
}

// aboutInstances reports whether a refusal may concern single instances of a call. Then their states tell which.
func aboutInstances(err error) bool {
	var e *Error
	if !stderrors.As(err, &e) || provider.Unknown(err) {
		return false
	}
	if stderrors.Is(err, provider.ErrThrottled) || stderrors.Is(err, provider.ErrPermission) {
		return false
	}
	return !slices.Contains([]string{
		"InvalidScalingGroupId.NotFound", "IncorrectScalingGroupStatus", "ScalingActivityInProgress", "BackendServer.configuring", "SystemBusy",
		"OperationBusy", "ServiceIsStopping", "ServiceIsConfiguring", "Credentials", "InvalidInvokeId.NotFound",
	}, e.Code) && !strings.HasPrefix(e.Code, "Cmd") && !strings.HasPrefix(e.Code, "Missing")
}

// ofInstance names the instance that an error is about.
func ofInstance(id string, err error) error { return fmt.Errorf("instance %s: %w", id, err) }

// refused is the answer for an instance that did not cause the refusal of its call.
func refused(err error) error {
	var e *Error
	if !stderrors.As(err, &e) {
		return provider.ErrRefused
	}
	other := *e
	other.class = provider.ErrRefused
	return &other
}
