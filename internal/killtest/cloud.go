package killtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
)

const secret = "secret"

// The headers by which a worker says more of a request than the cloud's protocol has room for.
const (
	headerProcess = "X-Killtest-Process"
	headerCall    = "X-Killtest-Call"  // the name of the side effect in the record
	headerTask    = "X-Killtest-Task"  // whose record that is, as far as the worker has saved or loaded it
	headerLease   = "X-Killtest-Lease" // when the worker's lease of the task ends, in nanoseconds since 1970
	headerSent    = "X-Killtest-Sent"  // when the request was handed to the transport
)

// A request is one call that came to the cloud.
type request struct {
	Process, Action    string
	Call, Task, Token  string
	Group              string
	Instances          []string
	Lease, Sent        int64
	Arrived, Done      int64 // Done: the answer is ready. The effect is in between.
	Status             int
	harm               []string // what a late call did
	late, frozen, read bool
}

// A testimony is all that the cloud knows at the end.
type testimony struct {
	Requests       []*request
	Effects        []fake.Effect
	Violations     []string
	Groups         []fake.GroupView
	Instances      []fake.InstanceView
	Configurations []fake.ConfigurationView
	Invocations    []fake.InvocationView
}

// A standIn serves the cloud. What has arrived takes effect, whether or not its sender still lives.
type standIn struct {
	cloud   *fake.Cloud
	handler http.Handler

	mu       sync.Mutex
	requests []*request
	aims     []*aim
}

// An aim waits for a request of an action and keeps it in flight.
type aim struct {
	action string
	before bool // before the effect; otherwise after it
	hit    chan string
}

func serveCloud(ctx context.Context, s *settings, out io.Writer) error {
	c := &standIn{cloud: newCloud(s)}
	c.handler = openapi.New(c.cloud, openapi.Config{Secret: secret, NoLog: true, Explain: true})
	wire, stopWire, err := serveControl(c)
	if err != nil {
		return err
	}
	defer stopWire()
	control := http.NewServeMux()
	control.Handle("/aim", answers(c.aim))
	control.Handle("/during", answers(c.during))
	control.Handle("/testify", answers(c.testify))
	address, stop, err := serveControl(control)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintln(out, address, wire)
	<-ctx.Done()
	return nil
}

// ServeHTTP implements [http.Handler].
func (c *standIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q, body := read(r)
	client := r.Context()
	r = r.WithContext(context.WithoutCancel(client))
	r.Body = io.NopCloser(bytes.NewReader(body))
	c.mu.Lock()
	c.requests = append(c.requests, q)
	aimed := c.aimed(q)
	c.mu.Unlock()
	if !q.read {
		pause(r.Context(), time.Duration(rand.Int64N(int64(10*time.Millisecond)))) //nolint:gosec // the way through the network
	}
	if aimed != nil && aimed.before {
		aimed.hold(client, q)
	}
	answer := &recorder{header: make(http.Header)}
	c.handler.ServeHTTP(answer, r)
	if aimed != nil && !aimed.before {
		aimed.hold(client, q)
	}
	c.mu.Lock()
	q.Done, q.Status = time.Now().UnixNano(), answer.status
	c.mu.Unlock()
	for k, v := range answer.header {
		w.Header()[k] = v
	}
	w.WriteHeader(cmp.Or(answer.status, http.StatusOK))
	w.Write(answer.body.Bytes())
}

// A recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

// read notes what a request is about.
func read(r *http.Request) (*request, []byte) {
	q := &request{Arrived: time.Now().UnixNano(), Process: r.Header.Get(headerProcess), Call: r.Header.Get(headerCall), Task: r.Header.Get(headerTask)}
	q.Lease, _ = strconv.ParseInt(r.Header.Get(headerLease), 10, 64)
	q.Sent, _ = strconv.ParseInt(r.Header.Get(headerSent), 10, 64)
	body, _ := io.ReadAll(r.Body)
	values := r.URL.Query()
	if form, err := url.ParseQuery(string(body)); err == nil {
		for k, v := range form {
			values[k] = v
		}
	}
	q.Action, q.Token, q.Group = values.Get("Action"), values.Get("ClientToken"), values.Get("ScalingGroupId")
	if id, ok := strings.CutPrefix(values.Get("ScalingConfigurationId"), "asc-"); ok && q.Group == "" {
		q.Group = id
	}
	for k := range values {
		if k == "InstanceId" || strings.HasPrefix(k, "InstanceId.") {
			q.Instances = append(q.Instances, values.Get(k))
		}
	}
	q.read = isRead(q.Action)
	return q, body
}

func isRead(action string) bool { return strings.HasPrefix(action, "Describe") }

// aimed takes the aim that waits for such a request.
func (c *standIn) aimed(q *request) *aim {
	n := slices.IndexFunc(c.aims, func(a *aim) bool { return a.action == q.Action })
	if n < 0 {
		return nil
	}
	a := c.aims[n]
	c.aims = slices.Delete(c.aims, n, n+1)
	return a
}

// hold keeps a request in flight until its sender is gone, though not for long.
func (a *aim) hold(client context.Context, q *request) {
	a.hit <- q.Process
	pause(client, 500*time.Millisecond)
}

// pause waits for d, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

type aimQuestion struct {
	Action string
	Before bool
	Wait   time.Duration
}

// aim answers with the process whose request of the action is being kept in flight, or nothing if none came.
func (c *standIn) aim(ctx context.Context, q aimQuestion) (string, error) {
	a := &aim{action: q.Action, before: q.Before, hit: make(chan string, 1)}
	c.mu.Lock()
	c.aims = append(c.aims, a)
	c.mu.Unlock()
	timer := time.NewTimer(q.Wait)
	defer timer.Stop()
	select {
	case p := <-a.hit:
		return p, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aims = slices.DeleteFunc(c.aims, func(x *aim) bool { return x == a })
	return "", nil
}

type duringQuestion struct {
	Process string
	At      int64
}

// during answers which actions of a process were in flight at a moment.
func (c *standIn) during(_ context.Context, q duringQuestion) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, r := range c.requests {
		if r.Process == q.Process && r.Arrived <= q.At && (r.Done == 0 || r.Done > q.At) {
			out = append(out, r.Action)
		}
	}
	return out, nil
}

func (c *standIn) testify(context.Context, struct{}) (*testimony, error) {
	t := &testimony{Effects: c.cloud.Effects(), Violations: c.cloud.Violations()}
	c.cloud.Look(func(v fake.View) {
		t.Groups, t.Instances, t.Configurations, t.Invocations = v.Groups(), v.Instances(), v.Configurations(), v.Invocations()
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.requests {
		if !q.read {
			done := *q
			t.Requests = append(t.Requests, &done)
		}
	}
	return t, nil
}
