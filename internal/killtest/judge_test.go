package killtest

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/store/boltstore"
)

// A deposition is what a witness begins with.
type deposition struct {
	Testimony testimony
	Entries   []entry
	Order     []string
	Tasks     map[string]*ru.Task
	Events    map[string][]ru.Event
}

// The judge finds what is broken on purpose in the evidence of a round in which all was well.
func TestJudge(t *testing.T) {
	if !Supported {
		t.Skip("processes cannot be frozen here")
	}
	cfg := Config{
		Name: "boltstore", Processes: 1, Groups: 8, Instances: 8, Dir: t.TempDir(), Every: time.Hour,
		Open: func(_ context.Context, address string) (ru.Store, func() error, error) {
			s, err := boltstore.Open(address, boltstore.Options{Timeout: 10 * time.Second})
			if err != nil {
				return nil, nil, err
			}
			return s, s.Close, nil
		},
		Address: func(_ context.Context, dir string) (string, error) { return filepath.Join(dir, "tasks.db"), nil },
	}
	sound, err := cfg.round(t.Context(), 7, false, func(context.Context, *round) {})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(deposition{sound.testimony, sound.entries, sound.order, sound.tasks, sound.events})
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("KILLTEST_PRINT") != "" {
		_ = os.WriteFile(os.Getenv("KILLTEST_PRINT"), kept, 0o600)
	}
	for _, c := range brokenEvidence {
		t.Run(c.name, func(t *testing.T) {
			var d deposition
			if err := json.Unmarshal(kept, &d); err != nil {
				t.Fatal(err)
			}
			r := *sound.round
			w := &witness{round: &r, testimony: d.Testimony, entries: d.Entries, order: d.Order, tasks: d.Tasks, events: d.Events}
			c.broken(w)
			w.judge()
			found := strings.Join(w.violations, "\n")
			if c.want == "" && found != "" {
				t.Errorf("sound evidence: %s", found)
			}
			if !strings.Contains(found, c.want) {
				t.Errorf("found %q, want %q", found, c.want)
			}
		})
	}
}

// last returns the last effect of an action.
func (w *witness) last(action string) int {
	for n, e := range slices.Backward(w.testimony.Effects) {
		if e.Action == action {
			return n
		}
	}
	panic("no " + action)
}

func (w *witness) again(action string) {
	n := w.last(action)
	w.testimony.Effects = slices.Insert(w.testimony.Effects, n, w.testimony.Effects[n])
}

func (w *witness) without(match func(*entry) bool) {
	w.entries = slices.DeleteFunc(w.entries, func(e entry) bool { return match(&e) })
}

// requestOf is the request of an effect.
func (w *witness) requestOf(e fake.Effect) *request {
	for _, q := range w.testimony.Requests {
		if q.Action == e.Action && slices.Contains(q.Instances, e.InstanceID) && q.Arrived <= e.Time.UnixNano() && e.Time.UnixNano() <= q.Done {
			return q
		}
	}
	panic("nobody asked for " + e.String())
}

var brokenEvidence = []struct {
	name, want string
	broken     func(w *witness)
}{
	{"sound", "", func(*witness) {}},
	{"a disk replaced twice", "N2: for the 2. time: ReplaceSystemDisk", func(w *witness) { w.again("ReplaceSystemDisk") }},
	{"a script run twice", "N2: for the 2. time: RunCommand", func(w *witness) { w.again("RunCommand") }},
	{"an instance put in Standby twice", "N2: for the 2. time: EnterStandby", func(w *witness) { w.again("EnterStandby") }},
	{"processes resumed twice", "N2: for the 2. time: ResumeProcesses", func(w *witness) { w.again("ResumeProcesses") }},
	{"a call that no record names", "N2: the record did not name", func(w *witness) {
		q := w.requestOf(w.testimony.Effects[w.last("StartInstances")])
		w.without(func(e *entry) bool { return e.Call == q.Call })
	}},
	{"a call that went out before it was named", "N2: the record did not name", func(w *witness) {
		q := w.requestOf(w.testimony.Effects[w.last("ExitStandby")])
		for n := range w.entries {
			if w.entries[n].Call == q.Call {
				w.entries[n].At = q.Sent + 1
			}
		}
	}},
	{"a call without a name", "without a name", func(w *witness) { w.testimony.Requests[0].Call = "" }},
	{"a call under a name that was not saved", "not yet saved", func(w *witness) { w.testimony.Requests[0].Task = "" }},
	{"an effect that nobody asked for", "N5: nobody asked for", func(w *witness) { w.testimony.Requests = w.testimony.Requests[1:] }},
	{"a call after the lease", "after the end of its lease", func(w *witness) { w.testimony.Requests[0].Lease = w.testimony.Requests[0].Sent - 1 }},
	{"a version saved twice", "N3: version", func(w *witness) {
		e := w.entries[slices.IndexFunc(w.entries, func(e entry) bool { return e.Kind == "save" })]
		e.Process = "w9.9"
		w.entries = append(w.entries, e)
	}},
	{"a driver that saves after another one took over", "N3:", func(w *witness) {
		n := slices.IndexFunc(w.entries, func(e entry) bool { return e.Kind == "save" && e.Owner != "" && !e.Took })
		w.entries[n].Fence--
	}},
	{"two drivers at a time", "before the lease of", func(w *witness) {
		q := w.testimony.Requests[len(w.testimony.Requests)/2]
		w.entries = append(w.entries, entry{Kind: "save", Process: "w9.9", Owner: "w9.9", Took: true, Task: q.Task, At: q.Sent - 1, Fence: 1000, Version: 100000})
	}},
	{"too many tasks at a time", "Serve: w1.1 drives", func(w *witness) { w.round.set.Tasks = 1 }},
	{"a task that nobody knows", "S13:", func(w *witness) { w.round.operator = &operator{tasks: map[string]bool{}} }},
	{"a task that is lost", "is lost", func(w *witness) {
		delete(w.tasks, w.order[0])
		w.order = w.order[1:]
	}},
	{"a task that has not ended", "holds its group", func(w *witness) { w.tasks[w.order[0]].Status = ru.StatusRunning }},
	{"an event that is lost", "S35:", func(w *witness) { w.events[w.order[0]] = w.events[w.order[0]][1:] }},
	{"progress that is not true", "S32:", func(w *witness) { w.tasks[w.order[0]].Progress.Failed++ }},
	{"work without suspended processes", "is not suspended", func(w *witness) {
		n := slices.IndexFunc(w.testimony.Effects, func(e fake.Effect) bool { return e.Action == "SuspendProcesses" })
		w.testimony.Effects = slices.Delete(w.testimony.Effects, n, n+1)
	}},
	{"a process left suspended", "N4: process", func(w *witness) {
		w.testimony.Groups[0].Suspended = append(w.testimony.Groups[0].Suspended, "HealthCheck")
	}},
	{"an instance left in Standby", "N4: standby", func(w *witness) { w.testimony.Instances[0].Lifecycle = "Standby" }},
	{"an instance left stopped", "N4: stopped", func(w *witness) { w.testimony.Instances[0].Power = "Stopped" }},
	{"another image than the record says", "S17:", func(w *witness) {
		for n := range w.testimony.Instances {
			w.testimony.Instances[n].ImageID = "img-v0"
		}
	}},
	{"a disk replaced in service", "not in Standby", func(w *witness) {
		w.testimony.Effects[w.last("ReplaceSystemDisk")].Lifecycle = "InService"
	}},
	{"back in service while stopped", "not Running", func(w *witness) { w.testimony.Effects[w.last("ExitStandby")].Power = "Stopped" }},
	{"an update that is missing", "succeeded in the first attempt on the way", func(w *witness) {
		for n, e := range slices.Backward(w.testimony.Effects) {
			if e.Action == "RunCommand" || e.Action == "ReplaceSystemDisk" {
				w.testimony.Effects = slices.Delete(w.testimony.Effects, n, n+1)
			}
		}
	}},
	{"batches that overlap", "N1:", func(w *witness) {
		for _, t := range w.tasks { // what was the second batch becomes the first one, and the other way round
			for n := range t.Instances {
				if i := &t.Instances[n]; i.Batch > 0 {
					i.Batch = 3 - i.Batch%3
				}
			}
			slices.Reverse(t.Instances)
			if len(t.Instances) > 1 {
				t.Instances[0].Batch = 2
			}
		}
	}},
	{"the health check at work", "S14:", func(w *witness) {
		w.testimony.Effects = append(w.testimony.Effects, fake.Effect{Action: "HealthCheck", GroupID: "asg-001", InstanceID: "i-0001"})
	}},
	{"what the cloud complains of", "violation:", func(w *witness) { w.testimony.Violations = []string{"something"} }},
}
