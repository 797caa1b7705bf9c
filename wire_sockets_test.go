package rollingupgrade_test

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// TestWire_OverSockets plays an upgrade with a pause and a failure, its rollback, and a cancel with restore, in real time over real connections some of
// which are cut.
func TestWire_OverSockets(t *testing.T) {
	onlyOnWire(t)
	for _, script := range []bool{false, true} {
		t.Run(map[bool]string{false: "image", true: "script"}[script], func(t *testing.T) {
			t.Parallel()
			cloud := fake.Demo(fake.Config{Speed: 200}, 6) // a replacement takes 1.2 s, a read 250 µs
			l := wireTo(t, cloud, openapi.Config{})
			server := httptest.NewServer(l.wire)
			t.Cleanup(server.Close)
			w := &socketPlay{t: t, cloud: cloud, wire: l.wire, script: script}
			toServer := func(c *aliyun.Config) {
				c.Transport, c.Endpoints, c.Poll = nil, aliyun.Endpoints{ESS: server.URL, ECS: server.URL}, 20*time.Millisecond
			}
			var err error
			w.r, err = ru.New(l.provider(toServer), ru.NewMemoryStore(), ru.Config{MaxWait: 50 * time.Millisecond})
			w.ok(err)
			w.play()
		})
	}
}

// A socketPlay is one play in real time.
type socketPlay struct {
	t      *testing.T
	cloud  *fake.Cloud
	wire   *openapi.Handler
	r      *ru.Runner
	script bool
}

func (w *socketPlay) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// run drives a task until it is in status want.
func (w *socketPlay) run(id string, want ru.Status) *ru.Task {
	w.t.Helper()
	ctx, stop := context.WithTimeout(w.t.Context(), 2*time.Minute) // much longer than it takes
	defer stop()
	w.ok(w.r.Run(ctx, id))
	task, err := w.r.Get(ctx, id)
	w.ok(err)
	if task.Status != want {
		w.t.Fatalf("task is %s (%s), want %s", task.Status, task.Reason, want)
	}
	return task
}

func (w *socketPlay) play() {
	ctx := w.t.Context()
	w.cloud.SetBehavior("i-0005", failsOnce())
	update := "ReplaceSystemDisk"
	if w.script {
		update = "RunCommand"
	}
	for _, f := range []openapi.Fault{
		openapi.Lose("EnterStandby", 1, openapi.ReplyCut), openapi.Lose("ExitStandby", 1, openapi.ReplyCutBody), openapi.Lose(update, 1, openapi.ReplyCut),
		openapi.Lose("ResumeProcesses", 1, openapi.ReplyEmpty), openapi.Unavailable("DescribeInstances", 4, false), openapi.Throttle("SuspendProcesses", 1, time.Second),
	} {
		w.wire.Inject(f)
	}
	spec := with(sweepSpec(w.script, 2), func(s *ru.Spec) { s.Pause.Mode = ru.PauseFirstBatch })
	s, err := w.r.Create(ctx, spec)
	w.ok(err)
	w.run(s.ID, ru.StatusBatchPaused)
	w.counts("first batch", update, map[string]int{"i-0001": 1, "i-0002": 1, "i-0003": 1})
	w.ok(w.r.Continue(ctx, s.ID))
	task := w.run(s.ID, ru.StatusFailurePaused)
	diff(w.t, "failed", "failed", shown(rowOf(task, "i-0005")))
	w.ok(w.r.Retry(ctx, s.ID, []string{"i-0005"}))
	w.run(s.ID, ru.StatusSucceeded)
	w.inOrder(fake.DemoNewImage)
	w.counts("upgraded", update, map[string]int{"i-0001": 1, "i-0002": 1, "i-0003": 1, "i-0004": 1, "i-0005": 2, "i-0006": 1})

	back, err := w.r.Rollback(ctx, s.ID, ru.RollbackSpec{})
	w.ok(err)
	w.run(back.ID, ru.StatusSucceeded)
	w.inOrder(fake.DemoOldImage)
	w.counts("rolled back", update, map[string]int{"i-0001": 2, "i-0002": 2, "i-0003": 2, "i-0004": 2, "i-0005": 3, "i-0006": 2})
	if p := w.wire.PendingFaults(); len(p) > 0 {
		w.t.Errorf("faults that did not happen: %v", p)
	}
	w.cancel(with(spec, func(s *ru.Spec) { s.ClientToken, s.Pause.Mode = "second", ru.PauseNever }))
	if v := w.cloud.Violations(); len(v) > 0 {
		w.t.Errorf("the cloud saw what a correct client never does: %v", v)
	}
}

// cancel cancels a task whose first batch is being updated.
func (w *socketPlay) cancel(spec ru.Spec) {
	ctx, stop := context.WithTimeout(w.t.Context(), time.Minute)
	defer stop()
	s, err := w.r.Create(ctx, spec)
	w.ok(err)
	done := make(chan error, 1)
	go func() { done <- w.r.Run(ctx, s.ID) }()
	begun := false
	for e, err := range w.r.Watch(ctx, s.ID, 0) {
		w.ok(err)
		if begun = e.Kind == ru.EventStep && e.To == string(ru.Updating); begun {
			break
		}
	}
	if !begun {
		w.t.Fatal("no instance was ever being updated")
	}
	w.ok(w.r.CancelAndRestore(ctx, s.ID, "", ru.RestoreFilter{}))
	w.ok(<-done)
	if task := w.run(s.ID, ru.StatusCanceled); task.Restore.Error != "" || task.Progress.Canceled == 0 {
		w.t.Errorf("restored with %q, %+v", task.Restore.Error, task.Progress)
	}
	w.inOrder("")
}

// counts holds how often each instance was updated.
func (w *socketPlay) counts(when, action string, want map[string]int) {
	w.t.Helper()
	got := map[string]int{}
	for _, id := range effects(w.cloud, action) {
		got[id]++
	}
	diff(w.t, "updates, "+when, want, got)
}

// inOrder holds that all instances serve, that no process is suspended, and, for images, what runs.
func (w *socketPlay) inOrder(image string) {
	w.t.Helper()
	if w.script && image != "" {
		image = fake.DemoOldImage
	}
	for _, i := range w.cloud.Snapshot(fake.DemoGroup) {
		if i.Lifecycle != provider.InService || i.Power != provider.Running || i.Weight != 50 || image != "" && i.ImageID != image {
			w.t.Errorf("%s is left %s, %s with weight %d and runs %s", i.ID, i.Lifecycle, i.Power, i.Weight, i.ImageID)
		}
	}
	if g, _ := w.cloud.GroupView(fake.DemoGroup); len(g.Suspended) > 0 || g.Total != 6 {
		w.t.Errorf("%d members, suspended: %v", g.Total, g.Suspended)
	}
}
