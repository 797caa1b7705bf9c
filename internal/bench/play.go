package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"

	ru "github.com/rollingupgrade/rollingupgrade"
	"github.com/rollingupgrade/rollingupgrade/fake"
	"github.com/rollingupgrade/rollingupgrade/fake/openapi"
	"github.com/rollingupgrade/rollingupgrade/provider"
	"github.com/rollingupgrade/rollingupgrade/provider/aliyun"
)

// A row is a line of the table.
type row struct {
	Case         string  `json:"case"`
	Kind         string  `json:"kind"`
	N            int     `json:"n"`
	Batches      int     `json:"batches"`
	Latency      string  `json:"latency"`
	Makespan     float64 `json:"makespan_s"`
	Bound        float64 `json:"lower_bound_s"`
	Ratio        float64 `json:"makespan_ratio"`
	Reachable    float64 `json:"reachable_s"`
	Calls        float64 `json:"calls_per_instance"`
	OutOfService float64 `json:"out_of_service_ratio"`
	Saves        int64   `json:"saves"`
	Bytes        int64   `json:"bytes_saved"`
	CPU          float64 `json:"cpu_us_per_instance"`
	Heap         int64   `json:"live_heap_bytes"`

	actions map[string]int // calls at the wire
	moments int64          // at which something was saved
}

// parallel is how many calls may be in flight: enough for the 500 calls of EnterStandby that 10,000 instances in one batch take.
const parallel = 512

const oldImage, newImage = "img-v1", "img-v2"

// spec is the task of a scenario.
func (s scenario) spec() ru.Spec {
	spec := ru.Spec{GroupID: fake.DemoGroup, Update: ru.Image(newImage), Rollback: ru.Image(oldImage), Batches: ru.InBatches(s.Batches), MinInService: -1}
	spec.Timeouts.Update = 24 * time.Hour // heavy tails are long
	if s.Kind == "script" {
		spec.Update, spec.Rollback = ru.Script(provider.Shell, "true"), ru.Update{}
		spec.Update.Script.Timeout = 20 * time.Hour
	}
	return spec
}

// run creates the task of a scenario for a group and runs it to its end. It returns the task and how long running it took.
func (s scenario) run(ctx context.Context, runner *ru.Runner, groupID string) (*ru.Task, time.Duration, error) {
	id, took, err := s.drive(ctx, runner, groupID)
	if err != nil {
		return nil, 0, err
	}
	t, err := s.ended(ctx, runner, id)
	return t, took, err
}

// drive creates the scenario's task and drives it to its end.
func (s scenario) drive(ctx context.Context, runner *ru.Runner, groupID string) (id string, took time.Duration, err error) {
	spec := s.spec()
	spec.GroupID = groupID
	task, err := runner.Create(ctx, spec)
	if err != nil {
		return "", 0, err
	}
	began := time.Now()
	err = runner.Run(ctx, task.ID)
	return task.ID, time.Since(began), err
}

// ended returns a task that has ended as it should.
func (s scenario) ended(ctx context.Context, runner *ru.Runner, id string) (*ru.Task, error) {
	t, err := runner.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if t.Status != ru.StatusSucceeded || t.Progress.Succeeded != s.N {
		return nil, fmt.Errorf("%s: task of %s is %s, %d of %d instances succeeded: %s", s.name(), t.Spec.GroupID, t.Status, t.Progress.Succeeded, s.N, t.Reason)
	}
	return t, nil
}

// imagesOfTheWorld are the old and the new image.
func imagesOfTheWorld() []provider.Image { return []provider.Image{{ID: oldImage}, {ID: newImage}} }

// addGroup adds a group with an instance for each of all, and user data in the scaling configuration.
func addGroup(cloud *fake.Cloud, id string, all []durations) {
	ids := cloud.AddGroup(fake.GroupSpec{ID: id, Instances: len(all), ImageID: oldImage, LoadBalancers: []string{"lb"}, KeyPair: "key", UserData: "IyEvYmluL3NoCg=="})
	for i, d := range all {
		cloud.SetBehavior(ids[i], fake.Behavior{
			StopTakes: d.stop, ReplaceTakes: d.replace, StartTakes: d.start, AgentTakes: -1,
			Scripts: []fake.ScriptResult{{Takes: d.script}},
		})
	}
}

// rates are those of the measured world, for the service and for who calls it.
func rates() (served map[string]int, held map[string]aliyun.Rate) {
	served = map[string]int{}
	for _, a := range aliyun.Actions() {
		served[a.Name] = ratePerMinute
	}
	const each = ratePerMinute / 60.
	return served, map[string]aliyun.Rate{
		"*":                         {PerSecond: each, Burst: ratePerMinute},     // a batch is ordered at once
		"DescribeInvocationResults": {PerSecond: each, Burst: ratePerMinute / 8}, // scripts end over time, and must not meet a minute without calls
	}
}

// play plays a scenario against the wire-level stand-in. It must run in a testing/synctest bubble.
func play(ctx context.Context, s scenario, seed uint64) (row, error) {
	all := draw(s, seed)
	cloud := fake.NewCloud(fake.Config{Latency: latencies, Steps: steps})
	cloud.AddImages(imagesOfTheWorld()...)
	addGroup(cloud, fake.DemoGroup, all)
	var calls, throttled atomic.Int64
	var mu sync.Mutex
	actions := map[string]int{}
	served, held := rates()
	handler := openapi.New(cloud, openapi.Config{NoLog: true, Rates: served, Observe: func(r openapi.Request) {
		calls.Add(1)
		mu.Lock()
		actions[r.Action]++
		mu.Unlock()
		if r.Code == "Throttling" {
			throttled.Add(1)
		}
	}})
	p, err := aliyun.New(aliyun.Config{
		Region: "cn-hangzhou", Credential: credentials.NewAccessKeyCredential("any", "secret"), Transport: handler.Transport(),
		Endpoints: aliyun.Endpoints{ESS: "http://ess.test", ECS: "http://ecs.test"}, Rates: held,
	})
	if err != nil {
		return row{}, err
	}
	store := &counted{MemoryStore: ru.NewMemoryStore()}
	runner, err := ru.New(p, store, ru.Config{Parallel: parallel, ParallelTotal: parallel})
	if err != nil {
		return row{}, err
	}
	t, took, err := s.run(ctx, runner, fake.DemoGroup)
	if err != nil {
		return row{}, err
	}
	if v := cloud.Violations(); len(v) > 0 {
		return row{}, fmt.Errorf("%s: the cloud refused calls: %v", s.name(), v[0])
	}
	mu.Lock()
	defer mu.Unlock()
	bound, reachable := bound(s, all, t.Sizes, parallel), reachable(s, all, t.Sizes, parallel)
	r := row{
		Case: s.name(), Kind: s.Kind, N: s.N, Batches: s.Batches, Latency: s.Latency,
		Makespan: took.Seconds(), Bound: bound.Seconds(), Ratio: took.Seconds() / bound.Seconds(), Reachable: reachable.Seconds(),
		Calls: float64(calls.Load()) / float64(s.N), OutOfService: outOfService(s, cloud, all),
		Saves: store.saves, Bytes: store.bytes, actions: actions, moments: store.moments,
	}
	if n := throttled.Load(); n > 0 {
		return r, fmt.Errorf("%s: %d calls were throttled", s.name(), n)
	}
	return r, nil
}

// outOfService is the time that the instances spent between the call of EnterStandby and the answer of ExitStandby, as a multiple of
// what they took by themselves.
func outOfService(s scenario, cloud *fake.Cloud, all []durations) float64 {
	since := map[string]time.Time{}
	var out, own time.Duration
	for _, e := range cloud.Effects() {
		switch e.Action {
		case "EnterStandby":
			since[e.InstanceID] = e.Time
		case "ExitStandby":
			out += e.Time.Sub(since[e.InstanceID]) + latencies.Standby
		}
	}
	for _, d := range all {
		own += d.own(s.Kind)
	}
	return out.Seconds() / own.Seconds()
}

// counted counts what is saved in a store.
type counted struct {
	*ru.MemoryStore
	saves, bytes, moments int64
	last                  time.Time
}

// Save implements [ru.Store].
func (c *counted) Save(ctx context.Context, change ru.Change) error {
	c.saves++
	if now := time.Now(); !now.Equal(c.last) {
		c.moments, c.last = c.moments+1, now
	}
	c.add(change.Head)
	for _, r := range change.Rows {
		c.add(r)
	}
	for _, e := range change.Events {
		c.add(e)
	}
	for _, o := range change.Outputs {
		c.add(o)
	}
	return c.MemoryStore.Save(ctx, change)
}

func (c *counted) add(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	c.bytes += int64(len(b))
}
