package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rollingupgrade/rollingupgrade/fake"
)

// messages are what the service says of its most frequent codes.
var messages = map[string]string{
	"MissingParameter":               "An input parameter that is mandatory for processing this request is not supplied.",
	"InvalidParameter":               "The specified parameter is not valid.",
	"UnsupportedOperation":           "The specified action is not supported.",
	"IncorrectInstanceStatus":        "The current status of the resource does not support this operation.",
	"IncorrectScalingGroupStatus":    "The current status of the specified scaling group does not support this action.",
	"InvalidInstanceId.NotFound":     "The specified InstanceId does not exist.",
	"InvalidInstance.NotFound":       "The specified instances do not exist.",
	"InvalidScalingGroupId.NotFound": "The specified scaling group does not exist.",
	"IdempotentParameterMismatch":    "The specified parameter has changed while using an already used clientToken.",
	"Throttling":                     "Request was denied due to request throttling.",
	"Throttling.User":                "Request was denied due to user flow control.",
	"ServiceUnavailable":             "The request has failed due to a temporary failure of the server.",
	"InternalError":                  "The request processing has failed due to some unknown error, exception or failure.",
	"SignatureNonceUsed":             "Specified signature nonce was used already.",
	"InvalidTimeStamp.Expired":       "Specified time stamp or date value is expired.",
	"InvalidAccessKeyId.NotFound":    "Specified access key is not found.",
	"InvalidApi.NotFound":            "Specified api is not found, please check your url and method.",
	"InvalidProtocol.NeedSsl":        "Your request is denied as lack of ssl protect.",
}

// finish answers: with what a fault wants, with the error, or with the answer.
func (h *Handler) finish(w http.ResponseWriter, c *call, answer obj, err error) {
	if ctxErr := c.ctx.Err(); ctxErr != nil && err != nil { // the client is gone
		h.ended(c, 0, "", ctxErr)
		panic(http.ErrAbortHandler)
	}
	refused := new(fake.APIError)
	switch {
	case c.fault != nil && c.fault.Reply != ReplyAnswer:
		h.replyFault(w, c, answer, err)
	case err == nil:
		h.ended(c, http.StatusOK, "", nil)
		body := c.body(answer)
		c.head(w, http.StatusOK, len(body))
		w.Write(body)
	case !errors.As(err, &refused):
		h.replyError(w, c, &fake.APIError{Code: "InternalError", HTTPStatus: 500, Message: err.Error()}, "")
	case refused.Lost: // a fault of the cloud: the effect is there, the answer is not
		h.ended(c, 0, refused.Code, err)
		panic(http.ErrAbortHandler)
	default:
		text := ""
		if s := new(signatureError); errors.As(err, &s) {
			text = "Specified signature is not matched with our calculation. server string to sign is:" + s.text
		}
		h.replyError(w, c, refused, text)
	}
}

// body is an answer as JSON.
func (c *call) body(answer obj) []byte {
	full := obj{"RequestId": c.requestID}
	for k, v := range answer {
		full[k] = v
	}
	b, err := appendJSON(make([]byte, 0, 1024), full)
	if err != nil {
		panic(fmt.Sprintf("openapi: %s: %v", c.name, err))
	}
	return b
}

// appendJSON appends what json.Marshal makes of v, which takes three times as long for the maps that answers are made of.
func appendJSON(b []byte, v any) (_ []byte, err error) {
	switch v := v.(type) {
	case obj:
		if v == nil {
			return append(b, "null"...), nil
		}
		var few [40]string
		keys := few[:0]
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b = append(b, '{')
		for n, k := range keys {
			if n > 0 {
				b = append(b, ',')
			}
			b = append(appendText(b, k), ':')
			if b, err = appendJSON(b, v[k]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case []obj:
		if v == nil {
			return append(b, "null"...), nil
		}
		b = append(b, '[')
		for n, item := range v {
			if n > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, item); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case string:
		return appendText(b, v), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	}
	if text := reflect.ValueOf(v); text.Kind() == reflect.String && text.NumMethod() == 0 { // it has no form of its own
		return appendText(b, text.String()), nil
	}
	plain, err := json.Marshal(v)
	return append(b, plain...), err
}

// appendText appends a text in quotes.
func appendText(b []byte, s string) []byte {
	for n := range len(s) {
		if c := s[n]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // a text has no error
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func (c *call) head(w http.ResponseWriter, status, length int) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.Header().Set("x-acs-request-id", c.requestID)
	w.WriteHeader(status)
}

// replyError writes an error of the service. What exactly was wrong goes to the log, and to the client only with Config.Explain.
func (h *Handler) replyError(w http.ResponseWriter, c *call, e *fake.APIError, text string) {
	code, status := c.translate(e)
	if text == "" {
		if text = messages[code]; text == "" {
			text = "The request was refused: " + code + "."
		}
		if detail := strings.TrimSpace(strings.Join(e.Targets, " ") + " " + e.Message); h.cfg.Explain && detail != "" {
			text += " (" + detail + ")"
		}
	}
	h.ended(c, status, code, e)
	body, _ := json.Marshal(obj{
		"RequestId": c.requestID, "HostId": c.host, "Code": code, "Message": text,
		"Recommend": "https://api.aliyun.com/troubleshoot?q=" + code + "&product=" + c.product(),
	})
	c.head(w, status, len(body))
	w.Write(body)
}

func (c *call) product() string {
	if c.version == VersionESS {
		return "Ess"
	}
	return "Ecs"
}

// translate gives an error of the cloud the code that the action documents.
func (c *call) translate(e *fake.APIError) (code string, status int) {
	code, status = e.Code, e.HTTPStatus
	if status < 400 {
		status = http.StatusInternalServerError
	}
	assistant := c.name == "RunCommand" || c.name == "InvokeCommand"
	switch {
	case code == "InvalidParameter.TooManyInstanceIds" && c.version == VersionESS:
		return "InvalidParameter", http.StatusBadRequest
	case code == "InvalidParameter.TooManyInstanceIds" && (assistant || c.name == "StopInvocation"):
		return "InstanceIds.ExceedLimit", status
	case code == "InvalidInstanceId.NotFound" && assistant:
		return "InvalidInstance.NotFound", status
	}
	return code, status
}
