package rollingupgrade_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wired is how the requests of one process leave it: a dead one sends nothing, and a strike may be at any request.
type wired struct {
	p    *process
	next http.RoundTripper
}

var errCut = errors.New("connection cut by a strike") // the SDK keeps its text only

// RoundTrip implements [http.RoundTripper].
func (w wired) RoundTrip(r *http.Request) (*http.Response, error) {
	b, err := boundaryOf(r)
	if err != nil {
		return nil, err
	}
	if w.p.dead.Load() {
		return nil, context.Canceled
	}
	s, m, hit := w.p.g.reachWire(b)
	switch {
	case !hit:
		return w.next.RoundTrip(r)
	case s == never && m == lives:
		rest(r.Context(), time.Second)
		return nil, errCut
	case s == never:
		w.p.kill()
		return nil, context.Canceled
	}
	resp, err := w.next.RoundTrip(r)
	if err == nil {
		err = resp.Body.Close()
	}
	if m != lives {
		w.p.kill()
	}
	return nil, errors.Join(errCut, err)
}

// boundaryOf is the boundary of a request: its action and its parameters, without what differs from run to run.
func boundaryOf(r *http.Request) (boundary, error) {
	params := r.URL.Query()
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return boundary{}, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return boundary{}, err
		}
		maps.Copy(params, form)
	}
	action := params.Get("Action")
	for _, name := range []string{"Action", "Version", "Format", "RegionId", "Timestamp", "SignatureMethod", "SignatureVersion", "SignatureType", "SignatureNonce", "AccessKeyId", "Signature"} {
		params.Del(name)
	}
	return boundary{key: "wire " + action + " " + params.Encode(), call: true, wire: true, reads: strings.HasPrefix(action, "Describe")}, nil
}

// reachWire is reach for a request.
func (g *rig) reachWire(b boundary) (site, mode, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	b.key = g.numbered(b.key)
	g.requests = append(g.requests, b)
	if g.fired || b.key != g.strike.key {
		return 0, 0, false
	}
	g.fired = true
	return g.strike.site, g.strike.mode, true
}

// TestWireCrashSweep_N1_N2_N3_N4_N5 strikes at every request of scenarios of the sweep: it is not sent, or its answer is lost, and the process
// dies or lives on. Reading requests are not sent and nothing else.
func TestWireCrashSweep_N1_N2_N3_N4_N5(t *testing.T) {
	onlyOnWire(t)
	chosen := chosenScenarios(t, "small")
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // many short lives
	var swept atomic.Int64
	t.Run("scenarios", func(t *testing.T) {
		for _, s := range chosen {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				base := s.play(t, strike{})
				if len(base.problems) > 0 {
					t.Fatalf("undisturbed:\n\t%s", strings.Join(base.problems, "\n\t"))
				}
				changes := 0
				for _, b := range base.requests {
					if !b.reads {
						changes++
					}
				}
				points := s.points(base.requests)
				n := s.strikeAt(t, base, points)
				if want := 6*changes + 2*(len(base.requests)-changes); *pointFlag == "" && (n != want || changes < 5) {
					t.Errorf("swept %d points, %d requests of which %d change something demand %d", n, len(base.requests), changes, want)
				}
				t.Logf("%s: %d requests, %d of them change something: %d points", s.name, len(base.requests), changes, n)
				swept.Add(int64(n))
			})
		}
	})
	t.Logf("swept %d points on the wire in %d scenarios", swept.Load(), len(chosen))
}

// sitesOnWire are the sites of a request.
func (b boundary) sitesOnWire(m mode) []site {
	switch {
	case !b.reads:
		return []site{never, after}
	case m == diesLate:
		return nil
	}
	return []site{never}
}
