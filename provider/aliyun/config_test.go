package aliyun_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

func TestNewReportsEverything(t *testing.T) {
	_, err := aliyun.New(aliyun.Config{
		Region: "cn hangzhou", Share: 2, Timeout: -1, Poll: -1, ReplaceTargets: 1000, Credential: 17,
		Endpoints: aliyun.Endpoints{ESS: "ftp://x"}, Rates: map[string]aliyun.Rate{"RunCommand": {}},
	})
	if !errors.Is(err, provider.ErrInvalid) {
		t.Fatalf("error is %v", err)
	}
	for _, word := range []string{"region", "share", "timeout", "poll", "replacements", "credential", "endpoint", "RunCommand"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not mention %s", err, word)
		}
	}
}

// TestWhereAndHow holds endpoints, HTTPS and the user agent.
func TestWhereAndHow(t *testing.T) {
	for _, tt := range []struct {
		name, region, ess, ecs string
		endpoints              aliyun.Endpoints
		scheme                 string
	}{
		{name: "central", region: "cn-hangzhou", ess: "ess.aliyuncs.com", ecs: "ecs-cn-hangzhou.aliyuncs.com", scheme: "https"},
		{name: "regional", region: "eu-north-9", ess: "ess.eu-north-9.aliyuncs.com", ecs: "ecs.eu-north-9.aliyuncs.com", scheme: "https"},
		{
			name: "own", region: "cn-hangzhou", ess: "127.0.0.1:1", ecs: "ecs.internal", scheme: "http",
			endpoints: aliyun.Endpoints{ESS: "http://127.0.0.1:1/", ECS: "http://ecs.internal"},
		},
		{name: "own, encrypted", region: "cn-hangzhou", ess: "ess.internal:8443", ecs: "b", scheme: "https", endpoints: aliyun.Endpoints{ESS: "ess.internal:8443", ECS: "https://b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("NO_PROXY", "+[")
			t.Setenv("HTTP_PROXY", "::bad")
			t.Setenv("HTTPS_PROXY", "::bad")
			var mu sync.Mutex
			seen := make(map[string]bool)
			p, err := aliyun.New(aliyun.Config{
				Region: tt.region, Credential: credentials.NewStaticAKCredentialsProvider("id", "secret"), Endpoints: tt.endpoints, UserAgent: "embedder/7",
				Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					mu.Lock()
					defer mu.Unlock()
					seen[r.URL.Host] = true
					if r.URL.Scheme != tt.scheme || !strings.Contains(r.Header.Get("User-Agent"), "rollingupgrade embedder/7") || r.URL.Query().Get("RegionId") != tt.region {
						t.Errorf("request to %s://%s as %q, region %q", r.URL.Scheme, r.URL.Host, r.Header.Get("User-Agent"), r.URL.Query().Get("RegionId"))
					}
					return nil, errors.New("stop")
				}),
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Group(t.Context(), "asg"); !errors.Is(err, provider.ErrTransient) {
				t.Error(err)
			}
			target := []provider.Target{{InstanceID: "i-1", CallID: "c"}}
			if _, err := p.Start(t.Context(), "asg", target); !errors.Is(err, provider.ErrTransient) {
				t.Error(err)
			}
			if !seen[tt.ess] || !seen[tt.ecs] || len(seen) != 2 {
				t.Errorf("requests went to %v", seen)
			}
		})
	}
}

// refreshing is a credentials provider that has no lock, as the SDK's have none.
type refreshing struct {
	calls int
	wait  chan struct{}
	err   error
}

func (r *refreshing) GetCredentials() (*credentials.Credentials, error) {
	r.calls++
	if r.wait != nil {
		<-r.wait
	}
	if r.err != nil {
		return nil, r.err
	}
	return &credentials.Credentials{AccessKeyId: "id", AccessKeySecret: "secret", SecurityToken: "token-of-the-session", ProviderName: "test"}, nil
}

func (r *refreshing) GetProviderName() string { return "test" }

func TestCredentialsConcurrentSafe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &refreshing{}
		r, err := newRig(fake.Config{}, openapi.Config{}, 1, func(c *aliyun.Config) { c.Credential = cred })
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := r.Group(t.Context(), fake.DemoGroup); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if cred.calls != 40 {
			t.Errorf("asked %d times for credentials, want once a request", cred.calls)
		}
	})
}

func TestCredentialsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &refreshing{wait: make(chan struct{})}
		defer close(cred.wait)
		r, err := newRig(fake.Config{}, openapi.Config{}, 1, func(c *aliyun.Config) { c.Credential = cred })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Group(ctx, fake.DemoGroup); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		if n := len(r.wire.Requests()); n != 0 {
			t.Errorf("%d requests without credentials", n)
		}
	})
}

func TestCredentialsMissing(t *testing.T) {
	r, err := newRig(fake.Instant(), openapi.Config{}, 1, func(c *aliyun.Config) {
		c.Credential = &refreshing{err: errors.New("get http://100.100.100.200/x?SecurityToken=hush: refused")}
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Group(t.Context(), fake.DemoGroup)
	if !errors.Is(err, provider.ErrBusy) || provider.Unknown(err) || strings.Contains(err.Error(), "hush") {
		t.Errorf("error is %v, want one that says that nothing happened", err)
	}
}
