package aliyun_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// A woken context is that of a process that was frozen: its deadline has passed, and its timer has not fired yet.
type woken struct {
	context.Context
	over *atomic.Bool
}

func (w woken) Deadline() (time.Time, bool) {
	if w.over.Load() {
		return time.Now().Add(-time.Second), true
	}
	return time.Now().Add(time.Minute), true
}

// TestN3_NoCallAfterTheDeadline: what wakes up after the end of its time sends nothing, although nobody has canceled its context yet.
func TestN3_NoCallAfterTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var over atomic.Bool
		r, err := newRig(fake.Config{}, openapi.Config{}, 2, func(cfg *aliyun.Config) {
			next := cfg.Transport
			cfg.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				if over.Load() {
					t.Errorf("%s went out", r.URL.Query().Get("Action"))
				}
				return next.RoundTrip(r)
			})
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx := woken{t.Context(), &over}
		targets := []provider.Target{{InstanceID: "i-0001", CallID: "enter-1"}}
		over.Store(true)
		if err := r.SuspendProcesses(ctx, fake.DemoGroup, provider.Processes(), "suspend-1"); err == nil || !strings.Contains(err.Error(), "deadline") {
			t.Errorf("SuspendProcesses: %v", err)
		}
		if got, err := r.EnterStandby(ctx, fake.DemoGroup, targets); err == nil {
			t.Errorf("EnterStandby: %v", got)
		}
		if n := r.wire.Count("SuspendProcesses") + r.wire.Count("EnterStandby"); n > 0 {
			t.Errorf("%d calls came in", n)
		}
	})
	t.Run("between a look and the call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var over atomic.Bool
			r, err := newRig(fake.Config{}, openapi.Config{}, 2, func(cfg *aliyun.Config) {
				next := cfg.Transport
				cfg.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
					defer over.Store(true) // frozen while the answer is on its way
					return next.RoundTrip(r)
				})
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.EnterStandby(woken{t.Context(), &over}, fake.DemoGroup, []provider.Target{{InstanceID: "i-0001", CallID: "enter-1"}})
			if n := r.wire.Count("DescribeScalingInstances"); n != 1 {
				t.Errorf("%d looks", n)
			}
			if n := r.wire.Count("EnterStandby"); n > 0 {
				t.Errorf("the call went out: %v, %v", got, err)
			}
		})
	})
}
