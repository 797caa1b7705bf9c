package aliyun_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// groups calls Group until the limiter holds it back, and returns how often it went well, and the error.
func groups(t *testing.T, r *rig, most int) (int, error) {
	t.Helper()
	for n := range most {
		if _, err := r.Group(t.Context(), fake.DemoGroup); err != nil {
			return n, err
		}
	}
	return most, nil
}

func rated(t *testing.T, share float64, wire openapi.Config, rate aliyun.Rate) *rig {
	t.Helper()
	r, err := newRig(fake.Config{Latency: fake.Latency{Read: -1, Write: -1}}, wire, 1, func(c *aliyun.Config) {
		c.Rates, c.Share = map[string]aliyun.Rate{"DescribeScalingGroups": rate, "*": {PerSecond: -1}}, share
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRates holds burst and rate, and that a call that is held back neither sleeps nor reaches the service.
func TestRates(t *testing.T) {
	for _, tt := range []struct {
		name  string
		share float64
		burst int
		wait  time.Duration
	}{
		{"whole", 0, 10, 500 * time.Millisecond},
		{"half", 0.5, 5, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := rated(t, tt.share, openapi.Config{}, aliyun.Rate{PerSecond: 2, Burst: 10})
				began := time.Now()
				n, err := groups(t, r, 100)
				var e *aliyun.Error
				if n != tt.burst || !errors.Is(err, provider.ErrThrottled) || !errors.As(err, &e) {
					t.Fatalf("after %d calls: %v", n, err)
				}
				if spent := time.Since(began); e.RetryAfter+spent < tt.wait-10*time.Millisecond || e.RetryAfter > tt.wait || spent > 100*time.Millisecond {
					t.Errorf("after %v: again in %v, want %v", spent, e.RetryAfter, tt.wait)
				}
				if sent := r.wire.Count("DescribeScalingGroups"); sent != tt.burst {
					t.Errorf("%d requests, want %d", sent, tt.burst)
				}
				time.Sleep(e.RetryAfter)
				if n, _ := groups(t, r, 100); n != 1 {
					t.Errorf("%d calls after the wait, want 1", n)
				}
				time.Sleep(time.Hour)
				if n, _ := groups(t, r, 100); n != tt.burst {
					t.Errorf("%d calls after an hour, want the burst", n)
				}
			})
		})
	}
}

// TestThrottled holds that the service's word is heeded: no call before its time, half the rate afterwards, the whole one later.
func TestThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rated(t, 0, openapi.Config{}, aliyun.Rate{PerSecond: 20, Burst: 1})
		r.wire.Inject(openapi.Throttle("DescribeScalingGroups", 1, 5*time.Second))
		_, err := r.Group(t.Context(), fake.DemoGroup)
		var e *aliyun.Error
		if !errors.Is(err, provider.ErrThrottled) || !errors.As(err, &e) || e.Code != "Throttling.User" || e.RetryAfter < 4900*time.Millisecond {
			t.Fatalf("error is %v", err)
		}
		for range 4 {
			time.Sleep(time.Second)
			if _, err := r.Group(t.Context(), fake.DemoGroup); !errors.Is(err, provider.ErrThrottled) {
				t.Errorf("error is %v", err)
			}
		}
		if n := r.wire.Count("DescribeScalingGroups"); n != 1 {
			t.Errorf("%d requests while the service wanted none", n-1)
		}
		time.Sleep(2 * time.Second)
		rate := func() time.Duration {
			t.Helper()
			if _, err := r.Group(t.Context(), fake.DemoGroup); err != nil {
				t.Fatal(err)
			}
			_, err := r.Group(t.Context(), fake.DemoGroup)
			if !errors.As(err, &e) {
				t.Fatalf("error is %v", err)
			}
			return e.RetryAfter
		}
		if d := rate(); d < 80*time.Millisecond {
			t.Errorf("a call every %v after throttling, want twice the usual 50ms", d)
		}
		for range 30 {
			time.Sleep(time.Second)
			if _, err := r.Group(t.Context(), fake.DemoGroup); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if d := rate(); d > 50*time.Millisecond {
			t.Errorf("a call every %v after half a minute without throttling, want the usual 50ms", d)
		}
	})
}

// TestManyTasksStayUnderTheLimit holds that the rates of one Provider keep all its users under the service's own limit.
func TestManyTasksStayUnderTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rated(t, 0, openapi.Config{Rates: map[string]int{"DescribeScalingGroups": 120}}, aliyun.Rate{PerSecond: 1, Burst: 40})
		done := make(chan int)
		for range 20 {
			go func() {
				n := 0
				for began := time.Now(); time.Since(began) < 10*time.Minute; {
					_, err := r.Group(t.Context(), fake.DemoGroup)
					var e *aliyun.Error
					switch {
					case err == nil:
						n++
					case errors.As(err, &e) && e.Code == "Throttling.Client":
						time.Sleep(e.RetryAfter)
					default:
						t.Error(err)
					}
				}
				done <- n
			}()
		}
		all := 0
		for range 20 {
			all += <-done
		}
		if all < 580 || all > 600 {
			t.Errorf("%d calls in 10 minutes, want hardly less than one a second", all)
		}
	})
}

// TestMoreThanABurst holds that a list with more pages than a burst is read nevertheless.
func TestMoreThanABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := newRig(fake.Config{}, openapi.Config{}, 400, func(c *aliyun.Config) {
			c.Rates = map[string]aliyun.Rate{"*": {PerSecond: 1, Burst: 3}}
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			members, err := r.Members(t.Context(), fake.DemoGroup)
			var e *aliyun.Error
			if errors.As(err, &e) && e.Code == "Throttling.Client" {
				time.Sleep(e.RetryAfter)
				continue
			}
			if err != nil || len(members) != 400 {
				t.Fatalf("%d members, %v", len(members), err)
			}
			return
		}
		t.Error("the members were never read")
	})
}

// TestAMinutesCalls holds that no minute has more calls than the rate makes in one, whatever the burst, so that a service that counts by the
// minute never throttles; and that a burst that is larger than that is had.
func TestAMinutesCalls(t *testing.T) {
	for _, tt := range []struct {
		name        string
		burst       int
		first, next int           // calls at once, and when it is time again
		wait        time.Duration // until then
		minutes     int           // calls in ten
	}{
		{name: "half", burst: 30, first: 30, next: 1, wait: time.Second, minutes: 590},
		{name: "whole", burst: 60, first: 60, next: 60, wait: 61 * time.Second, minutes: 600},
		{name: "more", burst: 90, first: 90, next: 61, wait: 61 * time.Second, minutes: 640},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limit := max(60, tt.burst)
				r := rated(t, 0, openapi.Config{Rates: map[string]int{"DescribeScalingGroups": limit}}, aliyun.Rate{PerSecond: 1, Burst: tt.burst})
				began := time.Now()
				n, err := groups(t, r, 1000)
				var e *aliyun.Error
				if n != tt.first || !errors.As(err, &e) || e.RetryAfter > tt.wait || e.RetryAfter < tt.wait-20*time.Millisecond {
					t.Fatalf("%d calls at once, then %v", n, err)
				}
				time.Sleep(e.RetryAfter)
				more, err := groups(t, r, 1000)
				if more != tt.next {
					t.Errorf("%d calls after %v, want %d, then %v", more, tt.wait, tt.next, err)
				}
				all := n + more
				var sent []time.Time
				for time.Since(began) < 10*time.Minute {
					if !errors.As(err, &e) || e.Code != "Throttling.Client" {
						t.Fatal(err)
					}
					time.Sleep(e.RetryAfter)
					n, err = groups(t, r, 1000)
					for range n {
						sent = append(sent, time.Now())
					}
					all += n
				}
				for k := limit; k < len(sent); k++ {
					if d := sent[k].Sub(sent[k-limit]); d < time.Minute {
						t.Fatalf("%d calls within %v", limit+1, d)
					}
				}
				if all < tt.minutes-15 || all > tt.minutes+60 {
					t.Errorf("%d calls in ten minutes, want about %d", all, tt.minutes)
				}
			})
		})
	}
}
