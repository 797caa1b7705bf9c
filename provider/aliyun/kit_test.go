package aliyun_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"

	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

func imageUpdate(id string) provider.Update {
	return provider.Update{Kind: provider.ImageUpdate, Image: &provider.ImageSpec{ImageID: id}}
}

func scriptUpdate(content string) provider.Update {
	return provider.Update{Kind: provider.ScriptUpdate, Script: &provider.ScriptSpec{Type: provider.Shell, Content: content}}
}

// A request is one that passes a transport of a test, and its answer.
type request struct {
	*http.Request
	action string
	params url.Values // of query and form

	status int
	header http.Header
	body   string
	err    error
}

// answer sets what comes back.
func (q *request) answer(status int, body string) bool {
	q.status, q.body = status, body
	return true
}

// replace changes a text in the answer of the transport behind.
func (q *request) replace(old, new string) { q.body = old + "\x00" + new }

// transport returns a wrapper around a RoundTripper. f sees each request; if it returns true the answer is what it set, otherwise
// the request goes on.
func transport(f func(q *request) bool) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			q := &request{Request: r, params: r.URL.Query(), header: make(http.Header)}
			if r.Body != nil {
				b, err := io.ReadAll(r.Body)
				if err != nil {
					return nil, err
				}
				r.Body = io.NopCloser(bytes.NewReader(b))
				form, err := url.ParseQuery(string(b))
				if err != nil {
					return nil, err
				}
				for k, v := range form {
					q.params[k] = v
				}
			}
			q.action = q.params.Get("Action")
			if f(q) {
				if q.err != nil {
					return nil, q.err
				}
				return &http.Response{StatusCode: q.status, Header: q.header, Body: io.NopCloser(strings.NewReader(q.body)), Request: r}, nil
			}
			resp, err := next.RoundTrip(r)
			if old, new, ok := strings.Cut(q.body, "\x00"); ok && err == nil {
				b, err := io.ReadAll(resp.Body)
				if err != nil {
					return nil, err
				}
				resp.Body = io.NopCloser(strings.NewReader(strings.ReplaceAll(string(b), old, new)))
			}
			return resp, err
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answering is a Provider for which f answers every request.
func answering(t *testing.T, f func(q *request)) *aliyun.Provider {
	t.Helper()
	var mu sync.Mutex
	p, err := aliyun.New(aliyun.Config{
		Region: "cn-hangzhou", Credential: credentials.NewStaticAKCredentialsProvider("test-key-id", "very-secret-key"),
		Transport: transport(func(q *request) bool {
			mu.Lock()
			defer mu.Unlock()
			f(q)
			return true
		})(nil),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// drive updates instances in Standby to the end, as a Runner does, and returns how they ended.
func drive(t *testing.T, r *rig, group string, u provider.Update, ids ...string) map[string]provider.Progress {
	t.Helper()
	return driveSince(t, r, group, time.Time{}, u, ids...)
}

// driveSince is drive for an attempt that began at a time.
func driveSince(t *testing.T, r *rig, group string, since time.Time, u provider.Update, ids ...string) map[string]provider.Progress {
	t.Helper()
	ctx := context.Background()
	var enter []provider.Target
	for _, id := range ids {
		enter = append(enter, provider.Target{InstanceID: id, CallID: "enter", Attempt: 1})
	}
	if _, err := r.EnterStandby(ctx, group, enter); err != nil {
		t.Fatal(err)
	}
	ended := make(map[string]provider.Progress)
	state := make(map[string][]byte)
	act := make(map[string]bool)
	before := make(map[string]*provider.Before)
	for range 500 {
		wait := time.Second
		for _, id := range ids {
			if _, over := ended[id]; over {
				continue
			}
			target := provider.Target{InstanceID: id, Attempt: 1, Since: since, State: state[id], Before: before[id]}
			if act[id] {
				target.CallID = "act-" + id
			}
			got, err := r.Update(ctx, group, u, []provider.Target{target})
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 {
				t.Fatalf("%d answers for one target", len(got))
			}
			p := got[0]
			if p.Before != nil && before[id] == nil {
				before[id] = p.Before
			}
			if p.Done || p.Err != nil && !provider.Retryable(p.Err) {
				if p.Before == nil {
					p.Before = before[id]
				}
				ended[id] = p
				continue
			}
			if p.Err == nil {
				state[id], act[id] = p.State, p.Act
			}
			wait = max(wait, p.Wait)
		}
		if len(ended) == len(ids) {
			return ended
		}
		time.Sleep(wait)
	}
	t.Fatalf("the update has not ended: %d of %d", len(ended), len(ids))
	return nil
}
